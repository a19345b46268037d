//! A stick with a FAT file system, pulled out and put in again: FAT has no inodes, so a file has another
//! number each time, and times in steps of two seconds.
//!
//! Where the kernel has no FAT, these run in a Linux that has one (`uml`).

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use shoal_tests::{assert_same_file, content, text, uml, wait_for};

use super::World;

const IMAGE_BYTES: u64 = 64 << 20;
const BYTES: usize = 3_000_000;

struct Stick {
    image: PathBuf,
    at: PathBuf,
    is_plugged: bool,
}

impl Stick {
    /// A new one, plugged in; none where that is not possible, which it says.
    fn new(folder: &Path) -> Option<Self> {
        let (image, at) = (folder.join("image"), folder.join("stick"));
        fs::create_dir_all(&at).unwrap();
        File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        let mut stick = Self {
            image,
            at,
            is_plugged: false,
        };
        let formatted = runs("mkfs.vfat", &[text(&stick.image)]);
        if formatted && stick.plug() {
            return Some(stick);
        }
        assert!(std::env::var_os("CI").is_none(), "CI has to have FAT");
        #[expect(clippy::print_stderr, reason = "a test that does nothing says why")]
        {
            eprintln!("skipped: no FAT file system can be made and mounted here");
        }
        None
    }

    fn plug(&mut self) -> bool {
        let (image, at) = (text(&self.image), text(&self.at));
        self.is_plugged = runs("mount", &["-t", "vfat", "-o", "loop", image, at]);
        self.is_plugged
    }

    /// Pulls it out, although somebody may have a file of it open: as long as they do, the kernel keeps the
    /// file system that it has. The stick is another one to it when it is plugged in again.
    fn pull(&mut self) {
        if !self.is_plugged {
            return;
        }
        runs("sync", &["--file-system", text(&self.at)]);
        assert!(runs("umount", &["--lazy", text(&self.at)]));
        self.is_plugged = false;
        let pulled = self.image.with_added_extension("pulled");
        fs::copy(&self.image, &pulled).unwrap();
        // What is open can read no more of it.
        let gone = File::options().write(true).open(&self.image).unwrap();
        gone.set_len(0).unwrap();
        fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
        self.image = pulled;
    }

    /// Changes a byte of a file on the pulled stick, as another machine might, and nothing else.
    fn flip(&self, of: &[u8]) {
        assert!(!self.is_plugged);
        let image = fs::read(&self.image).unwrap();
        // The file that was removed had the same bytes, and lay before this one.
        let at = image.windows(32).rposition(|window| window == &of[..32]);
        let at = at.unwrap() as u64 + 20;
        let file = File::options().write(true).open(&self.image).unwrap();
        file.write_all_at(&[!of[20]], at).unwrap();
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        self.pull();
    }
}

fn runs(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A stick with a shared file, which was fetched once; the stick, the file, its bytes and its link.
fn shared(world: &World) -> Option<(Stick, PathBuf, Vec<u8>, String)> {
    let stick = Stick::new(&world.path("disk"))?;
    let folder = stick.at.join("shared");
    let bytes = content("fat", BYTES);
    fs::create_dir(&folder).unwrap();
    // Another file is found first the next time.
    for name in ["first", "file"] {
        fs::write(folder.join(name), &bytes).unwrap();
    }
    fs::remove_file(folder.join("first")).unwrap();
    let file = folder.join("file");
    let link = world.share(&file);
    assert_eq!(world.fetch(&link, "before").code, Some(0));
    Some((stick, file, bytes, link))
}

#[test]
fn a_fat_stick_that_was_pulled_out_and_put_in_again_is_served_at_once() {
    let name = "stick::a_fat_stick_that_was_pulled_out_and_put_in_again_is_served_at_once";
    if uml::has_run(name) {
        return;
    }
    let world = World::new();
    let Some((mut stick, file, bytes, link)) = shared(&world) else {
        return;
    };
    let stat = |path: &Path| {
        let found = path.metadata().unwrap();
        (found.dev(), found.ino(), found.ctime(), found.ctime_nsec())
    };
    let before = stat(&file);
    stick.pull();
    assert!(!file.exists());
    assert!(stick.plug());
    assert!(fs::read(&file).unwrap() == bytes);
    assert_ne!(
        stat(&file),
        before,
        "it came back as it was: nothing is tested"
    );
    let fetched = world.fetch(&link, "after");
    assert_eq!(fetched.code, Some(0), "{fetched:?}");
    assert_same_file(&file, &world.path("after"));
}

#[test]
fn a_byte_that_was_changed_on_a_pulled_fat_stick_is_never_served() {
    let name = "stick::a_byte_that_was_changed_on_a_pulled_fat_stick_is_never_served";
    if uml::has_run(name) {
        return;
    }
    let world = World::new();
    let Some((mut stick, file, bytes, link)) = shared(&world) else {
        return;
    };
    let stat = |path: &Path| {
        let found = path.metadata().unwrap();
        (found.len(), found.mtime(), found.mtime_nsec())
    };
    let before = stat(&file);
    stick.pull();
    stick.flip(&bytes);
    assert!(stick.plug());
    assert_eq!(stat(&file), before, "only a byte differs");
    assert!(fs::read(&file).unwrap() != bytes);
    let refused = world.fetch(&link, "after");
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(!world.path("after").exists());
    wait_for("status to say so", || {
        let status = world.sharer.run(&["status"]).ok();
        (status["shares"][0]["state"] == "changed").then_some(())
    });
}
