//! The slab files: sparse, 64 MiB each, named by their number.
//!
//! Owns the open files and knows nothing of what lies in them. One caller at a time writes, punches
//! and removes; any number read meanwhile, and may then read anything: they ask the books behind
//! their read.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{FallocateFlags, fallocate};
use shoal_protocol::replicate::slabs::{Extent, SLAB_BYTES};

use crate::{StoreError, open};

/// Slabs that are kept open, 4 GiB; a process may have 1,024 descriptors in all.
const OPEN_MAX: usize = 64;

/// The end of a slab's name, behind its number.
const SLAB_END: &str = ".slab";

pub(super) struct SlabFiles {
    folder: PathBuf,
    open: Mutex<BTreeMap<u32, Arc<File>>>,
    /// The file system punches no holes, which was logged.
    is_solid: AtomicBool,
}

impl SlabFiles {
    /// Those of a folder, which is made when it is missing.
    pub(super) fn open(home: &Path, folder: PathBuf) -> Result<Self, StoreError> {
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => open::sync_folder(home)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::io(&folder, error)),
        }
        Ok(Self {
            folder,
            open: Mutex::default(),
            is_solid: AtomicBool::new(false),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The numbers of the slabs that are there in full length.
    pub(super) fn present(&self) -> Result<Vec<u32>, StoreError> {
        let failed = |error| StoreError::io(&self.folder, error);
        let mut present = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|it| it.strip_suffix(SLAB_END));
            let Some(number) = number.and_then(|it| it.parse().ok()) else {
                continue;
            };
            if self.path(number).file_name() == Some(&name)
                && entry.metadata().map_err(failed)?.len() == u64::from(SLAB_BYTES)
            {
                present.push(number);
            }
        }
        Ok(present)
    }

    /// Removes every slab but these.
    pub(super) fn retain(&self, wanted: impl Fn(u32) -> bool) -> Result<(), StoreError> {
        let failed = |error| StoreError::io(&self.folder, error);
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension() != Some(SLAB_END.trim_start_matches('.').as_ref()) {
                continue;
            }
            let number = path.file_stem().and_then(|it| it.to_str()?.parse().ok());
            let is_wanted = |number| wanted(number) && self.path(number) == path;
            if !number.is_some_and(is_wanted) {
                fs::remove_file(&path).map_err(|error| StoreError::io(&path, error))?;
            }
        }
        Ok(())
    }

    /// Writes into a slab, which is made when it is missing, and waits until the bytes would survive a
    /// power loss.
    pub(super) fn write(&self, extent: Extent, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(extent.slab);
        let write = || -> io::Result<bool> {
            let (file, is_new) = match self.file(extent.slab) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    (self.create(extent.slab)?, true)
                }
                file => (file?, false),
            };
            file.write_all_at(bytes, extent.offset.into())?;
            match is_new {
                true => file.sync_all(),
                false => file.sync_data(),
            }?;
            Ok(is_new)
        };
        let is_new = write().map_err(|error| StoreError::io(&path, error))?;
        match is_new {
            true => open::sync_folder(&self.folder),
            false => Ok(()),
        }
    }

    /// Reads what lies there now.
    pub(super) fn read(&self, slab: u32, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file(slab)?.read_exact_at(into, offset)
    }

    /// Gives the space of an extent back to the file system. Where it cannot do that, the bytes stay
    /// until something is written over them or the slab goes.
    pub(super) fn punch(&self, extent: Extent) {
        let punched = self.file(extent.slab).and_then(|file| {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let (offset, bytes) = (u64::from(extent.offset), u64::from(extent.bytes));
            fallocate(&file, flags, offset, bytes).map_err(io::Error::from)
        });
        if let Err(error) = punched
            && !self.is_solid.swap(true, Relaxed)
        {
            let path = self.path(extent.slab);
            tracing::warn!(path = %path.display(), %error, "the space of replicas that are gone does not come back");
        }
    }

    /// Deletes a slab.
    pub(super) fn remove(&self, slab: u32) {
        let path = self.path(slab);
        let mut open = self.lock();
        open.remove(&slab);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a slab of replicas cannot be deleted");
        }
    }

    pub(super) fn path(&self, slab: u32) -> PathBuf {
        self.folder.join(format!("{slab:05}{SLAB_END}"))
    }

    fn create(&self, slab: u32) -> io::Result<Arc<File>> {
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(self.path(slab))?;
        file.set_len(SLAB_BYTES.into())?;
        let file = Arc::new(file);
        self.lock().insert(slab, Arc::clone(&file));
        Ok(file)
    }

    /// Opened under the lock, so that no removed slab is kept open as if it were there.
    fn file(&self, slab: u32) -> io::Result<Arc<File>> {
        let mut open = self.lock();
        if let Some(file) = open.get(&slab) {
            return Ok(Arc::clone(file));
        }
        let file = File::options()
            .read(true)
            .write(true)
            .open(self.path(slab))?;
        let file = Arc::new(file);
        if open.len() >= OPEN_MAX {
            open.pop_first();
        }
        open.insert(slab, Arc::clone(&file));
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<File>>> {
        self.open.lock()
    }
}
