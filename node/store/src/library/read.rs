//! Serving blocks, and noticing on the way that a file changed.
//!
//! The bytes of a chunk lie in a user's file, which may change at any time. What is handed out was
//! read between two looks at the file's stat, both equal to the recorded one; when anything but the
//! length differs, or the stat cannot vouch for the bytes at all, the bytes are hashed instead, and
//! the share is looked at in the background. Another length or another hash marks the file and its
//! share as changed.
//!
//! Files are touched on threads of the disk that they lie on: a caller that is on another thread
//! waits there with a deadline.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use shoal_ground::said::said;
use shoal_protocol::address::{BLOCK_BYTES_MAX, Cid, Digest};

use super::files::{OpenFile, open_below};
use super::{Library, LibraryEvent, LibraryInner};
use crate::disks::{Disk, NoAnswer, SILENT_AFTER};
use crate::rows::{Change, ChangeKind, Comparison, FileRow, FileStat, FileState};
use crate::{Location, ShareRecord, ShareState, StoreError};

/// Places tried for one chunk. A chunk can lie in any number of files, as licences do; when these
/// many are bad, the rest is not worth a longer wait.
const CANDIDATES_MAX: usize = 64;

/// Rows looked at for the places of one block: those of shares that are going come first and do not
/// count. At some 5 µs each, 20 ms.
const ROWS_MAX: usize = 4096;

/// How long a reader on another thread waits for the disk of a chunk: whoever copies from another
/// share, or serves a chunk that lies on another disk as well, has other ways to get it.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// How long one waits who reads what lies on that disk and nowhere else: a disk may spin up.
pub(super) const ONLY_PATIENCE: Duration = SILENT_AFTER;

/// Why a block could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No readable share holds it.
    #[error("the block is not held here")]
    NotHere,
    /// The file that held it is no longer as it was shared.
    #[error("the file that held the block has changed")]
    Changed,
    /// The file that holds it cannot be read now.
    #[error("{} cannot be read: {}", .path.display(), said(cause))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The part of a block that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where it begins.
    pub offset: usize,
    /// Its length at most; it ends with the block at the latest.
    pub bytes_max: usize,
}

impl Cut {
    /// The whole block.
    pub const WHOLE: Self = Self {
        offset: 0,
        bytes_max: BLOCK_BYTES_MAX,
    };

    /// The part of a block of so many bytes.
    pub(crate) fn range(self, block_bytes: usize) -> Range<usize> {
        let start = self.offset.min(block_bytes);
        start..start.saturating_add(self.bytes_max).min(block_bytes)
    }
}

/// What is known of a block of which a part was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: BlockKind,
    /// The length of the whole block.
    pub block_bytes: usize,
}

/// What a block is to those who count bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// A DAG node: what it takes to find content.
    Node,
    /// Content of a file.
    Chunk,
}

/// A place to read from, with what is known of it.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) location: Location,
    pub(super) row: FileRow,
    pub(super) share: Arc<ShareRecord>,
}

/// Why one place did not yield the block.
pub(super) enum Miss {
    /// What lies there is not what is recorded, and the share is to be marked.
    Changed(ChangeKind),
    /// What lies there never counted.
    Absent,
    Unreadable(io::Error),
}

impl Library {
    /// Reads the block `want` into `out`, which then holds exactly its bytes, or nothing after an
    /// error.
    ///
    /// With a `root` it is read for a peer that asks about that root: a share of that root has to hold
    /// the block, and only shares that are [served](Library::set_served) are read, those of the root
    /// first. What is handed out matches `want` as far as anything short of hashing it can tell;
    /// receivers hash it. A buffer that is passed in again saves clearing memory.
    pub fn read(
        &self,
        want: &Digest,
        root: Option<&Cid>,
        out: &mut Vec<u8>,
    ) -> Result<BlockKind, ReadError> {
        self.read_part(want, root, Cut::WHOLE, out)
            .map(|found| found.kind)
    }

    /// Reads a part of a block, as [`read`](Self::read) does the whole. Parts that are read one
    /// after the other are of one block only as long as none of them fails.
    pub fn read_part(
        &self,
        want: &Digest,
        root: Option<&Cid>,
        cut: Cut,
        out: &mut Vec<u8>,
    ) -> Result<Found, ReadError> {
        let found = self.read_into(want, root, cut, out);
        if found.is_err() {
            out.clear();
        }
        found
    }

    /// How long a block is, without looking at files; none when it is not held here, or not for
    /// those who ask about `root`.
    pub fn block_bytes(
        &self,
        want: &Digest,
        root: Option<&Cid>,
    ) -> Result<Option<usize>, StoreError> {
        if let Some(node) = self.inner.store.block(want)?
            && self.is_readable_node(want, root)?
        {
            return Ok(Some(node.len()));
        }
        let candidates = self.candidates(want, root)?;
        let first = candidates.first();
        Ok(first.map(|candidate| candidate.location.len as usize))
    }

    fn read_into(
        &self,
        want: &Digest,
        root: Option<&Cid>,
        cut: Cut,
        out: &mut Vec<u8>,
    ) -> Result<Found, ReadError> {
        if let Some(block_bytes) = self.read_node(want, root, cut, out)? {
            return Ok(Found {
                kind: BlockKind::Node,
                block_bytes,
            });
        }
        let mut error = ReadError::NotHere;
        for candidate in self.candidates(want, root)? {
            let read = self
                .inner
                .read_candidate(&candidate, want, cut, out, READ_PATIENCE);
            match read {
                Ok(()) => {
                    return Ok(Found {
                        kind: BlockKind::Chunk,
                        block_bytes: candidate.block_bytes(),
                    });
                }
                Err(Miss::Absent) => {}
                Err(Miss::Changed(kind)) => {
                    error = ReadError::Changed;
                    self.inner.mark_changed(&candidate, kind)?;
                }
                Err(Miss::Unreadable(cause)) => {
                    // That a file changed is the more useful thing to say.
                    if !matches!(error, ReadError::Changed) {
                        let path = candidate.path();
                        error = ReadError::Unreadable { path, cause };
                    }
                }
            }
        }
        Err(error)
    }

    /// Whether [`read`](Self::read) would find a place to try, without looking at files.
    pub fn has(&self, want: &Digest) -> Result<bool, StoreError> {
        if self.is_readable_node(want, None)? && self.inner.store.has_block(want)? {
            return Ok(true);
        }
        let candidates = self.candidates(want, None)?;
        Ok(candidates
            .iter()
            .any(|candidate| candidate.row.state != FileState::Changed))
    }

    /// Reads a part of a DAG node; how long the node is, if it is one that may be read.
    fn read_node(
        &self,
        want: &Digest,
        root: Option<&Cid>,
        cut: Cut,
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, StoreError> {
        let Some(mut block) = self.inner.store.block(want)? else {
            return Ok(None);
        };
        if !self.is_readable_node(want, root)? {
            return Ok(None);
        }
        let block_bytes = block.len();
        keep(&mut block, cut);
        *out = block;
        Ok(Some(block_bytes))
    }

    fn is_readable_node(&self, want: &Digest, root: Option<&Cid>) -> Result<bool, StoreError> {
        for holder in self.inner.store.shares_of_block(want).take(ROWS_MAX) {
            let holder = holder?;
            let may_be_read = self.inner.view(|view| match root {
                None => view.shares.contains_key(&holder),
                Some(root) => view.is_served_for(holder, root),
            });
            if may_be_read {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The readable places of a chunk. For those who ask about a root, they are those of served
    /// shares, that root's first, and none unless that root has the chunk: what else lies here is
    /// nothing to them. A chunk that lies in thousands of places tells nothing about any of them.
    fn candidates(&self, want: &Digest, root: Option<&Cid>) -> Result<Vec<Candidate>, StoreError> {
        let store = &self.inner.store;
        let mut candidates = Vec::new();
        let (mut rows, mut is_of_root) = (0, root.is_none());
        for location in store.locations(want).take(ROWS_MAX) {
            rows += 1;
            let location = location?;
            let Some(row) = store.file(location.file)? else {
                continue;
            };
            let Some(share) = self.share(row.share) else {
                continue;
            };
            if root.is_some() && !self.inner.view(|view| view.is_served(share.id)) {
                continue;
            }
            let is_own = root.is_some_and(|root| share.root == *root);
            is_of_root |= is_own;
            if is_own || candidates.len() < CANDIDATES_MAX {
                candidates.push(Candidate {
                    location,
                    row,
                    share,
                });
            }
            if is_of_root && candidates.len() >= CANDIDATES_MAX {
                break;
            }
        }
        if !is_of_root && rows < ROWS_MAX {
            return Ok(Vec::new());
        }
        candidates.sort_by_key(|candidate| root != Some(&candidate.share.root));
        Ok(candidates)
    }
}

impl Library {
    /// The disk on which most of a root lies, for those who read several blocks of it in one go.
    #[must_use]
    pub fn disk_of(&self, root: &Cid) -> Arc<Disk> {
        let shares = self.shares_of(root);
        let share = shares.iter().find(|share| share.state == ShareState::Live);
        match share.or(shares.first()) {
            Some(share) => self.disks().of(&share.base),
            None => self.disks().of(self.store().home()),
        }
    }
}

impl LibraryInner {
    /// Reads a chunk from one place, on a thread of the disk that it lies on; one that has no
    /// answer for `patience` is given up, by whoever comes later at once.
    pub(super) fn read_candidate(
        self: &Arc<Self>,
        candidate: &Candidate,
        want: &Digest,
        cut: Cut,
        out: &mut Vec<u8>,
        patience: Duration,
    ) -> Result<(), Miss> {
        if candidate.row.state == FileState::Changed {
            return Err(candidate.differs(ChangeKind::Content));
        }
        let disk = self.disks.of(&candidate.path());
        if disk.is_here() {
            let _touch = disk.touch();
            return self.read_here(&disk, candidate, want, cut, out);
        }
        if disk.unanswered_for().is_some_and(|it| it >= patience) {
            let silent = NoAnswer::Silent(disk.at().to_owned());
            return Err(Miss::Unreadable(silent.into()));
        }
        let job = {
            let (inner, disk) = (Arc::clone(self), Arc::clone(&disk));
            let (candidate, want) = (candidate.clone(), *want);
            let mut buffer = std::mem::take(out);
            move || {
                let read = inner.read_here(&disk, &candidate, &want, cut, &mut buffer);
                (read, buffer)
            }
        };
        let (read, buffer) = disk
            .wait(patience, job)
            .map_err(|silent| Miss::Unreadable(silent.into()))?;
        *out = buffer;
        read
    }

    fn read_here(
        &self,
        disk: &Arc<Disk>,
        candidate: &Candidate,
        want: &Digest,
        cut: Cut,
        out: &mut Vec<u8>,
    ) -> Result<(), Miss> {
        let Candidate {
            location,
            row,
            share,
        } = candidate;
        let (open, before) = self.open(disk, candidate)?;
        let vouches = row.state == FileState::Stable
            && !share.is_suspect(self.boot)
            && disk.keeps_ctime()
            && before == Comparison::Same;
        // Where the stat cannot vouch for a part, only the whole block can be hashed.
        let first = if vouches { cut } else { Cut::WHOLE };
        candidate.read_from(&open, first, out)?;
        let now = open.stat().map_err(Miss::Unreadable)?;
        let after = open.compared_with(&now);
        if after == Comparison::Resized {
            return Err(candidate.differs(ChangeKind::Resized));
        }
        if vouches && after == Comparison::Same {
            return Ok(());
        }
        let is_same = (before, after) == (Comparison::Same, Comparison::Same);
        if !is_same && !row.stat.is_unsized() {
            self.doubt(share);
        }
        if first != Cut::WHOLE {
            candidate.read_from(&open, Cut::WHOLE, out)?;
        }
        if !want.matches(out) {
            return Err(candidate.differs(row.stat.blame(&now)));
        }
        let end = location.offset.saturating_add(location.len.into());
        if end == row.stat.size && row.state == FileState::Stable {
            // Where the length is as doubtful as the rest, only the end of the file tells it.
            let is_end = ends_at(&open.file, end).map_err(Miss::Unreadable)?;
            if !is_end {
                return Err(candidate.differs(ChangeKind::Resized));
            }
        }
        keep(out, cut);
        Ok(())
    }

    /// An open file that is, so far, as long as the one that was recorded.
    fn open(
        &self,
        disk: &Arc<Disk>,
        candidate: &Candidate,
    ) -> Result<(Arc<OpenFile>, Comparison), Miss> {
        let Candidate {
            location,
            row,
            share,
        } = candidate;
        // An open file whose stat moved may have been renamed or replaced: only its path tells.
        if let Some(open) = self.files.recent(location.file)
            && open.row == *row
            && matches!(open.compare(), Ok(Comparison::Same))
        {
            return Ok((open, Comparison::Same));
        }
        self.files.forget(location.file);
        let file = open_below(&share.base, &row.path).map_err(|error| match absence(&error) {
            Some(kind) => candidate.differs(kind),
            None => Miss::Unreadable(error),
        })?;
        if !file.metadata().map_err(Miss::Unreadable)?.is_file() {
            return Err(candidate.differs(ChangeKind::Replaced));
        }
        let open = Arc::new(OpenFile {
            file,
            row: row.clone(),
            disk: Arc::clone(disk),
        });
        match open.compare().map_err(Miss::Unreadable)? {
            Comparison::Resized => Err(candidate.differs(ChangeKind::Resized)),
            found => {
                self.files.keep(location.file, Arc::clone(&open));
                Ok((open, found))
            }
        }
    }

    /// Records that a file is no longer what was shared, and says so once per share; false when
    /// `candidate` is no longer what is recorded.
    pub(super) fn mark_changed(
        &self,
        candidate: &Candidate,
        kind: ChangeKind,
    ) -> Result<bool, StoreError> {
        let Candidate {
            location,
            row,
            share,
        } = candidate;
        self.files.forget(location.file);
        let changes = self.changing();
        let Some(current) = self.view(|view| view.shares.get(&share.id).cloned()) else {
            return Ok(false);
        };
        // Whoever read may have looked at records that were brought up to date since.
        if current.base != share.base || self.store.file(location.file)?.as_ref() != Some(row) {
            return Ok(false);
        }
        let mut batch = self.store.batch();
        if row.state != FileState::Changed {
            batch.put_file(
                location.file,
                &FileRow {
                    state: FileState::Changed,
                    ..row.clone()
                },
            )?;
        }
        if current.state != ShareState::Live {
            batch.commit(false)?;
            return Ok(true);
        }
        let change = Change {
            path: row.path.clone(),
            kind,
        };
        let record = self.replace(batch, current.with_change(change), false)?;
        drop(changes);
        self.tell(LibraryEvent::Changed(record));
        Ok(true)
    }
}

/// Leaves of a block only this part.
fn keep(block: &mut Vec<u8>, cut: Cut) {
    let range = cut.range(block.len());
    block.truncate(range.end);
    block.drain(..range.start);
}

impl Candidate {
    /// How long the block is. Rows are ours, but a damaged one must not make us allocate gigabytes.
    fn block_bytes(&self) -> usize {
        BLOCK_BYTES_MAX.min(self.location.len as usize)
    }

    /// The file.
    pub(super) fn path(&self) -> PathBuf {
        below(&self.share.base, &self.row.path)
    }

    /// Reads a part of the block from its file.
    fn read_from(&self, open: &OpenFile, cut: Cut, out: &mut Vec<u8>) -> Result<(), Miss> {
        let range = cut.range(self.block_bytes());
        out.resize(range.len(), 0);
        let offset = self.location.offset.saturating_add(range.start as u64);
        let read = open.file.read_exact_at(out, offset);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.differs(ChangeKind::Resized),
            _ => Miss::Unreadable(error),
        })
    }

    /// What it means that this place is not as recorded. While a share lands, its files move and
    /// grow.
    fn differs(&self, kind: ChangeKind) -> Miss {
        match self.share.state {
            ShareState::Landing => Miss::Absent,
            _ => Miss::Changed(kind),
        }
    }
}

impl OpenFile {
    /// How the file is now, compared with its row. A file that is being landed is never compared.
    fn compare(&self) -> io::Result<Comparison> {
        match self.row.state {
            FileState::Landing => Ok(Comparison::Same),
            FileState::Stable | FileState::Changed => Ok(self.compared_with(&self.stat()?)),
        }
    }

    fn compared_with(&self, now: &FileStat) -> Comparison {
        match self.row.state {
            FileState::Landing => Comparison::Same,
            FileState::Stable | FileState::Changed => self.row.stat.compare(now),
        }
    }
}

/// Where the file `path` of a share with this base is; the base itself for an empty path.
pub(super) fn below(base: &Path, path: &str) -> PathBuf {
    match path {
        "" => base.to_owned(),
        path => base.join(path),
    }
}

/// Whether nothing lies in `file` from `end` on.
pub(super) fn ends_at(file: &std::fs::File, end: u64) -> io::Result<bool> {
    Ok(file.read_at(&mut [0], end)? == 0)
}

/// How the file has changed, when `error` says that there is no such file.
pub(super) fn absence(error: &io::Error) -> Option<ChangeKind> {
    match error.kind() {
        io::ErrorKind::NotFound => Some(ChangeKind::Missing),
        // A file where a folder was, or a symlink where either was.
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Some(ChangeKind::Replaced),
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Some(ChangeKind::Replaced),
        _ => None,
    }
}
