//! Taking a copy into the home, for `share --copy`.
//!
//! A copy is a clone of the file's extents where the file system can do that, and a copy of the
//! bytes elsewhere. It is on disk before this returns, because the share that is made of it
//! promises as much.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use shoal_ground::space::flush;
use tokio_util::sync::CancellationToken;

use super::place::{SharePlace, last_name};
use super::walk::{Walk, WalkStep};
use super::{Meter, ShareError};
use crate::FileStat;

/// Folders of a copy while it is taken, so that it can be written whatever the originals' bits are.
const FOLDER_MODE: u32 = 0o700;

/// Copies what `walk` finds of `place` into the folder `to`, and says where it lies then.
pub(super) fn take(
    place: &SharePlace,
    walk: &mut Walk<'_>,
    to: &Path,
    meter: &mut Meter<'_>,
    cancel: &CancellationToken,
) -> Result<SharePlace, ShareError> {
    fs::create_dir_all(to).map_err(|error| ShareError::copying(to, error))?;
    let mut copy = Copy {
        place,
        here: to.to_owned(),
        folders: Vec::new(),
    };
    while let Some(step) = walk.next()? {
        if cancel.is_cancelled() {
            return Err(ShareError::Cancelled);
        }
        if let Some(bytes) = copy.step(step)? {
            meter.bytes(bytes);
            meter.file();
        }
    }
    flush(CWD, &[to]).map_err(|error| ShareError::copying(to, error))?;
    let base = to
        .canonicalize()
        .map_err(|error| ShareError::copying(to, error))?
        .join(&place.name);
    // Several paths stay several, or the folder that holds them would get attributes of its own.
    let selection = place
        .selection
        .iter()
        .map(|below| last_name(below).to_owned())
        .collect();
    Ok(SharePlace {
        base,
        selection,
        name: place.name.clone(),
        written: None,
    })
}

/// A copy in progress.
struct Copy<'a> {
    place: &'a SharePlace,
    /// The folder that is being copied into.
    here: PathBuf,
    /// The originals of the folders that were entered and not left, where they have one.
    folders: Vec<Option<PathBuf>>,
}

impl Copy<'_> {
    /// Does one step of the walk; for a file, says how many bytes it has.
    fn step(&mut self, step: WalkStep) -> Result<Option<u64>, ShareError> {
        match step {
            WalkStep::Enter { name, below } => {
                self.here.push(name);
                fs::create_dir(&self.here)
                    .map_err(|error| ShareError::copying(&self.here, error))?;
                self.folders
                    .push(below.map(|below| self.place.path(&below)));
            }
            WalkStep::Leave => {
                // Last, as every entry that is made moves the folder's times.
                if let Some(Some(original)) = self.folders.pop() {
                    keep_attributes(&original, &self.here)?;
                }
                self.here.pop();
            }
            WalkStep::File { name, below } => {
                let from = self.place.path(&below);
                return copy_file(&from, &self.here.join(name)).map(Some);
            }
            WalkStep::Symlink {
                name,
                below,
                target,
            } => {
                let to = self.here.join(name);
                symlink(target, &to).map_err(|error| ShareError::copying(&to, error))?;
                keep_attributes(&self.place.path(&below), &to)?;
            }
        }
        Ok(None)
    }
}

/// Copies one file, makes sure that it did not change meanwhile, and says how long it is.
fn copy_file(from: &Path, to: &Path) -> Result<u64, ShareError> {
    let stat = || {
        from.symlink_metadata()
            .map(|metadata| FileStat::of(&metadata))
    };
    let failed = |error| ShareError::io(from, error);
    let before = stat().map_err(failed)?;
    reflink_copy::reflink_or_copy(from, to).map_err(|error| match error.kind() {
        // Of both files only the copy can be short of these.
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::ReadOnlyFilesystem => ShareError::copying(to, error),
        _ => failed(error),
    })?;
    if stat().map_err(failed)? != before {
        return Err(ShareError::ChangedWhileSharing(from.to_owned()));
    }
    keep_attributes(from, to)?;
    Ok(before.size)
}

/// Gives the copy the original's times and permission bits, which may become part of its address.
fn keep_attributes(original: &Path, copy: &Path) -> Result<(), ShareError> {
    let metadata = original
        .symlink_metadata()
        .map_err(|error| ShareError::io(original, error))?;
    let keep = || {
        let time = |seconds, nanos| Timespec {
            tv_sec: seconds,
            tv_nsec: nanos,
        };
        let times = Timestamps {
            last_access: time(metadata.atime(), metadata.atime_nsec()),
            last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
        };
        utimensat(CWD, copy, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        if metadata.is_symlink() {
            return Ok(());
        }
        let mut permissions = metadata.permissions();
        if metadata.is_dir() {
            permissions.set_mode(permissions.mode() | FOLDER_MODE);
        }
        fs::set_permissions(copy, permissions)
    };
    keep().map_err(|error| ShareError::copying(copy, error))
}
