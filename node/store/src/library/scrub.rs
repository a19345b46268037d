//! Hashing everything that is shared, a little at a time.
//!
//! A step looks at what comes next from a position on and says where it came to, so that a scrub
//! can be slow, be interrupted, and go on after a restart; between two steps nothing is held. What
//! differs is marked and told like a change that a reader comes across. Files that are known to
//! have changed are passed over: a recheck looks after those.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shoal_ground::said::said;
use shoal_protocol::address::{Cid, Digest};

use super::read::{Candidate, Cut, Miss, ONLY_PATIENCE, below};
use super::{Library, LibraryEvent};
use crate::rows::{Change, ChangeKind, FileId, FileRow, FileState, Origin, ShareId, ShareRecord};
use crate::{FileChunk, Location, ShareState, StoreError};

/// What a file costs beside its bytes, so that a step over small and empty files ends too: opening
/// and looking at one takes about as long as reading this much.
const FILE_COST_BYTES: u64 = 16 << 10;

/// How far a scrub is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPosition {
    share: ShareId,
    spot: Spot,
}

/// Where in a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Spot {
    /// At `offset` of the file at `path`, or at the first one after it.
    File { path: String, offset: u64 },
    /// At the node of its tree with the key `from`, or at the first one after it.
    Node { from: Vec<u8> },
}

/// What a step of a scrub came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where to go on; `None` when that was all.
    pub position: Option<ScrubPosition>,
    /// Bytes that were read and hashed.
    pub bytes: u64,
    /// What it cost, in bytes that could have been read meanwhile.
    pub cost: u64,
    /// What was not changed by anybody and yet is not as it should be.
    pub damaged: Vec<Damage>,
}

/// Something that a scrub found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The share that it belongs to.
    pub root: Cid,
    /// The file, or what was shared when it is not one file alone.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it could not be read. What was read and differs has changed the share's state, this
    /// has not.
    pub unreadable: bool,
}

impl ScrubPosition {
    fn start_of(share: ShareId) -> Self {
        let path = String::new();
        Self {
            share,
            spot: Spot::File { path, offset: 0 },
        }
    }
}

impl Library {
    /// Hashes about `cost_max` bytes of what comes from `from` on, or from the beginning.
    ///
    /// # Errors
    /// When the database fails. What cannot be read of files is a finding.
    pub fn scrub(
        &self,
        from: Option<ScrubPosition>,
        cost_max: u64,
    ) -> Result<Scrubbed, StoreError> {
        let mut step = ScrubStep {
            library: self,
            cost_max,
            found: Scrubbed::default(),
            buffer: Vec::new(),
        };
        let mut at = from;
        while let Some((share, position)) = self.at_or_after(at) {
            let id = share.id;
            if let Some(spot) = step.share(&share, position.spot)? {
                step.found.position = Some(ScrubPosition { share: id, spot });
                break;
            }
            at = Some(ScrubPosition::start_of(ShareId(id.0.saturating_add(1))));
        }
        Ok(step.found)
    }

    /// The file that a scrub is at, or what was shared while it is not in a file; `None` when the
    /// share is gone.
    #[must_use]
    pub fn scrubbing(&self, position: &ScrubPosition) -> Option<PathBuf> {
        let share = self.share(position.share)?;
        Some(match &position.spot {
            Spot::File { path, .. } => below(&share.base, path),
            Spot::Node { .. } => share.source.clone(),
        })
    }

    /// The share that `position` is in or, when that is no longer there, the next one.
    fn at_or_after(
        &self,
        position: Option<ScrubPosition>,
    ) -> Option<(Arc<ShareRecord>, ScrubPosition)> {
        let least = position.as_ref().map_or(ShareId(0), |it| it.share);
        let shares = self.select(|share| share.is_listed() && share.id >= least);
        let share = shares.into_iter().next()?;
        let position = position.filter(|it| it.share == share.id);
        let position = position.unwrap_or_else(|| ScrubPosition::start_of(share.id));
        Some((share, position))
    }

    /// Records that the tree of a share is damaged, and says so once; false when that is known.
    pub(super) fn mark_damaged_index(&self, id: ShareId) -> Result<bool, StoreError> {
        let changes = self.inner.changing();
        let Some(share) = self.share(id).filter(|share| share.is_listed()) else {
            return Ok(false);
        };
        if share.has_damaged_index() {
            return Ok(false);
        }
        let record = share.with_change(Change::of_index());
        let record = self.inner.replace(self.store().batch(), record, false)?;
        drop(changes);
        if share.state == ShareState::Live {
            self.inner.tell(LibraryEvent::Changed(record));
        }
        Ok(true)
    }
}

/// One step in progress.
struct ScrubStep<'a> {
    library: &'a Library,
    cost_max: u64,
    found: Scrubbed,
    buffer: Vec<u8>,
}

impl ScrubStep<'_> {
    /// Looks at a share from `spot` on; where it stopped, or `None` at the share's end.
    fn share(&mut self, share: &Arc<ShareRecord>, spot: Spot) -> Result<Option<Spot>, StoreError> {
        let from = match spot {
            Spot::File { path, offset } => {
                if let Some(stopped) = self.files(share, &path, offset)? {
                    return Ok(Some(stopped));
                }
                Vec::new()
            }
            Spot::Node { from } => from,
        };
        self.nodes(share, &from)
    }

    fn files(
        &mut self,
        share: &Arc<ShareRecord>,
        from: &str,
        offset: u64,
    ) -> Result<Option<Spot>, StoreError> {
        for file in self.library.store().files_from(share.id, from) {
            let (id, row) = file?;
            if self.is_full() {
                let path = row.path;
                return Ok(Some(Spot::File { path, offset: 0 }));
            }
            self.found.cost += FILE_COST_BYTES;
            let offset = if row.path == from { offset } else { 0 };
            match row.state {
                FileState::Stable => {
                    if let Some(offset) = self.file(share, id, &row, offset)? {
                        let path = row.path;
                        return Ok(Some(Spot::File { path, offset }));
                    }
                }
                FileState::Changed => self.spoiled_copy(share, &row),
                FileState::Landing => {}
            }
        }
        Ok(None)
    }

    /// Nobody edits the copies that this node took: one that is no longer as it was is damaged,
    /// also where a look at the files was there first and has marked it.
    fn spoiled_copy(&mut self, share: &ShareRecord, row: &FileRow) {
        if let ShareState::Changed(change) = &share.state
            && share.origin == Origin::Copied
            && change.path == row.path
        {
            self.found.damaged.push(Damage {
                root: share.root.clone(),
                path: below(&share.base, &row.path),
                reason: change.kind.to_string(),
                unreadable: false,
            });
        }
    }

    /// Looks at a file from `offset` on; the offset at which it stopped, or `None` at its end.
    fn file(
        &mut self,
        share: &Arc<ShareRecord>,
        id: FileId,
        row: &FileRow,
        offset: u64,
    ) -> Result<Option<u64>, StoreError> {
        for chunk in self.library.store().chunks_from(id, offset) {
            let chunk = chunk?;
            if self.is_full() && chunk.offset > offset {
                return Ok(Some(chunk.offset));
            }
            self.read(chunk.len.into());
            let candidate = candidate(share, id, row, &chunk);
            if let Err(miss) = self.hash(&candidate, &chunk.digest) {
                // One finding says enough about a file.
                self.missed(&candidate, miss)?;
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Reads a chunk and hashes it, whatever its file's stat vouches for.
    fn hash(&mut self, candidate: &Candidate, want: &Digest) -> Result<(), Miss> {
        let inner = &self.library.inner;
        let (whole, buffer) = (Cut::WHOLE, &mut self.buffer);
        inner.read_candidate(candidate, want, whole, buffer, ONLY_PATIENCE)?;
        match want.matches(&self.buffer) {
            true => Ok(()),
            false => Err(Miss::Changed(ChangeKind::Content)),
        }
    }

    fn missed(&mut self, candidate: &Candidate, miss: Miss) -> Result<(), StoreError> {
        let (reason, unreadable) = match miss {
            Miss::Absent => return Ok(()),
            // Its disk does not answer, which is said elsewhere: the next scrub comes to it.
            Miss::Unreadable(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(()),
            Miss::Unreadable(error) => (said(&error), true),
            Miss::Changed(kind) => {
                let is_news = self.library.inner.mark_changed(candidate, kind)?;
                // Whoever edits, moves or deletes a file damages nothing.
                if !is_news || kind != ChangeKind::Content {
                    return Ok(());
                }
                (kind.to_string(), false)
            }
        };
        let share = &candidate.share;
        self.found.damaged.push(Damage {
            root: share.root.clone(),
            path: candidate.path(),
            reason,
            unreadable,
        });
        Ok(())
    }

    /// Hashes the nodes of a share's tree from the one with the key `from` on.
    fn nodes(&mut self, share: &ShareRecord, from: &[u8]) -> Result<Option<Spot>, StoreError> {
        let store = self.library.store();
        for digest in store.blocks_from(share.id, from) {
            let digest = digest?;
            if self.is_full() {
                let from = digest.key().to_vec();
                return Ok(Some(Spot::Node { from }));
            }
            let block = store.sound_block(&digest)?;
            self.read(block.as_ref().map_or(0, |block| block.len() as u64));
            if block.is_some() {
                continue;
            }
            if self.library.mark_damaged_index(share.id)? {
                self.found.damaged.push(Damage {
                    root: share.root.clone(),
                    path: share.source.clone(),
                    reason: ChangeKind::Index.to_string(),
                    unreadable: false,
                });
            }
            return Ok(None);
        }
        Ok(None)
    }

    fn is_full(&self) -> bool {
        self.found.cost >= self.cost_max
    }

    fn read(&mut self, bytes: u64) {
        self.found.bytes += bytes;
        self.found.cost += bytes;
    }
}

fn candidate(
    share: &Arc<ShareRecord>,
    file: FileId,
    row: &FileRow,
    chunk: &FileChunk,
) -> Candidate {
    let &FileChunk { offset, len, .. } = chunk;
    Candidate {
        location: Location { file, offset, len },
        row: row.clone(),
        share: Arc::clone(share),
    }
}
