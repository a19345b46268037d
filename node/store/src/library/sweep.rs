//! Comparing the files of a share with what is recorded of them.
//!
//! A recheck looks at every file's stat and reads only those files that their stat does not vouch
//! for; a verification reads every byte. Both set the share's state to what they found: a share
//! that was marked as changed and is found whole again is offered again.
//!
//! Each call on a file is told to its disk, so that a disk that hangs is known; a sweep that hangs
//! with it holds no lock. Files on a disk that is known to be silent are unreadable at once.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use shoal_ground::said::said;
use shoal_protocol::address::{BLOCK_BYTES_MAX, Digest};
use tokio_util::sync::CancellationToken;

use super::files::{Looker, open_below};
use super::read::{absence, below, ends_at};
use super::unreadable::Found;
use super::{Library, LibraryEvent};
use crate::disks::Disk;
use crate::rows::{
    Change, ChangeKind, Comparison, FileId, FileRow, FileStat, FileState, ShareId, ShareRecord,
    ShareState,
};
use crate::{BATCH_BYTES, Batch, Store, StoreError};

/// What a sweep found about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileVerdict {
    /// Its path below the share's base.
    pub path: String,
    /// Its recorded length in bytes.
    pub size: u64,
    /// What was found.
    pub verdict: Verdict,
}

/// Whether a file is still what was shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Intact,
    /// It is not.
    Changed(ChangeKind),
    /// It cannot be read now; the reason is the system's. That does not change the share's state.
    Unreadable(String),
}

/// What a verification tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyEvent {
    /// So many more bytes were read and hashed.
    Hashed(u64),
    /// A file is done.
    File(FileVerdict),
    /// A DAG node in the database is missing, or its bytes are not what its address says.
    DamagedNode(Digest),
}

/// What a sweep found in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifySummary {
    /// Files looked at.
    pub files: u64,
    /// Bytes read and hashed.
    pub hashed_bytes: u64,
    /// Files that changed.
    pub changed: u64,
    /// Files that cannot be read now.
    pub unreadable: u64,
    /// DAG nodes in the database whose bytes are not what their address says, and 1 for an index
    /// that cannot be read to its end; only looked for by [`Library::verify`].
    pub damaged_nodes: u64,
    /// False when the sweep was cancelled, or the share removed, before the end; the share's state
    /// is then left alone.
    pub complete: bool,
}

/// Stats of changed files that are remembered: at some 60 bytes each, 4 MiB. A file that is not
/// among them is hashed once more.
const KNOWN_BAD_MAX: usize = 65_536;

/// How files were when they were found to hold other bytes than recorded, so that one that stays as
/// it is is not hashed again and again.
#[derive(Default)]
pub(super) struct KnownBad(Mutex<HashMap<FileId, FileStat>>);

impl KnownBad {
    fn is(&self, id: FileId, stat: &FileStat) -> bool {
        self.lock().get(&id) == Some(stat)
    }

    fn note(&self, id: FileId, stat: FileStat) {
        let mut known = self.lock();
        if known.len() >= KNOWN_BAD_MAX {
            known.clear();
        }
        known.insert(id, stat);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FileId, FileStat>> {
        self.0.lock()
    }
}

/// How closely files are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Bytes are read only when the stat leaves doubt.
    Stat,
    /// All bytes are read, so that they decide and not the stat.
    Bytes,
}

impl Library {
    /// Compares the stat of every file of a share with the recorded one and re-hashes those in
    /// doubt.
    ///
    /// Ends soon after `cancel` fires. An unknown or unlisted share has no files.
    pub fn recheck(
        &self,
        share: ShareId,
        cancel: &CancellationToken,
    ) -> Result<VerifySummary, StoreError> {
        self.sweep(share, Depth::Stat, &mut |_| {}, cancel)
    }

    /// Re-hashes every byte of a share, its DAG nodes included, and tells what it finds.
    ///
    /// A file that was touched and has the recorded bytes is intact, and recorded as it is now.
    /// Ends soon after `cancel` fires.
    pub fn verify(
        &self,
        share: ShareId,
        on_event: &mut dyn FnMut(VerifyEvent),
        cancel: &CancellationToken,
    ) -> Result<VerifySummary, StoreError> {
        match self.sweep(share, Depth::Bytes, on_event, cancel) {
            // Other shares may be whole.
            Err(StoreError::Damaged { detail }) => {
                tracing::error!(%detail, "the index of a share cannot be read");
                self.mark_damaged_index(share)?;
                Ok(VerifySummary {
                    damaged_nodes: 1,
                    complete: true,
                    ..VerifySummary::default()
                })
            }
            result => result,
        }
    }

    fn sweep(
        &self,
        id: ShareId,
        depth: Depth,
        on_event: &mut dyn FnMut(VerifyEvent),
        cancel: &CancellationToken,
    ) -> Result<VerifySummary, StoreError> {
        let share = self.share(id).filter(|share| share.is_listed());
        let Some(share) = share else {
            return Ok(VerifySummary {
                complete: true,
                ..VerifySummary::default()
            });
        };
        let _sweeping = self.inner.doubts.sweep(id);
        let mut sweep = Sweep {
            library: self,
            looker: Looker::new(&share.base),
            store: self.store(),
            suspect: share.is_suspect(self.boot()),
            share: &share,
            depth,
            on_event,
            cancel,
            batch: self.store().batch(),
            buffer: Vec::new(),
            summary: VerifySummary::default(),
            first_change: None,
            unreadable: Found::default(),
        };
        for file in self.store().files_of(id) {
            let (file, row) = file?;
            let Some(verdict) = sweep.file(file, &row)? else {
                return Ok(sweep.summary);
            };
            (sweep.on_event)(VerifyEvent::File(FileVerdict {
                path: row.path,
                size: row.stat.size,
                verdict,
            }));
        }
        if depth == Depth::Bytes && !sweep.nodes()? {
            return Ok(sweep.summary);
        }
        sweep.summary.complete = true;
        let Sweep {
            batch,
            summary,
            first_change,
            unreadable,
            ..
        } = sweep;
        self.inner.unreadable.keep(id, unreadable);
        self.settle(id, depth, batch, &summary, first_change)?;
        Ok(summary)
    }

    /// Sets the share's state to what a complete sweep found.
    fn settle(
        &self,
        id: ShareId,
        depth: Depth,
        batch: Batch,
        summary: &VerifySummary,
        first_change: Option<Change>,
    ) -> Result<(), StoreError> {
        let changes = self.inner.changing();
        let Some(share) = self.share(id).filter(|share| share.is_listed()) else {
            return Ok(());
        };
        let was_live = share.state == ShareState::Live;
        let record = match first_change {
            Some(change) => share.with_change(change),
            // What cannot be read is neither whole nor changed.
            None if summary.unreadable > 0 => return batch.commit(false),
            // Looking at files says nothing about the index.
            None if depth == Depth::Stat && share.has_damaged_index() => {
                return batch.commit(false);
            }
            // What was read after the boot that lost unflushed data has come from the disk.
            None => ShareRecord {
                state: ShareState::Live,
                unflushed_boot: share.unflushed_boot.filter(|boot| *boot == self.boot()),
                ..share.as_ref().clone()
            },
        };
        let live = record.state == ShareState::Live;
        let record = self.inner.replace(batch, record, false)?;
        if live {
            self.inner.acknowledge(&record, &[])?;
        }
        drop(changes);
        self.inner.files.forget_share(id);
        match (was_live, live) {
            (true, false) => self.inner.tell(LibraryEvent::Changed(record)),
            (false, true) => self.inner.tell(LibraryEvent::Added(record)),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }
}

/// One sweep in progress.
struct Sweep<'a> {
    library: &'a Library,
    looker: Looker<'a>,
    store: &'a Store,
    share: &'a ShareRecord,
    /// The share's data may not have survived the last power loss.
    suspect: bool,
    depth: Depth,
    on_event: &'a mut dyn FnMut(VerifyEvent),
    cancel: &'a CancellationToken,
    batch: Batch,
    buffer: Vec<u8>,
    summary: VerifySummary,
    first_change: Option<Change>,
    unreadable: Found,
}

impl Sweep<'_> {
    /// Looks at one file and records what it finds; `None` when cancelled or when the share is
    /// gone.
    fn file(&mut self, id: FileId, row: &FileRow) -> Result<Option<Verdict>, StoreError> {
        let found = match self.look(id, row) {
            Ok(found) => found,
            Err(Stop::Cancelled) => return Ok(None),
            Err(Stop::Store(error)) => return Err(error),
        };
        self.summary.files += 1;
        let (verdict, current) = match found {
            Ok(stat) => (
                Verdict::Intact,
                FileRow {
                    stat,
                    state: FileState::Stable,
                    ..row.clone()
                },
            ),
            Err(Fault::Changed(kind)) => {
                self.summary.changed += 1;
                self.first_change.get_or_insert(Change {
                    path: row.path.clone(),
                    kind,
                });
                (
                    Verdict::Changed(kind),
                    FileRow {
                        state: FileState::Changed,
                        ..row.clone()
                    },
                )
            }
            Err(Fault::Unreadable(error)) => {
                self.summary.unreadable += 1;
                self.unreadable.add(&row.path, &error);
                (Verdict::Unreadable(said(&error)), row.clone())
            }
        };
        if current != *row {
            self.batch.put_file(id, &current)?;
            if self.batch.bytes() >= BATCH_BYTES && !self.commit()? {
                return Ok(None);
            }
        }
        Ok(Some(verdict))
    }

    /// Commits what was found so far; false when the share is gone, whose rows must not come back.
    fn commit(&mut self) -> Result<bool, StoreError> {
        let batch = std::mem::replace(&mut self.batch, self.store.batch());
        let _changes = self.library.inner.changing();
        if self.library.share(self.share.id).is_none() {
            return Ok(false);
        }
        batch.commit(false)?;
        Ok(true)
    }

    /// The stat under which a file is intact, or what is wrong with it.
    fn look(&mut self, id: FileId, row: &FileRow) -> Result<Result<FileStat, Fault>, Stop> {
        if self.cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        let disk = self.library.disks().of(&below(&self.share.base, &row.path));
        if let Err(silent) = disk.check() {
            return Ok(Err(Fault::Unreadable(silent.into())));
        }
        let _touch = disk.touch();
        if self.depth == Depth::Bytes {
            return self.rehash(id, row, &disk);
        }
        let stat = match self.stat(row) {
            Ok(stat) => stat,
            Err(fault) => return Ok(Err(fault)),
        };
        match row.stat.compare(&stat) {
            Comparison::Resized => return Ok(Err(Fault::Changed(ChangeKind::Resized))),
            Comparison::Same if row.state == FileState::Stable && !self.suspect => {
                return Ok(Ok(row.stat));
            }
            // Every read of it is hashed, however often it is looked at.
            Comparison::Doubtful if is_still_unsized(row, &stat) && !self.suspect => {
                return Ok(Ok(row.stat));
            }
            Comparison::Same | Comparison::Doubtful => {}
        }
        if self.library.inner.known_bad.is(id, &stat) {
            return Ok(Err(Fault::Changed(row.stat.blame(&stat))));
        }
        self.rehash(id, row, &disk)
    }

    fn stat(&mut self, row: &FileRow) -> Result<FileStat, Fault> {
        let metadata = self.looker.look(&row.path)?;
        if !metadata.is_file() {
            return Err(Fault::Changed(ChangeKind::Replaced));
        }
        self.looker.check_readable(&row.path)?;
        Ok(FileStat::of(&metadata))
    }

    /// Reads all of a file and compares every chunk.
    fn rehash(
        &mut self,
        id: FileId,
        row: &FileRow,
        disk: &Disk,
    ) -> Result<Result<FileStat, Fault>, Stop> {
        let opened =
            open_below(&self.share.base, &row.path).and_then(|file| Ok((file.metadata()?, file)));
        let (before, file) = match opened {
            Ok((metadata, _)) if !metadata.is_file() => {
                return Ok(Err(Fault::Changed(ChangeKind::Replaced)));
            }
            Ok((metadata, file)) => (FileStat::of(&metadata), file),
            Err(error) => return Ok(Err(error.into())),
        };
        if row.stat.compare(&before) == Comparison::Resized {
            return Ok(Err(Fault::Changed(ChangeKind::Resized)));
        }
        let is_whole = match self.compare_bytes(id, row, &file, disk)? {
            Ok(is_whole) => is_whole,
            Err(fault) => return Ok(Err(fault)),
        };
        let after = match file.metadata() {
            Ok(metadata) => FileStat::of(&metadata),
            Err(error) => return Ok(Err(error.into())),
        };
        Ok(self.judge(id, row, is_whole, (before, after)))
    }

    /// Whether a file holds the recorded bytes, and none after them.
    fn compare_bytes(
        &mut self,
        id: FileId,
        row: &FileRow,
        file: &File,
        disk: &Disk,
    ) -> Result<Result<bool, Fault>, Stop> {
        for chunk in self.store.chunks_of(id) {
            if self.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            let chunk = chunk?;
            self.buffer
                .resize(BLOCK_BYTES_MAX.min(chunk.len as usize), 0);
            let _touch = disk.touch();
            if let Err(error) = file.read_exact_at(&mut self.buffer, chunk.offset) {
                return Ok(Err(error.into()));
            }
            self.hashed(u64::from(chunk.len));
            if !chunk.digest.matches(&self.buffer) {
                return Ok(Ok(false));
            }
        }
        match ends_at(file, row.stat.size) {
            Ok(true) => Ok(Ok(true)),
            Ok(false) => Ok(Err(Fault::Changed(ChangeKind::Resized))),
            Err(error) => Ok(Err(error.into())),
        }
    }

    /// What it means whether a file held the recorded bytes, read between two stats.
    fn judge(
        &self,
        id: FileId,
        row: &FileRow,
        is_whole: bool,
        (before, after): (FileStat, FileStat),
    ) -> Result<FileStat, Fault> {
        if row.stat.compare(&after) == Comparison::Resized {
            return Err(Fault::Changed(ChangeKind::Resized));
        }
        let recorded = match before == after {
            true => after.recorded_at(SystemTime::now()),
            // It was touched meanwhile, so this stat vouches for nothing: its reads are hashed.
            false => FileStat {
                ctime_ns: 0,
                ..after
            },
        };
        if !is_whole {
            if recorded.ctime_ns != 0 {
                self.library.inner.known_bad.note(id, recorded);
            }
            return Err(Fault::Changed(row.stat.blame(&after)));
        }
        Ok(match after.size == row.stat.size {
            true => recorded,
            false => after.unsized_with(row.stat.size),
        })
    }

    /// Hashes the DAG nodes that the database holds for the share; false when cancelled. Without
    /// one of them a share is no more whole than without a file.
    fn nodes(&mut self) -> Result<bool, StoreError> {
        for digest in self.store.blocks_of(self.share.id) {
            if self.cancel.is_cancelled() {
                return Ok(false);
            }
            let digest = digest?;
            let block = self.store.sound_block(&digest)?;
            self.hashed(block.as_ref().map_or(0, |block| block.len() as u64));
            if block.is_none() {
                self.summary.damaged_nodes += 1;
                // Over any file's: a file that is whole again does not mend this.
                self.first_change = Some(Change::of_index());
                (self.on_event)(VerifyEvent::DamagedNode(digest));
            }
        }
        Ok(true)
    }

    fn hashed(&mut self, bytes: u64) {
        self.summary.hashed_bytes += bytes;
        (self.on_event)(VerifyEvent::Hashed(bytes));
    }
}

/// What is wrong with a file.
enum Fault {
    Changed(ChangeKind),
    Unreadable(io::Error),
}

/// Why a sweep ends early.
enum Stop {
    Cancelled,
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match absence(&error) {
            Some(kind) => Self::Changed(kind),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Changed(ChangeKind::Resized)
            }
            None => Self::Unreadable(error),
        }
    }
}

/// Whether a file whose length the system does not tell is otherwise as recorded.
fn is_still_unsized(row: &FileRow, now: &FileStat) -> bool {
    let same = FileStat {
        ctime_ns: row.stat.ctime_ns,
        ..now.unsized_with(row.stat.size)
    };
    now.size == 0 && row.state == FileState::Stable && row.stat.is_unsized() && same == row.stat
}
