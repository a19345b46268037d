//! A whole file over a long line: how much of the line it fills, by TCP and by QUIC.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use shoal_ground::units::Rate;
use shoal_net::emulation::{Line, Plan};
use shoal_tests::{Daemon, assert_same_file, text, write_content};

use crate::{
    Bench, Result,
    large_file::connected,
    measure::{Bar, Contender, Outcome, SHOAL, in_turn, timed},
    programs::{free_port, remove},
};

const BYTES: usize = 256 << 20;
const BITS_PER_SECOND: f64 = 100e6;
/// Of a round trip of 80 ms: each way passes the lines of both.
const LATENCY: Duration = Duration::from_millis(20);
/// Each takes 22 seconds, and it is the line that says how long.
const ROUNDS_MAX: u32 = 3;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Outcome>> {
    let source = bench.place("wan/film");
    write_content(&source, "wan", BYTES);
    let mut tcp = over(bench, &source, "tcp")?;
    // QUIC is measured; what has to be reached is said of TCP.
    let quic = over(bench, &source, "quic")?;
    if let Some(seconds) = tcp.median(SHOAL) {
        tcp.bars.push(Bar {
            what: format!("{}: of the line", tcp.title),
            value: BYTES as f64 * 8.0 / seconds / BITS_PER_SECOND,
            must: 0.9,
            beyond: 0.97,
            at_least: true,
        });
    }
    remove(&bench.place("wan"))?;
    Ok(vec![tcp, quic])
}

fn over(bench: &Bench, source: &Path, kind: &'static str) -> Result<Outcome> {
    let addresses = [listen_on(kind)?, listen_on(kind)?];
    let lines = addresses.iter().map(|(socket, _)| Line {
        up: "100mbit".parse::<Rate>().expect("a rate"),
        down: "100mbit".parse::<Rate>().expect("a rate"),
        latency: LATENCY,
        listen: vec![*socket],
        ..Line::default()
    });
    let plan = Plan {
        version: 1,
        seed: 1,
        nodes: lines.collect(),
        ..Plan::default()
    };
    let links = bench.place(&format!("wan/links-{kind}.json"));
    fs::write(&links, serde_json::to_vec(&plan)?)?;
    let start = |node: usize, bootstrap: Option<&Daemon>| {
        let mut options: Vec<String> = [
            "--no-mdns",
            "--listen",
            &addresses[node].1,
            "--links",
            text(&links),
            "--links-node",
            &node.to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        if let Some(other) = bootstrap {
            options.extend(["--bootstrap".to_owned(), other.address.clone()]);
        }
        Daemon::start_with(&bench.place(&format!("wan-{kind}-{node}")), options)
    };
    let provider = start(0, None);
    let fetcher = start(1, Some(&provider));
    connected(&fetcher);
    let shared = provider.share(source);
    let cid = shared["cid"].as_str().ok_or("no cid")?;
    let out = bench.place("wan/out");
    let fetch = || {
        let (took, _) = timed(|| Ok(fetcher.fetch(cid, &out)))?;
        assert_same_file(source, &out);
        fetcher.run(&["unshare", cid]).ok();
        remove(&out)?;
        Ok(took)
    };
    let contenders = vec![Contender {
        program: SHOAL,
        work: Box::new(fetch),
    }];
    let title = format!("256 MiB over 100 Mbit/s and 80 ms, {kind}");
    let series = in_turn(&title, bench.rounds.min(ROUNDS_MAX), contenders)?;
    let name = match kind {
        "tcp" => "wan-tcp",
        _ => "wan-quic",
    };
    Ok(Outcome {
        title,
        name,
        mib: (BYTES >> 20) as f64,
        series,
        bars: Vec::new(),
    })
}

/// A free place to listen, and how a daemon is told of it. The plan has to know it before.
fn listen_on(kind: &str) -> Result<(SocketAddr, String)> {
    let port = free_port()?;
    let address = match kind {
        "tcp" => format!("/ip4/127.0.0.1/tcp/{port}"),
        _ => format!("/ip4/127.0.0.1/udp/{port}/quic-v1"),
    };
    Ok((format!("127.0.0.1:{port}").parse()?, address))
}
