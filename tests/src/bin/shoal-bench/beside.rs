//! A fast fetcher beside slow and hostile ones of the same sharer: how much of its speed it keeps.
//!
//! The slow ones fetch another file, each as fast as its own limit lets it. They run in one
//! measurement, which begins when they read on, and are stopped in the next, so that what the machine
//! can do is the same in both. A stopped process reads nothing, and the sharer has to get along with
//! that as well.

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use shoal_testnet::evil::{Behaviour, Blocks};
use shoal_tests::{Daemon, assert_same_file, command, evil::Evil, text, wait_for, write_content};

use crate::{
    Bench, Result,
    large_file::connected,
    measure::{Bar, Contender, Outcome, SHOAL, in_turn, timed},
    programs::remove,
};

/// What the fast one fetches: a second or two of a fast machine.
const FAST_MIB: usize = 512;
/// What the slow ones fetch: more than they get while it is measured.
const SLOW_MIB: usize = 2048;
const SLOW: usize = 20;
const HOSTILE: usize = 12;
/// Each round is two fetches.
const ROUNDS_MAX: u32 = 3;
/// The other half of a measurement.
const PAUSED: &str = "paused";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Outcome>> {
    let place = bench.place("beside");
    let (fast, slow) = (place.join("fast"), place.join("slow"));
    write_content(&fast, "fast", FAST_MIB << 20);
    write_content(&slow, "slow", SLOW_MIB << 20);
    let outcomes = vec![
        beside_slow(bench, (&fast, &slow), "2MB/s", "beside-2mb")?,
        beside_slow(bench, (&fast, &slow), "50KB/s", "beside-50kb")?,
        beside_hostile(bench, &fast)?,
    ];
    remove(&place)?;
    Ok(outcomes)
}

fn beside_slow(
    bench: &Bench,
    (fast, slow): (&Path, &Path),
    rate: &str,
    name: &'static str,
) -> Result<Outcome> {
    let place = bench.place(name);
    let sharer = Daemon::start(&place.join("sharer"), &[]);
    let cid = shared(&sharer, fast)?;
    let other = shared(&sharer, slow)?;
    let readers: Vec<Reader> = (0..SLOW)
        .map(|n| Reader::start(&place.join(format!("slow-{n}")), &sharer, &other, rate))
        .collect::<Result<_>>()?;
    for reader in &readers {
        wait_for("a slow fetcher that has something", || {
            let listed = reader.daemon.run(&["transfers"]).ok();
            (listed.to_string().contains("\"running\"")).then_some(())
        });
    }
    let fetch = |signal| {
        for reader in &readers {
            reader.daemon.signal(signal);
        }
        if signal == Signal::CONT {
            // What they had not read while they were stopped is no part of it.
            readers.iter().for_each(Reader::wait_until_it_moves);
        }
        fetched(&place, &sharer, &cid, fast)
    };
    let title = format!("{FAST_MIB} MiB beside {SLOW} fetchers with {rate} each");
    let series = in_turn(
        &title,
        bench.rounds.min(ROUNDS_MAX),
        vec![
            Contender {
                program: PAUSED,
                work: Box::new(|| fetch(Signal::STOP)),
            },
            Contender {
                program: SHOAL,
                work: Box::new(|| fetch(Signal::CONT)),
            },
        ],
    )?;
    drop((readers, sharer));
    remove(&place)?;
    Ok(outcome(title, name, series))
}

fn beside_hostile(bench: &Bench, fast: &Path) -> Result<Outcome> {
    let place = bench.place("beside-hostile");
    let sharer = Daemon::start(&place.join("sharer"), &[]);
    let cid = shared(&sharer, fast)?;
    let mut blocks = Blocks::default();
    let root = blocks.path(fast)?;
    let hostile = std::cell::RefCell::new(Vec::new());
    let title = format!("{FAST_MIB} MiB beside {HOSTILE} peers that ask and take nothing");
    let beside = || {
        let there = hostile.borrow().len();
        for number in there..HOSTILE {
            let behaviour = match number % 2 {
                0 => Behaviour::FrozenReader,
                _ => Behaviour::SlowReader,
            };
            let bootstrap = [sharer.address.as_str()];
            let evil = Evil::start_as(number as u64, behaviour, &root, blocks.clone(), &bootstrap);
            hostile.borrow_mut().push(evil);
        }
        wait_for("the attack", || {
            let all = hostile.borrow();
            let attacks = |evil: &Evil| evil.deeds().streams_opened >= 8;
            all.iter().all(attacks).then_some(())
        });
        fetched(&place, &sharer, &cid, fast)
    };
    let paused = || {
        hostile.borrow_mut().drain(..).for_each(Evil::end);
        fetched(&place, &sharer, &cid, fast)
    };
    let series = in_turn(
        &title,
        bench.rounds.min(ROUNDS_MAX),
        vec![
            Contender {
                program: PAUSED,
                work: Box::new(paused),
            },
            Contender {
                program: SHOAL,
                work: Box::new(beside),
            },
        ],
    )?;
    hostile.into_inner().into_iter().for_each(Evil::end);
    drop(sharer);
    remove(&place)?;
    Ok(outcome(title, "beside-hostile", series))
}

fn outcome(title: String, name: &'static str, series: Vec<crate::measure::Series>) -> Outcome {
    let mut outcome = Outcome {
        title,
        name,
        mib: FAST_MIB as f64,
        series,
        bars: Vec::new(),
    };
    if let (Some(beside), Some(paused)) = (outcome.median(SHOAL), outcome.median(PAUSED)) {
        outcome.bars.push(Bar {
            what: format!("{}: speed while they are paused", outcome.title),
            value: paused / beside,
            must: 0.5,
            beyond: 0.9,
            at_least: true,
        });
    }
    outcome
}

/// One that fetches slowly, for as long as it lives.
struct Reader {
    daemon: Daemon,
    fetch: Child,
}

impl Reader {
    fn start(home: &Path, sharer: &Daemon, cid: &str, rate: &str) -> Result<Self> {
        let options = [
            "--no-mdns",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--bootstrap",
            &sharer.address,
            "--down",
            rate,
        ];
        let daemon = Daemon::start_with(home, options.map(str::to_owned).to_vec());
        let out: PathBuf = home.with_extension("out");
        let fetch = command(
            daemon.home(),
            &["fetch", cid, "-o", text(&out), "--no-serve"],
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
        Ok(Self { daemon, fetch })
    }

    /// Waits until bytes have come since the call.
    fn wait_until_it_moves(&self) {
        let bytes = || self.daemon.run(&["transfers"]).ok()["transfers"][0]["bytes"].as_u64();
        let before = bytes();
        wait_for("a slow fetcher that moves", || {
            (bytes() > before).then_some(())
        });
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.daemon.signal(Signal::CONT);
        // It has ended already if this fails.
        let _ = self.fetch.kill();
        let _ = self.fetch.wait();
    }
}

fn shared(sharer: &Daemon, file: &Path) -> Result<String> {
    let shared = sharer.share(file);
    Ok(shared["cid"].as_str().ok_or("no cid")?.to_owned())
}

/// How long a new node takes for the file, which it gets right.
fn fetched(place: &Path, sharer: &Daemon, cid: &str, file: &Path) -> Result<Duration> {
    let (home, out) = (place.join("fetcher"), place.join("out"));
    remove(&home)?;
    let fetcher = Daemon::start(&home, &[sharer]);
    connected(&fetcher);
    let (took, _) = timed(|| Ok(fetcher.fetch(cid, &out)))?;
    assert_same_file(file, &out);
    remove(&out)?;
    Ok(took)
}
