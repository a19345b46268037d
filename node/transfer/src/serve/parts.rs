//! Blocks read from the library, and from replicas, in parts: as much at a time as there is room for.
//!
//! Blocking: [`read`] runs on a blocking thread. It reads wants in their order. A block that does
//! not fit the room is read in part; the rest of it is a want again.

use shoal_ground::pool::{Pool, Pooled};
use shoal_protocol::{
    address::{Cid, Digest},
    exchange::Missing,
};
use shoal_store::{BlockKind, Cut, Found, Library, ReadError};

use super::{budget::Room, queue::Want};
use crate::replicate::Reader;

/// Where less room than this is left, the next block is read another time, unless it is the first.
const PART_BYTES_LEAST: usize = 4 << 10;

/// Blocks up to this are sent without a turn: on a slow line a chunk takes sixteen times as long.
pub(super) const SMALL_BYTES: usize = 64 << 10;

/// Which of these blocks is small, or is not here, so that it needs no turn: the first such.
pub(super) fn first_small(source: &Source, wants: &[Digest]) -> Option<Digest> {
    let Source {
        library,
        root,
        replicas,
    } = source;
    let is_small = |want: &&Digest| match library.block_bytes(want, Some(root)) {
        Ok(Some(bytes)) => bytes <= SMALL_BYTES,
        Ok(None) => {
            let replica = replicas.as_ref().and_then(|it| it.find(want));
            replica.is_none_or(|it| it.block_bytes <= SMALL_BYTES)
        }
        Err(_) => true,
    };
    wants.iter().find(is_small).copied()
}

/// Where the blocks of one root are.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) library: Library,
    pub(super) root: Cid,
    /// What is kept of it for others.
    pub(super) replicas: Option<Reader>,
}

/// Whose a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A share or a fetch of this node.
    Own,
    /// A replica; a chunk is of a run of leaves.
    Others { run: Option<u64> },
}

/// A part of a block, ready to be written.
pub(super) struct Part {
    pub(super) kind: BlockKind,
    pub(super) owner: Owner,
    /// The length of the whole block.
    pub(super) block_bytes: usize,
    pub(super) bytes: Pooled,
}

impl Part {
    /// Whether the block ends with this part, which begins at the offset of `want`.
    pub(super) fn is_last(&self, want: &Want) -> bool {
        want.offset + self.bytes.len() >= self.block_bytes
    }
}

/// Parts of blocks, and the room they take.
pub(super) struct Batch {
    pub(super) parts: Vec<(Want, Result<Part, Missing>)>,
    pub(super) room: Option<Room>,
}

impl Batch {
    /// The answer to wants whose disk does not answer.
    pub(super) fn unreadable(wants: Vec<Want>) -> Self {
        let unread = |want| (want, Err(Missing::Unreadable));
        Self {
            parts: wants.into_iter().map(unread).collect(),
            room: None,
        }
    }
}

/// Reads wants until the room is full; what is left comes back.
pub(super) fn read(
    source: &Source,
    wants: Vec<Want>,
    mut room: Room,
    pool: &Pool,
) -> (Batch, Vec<Want>) {
    let mut parts = Vec::with_capacity(wants.len());
    let mut left = room.bytes();
    let mut wants = wants.into_iter();
    let mut rest = Vec::new();
    let mut spare = pool.with_len(left);
    while left >= PART_BYTES_LEAST || parts.is_empty() {
        let Some(want) = wants.next() else {
            break;
        };
        let cut = Cut {
            offset: want.offset,
            bytes_max: left,
        };
        let found = source.read_part(&want.digest, cut, &mut spare);
        let found = found.map_err(|error| why(&want, &error));
        let part = found.and_then(|(owner, found)| {
            want.sent_bytes(found.block_bytes)?;
            Ok(Part {
                kind: found.kind,
                owner,
                block_bytes: found.block_bytes,
                bytes: pool.hand_over(&mut spare),
            })
        });
        let bytes = part.as_ref().map_or(0, |part| part.bytes.len());
        left = left.saturating_sub(bytes);
        let goes_on = part.as_ref().is_ok_and(|part| !part.is_last(&want));
        parts.push((want, part));
        if goes_on {
            let offset = want.offset + bytes;
            rest.push(Want { offset, ..want });
            break;
        }
    }
    room.shrink(room.bytes().saturating_sub(left));
    rest.extend(wants);
    let room = Some(room);
    (Batch { parts, room }, rest)
}

impl Source {
    /// A part of a block: of this node's own, or of a replica where that has none.
    fn read_part(
        &self,
        block: &Digest,
        cut: Cut,
        into: &mut Vec<u8>,
    ) -> Result<(Owner, Found), ReadError> {
        let own = self.library.read_part(block, Some(&self.root), cut, into);
        let (Err(ReadError::NotHere), Some(replicas)) = (&own, &self.replicas) else {
            return own.map(|found| (Owner::Own, found));
        };
        let replica = replicas.read_part(block, cut, into).map_err(|error| {
            if !matches!(error, ReadError::NotHere) {
                // Nothing is logged by which a replica could be told.
                tracing::warn!("a replica cannot be read");
            }
            ReadError::NotHere
        })?;
        let found = Found {
            kind: replica.kind,
            block_bytes: replica.block_bytes,
        };
        Ok((Owner::Others { run: replica.run }, found))
    }
}

fn why(want: &Want, error: &ReadError) -> Missing {
    match error {
        ReadError::NotHere => Missing::NotHere,
        ReadError::Changed => Missing::Changed,
        ReadError::Unreadable { .. } | ReadError::Store(_) => {
            let digest = &want.digest;
            tracing::warn!(%error, %digest, "a block that was asked for cannot be read");
            Missing::Unreadable
        }
    }
}
