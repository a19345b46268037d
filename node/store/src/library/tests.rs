//! Files that change under a share, in every way that a file can.

#![allow(clippy::disallowed_methods, reason = "no bound is wrong in a test")]
#![allow(clippy::unwrap_used)]

mod damage;
mod doubt;
mod removal;
mod scrub;
mod upkeep;

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::SystemTime;

use shoal_protocol::address::{Digest, HashFn};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::rows::{ChangeKind, FileId, FileRow, FileStat, FileState};
use crate::share::{ShareRequest, share};

/// Files start out this old, so that their timestamps vouch for them.
const AGE: std::time::Duration = std::time::Duration::from_secs(3600);

/// A library, what it told, and a folder of files.
struct World {
    library: Option<Library>,
    events: mpsc::Receiver<LibraryEvent>,
    /// What was told and not asked for yet.
    kept: RefCell<Vec<LibraryEvent>>,
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("files")).unwrap();
        let (library, events) = open(&dir);
        Self {
            library: Some(library),
            events,
            kept: RefCell::default(),
            dir,
        }
    }

    /// Closes everything and opens it again, as the next process would.
    fn restart(&mut self) {
        self.library = None;
        let (library, events) = open(&self.dir);
        self.library = Some(library);
        self.events = events;
    }

    fn library(&self) -> &Library {
        self.library.as_ref().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("files").join(name)
    }

    /// Writes a file that was last modified long ago.
    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        set_modified(&path, SystemTime::now() - AGE);
        path
    }

    fn share(&self, name: &str) -> Arc<ShareRecord> {
        let request = ShareRequest {
            paths: vec![self.path(name)],
            ..ShareRequest::default()
        };
        share(self.library(), &request, &|_| {}, &CancellationToken::new())
            .unwrap()
            .record
    }

    fn read(&self, content: &str) -> Result<String, ReadError> {
        let mut block = Vec::new();
        self.library().read(&digest(content), None, &mut block)?;
        Ok(String::from_utf8(block).unwrap())
    }

    fn recheck(&self, share: &ShareRecord) -> VerifySummary {
        self.library()
            .recheck(share.id, &CancellationToken::new())
            .unwrap()
    }

    /// How the share's state says it changed.
    fn change(&self, share: &ShareRecord) -> Option<(String, ChangeKind)> {
        match &self.library().share(share.id).unwrap().state {
            ShareState::Changed(change) => Some((change.path.clone(), change.kind)),
            _ => None,
        }
    }

    /// What was told of shares that came, went or changed.
    fn told(&self) -> Vec<&'static str> {
        let word = |event| match event {
            LibraryEvent::Added(_) => Some("added"),
            LibraryEvent::Removed(_) => Some("removed"),
            LibraryEvent::Changed(_) => Some("changed"),
            LibraryEvent::Doubted(_) => None,
        };
        let told = self.kept.borrow_mut().split_off(0);
        told.into_iter()
            .chain(self.events.try_iter())
            .filter_map(word)
            .collect()
    }

    /// How many doubts were told since this was last asked.
    fn doubts(&self) -> usize {
        let mut events: Vec<_> = self.events.try_iter().collect();
        let all = events.len();
        events.retain(|event| !matches!(event, LibraryEvent::Doubted(_)));
        let doubts = all - events.len();
        self.kept.borrow_mut().append(&mut events);
        doubts
    }
}

fn open(dir: &TempDir) -> (Library, mpsc::Receiver<LibraryEvent>) {
    let (tell, events) = mpsc::channel();
    let store = Store::open(&dir.path().join("home")).unwrap();
    let library = Library::open(store, move |event| {
        // A test that has ended listens to nothing.
        let _ = tell.send(event);
    });
    (library.unwrap(), events)
}

fn digest(content: &str) -> Digest {
    Digest::of(HashFn::default(), content.as_bytes())
}

fn set_modified(path: &std::path::Path, time: SystemTime) {
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

/// Overwrites without changing size or modification time.
fn edit_stealthily(path: &std::path::Path, content: &str) {
    let modified = path.metadata().unwrap().modified().unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(content.as_bytes(), 0).unwrap();
    file.set_modified(modified).unwrap();
}

/// Every way to change a shared file: neither the read path nor a recheck may miss it, whether the
/// file was open in the library's cache or not.
#[test]
fn a_changed_file_is_not_served_and_is_told_once() {
    type Edit = dyn Fn(&World, &PathBuf);
    let check = |what: &str, kind: ChangeKind, edit: &Edit| {
        for (read_before, found_by_read) in [(false, true), (true, true), (true, false)] {
            let world = World::new();
            let path = world.write("top/file", "content");
            let share = world.share("top");
            if read_before {
                assert_eq!(world.read("content").unwrap(), "content");
            }
            edit(&world, &path);
            if found_by_read {
                let error = world.read("content").unwrap_err();
                assert!(matches!(error, ReadError::Changed), "{what}: {error}");
            } else {
                assert_eq!(world.recheck(&share).changed, 1, "{what}");
            }
            assert_eq!(
                world.change(&share),
                Some(("file".to_owned(), kind)),
                "{what}"
            );
            assert!(
                matches!(world.read("content"), Err(ReadError::Changed)),
                "{what}"
            );
            assert_eq!(world.library().held(&share.root), Held::Changed, "{what}");
            assert_eq!(world.told(), ["added", "changed"], "{what}");
        }
    };
    check("edited", ChangeKind::Modified, &|_, path| {
        fs::write(path, "CONTENT").unwrap();
    });
    check("edited, time put back", ChangeKind::Content, &|_, path| {
        edit_stealthily(path, "CONTENT");
    });
    check("longer", ChangeKind::Resized, &|_, path| {
        fs::write(path, "content!").unwrap();
    });
    check("truncated", ChangeKind::Resized, &|_, path| {
        fs::write(path, "").unwrap();
    });
    check("deleted", ChangeKind::Missing, &|_, path| {
        fs::remove_file(path).unwrap();
    });
    check("renamed", ChangeKind::Missing, &|world, path| {
        fs::rename(path, world.path("top/other")).unwrap();
    });
    check("replaced", ChangeKind::Replaced, &|world, path| {
        fs::rename(world.write("new", "CONTENT"), path).unwrap();
    });
    check(
        "a symlink in its place",
        ChangeKind::Replaced,
        &|world, path| {
            fs::rename(path, world.path("aside")).unwrap();
            symlink(world.path("aside"), path).unwrap();
        },
    );
    check("a folder in its place", ChangeKind::Replaced, &|_, path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    });
}

#[test]
fn what_only_moves_the_ctime_is_served_and_a_recheck_makes_peace() {
    let world = World::new();
    let path = world.write("file", "content");
    let share = world.share("file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(world.read("content").unwrap(), "content");
    assert_eq!(
        world.recheck(&share),
        VerifySummary {
            files: 1,
            hashed_bytes: 7,
            complete: true,
            ..VerifySummary::default()
        }
    );
    assert_eq!(world.change(&share), None);
    assert_eq!(world.told(), ["added"]);
}

#[test]
fn a_file_shared_right_after_it_was_written_is_hashed_at_every_read() {
    let world = World::new();
    let path = world.path("file");
    fs::write(&path, "content").unwrap();
    let share = world.share("file");
    let (id, row) = world
        .library()
        .store()
        .file_by_path(share.id, "")
        .unwrap()
        .unwrap();
    // Whatever the clock's grain, an edit in the same tick leaves exactly this row and this stat.
    fs::write(&path, "CONTENT").unwrap();
    let stat = FileStat::of(&path.metadata().unwrap());
    let mut batch = world.library().store().batch();
    let just_now = stat.recorded_at(SystemTime::now());
    assert_eq!(just_now.ctime_ns, 0);
    batch
        .put_file(
            id,
            &FileRow {
                stat: just_now,
                ..row
            },
        )
        .unwrap();
    batch.commit(false).unwrap();
    assert!(matches!(world.read("content"), Err(ReadError::Changed)));
}

#[test]
fn a_chunk_is_read_from_wherever_it_is_still_good() {
    let world = World::new();
    let first = world.write("one/file", "content");
    world.write("two/file", "content");
    let (one, two) = (world.share("one"), world.share("two"));
    assert_eq!(one.root, two.root);
    fs::remove_file(first).unwrap();
    assert_eq!(world.read("content").unwrap(), "content");
    assert_eq!(world.change(&two), None);
    // One share of the root is whole, so the root is.
    assert_eq!(world.library().held(&one.root), Held::Complete);
}

#[test]
fn the_files_of_the_wanted_root_are_preferred() {
    let world = World::new();
    world.write("one/file", "content");
    world.write("two/file", "content");
    world.write("two/other", "other");
    let (one, two) = (world.share("one"), world.share("two"));
    for (root, gone, expected) in [(&two.root, "one/file", &one), (&one.root, "two/file", &two)] {
        fs::rename(world.path(gone), world.path("aside")).unwrap();
        let mut block = Vec::new();
        world
            .library()
            .read(&digest("content"), Some(root), &mut block)
            .unwrap();
        assert_eq!(
            world.change(expected),
            None,
            "the other root's file was not looked at"
        );
        fs::rename(world.path("aside"), world.path(gone)).unwrap();
    }
}

#[test]
fn places_of_unreadable_shares_do_not_hide_a_good_one() {
    let world = World::new();
    world.write("file", "content");
    let template = world.share("file");
    let store = world.library().store();
    let staging = store.new_share_id().unwrap();
    let state = ShareState::Staging;
    let mut batch = store.batch();
    let record = ShareRecord {
        id: staging,
        state,
        ..template.as_ref().clone()
    };
    batch.put_share(&record).unwrap();
    let block = template.root.digest().unwrap();
    for (number, file) in store.new_file_ids(500).unwrap().enumerate() {
        let (path, stat) = (number.to_string(), FileStat::default());
        let row = FileRow {
            share: staging,
            path,
            stat,
            state: FileState::Stable,
        };
        batch.put_file(file, &row).unwrap();
        batch.put_chunk(file, 0, &block, 7);
    }
    batch.commit(false).unwrap();
    let again = world.share("file");
    assert_ne!(again.id, template.id);
    assert_eq!(world.read("content").unwrap(), "content");
}

#[test]
fn one_changed_file_leaves_the_others_readable() {
    let world = World::new();
    world.write("top/a", "aaa");
    let b = world.write("top/b", "bbb");
    let share = world.share("top");
    fs::write(b, "BBB").unwrap();
    assert!(world.read("bbb").is_err());
    assert_eq!(world.read("aaa").unwrap(), "aaa");
    let root = share.root.digest().unwrap();
    world.library().read(&root, None, &mut Vec::new()).unwrap();
    assert!(world.library().has(&digest("aaa")).unwrap());
    assert!(!world.library().has(&digest("bbb")).unwrap());
    assert!(!world.library().has(&digest("ccc")).unwrap());
}

#[test]
fn a_share_that_is_whole_again_is_offered_again() {
    let mut world = World::new();
    let path = world.write("file", "content");
    let share = world.share("file");
    let aside = world.path("aside");
    fs::rename(&path, &aside).unwrap();
    assert!(world.read("content").is_err());
    world.restart();
    assert_eq!(
        world.library().held(&share.root),
        Held::Changed,
        "the change survives a restart"
    );
    fs::rename(&aside, &path).unwrap();
    assert_eq!(world.recheck(&share).changed, 0);
    assert_eq!(world.library().held(&share.root), Held::Complete);
    assert_eq!(world.read("content").unwrap(), "content");
    assert_eq!(world.told(), ["added"]);
}

#[test]
fn verify_reads_everything_and_says_what_it_finds_per_file() {
    let world = World::new();
    world.write("top/good", "good");
    let touched = world.write("top/touched", "touched");
    let edited = world.write("top/edited", "edited");
    let share = world.share("top");
    set_modified(&touched, SystemTime::now());
    edit_stealthily(&edited, "EDITED");
    let mut verdicts = Vec::new();
    let mut hashed = 0;
    let mut on_event = |event: VerifyEvent| match event {
        VerifyEvent::File(file) => verdicts.push((file.path, file.verdict)),
        VerifyEvent::Hashed(bytes) => hashed += bytes,
        VerifyEvent::DamagedNode(digest) => panic!("{digest:?} is damaged"),
    };
    let cancel = CancellationToken::new();
    let summary = world
        .library()
        .verify(share.id, &mut on_event, &cancel)
        .unwrap();
    assert!(summary.complete);
    assert_eq!(
        (summary.files, summary.changed, summary.damaged_nodes),
        (3, 1, 0)
    );
    let expected = [
        ("edited", Verdict::Changed(ChangeKind::Content)),
        ("good", Verdict::Intact),
        ("touched", Verdict::Intact),
    ];
    assert_eq!(
        verdicts,
        expected.map(|(path, verdict)| (path.to_owned(), verdict))
    );
    assert_eq!(hashed, summary.hashed_bytes);
    assert_eq!(world.read("touched").unwrap(), "touched");
    assert!(world.read("edited").is_err());
}

#[test]
fn a_cancelled_sweep_changes_no_state() {
    let world = World::new();
    let path = world.write("file", "content");
    let share = world.share("file");
    fs::remove_file(path).unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let summary = world.library().recheck(share.id, &cancel).unwrap();
    assert_eq!(summary, VerifySummary::default());
    assert_eq!(world.change(&share), None);
}

#[test]
fn unflushed_data_of_another_boot_is_hashed_before_it_counts() {
    let mut world = World::new();
    let path = world.write("file", "content");
    let share = world.share("file");
    let mark = |world: &World, boot: BootId| {
        let record = ShareRecord {
            unflushed_boot: Some(boot),
            ..share.as_ref().clone()
        };
        let mut batch = world.library().store().batch();
        batch.put_share(&record).unwrap();
        batch.commit(true).unwrap();
    };
    // A stat that is as recorded and bytes that are not: what a power loss can leave.
    edit_stealthily(&path, "\0\0\0\0\0\0\0");
    let (id, row) = world
        .library()
        .store()
        .file_by_path(share.id, "")
        .unwrap()
        .unwrap();
    let stat = FileStat::of(&path.metadata().unwrap());
    let mut batch = world.library().store().batch();
    batch.put_file(id, &FileRow { stat, ..row }).unwrap();
    batch.commit(true).unwrap();

    mark(&world, world.library().boot());
    world.restart();
    assert!(world.library().suspects().is_empty());
    assert_eq!(
        world.read("content").unwrap(),
        "\0\0\0\0\0\0\0",
        "this boot's stat is trusted"
    );

    let other: BootId = postcard::from_bytes(&[7; 16]).unwrap();
    mark(&world, other);
    world.restart();
    assert_eq!(world.library().suspects().len(), 1);
    assert!(matches!(world.read("content"), Err(ReadError::Changed)));
    assert_eq!(world.told(), ["changed"]);
}

#[test]
fn a_recheck_clears_suspicion_and_a_flush_prevents_it() {
    let mut world = World::new();
    world.write("file", "content");
    let share = world.share("file");
    let other: BootId = postcard::from_bytes(&[7; 16]).unwrap();
    for flushed in [false, true] {
        let record = ShareRecord {
            unflushed_boot: Some(other),
            ..share.as_ref().clone()
        };
        world
            .library()
            .publish(world.library().store().batch(), record)
            .unwrap();
        if flushed {
            world.library().flushed(share.id).unwrap();
        } else {
            assert_eq!(world.recheck(&share).hashed_bytes, 7);
        }
        assert!(world.library().suspects().is_empty());
        world.restart();
        assert!(world.library().suspects().is_empty());
    }
}

#[test]
fn a_landing_share_is_served_by_hash_and_never_marked() {
    let mut world = World::new();
    let path = world.write("part", "one two ");
    let store = world.library().store().clone();
    let id = store.new_share_id().unwrap();
    let root = Cid::raw(digest("whole"));
    let record = ShareRecord {
        root: root.clone(),
        id,
        base: path.clone(),
        state: ShareState::Landing,
        ..world.share("part").as_ref().clone()
    };
    let file = store.new_file_ids(1).unwrap().next().unwrap();
    let mut batch = store.batch();
    let stat = FileStat::default();
    let row = FileRow {
        share: id,
        path: String::new(),
        stat,
        state: FileState::Landing,
    };
    batch.put_file(file, &row).unwrap();
    batch.put_chunk(file, 0, &digest("one "), 4);
    batch.put_chunk(file, 4, &digest("2"), 4);
    batch.put_chunk(file, 400, &digest("beyond"), 6);
    drop(store);
    world.library().publish(batch, record).unwrap();
    world.restart();

    assert_eq!(world.library().held(&root), Held::Landing);
    assert_eq!(world.read("one ").unwrap(), "one ");
    assert!(matches!(world.read("2"), Err(ReadError::NotHere)));
    assert!(matches!(world.read("beyond"), Err(ReadError::NotHere)));
    world.restart();
    fs::remove_file(path).unwrap();
    assert!(matches!(world.read("one "), Err(ReadError::NotHere)));
    assert_eq!(world.library().held(&root), Held::Landing);
    assert!(world.told().is_empty());

    world.library().discard(id).unwrap();
    assert_eq!(world.library().held(&root), Held::Absent);
    assert!(world.told().is_empty(), "it was never offered");
}
