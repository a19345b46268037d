//! Opening what lies in a part: it is this user's, whatever its mode says.
//!
//! What has landed gets the mode that it is to have, 0444 or 0000 for instance. A run that was ended
//! after that is gone on with by the next one, which has to read and write there again, also for a
//! user that no mode gives way to. So what refuses is given the permissions of its owner back, and
//! gets its mode anew once it is whole. Nothing outside of a part is opened like this, but folders
//! that are merged into, whose modes are put back.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// What a folder takes to be listed and changed by its owner.
pub(super) const FOLDER_MODE: Mode = Mode::RWXU;

/// What a file takes to be read and written by its owner.
pub(super) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens the folder `name`, without following a symlink.
pub(super) fn open_directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// The same, so that its owner can list and change it from then on.
pub(super) fn open_own_directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let opened = match open_directory(parent, name) {
        Err(Errno::ACCESS) => {
            allow(parent, name, FOLDER_MODE)?;
            open_directory(parent, name)?
        }
        other => other?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
    if !mode.contains(FOLDER_MODE) {
        // One that stays as it is refuses when something is made in it, and is named then.
        let _ = rustix::fs::fchmod(&opened, mode | FOLDER_MODE);
    }
    Ok(opened)
}

/// Opens what lies below `root`, folder by folder, as [`open_own_directory`] does.
pub(super) fn open_own_below(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut opened = root.try_clone()?;
    for name in path {
        opened = open_own_directory(&opened, name)?;
    }
    Ok(opened)
}

/// Opens the file `name`, without following a symlink, although its mode may refuse that to its
/// owner; `mode` is what a new one gets.
pub(super) fn open_own_file(
    directory: &OwnedFd,
    name: &OsStr,
    flags: OFlags,
    mode: Mode,
) -> Result<File, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(directory, name, flags, mode) {
        Err(Errno::ACCESS) => {
            allow(directory, name, FILE_MODE)?;
            rustix::fs::openat(directory, name, flags, mode)
        }
        other => other,
    };
    opened.map(File::from)
}

/// What the system says of an entry, which need not be readable; a symlink is not followed.
pub(super) fn look(directory: &OwnedFd, name: &OsStr) -> io::Result<Metadata> {
    #[cfg(target_os = "linux")]
    let flags = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    File::from(found).metadata()
}

/// Adds permissions to an entry, which is no symlink.
///
/// # Errors
/// [`Errno::ACCESS`] if that cannot be done: it is what the caller was told before.
fn allow(directory: &OwnedFd, name: &OsStr, wanted: Mode) -> Result<(), Errno> {
    add_mode(directory, name, wanted).map_err(|_| Errno::ACCESS)
}

#[cfg(target_os = "linux")]
fn add_mode(directory: &OwnedFd, name: &OsStr, wanted: Mode) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let found = File::from(found);
    let metadata = found.metadata()?;
    if metadata.is_symlink() {
        return Err(Errno::LOOP.into());
    }
    // No call changes the mode of a handle that was opened without a permission. This name stands for
    // that very handle: nothing that is put in the entry's place meanwhile is changed.
    let handle = format!("/proc/self/fd/{}", found.as_raw_fd());
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    Ok(rustix::fs::chmod(handle, mode | wanted)?)
}

#[cfg(not(target_os = "linux"))]
fn add_mode(directory: &OwnedFd, name: &OsStr, wanted: Mode) -> io::Result<()> {
    use rustix::fs::AtFlags;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let mode = Mode::from_raw_mode(rustix::fs::statat(directory, name, flags)?.st_mode);
    Ok(rustix::fs::chmodat(directory, name, mode | wanted, flags)?)
}
