//! What a fetch tells of its progress, against the truth: the bytes that thin lines have let through.
//!
//! The bar is read each second, as a person reads it, and `status` and `transfers` beside it. From
//! ten seconds after a change on, rate and remaining time have to be right within a factor of 1.5.
//! One speed is looked at always; `scripts/soak` runs all of them, with a fetch that resumes, a
//! source that is lost and one that returns.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    cell::Cell,
    ops::RangeInclusive,
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use shoal_tests::{
    Daemon, refused::Ground, scratch, terminal::Terminal, text, thin::ThinLine, wait_for,
    write_content,
};
use tempfile::TempDir;

const FACTOR: f64 = 1.5;
/// What a fetch has to find out about a change, in seconds.
const GRACE: usize = 10;
/// Over so long the truth is measured: as long as a rate remembers.
const TRUTH: usize = 8;
/// Bytes on the line for 100 of content, rounded up: each byte has its part of the frames around it.
const LINE_PERCENT: u64 = 103;

/// In the last seconds it is clear who delivers.
const SETTLED: usize = 5;
/// So many seconds a line of 5 KB/s may take for what a stopped provider had sent, and as long as it
/// takes to see the new.
const RETURNED: u32 = 45;

/// Providers behind lines, and a daemon that fetches from them.
struct World {
    dir: TempDir,
    ground: Ground,
    fetcher: Daemon,
    providers: Vec<Provider>,
    cid: String,
}

struct Provider {
    daemon: Daemon,
    /// None for a provider that is as fast as the machine.
    line: Option<ThinLine>,
    /// What it had sent when it was stopped. Of that, what comes after it goes on may be of a block that
    /// another has brought: nobody but the fetcher knows.
    old: Cell<u64>,
}

impl Provider {
    fn address(&self) -> &str {
        self.line
            .as_ref()
            .map_or(&self.daemon.address, |line| &line.address)
    }

    /// Bytes that have come from it.
    fn sent(&self) -> u64 {
        match &self.line {
            Some(line) => line.passed(),
            None => self.uploaded(),
        }
    }

    /// Bytes of content that it has given to the system.
    fn uploaded(&self) -> u64 {
        let status = self.daemon.run(&["status"]).ok();
        status["uploaded_bytes"].as_u64().unwrap()
    }

    fn stop(&self) {
        self.old.set(self.uploaded() * LINE_PERCENT / 100);
        self.daemon.signal(Signal::STOP);
    }

    fn go_on(&self) {
        self.daemon.signal(Signal::CONT);
    }
}

/// A second of a fetch.
struct Second {
    bar: String,
    /// From `transfers`, and from `status`.
    told: [Value; 2],
    sent: Vec<Sent>,
    at: Instant,
}

/// What has come so far from a provider.
#[derive(Clone, Copy)]
struct Sent {
    /// All bytes.
    all: u64,
    /// The same, but at least what it had sent when it was stopped: so this grows with what it sends
    /// afterwards only.
    new: u64,
}

/// The least and the most that may be true.
type Truth<T> = RangeInclusive<T>;

impl Second {
    /// Bytes per second that came since `before`.
    fn rate_since(&self, before: &Self) -> Truth<f64> {
        let time = (self.at - before.at).as_secs_f64();
        let rate = |count: fn(&Sent) -> u64| {
            let [now, before] = [self, before].map(|it| it.sent.iter().map(count).sum::<u64>());
            (now - before) as f64 / time
        };
        rate(|sent| sent.new)..=rate(|sent| sent.all)
    }

    /// Providers that have delivered in each of these seconds, and in any of them.
    fn delivering(seconds: &[Self]) -> Truth<u64> {
        let providers = seconds.first().map_or(0, |second| second.sent.len());
        let count =
            |delivers: &dyn Fn(usize) -> bool| (0..providers).filter(|n| delivers(*n)).count();
        let grows = |n: usize, count: fn(&Sent) -> u64| {
            seconds
                .windows(2)
                .map(move |it| count(&it[1].sent[n]) > count(&it[0].sent[n]))
        };
        let least = count(&|n| grows(n, |sent| sent.new).all(|it| it));
        let most = count(&|n| grows(n, |sent| sent.all).any(|it| it));
        least as u64..=most as u64
    }
}

impl World {
    /// Providers of a file of `bytes`, each behind a line of so many bytes per second.
    fn new(bytes: usize, lines: &[Option<u64>]) -> Self {
        let dir = scratch();
        let file = dir.path().join("file");
        write_content(&file, "progress", bytes);
        let mut cid = String::new();
        let providers = lines.iter().enumerate().map(|(n, rate)| {
            let daemon = Daemon::start(&dir.path().join(format!("provider-{n}")), &[]);
            let shared = daemon.run(&["share", text(&file), "--no-announce"]).ok();
            shared["cid"].as_str().unwrap().clone_into(&mut cid);
            let line = rate.map(|rate| ThinLine::to(&daemon.address, rate));
            let old = Cell::new(0);
            Provider { daemon, line, old }
        });
        let providers = providers.collect();
        let ground = Ground::below(dir.path());
        let fetcher = Daemon::start(&ground.home, &[]);
        Self {
            dir,
            ground,
            fetcher,
            providers,
            cid,
        }
    }

    fn got(&self) -> PathBuf {
        self.dir.path().join("got")
    }

    fn begin(&self) -> Terminal {
        let got = self.got();
        let mut args = vec!["fetch", &self.cid, "-o", text(&got)];
        for provider in &self.providers {
            args.extend(["--peer", provider.address()]);
        }
        Terminal::start(&self.ground, 120, &args, &[])
    }

    /// What a command says of the transfer.
    fn told(&self, by: &str) -> Value {
        let told = self.fetcher.run(&[by]).ok();
        told["transfers"].get(0).cloned().unwrap_or_default()
    }

    fn sent(&self) -> Vec<Sent> {
        let sent = self.providers.iter().map(|provider| {
            let all = provider.sent();
            let new = all.max(provider.old.get());
            Sent { all, new }
        });
        sent.collect()
    }

    /// Reads everything each second for so many seconds, or until the fetch ends.
    fn watch(&self, terminal: &mut Terminal, seconds: u32) -> Vec<Second> {
        let start = Instant::now();
        let mut seen = Vec::new();
        for second in 0..=seconds {
            let until = start + Duration::from_secs(1) * second;
            wait_for("a second passes", || {
                (Instant::now() >= until).then_some(())
            });
            let transfers = self.told("transfers");
            if transfers["state"] != "running" {
                break;
            }
            let status = self.told("status");
            seen.push(Second {
                bar: terminal.look(),
                told: [transfers, status],
                sent: self.sent(),
                at: Instant::now(),
            });
        }
        seen
    }
}

/// `1.5 MiB` in bytes.
fn bytes(size: &str) -> f64 {
    let (number, unit) = size.split_once(' ').unwrap();
    let power = ["B", "KiB", "MiB", "GiB"].iter().position(|it| *it == unit);
    number.parse::<f64>().unwrap() * 1024_f64.powi(i32::try_from(power.unwrap()).unwrap())
}

/// `2h 5m`, `2m 5s`, `12 s` or `0.4 s` in seconds.
fn seconds(time: &str) -> f64 {
    if let Some(seconds) = time.strip_suffix(" s") {
        return seconds.parse().unwrap();
    }
    let units = [
        ("days", 86_400.0),
        ("day", 86_400.0),
        ("h", 3600.0),
        ("m", 60.0),
        ("s", 1.0),
    ];
    let parts = time.split(' ').map(|part| {
        let is_of = |(unit, _): &&(&str, f64)| part.ends_with(unit);
        let (unit, length) = units.iter().find(is_of).unwrap();
        part.strip_suffix(unit).unwrap().parse::<f64>().unwrap() * length
    });
    parts.sum()
}

/// What is on the bar.
fn on_the_bar(screen: &str) -> Option<Said> {
    let line = screen.lines().find(|line| line.contains("/s, "))?;
    let (_, facts) = line.split_once("% ")?;
    // In front of them it may say that it waits.
    let facts = facts.split(", ").skip_while(|fact| !fact.contains(" left"));
    let facts: Vec<&str> = facts.collect();
    let left = facts.first()?.strip_suffix(" left").map(seconds);
    let rate = bytes(facts.get(1)?.strip_suffix("/s")?);
    let sources = facts.get(3)?.split_once(' ')?.0.parse().ok()?;
    Some(Said {
        rate,
        left,
        sources,
    })
}

#[track_caller]
fn assert_near(what: &str, said: f64, truth: &Truth<f64>, second: &Second) {
    let near = (truth.start() / FACTOR..=truth.end() * FACTOR).contains(&said);
    assert!(
        near,
        "{what}: {said:.0} where {truth:.0?} is true: {}\n{}",
        second.bar, second.told[0]
    );
}

/// What is said of a fetch in one place: bytes per second, seconds that are left, providers.
struct Said {
    rate: f64,
    left: Option<f64>,
    sources: u64,
}

impl Said {
    fn by(told: &Value) -> Self {
        Self {
            rate: told["rate"].as_f64().unwrap(),
            left: told["eta_ms"].as_f64().map(|it| it / 1000.0),
            sources: told["sources"].as_u64().unwrap(),
        }
    }
}

/// Checks all seconds after the grace, at the end of which `sources` providers are left.
#[track_caller]
fn check(seen: &[Second], sources: u64) {
    assert!(seen.len() > GRACE, "it ended after {} s", seen.len());
    for (index, now) in seen.iter().enumerate().skip(GRACE) {
        let truth = now.rate_since(&seen[index - TRUTH]);
        let delivering = Second::delivering(&seen[index - TRUTH..=index]);
        let total = now.told[0]["bytes_total"].as_f64().unwrap();
        let rest = total - now.told[0]["bytes"].as_f64().unwrap();
        let rest = rest / truth.end()..=rest / truth.start();
        let bar = on_the_bar(&now.bar).unwrap_or_else(|| panic!("{}", now.bar));
        // They are read one after the other: a source may have gone or come in between.
        for said in [bar, Said::by(&now.told[0]), Said::by(&now.told[1])] {
            let about = format!("{}\n{}", now.bar, now.told[0]);
            assert!(
                delivering.contains(&said.sources),
                "{delivering:?}: {about}"
            );
            if said.sources == 0 {
                assert_eq!((said.rate, said.left), (0.0, None), "{about}");
                continue;
            }
            assert_near("a rate", said.rate, &truth, now);
            // A bar has no fractions of a second.
            if *rest.start() > 5.0 {
                assert_near("a remaining time", said.left.unwrap(), &rest, now);
            }
        }
    }
    // What lines held has come by then.
    let last = &seen[seen.len() - SETTLED..];
    let end = &last[SETTLED - 1];
    assert_eq!(Second::delivering(last), sources..=sources, "{}", end.bar);
    let said = end.told.iter().map(|told| Said::by(told).sources);
    assert!(said.into_iter().all(|said| said == sources), "{}", end.bar);
}

/// 100 KB/s: a block takes ten seconds, and the bar moves all the time.
#[test]
fn a_bar_is_honest_over_a_thin_line() {
    let world = World::new(4 << 20, &[Some(100_000)]);
    let mut terminal = world.begin();
    terminal.wait_for(&["/4.0 MiB"]);
    let seen = world.watch(&mut terminal, 14);
    check(&seen, 1);
    let steps = seen.windows(2).filter(|it| it[0].bar != it[1].bar).count();
    assert!(steps >= seen.len() - 3, "{steps} steps in {} s", seen.len());
    terminal.type_keys(b"\x03");
    assert_eq!(terminal.end().code, Some(130));
}

/// One speed with all that can happen: a steady start, a resume, a lost source, a returning one, and
/// silence.
fn all_that_can_happen(bytes_per_second: u64) {
    let file = usize::try_from(bytes_per_second * 220).unwrap();
    let half = Some(bytes_per_second / 2);
    let world = World::new(file, &[half, half]);
    let mut terminal = world.begin();
    terminal.wait_for(&["2 sources"]);
    check(&world.watch(&mut terminal, 20), 2);

    terminal.type_keys(b"\x03");
    assert_eq!(terminal.end().code, Some(130));
    let mut terminal = world.begin();
    terminal.wait_for(&["2 sources"]);
    let resumed = world.watch(&mut terminal, 20);
    check(&resumed, 2);
    for second in &resumed {
        let rate = second.told[0]["rate"].as_f64().unwrap();
        // Buffers on the way let the first bytes through at once.
        let limit = bytes_per_second as f64 * 4.0;
        assert!(
            rate <= limit,
            "what was there is no rate: {}",
            second.told[0]
        );
    }

    let [one, other] = [0, 1].map(|n| &world.providers[n]);
    one.stop();
    check(&world.watch(&mut terminal, 18), 1);
    one.go_on();
    check(&world.watch(&mut terminal, RETURNED), 2);
    [one, other].iter().for_each(|it| it.stop());
    check(&world.watch(&mut terminal, 18), 0);
    [one, other].iter().for_each(|it| it.go_on());
    check(&world.watch(&mut terminal, RETURNED), 2);
    terminal.type_keys(b"\x03");
    assert_eq!(terminal.end().code, Some(130));
}

#[test]
#[ignore = "minutes; scripts/soak runs it"]
fn a_bar_is_honest_at_10_kb_per_second() {
    all_that_can_happen(10_000);
}

#[test]
#[ignore = "minutes; scripts/soak runs it"]
fn a_bar_is_honest_at_100_kb_per_second() {
    all_that_can_happen(100_000);
}

#[test]
#[ignore = "minutes; scripts/soak runs it"]
fn a_bar_is_honest_at_10_mb_per_second() {
    all_that_can_happen(10_000_000);
}

#[test]
#[ignore = "minutes; scripts/soak runs it"]
fn a_bar_is_honest_at_full_speed() {
    // So long that there are seconds to look at after the grace, at 1.3 GB/s.
    let world = World::new(16 << 30, &[None]);
    let mut terminal = world.begin();
    terminal.wait_for(&["/16.0 GiB"]);
    check(&world.watch(&mut terminal, 30), 1);
    // A fast disk takes it all before the interrupt.
    terminal.type_keys(b"\x03");
    assert!(matches!(terminal.end().code, Some(0 | 130)));
}
