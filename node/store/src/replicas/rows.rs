//! The rows of the family `replicas`. No key and no value has a root, a name or a digest of a block.
//!
//! | key                        | value         | of                                            |
//! | -------------------------- | ------------- | --------------------------------------------- |
//! | `d`, key 32                | empty         | a root that is never kept                     |
//! | `r`, key 32                | `RootRow`     | a root of which something is held             |
//! | `p`, key 32, kind 1, no. 8 | `PieceRow`    | a piece: a run, or nodes that came together   |
//! | `s`, key 32, run 8         | `StandingRow` | a run's place among all                       |
//! | `b`, name 32, run 8        | `BlockRow`    | a block, by its blinded name; nodes have      |
//! |                            |               | the run `u64::MAX`                            |
//!
//! A key is the root's key in the DHT, a name is derived from the root and the block.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shoal_protocol::replicate::cache::{Queue, RunId, Standing};
use shoal_protocol::replicate::slabs::Extent;
use shoal_protocol::replicate::{Key, Shape};

use super::Cause;
use crate::layout::Family;
use crate::rows::{self, Row};
use crate::{Batch, StoreError, keys};

/// The run of blocks that are nodes.
pub(super) const NO_RUN: u64 = u64::MAX;

const DENIED: u8 = b'd';
const ROOT: u8 = b'r';
const PIECE: u8 = b'p';
const STANDING: u8 = b's';
const BLOCK: u8 = b'b';

/// What a piece holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Nodes that came together; the piece's own number tells them apart.
    Nodes(u64),
    /// The leaves of a run.
    Run(u64),
}

/// The name of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PieceId {
    pub(super) key: Key,
    pub(super) part: Part,
}

/// A root of which something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RootRow {
    pub(super) leaves: u64,
    pub(super) size: u64,
    /// When it was first pulled, in milliseconds since the Unix epoch.
    pub(super) since_ms: u64,
    pub(super) cause: Cause,
    /// How often another reader read another part of it.
    pub(super) reads: u64,
}

/// Bytes in a slab, one after the other those of some blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PieceRow {
    /// The number that no other piece of the process has.
    pub(super) number: u64,
    pub(super) slab: u32,
    pub(super) offset: u32,
    pub(super) bytes: u32,
    /// BLAKE3 of the sealed bytes.
    pub(super) check: [u8; 32],
    /// The names of its blocks.
    pub(super) names: Vec<[u8; 32]>,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StandingRow {
    bytes: u64,
    is_main: bool,
    order: u64,
    reads: u8,
    used_ms: u64,
}

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlockRow {
    pub(super) key: [u8; 32],
    /// The number of its piece, and which of its blocks it is.
    pub(super) piece: u64,
    pub(super) index: u8,
    pub(super) slab: u32,
    pub(super) offset: u32,
    pub(super) bytes: u32,
}

macro_rules! first_version {
    ($($row:ty),+) => {
        $(impl Row for $row {
            const VERSION: u8 = 1;
            const EARLIER: &'static [(u8, &'static [u8])] = &[];
        })+
    };
}
first_version!(RootRow, PieceRow, StandingRow, BlockRow);

impl RootRow {
    pub(super) fn shape(&self) -> Shape {
        Shape {
            leaves: self.leaves,
            size: self.size,
        }
    }
}

impl PieceRow {
    pub(super) fn extent(&self) -> Extent {
        Extent {
            slab: self.slab,
            offset: self.offset,
            bytes: self.bytes,
        }
    }
}

impl Part {
    /// The run that its blocks are kept under.
    pub(super) fn run(self) -> u64 {
        match self {
            Self::Nodes(_) => NO_RUN,
            Self::Run(run) => run,
        }
    }
}

impl PieceId {
    pub(super) fn of(id: RunId) -> Self {
        Self {
            key: id.key,
            part: Part::Run(id.run),
        }
    }

    pub(super) fn row_key(self) -> Vec<u8> {
        let (kind, number) = match self.part {
            Part::Nodes(number) => (0, number),
            Part::Run(run) => (1, run),
        };
        [
            &[PIECE],
            self.key.0.as_slice(),
            &[kind],
            &number.to_be_bytes(),
        ]
        .concat()
    }

    pub(super) fn parse(row_key: &[u8]) -> Result<Self, StoreError> {
        let (key, rest) = take_key(row_key)?;
        let (kind, number) = rest.split_first().ok_or_else(cut_short)?;
        let number = keys::take_u64(number)?.0;
        let part = match kind {
            0 => Part::Nodes(number),
            1 => Part::Run(number),
            _ => return Err(StoreError::damaged("a replica is of no kind")),
        };
        Ok(Self { key, part })
    }
}

/// Begins every key of rows of this kind.
pub(super) const DENIED_ALL: [u8; 1] = [DENIED];
pub(super) const ROOT_ALL: [u8; 1] = [ROOT];
pub(super) const PIECE_ALL: [u8; 1] = [PIECE];

/// Begins the keys of all pieces of nodes of a root.
pub(super) fn nodes_of(key: Key) -> Vec<u8> {
    [&[PIECE], key.0.as_slice(), &[0]].concat()
}

/// Begins the keys of all places of a block.
pub(super) fn block_all(name: &[u8; 32]) -> Vec<u8> {
    [&[BLOCK], name.as_slice()].concat()
}

pub(super) fn block_key(name: &[u8; 32], run: u64) -> Vec<u8> {
    [&[BLOCK], name.as_slice(), &run.to_be_bytes()].concat()
}

pub(super) fn standing_key(id: RunId) -> Vec<u8> {
    [&[STANDING], id.key.0.as_slice(), &id.run.to_be_bytes()].concat()
}

pub(super) fn root_key(key: Key) -> Vec<u8> {
    [&[ROOT], key.0.as_slice()].concat()
}

pub(super) fn denied_key(key: Key) -> Vec<u8> {
    [&[DENIED], key.0.as_slice()].concat()
}

/// The root's key in the key of a row of a root, a piece or a denied root, and what follows.
pub(super) fn take_key(row_key: &[u8]) -> Result<(Key, &[u8]), StoreError> {
    let (_, rest) = row_key.split_first().ok_or_else(cut_short)?;
    let (key, rest) = rest.split_first_chunk().ok_or_else(cut_short)?;
    Ok((Key(*key), rest))
}

/// The run in the key of a block's row.
pub(super) fn block_run(row_key: &[u8]) -> Result<u64, StoreError> {
    let (_, rest) = take_key(row_key)?;
    Ok(keys::take_u64(rest)?.0)
}

pub(super) fn put_root(batch: &mut Batch, key: Key, row: &RootRow) -> Result<(), StoreError> {
    batch.put(Family::Replicas, root_key(key), rows::encode(row)?);
    Ok(())
}

pub(super) fn put_standing(
    batch: &mut Batch,
    id: RunId,
    standing: &Standing,
) -> Result<(), StoreError> {
    let row = StandingRow {
        bytes: standing.bytes,
        is_main: standing.queue == Queue::Main,
        order: standing.order,
        reads: standing.reads,
        used_ms: millis(standing.used),
    };
    batch.put(Family::Replicas, standing_key(id), rows::encode(&row)?);
    Ok(())
}

pub(super) fn decode_standing(bytes: &[u8]) -> Result<Standing, StoreError> {
    let row: StandingRow = rows::decode(bytes)?;
    Ok(Standing {
        bytes: row.bytes,
        queue: match row.is_main {
            true => Queue::Main,
            false => Queue::Small,
        },
        order: row.order,
        reads: row.reads,
        used: Duration::from_millis(row.used_ms),
    })
}

/// Takes a piece out, with its blocks and its standing.
pub(super) fn delete_piece(batch: &mut Batch, id: PieceId, row: &PieceRow) {
    for name in &row.names {
        batch.delete(Family::Replicas, block_key(name, id.part.run()));
    }
    batch.delete(Family::Replicas, id.row_key());
    if let Part::Run(run) = id.part {
        batch.delete(Family::Replicas, standing_key(RunId { key: id.key, run }));
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn cut_short() -> StoreError {
    StoreError::damaged("the key of a replica's row is too short")
}
