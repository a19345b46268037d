//! A Linux of its own for a test, where this machine's kernel lacks a file system: user-mode Linux,
//! which is a kernel that runs as a process.
//!
//! It sees the files of this machine, read-only, and has a disk, a loopback and processes of its own.
//! A test that needs FAT runs again in it, in full, with all that it starts; the FAT is that of Linux,
//! as on people's machines. Where there is no user-mode Linux a test says so and does nothing; in CI
//! that is a failure.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{scratch, shoal, text, wait_for};

/// The kernel, as Debian calls it.
const KERNEL: &str = "linux.uml";

/// What it has of this machine's memory at the most.
const MEMORY: &str = "1536M";

/// Its disk, of which only what is written takes room.
const DISK_BYTES: u64 = 8 << 30;

/// Names, to what runs inside, the folder that both sides see.
const INSIDE: &str = "SHOAL_TEST_INSIDE";

/// The first program that the kernel starts; what it needs to know is put before it.
const INIT: &str = r#"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir /dev/shm "$SHOAL_TEST_INSIDE" "$TMPDIR"
mount -t tmpfs tmpfs /dev/shm
mount -t hostfs -o "$BOTH" none "$SHOAL_TEST_INSIDE"
mount -t ext4 /dev/ubda "$TMPDIR"
chmod 1777 "$TMPDIR"
modules=/usr/lib/uml/modules/$(uname -r)/kernel/fs
for module in nls/nls_cp437 nls/nls_iso8859-1 nls/nls_utf8 fat/fat fat/vfat ../drivers/block/loop; do
  insmod "$modules/$module.ko"
done
ip link set lo up
cd "$TMPDIR"
"$PROGRAM" --exact "$TEST" --nocapture --test-threads=1 >"$SHOAL_TEST_INSIDE/said" 2>&1
echo $? >"$SHOAL_TEST_INSIDE/code"
echo o >/proc/sysrq-trigger
sleep 60
"#;

/// Says whether the test is over: it has run in a Linux that mounts FAT, or there is none. It is not
/// where the caller is to do the work: in there, and on a machine whose own kernel mounts FAT.
///
/// # Panics
/// When the test fails there, and in CI where there is no such Linux.
#[must_use]
pub fn has_run(test: &str) -> bool {
    if let Some(both) = std::env::var_os(INSIDE) {
        fs::write(Path::new(&both).join("began"), test).expect("a folder of both sides");
        return false;
    }
    let kinds = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if kinds.lines().any(|line| line.trim() == "vfat") {
        return false;
    }
    let folder = scratch();
    let Some(mut linux) = Linux::start(folder.path(), test) else {
        assert!(std::env::var_os("CI").is_none(), "CI has to have {KERNEL}");
        say(format!("skipped: no FAT here, and no {KERNEL}\n").as_bytes());
        return true;
    };
    let ended = linux.end();
    let code = fs::read_to_string(linux.both.join("code")).unwrap_or_default();
    let console = || fs::read_to_string(linux.console()).unwrap_or_default();
    assert!(
        code.trim() == "0" && linux.began(),
        "{KERNEL} ended ({ended}), the test with {code:?}: {}",
        console()
    );
    true
}

/// Whether this process runs in such a Linux, which lacks nothing that a test needs.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// A running kernel, ended with all that it runs when dropped.
struct Linux {
    child: Child,
    /// The folder that both sides see.
    both: PathBuf,
    /// How much of what the test says was passed on.
    passed_on: usize,
}

impl Linux {
    /// Starts one that runs a test of this program; none where there is no such kernel.
    fn start(folder: &Path, test: &str) -> Option<Self> {
        let (both, disk, init) = (
            folder.join("both"),
            folder.join("disk"),
            folder.join("init"),
        );
        fs::create_dir(&both).expect("a folder");
        let image = File::create(&disk).expect("an image");
        image.set_len(DISK_BYTES).expect("an image");
        let formatted = Command::new("mkfs.ext4").arg("-q").arg(&disk).status();
        assert!(formatted.is_ok_and(|it| it.success()), "mkfs.ext4");
        fs::write(&init, init_script(&both, test)).expect("a script");
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("our file");
        let console = File::create(folder.join("console")).expect("a file");
        let mut command = Command::new(KERNEL);
        command
            .args(["rootfstype=hostfs", "root=/", "ro", "quiet", "loglevel=0"])
            .args(["con=null", "con0=null,fd:1"])
            .arg(format!("mem={MEMORY}"))
            .arg(format!("init={}", text(&init)))
            .arg(format!("ubda={}", text(&disk)))
            .arg(format!("uml_dir={}/", text(folder)))
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a descriptor"))
            .stderr(console)
            .process_group(0);
        let child = command.spawn().ok()?;
        Some(Self {
            child,
            both,
            passed_on: 0,
        })
    }

    /// Waits for its end, passing on what the test says meanwhile.
    fn end(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_for("a Linux that runs the test", || {
            ended = self.child.try_wait().expect("a child");
            (self.began() || ended.is_some()).then_some(())
        });
        // How long that takes is for the test to say.
        while ended.is_none() {
            thread::park_timeout(Duration::from_millis(200));
            ended = self.child.try_wait().expect("a child");
            self.pass_on();
        }
        self.pass_on();
        ended.expect("it has ended")
    }

    /// Whether the test came to its work in there.
    fn began(&self) -> bool {
        self.both.join("began").exists()
    }

    fn console(&self) -> PathBuf {
        self.both.with_file_name("console")
    }

    fn pass_on(&mut self) {
        let mut said = Vec::new();
        if let Ok(mut file) = File::open(self.both.join("said")) {
            file.read_to_end(&mut said).expect("our file");
        }
        say(said.get(self.passed_on..).unwrap_or_default());
        self.passed_on = said.len();
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        // Its processes are of its group; most often it has ended.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Passes on what is said inside.
fn say(bytes: &[u8]) {
    std::io::stderr().write_all(bytes).expect("standard error");
}

/// Runs the test inside, with what the variables of this process say to tests.
fn init_script(both: &Path, test: &str) -> String {
    let program = std::env::current_exe().expect("a test knows its own path");
    let told = std::env::vars().filter(|(name, _)| name.starts_with("SHOAL_") || name == "CI");
    let own = [
        (INSIDE, "/run/both"),
        ("TMPDIR", "/run/disk"),
        ("HOME", "/run/disk"),
        ("SHOAL_BIN", text(&shoal())),
        ("BOTH", text(both)),
        ("PROGRAM", text(&program)),
        ("TEST", test),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let exports = told.chain(own).map(|(name, value)| {
        let quoted = value.replace('\'', r"'\''");
        format!("export {name}='{quoted}'\n")
    });
    format!("#!/bin/sh\n{}{INIT}", exports.collect::<String>())
}
