//! One process per home.
//!
//! An advisory lock on `$SHOAL_HOME/lock`, held for the life of the store. The kernel drops it when
//! the process ends in any way, so a crash leaves nothing to clean up. The file's text is the
//! holder's process id, for the message only: it decides nothing.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::StoreError;

const LOCK_FILE: &str = "lock";

/// A process id has at most 10 decimal digits; more than that is not ours.
const PID_TEXT_BYTES_MAX: u64 = 10;

/// The held lock of a home; dropping it lets the next process in.
#[derive(Debug)]
pub(super) struct HomeLock {
    _file: File,
}

impl HomeLock {
    /// Creates `home` when it is missing (mode 0700) and takes its lock, without waiting.
    pub(super) fn acquire(home: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(home)
            .map_err(|error| StoreError::io(home, error))?;
        let path = home.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreError::io(&path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    home: home.to_owned(),
                    pid: holder(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io(&path, error)),
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(|error| StoreError::io(&path, error))?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_TEXT_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    text.trim().parse().ok()
}
