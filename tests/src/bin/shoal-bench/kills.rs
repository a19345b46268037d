//! A daemon that is killed ten times while it fetches: what the provider has to send again.

use std::process::Stdio;

use shoal_tests::{Daemon, assert_same_file, command, text, wait_for, write_content};

use crate::{
    Bench, Result,
    large_file::connected,
    measure::{Bar, Outcome, SHOAL, Series, timed},
    programs::remove,
};

const KILLS: u64 = 10;
/// Each run kills ten times already.
const ROUNDS_MAX: u32 = 3;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Outcome>> {
    let source = bench.place("kills/file");
    let bytes = bench.file_mib << 20;
    write_content(&source, "kills", usize::try_from(bytes)?);
    let provider = Daemon::start(&bench.place("kills-provider"), &[]);
    let shared = provider.share(&source);
    let cid = shared["cid"].as_str().ok_or("no cid")?;
    let title = format!("fetch {} MiB, killed {KILLS} times", bench.file_mib);
    let (mut seconds, mut copies) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds.min(ROUNDS_MAX) {
        let before = uploaded(&provider)?;
        let (took, ()) = timed(|| once(bench, &provider, cid, bytes))?;
        let sent = uploaded(&provider)?.saturating_sub(before) as f64 / bytes as f64;
        eprintln!(
            "{title}: {:.2} s, {sent:.3} of the file sent",
            took.as_secs_f64()
        );
        seconds.push(took.as_secs_f64());
        copies.push(sent);
        assert_same_file(&source, &bench.place("kills-out"));
        remove(&bench.place("kills-out"))?;
    }
    remove(&bench.place("kills"))?;
    let sent = Series {
        program: SHOAL.into(),
        seconds: copies,
    };
    let bar = Bar {
        what: format!("{title}: what was sent, of the file"),
        value: sent.median(),
        must: 1.03,
        beyond: 1.01,
        at_least: false,
    };
    Ok(vec![Outcome {
        title,
        name: "kills",
        mib: 0.0,
        series: vec![Series {
            program: SHOAL.into(),
            seconds,
        }],
        bars: vec![bar],
    }])
}

/// Fetches with a new daemon, which is killed whenever another eleventh of the file is there.
fn once(bench: &Bench, provider: &Daemon, cid: &str, bytes: u64) -> Result<()> {
    let (home, out) = (bench.place("kills-fetcher"), bench.place("kills-out"));
    remove(&home)?;
    let mut fetcher = Daemon::start(&home, &[provider]);
    connected(&fetcher);
    let mut fetch = command(&home, &["fetch", cid, "-o", text(&out)]);
    let mut fetch = fetch.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    for kill in 1..=KILLS {
        let enough = bytes / (KILLS + 1) * kill;
        wait_for("another eleventh", || {
            let transfer = transfer(&fetcher);
            assert_ne!(transfer["state"], "done", "it was too fast to be killed");
            let done = transfer["verified_bytes"].as_u64().unwrap_or_default();
            (done >= enough).then_some(())
        });
        fetcher = fetcher.restart();
    }
    wait_for("the rest", || {
        (transfer(&fetcher)["state"] == "done").then_some(())
    });
    // The command ended with its daemon.
    fetch.wait()?;
    Ok(())
}

fn transfer(fetcher: &Daemon) -> serde_json::Value {
    fetcher.run(&["transfers"]).ok()["transfers"][0].clone()
}

fn uploaded(provider: &Daemon) -> Result<u64> {
    let status = provider.run(&["status"]).ok();
    Ok(status["uploaded_bytes"]
        .as_u64()
        .ok_or("no uploaded_bytes")?)
}
