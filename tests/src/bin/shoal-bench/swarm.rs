//! Eight fetchers that start together, of one origin on a thin line.

use std::{process::Stdio, time::Instant};

use shoal_tests::{Daemon, Ran, assert_same_file, command, text, write_content};

use crate::{
    Bench, Result,
    measure::{Bar, Outcome, SHOAL, Series},
    programs::remove,
};

const FETCHERS: usize = 8;
const BYTES: usize = 256 << 20;
/// 50 Mbit/s, of all bytes on the sockets.
const UP: &str = "50mbit";
const UP_BYTES_PER_SECOND: f64 = 6_250_000.0;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Outcome>> {
    let source = bench.place("swarm/file");
    write_content(&source, "swarm", BYTES);
    let mut series = Series {
        program: SHOAL.into(),
        seconds: Vec::new(),
    };
    let mut copies = Series {
        program: SHOAL.into(),
        seconds: Vec::new(),
    };
    // Each takes most of a minute, and it is the line that says how long.
    for round in 0..bench.rounds.min(3) {
        let (seconds, uploaded) = once(bench, round)?;
        eprintln!("swarm: {seconds:.1} s, {uploaded:.2} copies");
        series.seconds.push(seconds);
        copies.seconds.push(uploaded);
    }
    let single = BYTES as f64 / UP_BYTES_PER_SECOND;
    let bars = vec![
        Bar {
            what: "8 fetchers: time of a single copy".into(),
            value: series.median() / single,
            must: 1.5,
            beyond: 1.15,
            at_least: false,
        },
        Bar {
            what: "8 fetchers: copies sent by the origin".into(),
            value: copies.median(),
            must: 1.5,
            beyond: 1.15,
            at_least: false,
        },
    ];
    let title = "8 fetchers of 256 MiB, origin at 50 Mbit/s".into();
    Ok(vec![Outcome {
        title,
        name: "swarm",
        mib: 0.0,
        series: vec![series],
        bars,
    }])
}

/// Seconds until the last is done, and how many copies the origin sent.
fn once(bench: &Bench, round: u32) -> Result<(f64, f64)> {
    let dir = bench.place(&format!("swarm-{round}"));
    let source = bench.place("swarm/file");
    let options = ["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--up", UP];
    let origin = Daemon::start_with(&dir.join("origin"), options.map(str::to_owned).to_vec());
    let shared = origin.share(&source);
    let cid = shared["cid"].as_str().ok_or("no cid")?;
    let start = |n| Daemon::start(&dir.join(format!("home-{n}")), &[&origin]);
    let fetchers: Vec<Daemon> = (0..FETCHERS).map(start).collect();
    let started = Instant::now();
    let mut running = Vec::new();
    for (n, fetcher) in fetchers.iter().enumerate() {
        let out = dir.join(format!("out-{n}"));
        let mut fetch = command(fetcher.home(), &["fetch", cid, "-o", text(&out)]);
        running.push((
            out,
            fetch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?,
        ));
    }
    let mut outs = Vec::new();
    for (out, fetch) in running {
        Ran::new(&fetch.wait_with_output()?).ok();
        outs.push(out);
    }
    let seconds = started.elapsed().as_secs_f64();
    for out in outs {
        assert_same_file(&source, &out);
    }
    let status = origin.run(&["status"]).ok();
    let uploaded = status["uploaded_bytes"]
        .as_f64()
        .ok_or("no uploaded_bytes")?;
    drop((origin, fetchers));
    remove(&dir)?;
    Ok((seconds, uploaded / BYTES as f64))
}
