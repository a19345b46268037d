//! Modes and times: what a share says of its files and folders besides their bytes.
//!
//! A file gets its own when it is whole. A folder gets its own at the very end, each after all that is
//! in it: making something in a folder moves its times, and a mode may forbid it. Until then it is no
//! wider than it is meant to be. What a file system does not keep is counted, and is no error.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, Mode, Timespec, Timestamps, UTIME_OMIT},
    io::Errno,
};
use shoal_protocol::unixfs::{Attributes, Mtime};

use super::own::{FILE_MODE, FOLDER_MODE};

/// The bits of a mode that are taken from the network: never set-user-id and its kin.
const MODE_BITS: u32 = 0o777;

/// A folder of a tree, and what it is to have.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// Below the tree's root; empty for that itself.
    pub(crate) path: PathBuf,
    /// What it is to have.
    pub(crate) attributes: Attributes,
}

/// What a file system did not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unkept {
    /// Files and folders that have other permissions than they had.
    pub modes: u64,
    /// Files, folders and symlinks that have another modification time than they had.
    pub times: u64,
}

impl Unkept {
    /// Adds what else was not kept.
    pub(crate) fn add(&mut self, other: Self) {
        self.modes += other.modes;
        self.times += other.times;
    }

    /// How what was found differs from what is wanted.
    pub(crate) fn between(wanted: &Attributes, found: Found) -> Self {
        let mode = wanted.mode.map(|mode| mode & MODE_BITS);
        let mtime = wanted.mtime.map(|it| (it.secs(), i64::from(it.nanos())));
        Self {
            modes: mode
                .is_some_and(|mode| mode != found.mode & MODE_BITS)
                .into(),
            times: mtime.is_some_and(|mtime| mtime != found.mtime).into(),
        }
    }
}

/// What an entry has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Its mode.
    pub(crate) mode: u32,
    /// Its modification time in seconds and nanoseconds.
    pub(crate) mtime: (i64, i64),
}

impl From<&Metadata> for Found {
    fn from(metadata: &Metadata) -> Self {
        Self {
            mode: metadata.mode(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The mode of a folder while it is filled: no wider than it is meant to be, but for its owner.
pub(super) fn folder_mode(attributes: &Attributes) -> Mode {
    let meant = attributes.mode.map(landing_mode);
    meant.map_or(Mode::from(0o777), |mode| mode | FOLDER_MODE)
}

/// The mode of a file while it is written.
pub(super) fn file_mode(attributes: &Attributes) -> Mode {
    let meant = attributes.mode.map(landing_mode);
    meant.map_or(Mode::from(0o666), |mode| mode | FILE_MODE)
}

/// What lands of a mode from the network.
fn landing_mode(mode: u32) -> Mode {
    Mode::from(mode & MODE_BITS)
}

/// The mode of a folder that was there before it was merged into: no wider than it was, and to others
/// no wider than it is meant to be. Its owner keeps what he may do there, and its special bits.
pub(super) fn merged_mode(was: Mode, wanted: Option<&Attributes>) -> Mode {
    let meant = wanted.and_then(|wanted| wanted.mode).map(landing_mode);
    let of_owner = Mode::RWXU | Mode::from(!MODE_BITS & 0o7777);
    meant.map_or(was, |meant| was & (meant | of_owner))
}

/// Gives an open file or folder what it is to have; says what it has not got.
pub(crate) fn give(file: impl AsFd, wanted: &Attributes) -> io::Result<Unkept> {
    if wanted.is_empty() {
        return Ok(Unkept::default());
    }
    if let Some(mode) = wanted.mode {
        unless_refused(rustix::fs::fchmod(&file, landing_mode(mode)))?;
    }
    if let Some(mtime) = wanted.mtime {
        unless_refused(rustix::fs::futimens(&file, &times(mtime)))?;
    }
    let metadata = File::from(file.as_fd().try_clone_to_owned()?).metadata()?;
    Ok(Unkept::between(wanted, Found::from(&metadata)))
}

/// Gives a symlink its time; it has no mode of its own.
pub(super) fn give_symlink(
    directory: &OwnedFd,
    name: &OsStr,
    wanted: &Attributes,
) -> io::Result<Unkept> {
    let Some(mtime) = wanted.mtime else {
        return Ok(Unkept::default());
    };
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let given = rustix::fs::utimensat(directory, name, &times(mtime), flags);
    unless_refused(given)?;
    let stat = rustix::fs::statat(directory, name, flags)?;
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let found = Found {
        mode: 0,
        mtime: (stat.st_mtime, nanos),
    };
    let wanted = Attributes {
        mode: None,
        ..*wanted
    };
    Ok(Unkept::between(&wanted, found))
}

fn times(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs(),
            tv_nsec: mtime.nanos().into(),
        },
    }
}

/// An error, unless it is how a file system says that it does not keep such a thing.
pub(super) fn unless_refused(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}
