//! Somebody watches while it is fetched: `fetch --stdout` at the speed of a film, from two providers
//! of which the busier one dies.

use std::{
    fs::File,
    io::{BufReader, Read},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use shoal_tests::{Daemon, command, write_content};

use crate::{
    Bench, Result,
    measure::{Bar, Outcome, SHOAL, Series},
    programs::remove,
};

const BYTES: usize = 1 << 30;
/// Of a film: 5 MB/s.
const BYTES_PER_SECOND: f64 = 5e6;
/// What a player reads at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Players keep seconds ahead; who waits for longer than this for one piece notices.
const STALL: Duration = Duration::from_millis(500);
/// 1.1 MiB at 100 Mbit/s, three round trips of 80 ms and 20 ms: loopback has less of all.
const FIRST_BYTE: f64 = 0.35;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Outcome>> {
    let source = bench.place("player/film");
    write_content(&source, "player", BYTES);
    let mut providers = vec![Daemon::start(&bench.place("player-a"), &[])];
    providers.push(Daemon::start(&bench.place("player-b"), &[&providers[0]]));
    let shared: Vec<_> = providers.iter().map(|it| it.share(&source)).collect();
    let cid = shared[0]["cid"].as_str().ok_or("no cid")?;
    let viewer = Daemon::start(
        &bench.place("player-viewer"),
        &[&providers[0], &providers[1]],
    );
    let mut fetch = command(viewer.home(), &["fetch", cid, "--stdout"]);
    for provider in &providers {
        fetch.args(["--peer", &provider.address]);
    }
    fetch.stdout(Stdio::piped()).stderr(Stdio::null());
    let started = Instant::now();
    let mut fetch = fetch.spawn()?;
    let mut film = fetch.stdout.take().ok_or("no stdout")?;
    let mut original = BufReader::new(File::open(&source)?);
    let (mut piece, mut expected) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let (mut got, mut first, mut longest, mut stalls) = (0_usize, None, Duration::ZERO, 0_u32);
    let mut begun = started;
    while got < BYTES {
        // The player wants the next piece when it is due, not before.
        let due = begun + Duration::from_secs_f64(got as f64 / BYTES_PER_SECOND);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let asked = Instant::now();
        let read = film.read(&mut piece)?;
        if read == 0 {
            return Err(format!("the film ended after {got} bytes").into());
        }
        match first {
            None => {
                first = Some(started.elapsed());
                begun = Instant::now();
            }
            Some(_) => {
                longest = longest.max(asked.elapsed());
                stalls += u32::from(asked.elapsed() > STALL);
            }
        }
        original.read_exact(&mut expected[..read])?;
        if piece[..read] != expected[..read] {
            return Err(format!("a wrong byte after {got}").into());
        }
        got += read;
        if got > BYTES / 3 && providers.len() == 2 {
            let uploaded = |it: &Daemon| it.run(&["status"]).ok()["uploaded_bytes"].as_u64();
            let busier = usize::from(uploaded(&providers[1]) > uploaded(&providers[0]));
            drop(providers.remove(busier));
        }
    }
    if !fetch.wait()?.success() {
        return Err("the fetch failed".into());
    }
    remove(&bench.place("player"))?;
    let first = first.unwrap_or_default().as_secs_f64();
    eprintln!("player: first byte after {first:.3} s, longest wait {longest:?}");
    let bar = |what: &str, value, must, beyond| Bar {
        what: format!("player at 5 MB/s, a provider dies: {what}"),
        value,
        must,
        beyond,
        at_least: false,
    };
    Ok(vec![Outcome {
        title: "a player reads 1 GiB at 5 MB/s: first byte".into(),
        name: "player",
        mib: 0.0,
        series: vec![Series {
            program: SHOAL.into(),
            seconds: vec![first],
        }],
        bars: vec![
            bar("first byte, seconds", first, FIRST_BYTE, 0.1),
            bar("waits over 0.5 s", f64::from(stalls), 0.0, 0.0),
            bar(
                "longest wait, seconds",
                longest.as_secs_f64(),
                STALL.as_secs_f64(),
                0.1,
            ),
        ],
    }])
}
