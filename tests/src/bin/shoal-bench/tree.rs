//! A tree of many small files: sharing it against `b3sum` and sendme, fetching it against `cp -r`
//! and sendme.

use std::{
    cell::{Cell, RefCell},
    ffi::OsStr,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use shoal_tests::{Daemon, assert_same_tree, content};

use crate::{
    Bench, Result,
    large_file::connected,
    measure::{Bar, Contender, Outcome, SHOAL, in_turn, peak_mib, timed},
    programs::{Sendme, remove, run},
};

/// What a tree is made of when none is given: the numbers of Linux 6.1, and files of that mean.
const FILES: usize = 78_579;
const FILES_PER_FOLDER: usize = 16;
const FILE_BYTES: [usize; 8] = [200, 800, 2_000, 4_000, 9_000, 16_000, 30_000, 66_000];

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Outcome>> {
    let source = match &bench.tree {
        Some(tree) => tree.clone(),
        None => made(&bench.place("tree"))?,
    };
    let provider = Daemon::start(&bench.place("tree-provider"), &[]);
    let sender = RefCell::new(None);
    let share = share(bench, &provider, &source, &sender)?;
    let shared = provider.share(&source);
    let cid = shared["cid"].as_str().ok_or("no cid")?.to_owned();
    let fetch = fetch(
        bench,
        &provider,
        &source,
        &cid,
        sender.into_inner().as_ref(),
    )?;
    remove(&bench.place("tree"))?;
    Ok(vec![share, fetch])
}

fn share(
    bench: &Bench,
    provider: &Daemon,
    source: &Path,
    sender: &RefCell<Option<Sendme>>,
) -> Result<Outcome> {
    let list = bench.place("list");
    let files = list_files(source, &list)?;
    let mut contenders = Vec::new();
    if bench.programs.b3sum {
        let hash = || {
            let mut all = Command::new("xargs");
            all.args(["-0", "-a"]).arg(&list).args(["b3sum", "--"]);
            run(&mut all)
        };
        contenders.push(Contender {
            program: "b3sum",
            work: Box::new(hash),
        });
    }
    let shoal = || {
        let (took, shared) = timed(|| Ok(provider.share(source)))?;
        provider
            .run(&["unshare", shared["cid"].as_str().ok_or("no cid")?])
            .ok();
        Ok(took)
    };
    contenders.push(Contender {
        program: SHOAL,
        work: Box::new(shoal),
    });
    if bench.programs.sendme {
        let share = || {
            *sender.borrow_mut() = None;
            let (took, sending) = Sendme::share(source, &bench.place("sendme-tree"))?;
            *sender.borrow_mut() = Some(sending);
            Ok(took)
        };
        contenders.push(Contender {
            program: "sendme",
            work: Box::new(share),
        });
    }
    let title = format!("share a tree of {files} files");
    let series = in_turn(&title, bench.rounds, contenders)?;
    let mut outcome = Outcome {
        title,
        name: "share-tree",
        mib: 0.0,
        series,
        bars: Vec::new(),
    };
    outcome.faster("b3sum", 0.7, 0.9);
    outcome.faster("sendme", 3.0, 6.0);
    Ok(outcome)
}

fn fetch(
    bench: &Bench,
    provider: &Daemon,
    source: &Path,
    cid: &str,
    sender: Option<&Sendme>,
) -> Result<Outcome> {
    // To new places, and nothing is removed in between: right after a removal, ext4 makes files
    // several times slower.
    let runs = Cell::new(0_u32);
    let place = |program: &str| -> PathBuf {
        runs.set(runs.get() + 1);
        bench.place(&format!("tree-{program}-{}", runs.get()))
    };
    let peak = Cell::new(0.0_f64);
    let copy = || run(Command::new("cp").arg("-r").arg(source).arg(place("cp")));
    let shoal = || -> Result<Duration> {
        let fetcher = Daemon::start(&place("home"), &[provider]);
        connected(&fetcher);
        let out = place(SHOAL);
        let (took, _) = timed(|| Ok(fetcher.fetch(cid, &out)))?;
        peak.set(peak.get().max(peak_mib(fetcher.pid())?));
        if runs.get() <= 4 {
            assert_same_tree(source, &out);
        }
        Ok(took)
    };
    let mut contenders = vec![
        Contender {
            program: "cp -r",
            work: Box::new(copy),
        },
        Contender {
            program: SHOAL,
            work: Box::new(shoal),
        },
    ];
    if let Some(sender) = sender {
        let fetch = || sender.fetch_and_keep(&place("sendme"));
        contenders.push(Contender {
            program: "sendme",
            work: Box::new(fetch),
        });
    }
    let title = "fetch the tree".to_owned();
    let series = in_turn(&title, bench.rounds, contenders)?;
    let mut outcome = Outcome {
        title,
        name: "fetch-tree",
        mib: 0.0,
        series,
        bars: Vec::new(),
    };
    outcome.within("cp -r", 4.0, 2.0);
    outcome.faster("sendme", 3.0, 6.0);
    outcome.bars.push(Bar {
        what: "memory of a daemon that fetches the tree, MiB".into(),
        value: peak.get(),
        must: 150.0,
        beyond: 80.0,
        at_least: false,
    });
    Ok(outcome)
}

/// Writes the paths of all files, each with a NUL behind it, and counts them.
fn list_files(below: &Path, to: &Path) -> Result<usize> {
    let mut list = BufWriter::new(File::create(to)?);
    let mut folders = vec![below.to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                list.write_all(OsStr::as_encoded_bytes(entry.path().as_os_str()))?;
                list.write_all(&[0])?;
                files += 1;
            }
        }
    }
    list.flush()?;
    Ok(files)
}

/// Makes a tree of the size of Linux: each file another one.
fn made(at: &Path) -> Result<PathBuf> {
    let bytes = content("tree", 1 << 20);
    for number in 0..FILES {
        let folder = number / FILES_PER_FOLDER;
        let folder = at.join(format!("{}/{folder}", folder / FILES_PER_FOLDER));
        if number.is_multiple_of(FILES_PER_FOLDER) {
            fs::create_dir_all(&folder)?;
        }
        let len = FILE_BYTES[number % FILE_BYTES.len()];
        let from = (number * 61) % (bytes.len() - len);
        let mut file = File::create(folder.join(number.to_string()))?;
        file.write_all(&number.to_le_bytes())?;
        file.write_all(&bytes[from..from + len])?;
    }
    Ok(at.to_owned())
}
