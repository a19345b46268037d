//! What `kill -9` leaves: real processes that die at a moment of the test's choosing.
//!
//! The process is this test binary again, running only [`child`] with its work in the environment.

use std::env;
use std::ffi::OsStr;

use shoal_protocol::address::HashFn;

use super::*;
use crate::tests::death::{await_death, killed};
use crate::{Held, ReadError};

const HOME: &str = "SHOAL_TEST_CRASH_HOME";
const FILES: &str = "SHOAL_TEST_CRASH_FILES";
const AT: &str = "SHOAL_TEST_CRASH_AT";

/// Files of the share.
const FILES_TOTAL: u64 = 12_000;

/// Files after which the process is killed: rows of 300 bytes each are committed every MiB.
const MIDWAY_FILES: u64 = 10_000;

/// The work of the process that is killed: shares, says when it has come to the place, and waits
/// for death.
#[test]
fn child() {
    let (Ok(home), Ok(files), Ok(at)) = (env::var(HOME), env::var(FILES), env::var(AT)) else {
        return;
    };
    let library = Library::open(Store::open(home.as_ref()).unwrap(), |_| {}).unwrap();
    let request = ShareRequest {
        paths: vec![files.into()],
        ..ShareRequest::default()
    };
    let on_progress = |progress: Progress| {
        if at == "midway" && progress.files == MIDWAY_FILES {
            await_death("midway");
        }
    };
    let place = SharePlace::of(&request.paths, library.store().home()).unwrap();
    let staged = Staged::begin(&library, &place, &request).unwrap();
    let mut meter = Meter::new(&on_progress, Survey::default());
    meter.interval = Duration::ZERO;
    let cancel = CancellationToken::new();
    let shared = staged
        .finish(&place, &Excludes::none(), &mut meter, &cancel)
        .unwrap();
    await_death(&shared.record.root.to_string());
}

/// Kills the child at that place.
fn killed_at(home: &Path, files: &Path, at: &str) -> String {
    let variables = [
        (HOME, home.as_os_str()),
        (FILES, files.as_os_str()),
        (AT, OsStr::new(at)),
    ];
    killed("share::tests::crash::child", variables)
}

#[test]
fn an_acknowledged_share_survives_and_an_unfinished_one_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (home, files) = (dir.path().join("home"), dir.path().join("files"));
    fs::create_dir(&files).unwrap();
    let content = noise("content", 3 << 20);
    fs::write(files.join("+first"), &content).unwrap();
    // Enough small files for several batches of rows.
    for number in 0..FILES_TOTAL {
        fs::write(files.join(format!("{number}")), format!("{number}")).unwrap();
    }

    let digest = Digest::of(HashFn::default(), &content[..1 << 20]);

    killed_at(&home, &files, "midway");
    let store = Store::open(&home).unwrap();
    assert_eq!(
        store.locations(&digest).count(),
        1,
        "rows were written before the end"
    );
    let library = Library::open(store, |_| {}).unwrap();
    assert!(library.shares().is_empty());
    let mut block = Vec::new();
    assert!(matches!(
        library.read(&digest, None, &mut block),
        Err(ReadError::NotHere)
    ));
    let begun = Instant::now();
    while !is_empty(library.store()) {
        assert!(
            begun.elapsed() < DEADLINE,
            "what a dead process staged is not collected"
        );
        std::thread::yield_now();
    }
    assert!(library.store().locations(&digest).next().is_none());
    drop(library);

    let root: Cid = killed_at(&home, &files, "end").parse().unwrap();
    let library = Library::open(Store::open(&home).unwrap(), |_| {}).unwrap();
    assert_eq!(library.held(&root), Held::Complete);
    library.read(&digest, Some(&root), &mut block).unwrap();
    assert!(block == content[..1 << 20]);
}
