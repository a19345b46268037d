//! The space of the disk: its floor, and what replicas leave to the user's own data.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use shoal_ground::space::Space;

use super::{Replicas, ReplicasInner, Writer};
use crate::StoreError;

/// The floor where none is configured: so many per cent of the disk, and at least so many bytes.
const FLOOR_PERCENT: u64 = 10;
const FLOOR_BYTES_MIN: u64 = 2 << 30;

impl Replicas {
    /// Lets go of replicas until the disk has its floor, and says how many bytes that freed. To be
    /// called every few seconds: others write to the disk, too.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub fn keep_floor(&self) -> Result<u64, StoreError> {
        self.inner.make_room(0)
    }

    /// The user's own data is about to need so many bytes at a place, or met a full disk: replicas
    /// yield until they fit beside the floor. Nothing where that is another file system. Says how
    /// many bytes that freed.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub fn make_room(&self, at: &Path, bytes: u64) -> Result<u64, StoreError> {
        match self.is_on_disk_of(at)? {
            true => self.inner.make_room(bytes),
            false => Ok(0),
        }
    }

    /// How many bytes [`make_room`](Self::make_room) frees at a place at the most: all that is held.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn yielding(&self, at: &Path) -> Result<u64, StoreError> {
        match self.is_on_disk_of(at)? {
            true => Ok(self.inner.helper().cache().used()),
            false => Ok(0),
        }
    }

    /// Whether what is held lies on the file system where `at` is, or is to be.
    fn is_on_disk_of(&self, at: &Path) -> Result<bool, StoreError> {
        let folder = self.folder();
        let device = |path: &Path| path.metadata().map(|it| it.dev());
        let there = at.ancestors().map(device).find(|found| {
            let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
            !found.as_ref().is_err_and(missing)
        });
        let here = device(folder).map_err(|error| StoreError::io(folder, error))?;
        Ok(matches!(there, Some(Ok(there)) if there == here))
    }
}

impl ReplicasInner {
    /// Lets go of replicas until so many bytes are free beside the floor.
    fn make_room(&self, bytes: u64) -> Result<u64, StoreError> {
        let mut writer = self.writer();
        self.settle(&mut writer)?;
        let missing = self.disk_space()?.map_or(0, |space| {
            let wanted = self.floor_of(space).saturating_add(bytes);
            wanted.saturating_sub(space.free)
        });
        let freed = self.release(&mut writer, missing)?;
        if freed > 0 {
            tracing::info!(freed, missing, "replicas made room on the disk");
        }
        Ok(freed)
    }

    /// Gives at least so many bytes back to the disk, as far as there are some. Counted by what is
    /// given back, not by what the disk says then: some file systems are slow to tell.
    pub(super) fn release(&self, writer: &mut Writer, bytes: u64) -> Result<u64, StoreError> {
        let mut freed = 0_u64;
        while freed < bytes {
            let changes = self.helper().release(bytes.saturating_sub(freed));
            if changes.is_empty() {
                break;
            }
            freed = freed.saturating_add(self.follow(writer, changes)?);
        }
        Ok(freed)
    }

    /// Whether the disk keeps its floor with so many bytes more.
    pub(super) fn fits(&self, bytes: u64) -> Result<bool, StoreError> {
        let keeps_floor = |space: Space| space.free.saturating_sub(bytes) >= self.floor_of(space);
        Ok(self.disk_space()?.is_none_or(keeps_floor))
    }

    pub(super) fn floor_of(&self, space: Space) -> u64 {
        let usual = (space.total / 100).saturating_mul(FLOOR_PERCENT);
        self.floor.unwrap_or(usual.max(FLOOR_BYTES_MIN))
    }

    /// The space of the disk; none where the file system does not say, and is then as large as it
    /// turns out to be.
    pub(super) fn disk_space(&self) -> Result<Option<Space>, StoreError> {
        let folder = self.files.folder();
        Space::at(folder).map_err(|error| StoreError::io(folder, error))
    }
}
