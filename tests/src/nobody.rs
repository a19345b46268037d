//! A user without privileges: to root, permissions mean nothing.
//!
//! A test that is about permissions runs again, in a process of its own, as the user nobody, with all
//! that it starts. As another user it runs where it is.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

use rustix::process::geteuid;

use crate::{copy_of_shoal, scratch};

/// The user and group `nobody`.
pub const NOBODY: u32 = 65534;

/// Says whether the test has run as nobody by now, in a process of its own; no if this process is not
/// root's, where the caller does the work. `variables` are set for it, and its files are made in the
/// folder `place`, a folder of its own elsewhere if there is none.
///
/// # Panics
/// When it fails there.
#[must_use]
pub fn has_run(test: &str, variables: &[(&str, &Path)], place: Option<&Path>) -> bool {
    if !geteuid().is_root() {
        return false;
    }
    let own = scratch();
    let dir = own.path();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("our folder");
    let (program, binary) = (dir.join("test"), dir.join("shoal"));
    copy_of_shoal(&binary);
    let exe = std::env::current_exe().expect("a test knows its own path");
    // By another process, as `copy_of_shoal` does.
    let copied = Command::new("cp").arg(exe).arg(&program).status();
    assert!(copied.is_ok_and(|it| it.success()));
    let files = dir.join("files");
    let files = place.unwrap_or(&files);
    fs::create_dir_all(files).expect("a folder");
    std::os::unix::fs::chown(files, Some(NOBODY), Some(NOBODY)).expect("root may");
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .current_dir(files)
        .env("SHOAL_BIN", binary)
        .env("TMPDIR", files)
        .env("HOME", files);
    for (name, value) in variables {
        command.env(name, value);
    }
    let status = command.uid(NOBODY).gid(NOBODY).status();
    let status = status.expect("the test runs again");
    assert!(status.success(), "as nobody: {status}");
    true
}
