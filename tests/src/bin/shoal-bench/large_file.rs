//! One large file: sharing it against `b3sum`, fetching it against the floor and others.

use std::{cell::Cell, process::Command, time::Duration};

use shoal_tests::{Daemon, assert_same_file, write_content};

use crate::{
    Bench, Result,
    measure::{Bar, Contender, Outcome, SHOAL, in_turn, peak_mib, timed},
    programs::{Floor, Libtorrent, Sendme, remove, run},
};

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Outcome>> {
    let source = bench.place("large/file");
    let bytes = usize::try_from(bench.file_mib << 20)?;
    write_content(&source, "shoal-bench", bytes);
    let (provider, share) = share(bench)?;
    let fetch = fetch(bench, &provider)?;
    remove(&bench.place("large"))?;
    Ok(vec![share, fetch])
}

/// Shares it again and again, and leaves it shared.
fn share(bench: &Bench) -> Result<(Daemon, Outcome)> {
    let source = bench.place("large/file");
    let provider = Daemon::start(&bench.place("provider"), &[]);
    let mut contenders = Vec::new();
    if bench.programs.b3sum {
        contenders.push(Contender {
            program: "b3sum",
            work: Box::new(|| run(Command::new("b3sum").arg(&source))),
        });
    }
    contenders.push(Contender {
        program: SHOAL,
        work: Box::new(|| {
            let (took, shared) = timed(|| Ok(provider.share(&source)))?;
            provider
                .run(&["unshare", shared["cid"].as_str().ok_or("no cid")?])
                .ok();
            Ok(took)
        }),
    });
    let title = format!("share a file of {} MiB", bench.file_mib);
    let series = in_turn(&title, bench.rounds, contenders)?;
    let mib = bench.file_mib as f64;
    let mut outcome = Outcome {
        title,
        name: "share-file",
        mib,
        series,
        bars: Vec::new(),
    };
    outcome.faster("b3sum", 0.7, 0.9);
    provider.share(&source);
    Ok((provider, outcome))
}

fn fetch(bench: &Bench, provider: &Daemon) -> Result<Outcome> {
    let source = bench.place("large/file");
    let listed = provider.run(&["ls"]).ok();
    let cid = listed["entries"][0]["cid"]
        .as_str()
        .ok_or("no cid")?
        .to_owned();
    let out = &bench.place("out");
    let peak = Cell::new(0.0_f64);
    let shoal = || -> Result<Duration> {
        // A new node each time: nothing is known, only the connection is there.
        let home = bench.place("fetcher");
        remove(&home)?;
        let fetcher = Daemon::start(&home, &[provider]);
        connected(&fetcher);
        let (took, _) = timed(|| Ok(fetcher.fetch(&cid, out)))?;
        peak.set(peak.get().max(peak_mib(fetcher.pid())?));
        assert_same_file(&source, out);
        remove(out)?;
        Ok(took)
    };
    let mib = bench.file_mib;
    let mut contenders = Vec::new();
    // The floor moves whole GiB.
    if let Some(floor) = &bench.programs.floor
        && mib.is_multiple_of(1024)
    {
        let floor = Floor::serve(floor, &source)?;
        let work = move || floor.fetch(mib, out);
        contenders.push(Contender {
            program: "floor",
            work: Box::new(work),
        });
    }
    contenders.push(Contender {
        program: SHOAL,
        work: Box::new(shoal),
    });
    if bench.programs.libtorrent {
        let libtorrent = Libtorrent::serve(&source, bench.dir.path())?;
        contenders.push(Contender {
            program: "libtorrent",
            work: Box::new(move || libtorrent.fetch(out)),
        });
    }
    if bench.programs.sendme {
        let (_, sendme) = Sendme::share(&source, &bench.place("sendme"))?;
        contenders.push(Contender {
            program: "sendme",
            work: Box::new(move || sendme.fetch(out)),
        });
    }
    let title = format!("fetch a file of {} MiB", bench.file_mib);
    let series = in_turn(&title, bench.rounds, contenders)?;
    let mib = bench.file_mib as f64;
    let mut outcome = Outcome {
        title,
        name: "fetch-file",
        mib,
        series,
        bars: Vec::new(),
    };
    outcome.faster("floor", 0.85, 1.0);
    // Twice as fast as libtorrent, unless the floor itself is not.
    let room = outcome
        .median("libtorrent")
        .zip(outcome.median("floor"))
        .map_or(f64::INFINITY, |(libtorrent, floor)| libtorrent / floor);
    outcome.faster("libtorrent", (0.85 * room).min(2.0), room.min(2.5));
    outcome.faster("sendme", 4.0, 6.0);
    let serving = peak_mib(provider.pid())?;
    for (what, mib) in [("fetches", peak.get()), ("serves", serving)] {
        outcome.bars.push(Bar {
            what: format!("memory of a daemon that {what} it, MiB"),
            value: mib,
            must: 150.0,
            beyond: 80.0,
            at_least: false,
        });
    }
    Ok(outcome)
}

/// Waits until a node has a peer.
pub(crate) fn connected(daemon: &Daemon) {
    shoal_tests::wait_for("a connection", || {
        let peers = daemon.run(&["peers"]).ok();
        let some = peers["peers"]
            .as_array()
            .is_some_and(|peers| !peers.is_empty());
        some.then_some(())
    });
}
