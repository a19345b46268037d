//! Verified bytes into their final place, and the journal of what is there.
//!
//! Everything here blocks and runs on blocking threads. A block is verified against its address
//! before a byte of it is written ([`Landing::land`] is the only way in), and a row is journalled
//! only after its bytes were written, so the journal never vouches for what is not there. The rows
//! are the index rows of the finished share: what was landed needs no second pass to be served.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::{Mutex, MutexGuard};
use shoal_ground::said;
use shoal_protocol::{
    address::Digest,
    unixfs::{Attributes, DagError},
};
use shoal_store::{FileId, FileRow, FileStat, FileState, StoreError};

use super::{
    FetchError,
    journal::LandingJournal,
    place::{Part, Unkept, give},
    progress::Progress,
    zeros::{is_zeros, write_zeros},
};

/// Files kept open between two chunks; beyond it they are reopened.
const OPEN_FILES_MAX: usize = 128;

/// One place that a chunk belongs in.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) file: Arc<LandingFile>,
    pub(super) offset: u64,
    /// Which leaf of the root it is, where that is known.
    pub(super) leaf: Option<u64>,
    /// The exact length, when a parent block states it.
    pub(super) len: Option<u32>,
}

/// A file that is being landed.
#[derive(Debug)]
pub(super) struct LandingFile {
    pub(super) id: FileId,
    /// Below the part; empty when the part is the file itself.
    pub(super) path: String,
    /// The exact size; `None` for a single leaf, whose block says it.
    pub(super) size: Option<u64>,
    /// What it is to have besides its bytes.
    pub(super) attributes: Attributes,
    /// Bytes in place, the resumed ones counted.
    pub(super) landed: Mutex<u64>,
    /// Held while its bytes are written: a file takes one write at a time, and who waits for that in
    /// the kernel keeps a processor busy.
    pub(super) writing: Mutex<()>,
}

/// Why a block did not land.
#[derive(Debug, thiserror::Error)]
pub(super) enum LandError {
    /// The bytes are not those of the address: the sender is to blame.
    #[error("the bytes do not match their address")]
    Mismatch,
    /// The bytes are those of the address, and not as long as the tree says: its maker is to blame.
    #[error("{0}")]
    Tree(#[from] DagError),
    /// The destination cannot take them.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The index cannot take them.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// This node has a fault.
    #[error("landing a block panicked: {0}")]
    Panicked(String),
}

impl LandError {
    /// What ends the fetch; none where only the sender of the bytes is to blame.
    pub(super) fn fatal(self) -> Option<FetchError> {
        match self {
            Self::Mismatch => None,
            Self::Tree(error) => Some(FetchError::Refused(error)),
            Self::Io(error) => Some(FetchError::Destination(error)),
            Self::Store(error) => Some(FetchError::Store(error)),
            Self::Panicked(_) => Some(FetchError::Internal(self.to_string())),
        }
    }
}

/// The writing side of one transfer.
pub(super) struct Landing {
    part: Part,
    journal: Arc<LandingJournal>,
    progress: Arc<Progress>,
    handles: Mutex<HashMap<FileId, Arc<File>>>,
    /// Bytes of the files of one leaf that are in place: nothing but the leaf itself says how long
    /// they are.
    leaf_bytes: AtomicU64,
    /// What the file system has not kept of files.
    unkept: Mutex<Unkept>,
    /// Whether the file system has symlinks.
    symlinks: bool,
}

impl Landing {
    /// The writing side of a part, on a file system that may have no symlinks.
    pub(super) fn new(
        part: Part,
        journal: Arc<LandingJournal>,
        progress: Arc<Progress>,
        symlinks: bool,
    ) -> Self {
        Self {
            part,
            journal,
            progress,
            handles: Mutex::default(),
            leaf_bytes: AtomicU64::new(0),
            unkept: Mutex::default(),
            symlinks,
        }
    }

    /// Whether the file system has symlinks.
    pub(super) fn has_symlinks(&self) -> bool {
        self.symlinks
    }

    /// Bytes of the files of one leaf that were landed, which the tree does not know for certain.
    pub(super) fn leaf_bytes(&self) -> u64 {
        self.leaf_bytes.load(Relaxed)
    }

    pub(super) fn part(&self) -> &Part {
        &self.part
    }

    /// What the file system has not kept of files.
    pub(super) fn unkept(&self) -> Unkept {
        *lock(&self.unkept)
    }

    /// Notes what it has not kept of one.
    pub(super) fn not_kept(&self, unkept: Unkept) {
        lock(&self.unkept).add(unkept);
    }

    /// Verifies a chunk and writes it to every place it belongs in.
    pub(super) fn land(
        &self,
        digest: &Digest,
        bytes: &[u8],
        targets: &[Target],
    ) -> Result<(), LandError> {
        if !digest.matches(bytes) {
            return Err(LandError::Mismatch);
        }
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        for target in targets {
            if let Some(expected) = target.len.filter(|expected| *expected != len) {
                let (expected, actual) = (u64::from(expected), u64::from(len));
                return Err(DagError::Length { expected, actual }.into());
            }
            self.write(target, bytes)?;
            self.landed(target, *digest, len)?;
        }
        Ok(())
    }

    /// Has `len` zeros at a place: verified by their address, without any bytes. A hole stays one.
    pub(super) fn land_zeros(
        &self,
        target: &Target,
        digest: Digest,
        len: u32,
    ) -> Result<(), LandError> {
        let len_bytes = u64::from(len);
        self.write_with(target, len_bytes, |file| {
            write_zeros(file, target.offset, len_bytes)
        })?;
        self.landed(target, digest, len)
    }

    fn write(&self, target: &Target, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        self.write_with(target, len, |file| match is_zeros(bytes) {
            true => write_zeros(file, target.offset, len),
            false => file.write_all_at(bytes, target.offset),
        })
    }

    fn write_with(
        &self,
        target: &Target,
        len: u64,
        write: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        let _touch = self.progress.disk.touch();
        let handle = self.handle(&target.file)?;
        let _turn = lock(&target.file.writing);
        let end = target.offset.saturating_add(len);
        let written = write(&handle).map_err(|error| said::of_length(error, end));
        written.map_err(|error| self.part.about(&target.file.path, &error))
    }

    /// Records a chunk whose verified bytes are in place already.
    pub(super) fn landed(
        &self,
        target: &Target,
        digest: Digest,
        len: u32,
    ) -> Result<(), LandError> {
        let file = &target.file;
        // Held until the row is in: the one that completes a file comes after all its chunks.
        let mut landed = lock(&file.landed);
        *landed += u64::from(len);
        let size = file.size.unwrap_or(*landed);
        let row = (*landed >= size).then(|| self.complete(file, size));
        if file.size.is_none() {
            self.leaf_bytes.fetch_add(size, Relaxed);
        }
        let chunk = (target.offset, &digest, len);
        Ok(self
            .journal
            .chunk(file.id, chunk, target.leaf, row.transpose()?.as_ref())?)
    }

    /// Makes a file whose bytes are known without asking anyone, an empty one for instance.
    pub(super) fn write_whole(&self, file: &LandingFile, bytes: &[u8]) -> Result<(), LandError> {
        {
            let _touch = self.progress.disk.touch();
            let handle = self.handle(file)?;
            let written = handle
                .set_len(0)
                .and_then(|()| handle.write_all_at(bytes, 0));
            let written = written.map_err(|error| said::of_length(error, bytes.len() as u64));
            written.map_err(|error| self.part.about(&file.path, &error))?;
        }
        let row = self.complete(file, bytes.len() as u64)?;
        Ok(self.journal.file(file.id, &row)?)
    }

    /// Prepares a file of several chunks: its length, and a row that a resumed fetch finds.
    pub(super) fn begin(&self, file: &LandingFile) -> Result<(), LandError> {
        let _touch = self.progress.disk.touch();
        let handle = self.handle(file)?;
        if let Some(size) = file.size {
            let set = handle.set_len(size);
            let set = set.map_err(|error| said::of_length(error, size));
            set.map_err(|error| self.part.about(&file.path, &error))?;
        }
        // Its inode tells a resumed fetch that the journal speaks of this very file.
        let found = handle.metadata();
        let found = found.map_err(|error| self.part.about(&file.path, &error))?;
        let row = self.row(file, FileStat::of(&found), FileState::Landing);
        Ok(self.journal.file(file.id, &row)?)
    }

    /// Reads back what is at `offset`, for what the journal does not vouch for.
    pub(super) fn read(&self, file: &LandingFile, offset: u64, len: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        let _touch = self.progress.disk.touch();
        self.handle(file)?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// The handle of a file, opened when it is not.
    pub(super) fn handle(&self, file: &LandingFile) -> io::Result<Arc<File>> {
        if let Some(handle) = lock(&self.handles).get(&file.id) {
            return Ok(Arc::clone(handle));
        }
        let opened = self.part.open_file(Path::new(&file.path), &file.attributes);
        let opened = opened.map_err(|error| self.part.about(&file.path, &error))?;
        let handle = Arc::new(opened);
        let mut handles = lock(&self.handles);
        if handles.len() >= OPEN_FILES_MAX {
            handles.clear();
        }
        Ok(Arc::clone(handles.entry(file.id).or_insert(handle)))
    }

    fn row(&self, file: &LandingFile, stat: FileStat, state: FileState) -> FileRow {
        FileRow {
            share: self.journal.share(),
            path: file.path.clone(),
            stat,
            state,
        }
    }

    /// Gives a file that is whole what it is to have besides its bytes; the row that says so.
    fn complete(&self, file: &LandingFile, size: u64) -> io::Result<FileRow> {
        let row = self.completed(file, size);
        row.map_err(|error| self.part.about(&file.path, &error))
    }

    fn completed(&self, file: &LandingFile, size: u64) -> io::Result<FileRow> {
        let _touch = self.progress.disk.touch();
        let handle = self.handle(file)?;
        if handle.metadata()?.len() != size {
            handle.set_len(size)?;
        }
        self.not_kept(give(&*handle, &file.attributes)?);
        // Nobody else writes below a hidden part, so its newest timestamps can be trusted.
        let stat = FileStat::of(&handle.metadata()?);
        let row = self.row(file, stat, FileState::Stable);
        lock(&self.handles).remove(&file.id);
        self.progress.file_done();
        Ok(row)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
