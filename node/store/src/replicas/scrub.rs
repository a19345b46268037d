//! Comparing sealed bytes with their digests, piece by piece.

use super::read::is_of_the_file;
use super::rows::{self, PieceId, PieceRow};
use super::{Replicas, ReplicasInner};
use crate::StoreError;
use crate::layout::Family;
use crate::rows as store_rows;

/// Where a scrub stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaPosition(PieceId);

/// What a step of a scrub did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaScrubbed {
    /// Where to go on.
    pub position: ReplicaPosition,
    /// Bytes that were read.
    pub bytes: u64,
    /// Whether they were damaged, and dropped.
    pub is_damaged: bool,
}

impl Replicas {
    /// Reads the piece behind a position, at most 8 MiB, and compares it with its digest. `None` at
    /// the end. What is damaged, or cannot be read, is dropped: a run, or a root whose nodes they are.
    ///
    /// # Errors
    /// Those of the database.
    pub fn scrub(
        &self,
        behind: Option<ReplicaPosition>,
    ) -> Result<Option<ReplicaScrubbed>, StoreError> {
        let inner = &self.inner;
        let Some((id, row)) = inner.next_piece(behind)? else {
            return Ok(None);
        };
        let is_damaged = !inner.is_sound(&row);
        // The piece may have gone while it was read, and with it the right to judge it.
        let is_damaged = is_damaged && {
            let mut writer = inner.writer();
            let is_there = inner.books().is_readable(row.number);
            if is_there {
                let (slab, offset) = (row.slab, row.offset);
                tracing::warn!(slab, offset, "a replica is damaged");
                inner.lose(&mut writer, id)?;
            }
            is_there
        };
        Ok(Some(ReplicaScrubbed {
            position: ReplicaPosition(id),
            bytes: row.bytes.into(),
            is_damaged,
        }))
    }
}

impl ReplicasInner {
    fn next_piece(
        &self,
        behind: Option<ReplicaPosition>,
    ) -> Result<Option<(PieceId, PieceRow)>, StoreError> {
        let from = behind.map(|ReplicaPosition(id)| [id.row_key(), vec![0]].concat());
        let mut scan = self.store.inner.scan_from(
            Family::Replicas,
            &rows::PIECE_ALL,
            &from.unwrap_or_default(),
        );
        while let Some((key, value)) = scan.next()? {
            let row: PieceRow = store_rows::decode(value)?;
            if self.books().is_readable(row.number) {
                return Ok(Some((PieceId::parse(key)?, row)));
            }
        }
        Ok(None)
    }

    fn is_sound(&self, row: &PieceRow) -> bool {
        let mut bytes = vec![0; usize::try_from(row.bytes).unwrap_or_default()];
        match self.files.read(row.slab, row.offset.into(), &mut bytes) {
            Ok(()) => *blake3::hash(&bytes).as_bytes() == row.check,
            Err(error) => {
                if !is_of_the_file(&error) {
                    tracing::warn!(slab = row.slab, %error, "a replica cannot be read");
                }
                false
            }
        }
    }
}
