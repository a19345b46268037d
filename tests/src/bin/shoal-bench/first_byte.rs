//! The first verified byte of a large file, over a long line.

use std::{
    io::Read as _,
    process::Stdio,
    time::{Duration, Instant},
};

use shoal_tests::{Daemon, command, thin::ThinLine, write_content};

use crate::{
    Bench, Result,
    large_file::connected,
    measure::{Bar, Contender, Outcome, SHOAL, in_turn},
    programs::remove,
};

const BYTES: usize = 1 << 30;
/// 100 Mbit/s.
const BYTES_PER_SECOND: u64 = 12_500_000;
const ROUND_TRIP: Duration = Duration::from_millis(80);
/// The first chunk, and the blocks of the tree that lead to it.
const FIRST_MIB: f64 = 1.1;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Outcome>> {
    let source = bench.place("first/file");
    write_content(&source, "first byte", BYTES);
    let provider = Daemon::start(&bench.place("first-provider"), &[]);
    let shared = provider.share(&source);
    let cid = shared["cid"].as_str().ok_or("no cid")?.to_owned();
    let line = ThinLine::with_delay(&provider.address, BYTES_PER_SECOND, ROUND_TRIP / 2);
    let options = [
        "--no-mdns",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--bootstrap",
        &line.address,
    ];
    let options = options.map(str::to_owned).to_vec();
    let fetcher = Daemon::start_with(&bench.place("first-fetcher"), options);
    connected(&fetcher);
    let first = || {
        let peer = line.address.as_str();
        let mut fetch = command(fetcher.home(), &["fetch", &cid, "--peer", peer, "--stdout"]);
        fetch.stdout(Stdio::piped()).stderr(Stdio::null());
        let start = Instant::now();
        let mut fetch = fetch.spawn()?;
        let mut stdout = fetch.stdout.take().ok_or("no stdout")?;
        stdout.read_exact(&mut [0])?;
        let took = start.elapsed();
        drop(stdout);
        fetch.wait()?;
        // What was on its way still takes the line.
        std::thread::sleep(Duration::from_secs(2));
        Ok(took)
    };
    let contenders = vec![Contender {
        program: SHOAL,
        work: Box::new(first),
    }];
    let title = "first byte of 1 GiB over 100 Mbit/s and 80 ms".to_owned();
    let series = in_turn(&title, bench.rounds, contenders)?;
    let mut outcome = Outcome {
        title,
        name: "first-byte",
        mib: 0.0,
        series,
        bars: Vec::new(),
    };
    if let Some(seconds) = outcome.median(SHOAL) {
        let line = FIRST_MIB * f64::from(1 << 20) / BYTES_PER_SECOND as f64;
        let round_trip = ROUND_TRIP.as_secs_f64();
        outcome.bars.push(Bar {
            what: "first byte, seconds".into(),
            value: seconds,
            must: 3.0 * round_trip + 0.020 + line,
            beyond: 2.0 * round_trip + 0.005 + line,
            at_least: false,
        });
    }
    remove(&bench.place("first"))?;
    Ok(vec![outcome])
}
