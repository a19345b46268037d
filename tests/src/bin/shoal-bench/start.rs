//! Starting with a million indexed chunks.

use std::{fs, path::Path};

use shoal_tests::Daemon;

use crate::{
    Bench, Result,
    measure::{Bar, Contender, Outcome, SHOAL, in_turn, timed},
    programs::remove,
};

const CHUNKS: usize = 1_000_000;
const FILES_PER_FOLDER: usize = 1_000;
/// A tree of them has more entries than one share takes at its best; several are as users have it.
const SHARES: usize = 10;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Outcome>> {
    let home = bench.place("full");
    let files = bench.place("million");
    let daemon = Daemon::start(&home, &[]);
    for share in 0..SHARES {
        let below = files.join(share.to_string());
        make(&below, share)?;
        let shared = daemon.share(&below);
        eprintln!(
            "start: share {share} of {SHARES}, {} chunks",
            shared["chunks"]
        );
    }
    daemon.run(&["stop"]).ok();
    drop(daemon);
    let shoal = || {
        let (took, daemon) = timed(|| Ok(Daemon::start(&home, &[])))?;
        daemon.run(&["stop"]).ok();
        Ok(took)
    };
    let contenders = vec![Contender {
        program: SHOAL,
        work: Box::new(shoal),
    }];
    let title = "start with 1,000,000 indexed chunks".to_owned();
    let series = in_turn(&title, bench.rounds, contenders)?;
    let mut outcome = Outcome {
        title,
        name: "start",
        mib: 0.0,
        series,
        bars: Vec::new(),
    };
    if let Some(seconds) = outcome.median(SHOAL) {
        outcome.bars.push(Bar {
            what: "start with 1,000,000 indexed chunks, seconds".into(),
            value: seconds,
            must: 2.0,
            beyond: 0.3,
            at_least: false,
        });
    }
    remove(&files)?;
    Ok(vec![outcome])
}

/// Makes one share's part of the files: each one chunk, each another one.
fn make(below: &Path, share: usize) -> Result<()> {
    for number in 0..CHUNKS / SHARES {
        let folder = below.join((number / FILES_PER_FOLDER).to_string());
        if number.is_multiple_of(FILES_PER_FOLDER) {
            fs::create_dir_all(&folder)?;
        }
        fs::write(folder.join(number.to_string()), format!("{share}/{number}"))?;
    }
    Ok(())
}
