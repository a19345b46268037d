//! Stats that do not vouch: the hash decides.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::*;

fn stat(path: &Path) -> FileStat {
    FileStat::of(&path.metadata().unwrap())
}

/// Puts a copy with the same times in the place of a file, as rsync and a restored backup do.
fn put_back(path: &Path, content: &str) {
    let modified = path.metadata().unwrap().modified().unwrap();
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    set_modified(&new, modified);
    fs::rename(&new, path).unwrap();
}

/// What people and programs do to files without changing a byte of them.
#[test]
fn the_same_bytes_under_another_stat_are_served_and_recorded() {
    type Deed = dyn Fn(&Path);
    let check = |what: &str, deed: &Deed| {
        for read_before in [false, true] {
            let world = World::new();
            let path = world.write("top/file", "content");
            wait_until(|| is_vouched_for(&path));
            let share = world.share("top");
            let before = stat(&path);
            if read_before {
                assert_eq!(world.read("content").unwrap(), "content");
            }
            deed(&path);
            assert_ne!(stat(&path), before, "{what}");
            for _ in 0..3 {
                assert_eq!(world.read("content").unwrap(), "content", "{what}");
            }
            assert_eq!(world.doubts(), 1, "{what}: said once");
            assert!(world.library().is_doubted(share.id));
            assert!(world.library().is_in_doubt(share.id));
            assert_eq!(world.recheck(&share).hashed_bytes, 7, "{what}");
            assert!(!world.library().is_doubted(share.id));
            assert!(!world.library().is_in_doubt(share.id));
            let found = world.library().store().file_by_path(share.id, "file");
            let (_, row) = found.unwrap().unwrap();
            let now = stat(&path);
            assert_eq!((row.stat.ino, row.stat.mtime_ns), (now.ino, now.mtime_ns));
            assert_eq!(world.change(&share), None, "{what}");
            assert_eq!(world.told(), ["added"], "{what}");
        }
    };
    check("cp -p; mv", &|path| put_back(path, "content"));
    check("touch", &|path| set_modified(path, SystemTime::now()));
    check("touch -d", &|path| {
        set_modified(path, SystemTime::UNIX_EPOCH);
    });
    check("written again", &|path| fs::write(path, "content").unwrap());
    check("chmod", &|path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    });
    check("changed and changed back", &|path| {
        edit_stealthily(path, "CONTENT");
        edit_stealthily(path, "content");
    });
}

#[test]
fn a_share_is_in_doubt_until_a_look_that_began_for_it_has_ended() {
    let world = World::new();
    let path = world.write("file", "content");
    wait_until(|| is_vouched_for(&path));
    let share = world.share("file");
    let library = world.library();
    let in_doubt_during_look = || {
        let mut seen = Vec::new();
        let mut look = |_: VerifyEvent| seen.push(library.is_in_doubt(share.id));
        let cancel = CancellationToken::new();
        library.verify(share.id, &mut look, &cancel).unwrap();
        assert!(!library.is_in_doubt(share.id));
        seen.dedup();
        seen
    };
    assert_eq!(in_doubt_during_look(), [false], "nothing was in doubt");
    set_modified(&path, SystemTime::now());
    world.read("content").unwrap();
    assert!(library.is_in_doubt(share.id));
    assert_eq!(in_doubt_during_look(), [true]);
}

/// Whoever asks hears of the share once the look has ended, not what was known before.
#[test]
fn what_is_asked_for_in_doubt_waits_for_the_look() {
    let world = World::new();
    let path = world.write("file", "content");
    wait_until(|| is_vouched_for(&path));
    let share = world.share("file");
    set_modified(&path, SystemTime::now());
    world.read("content").unwrap();
    fs::write(&path, "CONTENT").unwrap();
    let library = world.library().clone();
    let root = share.root.clone();
    let asked = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.block_on(library.look_again(&root, Duration::from_secs(60)));
        library.held(&root)
    });
    assert!(world.library().is_in_doubt(share.id));
    world.recheck(&share);
    assert_eq!(asked.join().unwrap(), Held::Changed);
}

#[test]
fn another_byte_under_the_same_size_and_time_is_never_served() {
    type Deed = dyn Fn(&Path);
    let check = |what: &str, deed: &Deed| {
        for read_before in [false, true] {
            let world = World::new();
            let path = world.write("file", "content");
            let share = world.share("file");
            if read_before {
                world.read("content").unwrap();
            }
            let before = path.metadata().unwrap();
            deed(&path);
            let now = path.metadata().unwrap();
            assert_eq!((now.len(), now.mtime()), (before.len(), before.mtime()));
            let error = world.read("content").unwrap_err();
            assert!(matches!(error, ReadError::Changed), "{what}: {error}");
            assert_eq!(world.library().held(&share.root), Held::Changed, "{what}");
        }
    };
    check("in place", &|path| edit_stealthily(path, "conTent"));
    check("by a copy", &|path| put_back(path, "conTent"));
}

#[test]
fn a_file_that_stays_changed_is_hashed_once() {
    let world = World::new();
    let path = world.write("file", "content");
    let share = world.share("file");
    put_back(&path, "CONTENT");
    let hashed = || {
        let summary = world.recheck(&share);
        assert_eq!(summary.changed, 1);
        summary.hashed_bytes
    };
    // Until the file's change is older than the clock's grain, its stat says nothing.
    wait_until(|| hashed() == 0);
    put_back(&path, "content");
    assert_eq!(world.recheck(&share).changed, 0);
    assert_eq!(world.read("content").unwrap(), "content");
}

/// Whether the last change of a file is older than the grain of the clock that stamps it.
fn is_vouched_for(path: &Path) -> bool {
    stat(path).recorded_at(SystemTime::now()).ctime_ns != 0
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
}

#[test]
fn one_byte_more_than_recorded_is_a_change_whatever_the_stat_says() {
    let world = World::new();
    let path = world.write("file", "content");
    let share = world.share("file");
    let store = world.library().store();
    let (id, row) = store.file_by_path(share.id, "").unwrap().unwrap();
    // As of a file that says that it is empty.
    let unsized_row = FileRow {
        stat: row.stat.unsized_with(7),
        ..row
    };
    let mut batch = store.batch();
    batch.put_file(id, &unsized_row).unwrap();
    batch.commit(false).unwrap();
    assert_eq!(world.read("content").unwrap(), "content");
    assert_eq!(world.doubts(), 0, "its reads are hashed anyway");
    fs::write(&path, "content!").unwrap();
    assert!(matches!(world.read("content"), Err(ReadError::Changed)));
}

/// The system's own files say that they are empty.
#[test]
#[cfg(target_os = "linux")]
fn a_file_that_says_that_it_is_empty_is_shared_as_it_is() {
    let world = World::new();
    let path = PathBuf::from("/proc/version");
    let content = fs::read_to_string(&path).unwrap();
    assert_eq!(path.metadata().unwrap().len(), 0);
    let request = ShareRequest {
        paths: vec![path],
        ..ShareRequest::default()
    };
    let shared = share(
        world.library(),
        &request,
        &|_| {},
        &CancellationToken::new(),
    );
    let record = shared.unwrap().record;
    assert_eq!(record.size, content.len() as u64);
    assert_eq!(world.read(&content).unwrap(), content);
    assert_eq!(world.recheck(&record).changed, 0);
    assert_eq!(world.read(&content).unwrap(), content);
    assert_eq!(world.told(), ["added"]);
}

#[test]
fn a_share_whose_files_are_put_back_is_whole_when_somebody_asks() {
    let world = World::new();
    let path = world.write("file", "content");
    let share = world.share("file");
    fs::write(&path, "longer than it was").unwrap();
    assert_eq!(world.recheck(&share).changed, 1);
    fs::write(&path, "content").unwrap();
    assert!(matches!(world.read("content"), Err(ReadError::Changed)));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().unwrap();
    let library = world.library().clone();
    let asked = std::thread::spawn(move || {
        // A look that has just ended is not repeated at once.
        while library.held(&share.root) == Held::Changed {
            runtime.block_on(library.look_again(&share.root, Duration::from_millis(10)));
        }
    });
    // Whoever is told looks.
    wait_until(|| world.doubts() > 0);
    world.recheck(&world.library().shares()[0]);
    asked.join().unwrap();
    assert_eq!(world.read("content").unwrap(), "content");
}
