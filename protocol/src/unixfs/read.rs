//! Reading one node of a DAG.

use super::{
    Attributes, DagError, FILE_BYTES_MAX, FILE_LINKS_MAX, TARGET_BYTES_MAX, dagpb,
    data::{Data, Kind},
    hamt,
};
use crate::address::{BLOCK_BYTES_MAX, Cid, Codec};

/// A node, by what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file or a part of one.
    File(FileNode),
    /// A directory in one block.
    Directory {
        /// Its entries, in the order of the block; names may repeat or be unsafe.
        entries: Vec<DirEntry>,
        /// What was kept besides the entries.
        attributes: Attributes,
    },
    /// A sharded directory, or a shard of one.
    Shard {
        /// The slots that are taken, by ascending index.
        slots: Vec<Slot>,
        /// What was kept besides the entries; only the root shard's count.
        attributes: Attributes,
    },
    /// A symlink.
    Symlink {
        /// Where it points: 1 to [`TARGET_BYTES_MAX`] bytes, without NUL, otherwise unchecked.
        target: String,
        /// What was kept besides the target.
        attributes: Attributes,
    },
}

/// A file, or a part of one: some bytes of its own, then its children's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNode {
    /// Bytes of content, its own and its children's: at most [`FILE_BYTES_MAX`].
    pub size: u64,
    /// Content that stands in the node itself, before all children.
    pub inline: Vec<u8>,
    /// Where the rest is, in order. Their lengths and the inline bytes add up to `size`.
    pub children: Vec<Child>,
    /// What was kept besides the content; only the root's count.
    pub attributes: Attributes,
}

/// A link of a file to a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// A leaf, or another file node.
    pub cid: Cid,
    /// Bytes of content behind it, at least 1; at most [`BLOCK_BYTES_MAX`] for a leaf.
    pub len: u64,
}

/// An entry of a plain directory, as it stands in the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, not checked for anything.
    pub name: Vec<u8>,
    /// What it is.
    pub cid: Cid,
    /// Bytes of all blocks below, as the link claims.
    pub tsize: u64,
}

/// A slot of a shard that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The digit of the hashed name that leads here.
    pub index: u8,
    /// The entry's name, not checked for anything; `None` for a shard of the next digit.
    pub name: Option<Vec<u8>>,
    /// The entry, or the shard.
    pub cid: Cid,
    /// Bytes of all blocks below, as the link claims.
    pub tsize: u64,
}

/// Reads a dag-pb node. Blocks of codec `raw` are file bytes and have no nodes in them.
///
/// The bytes must have been verified against their address. No more is allocated than a small
/// multiple of their length.
///
/// # Errors
/// [`DagError`] for whatever is damaged, unsupported or over a limit in this one node. Whether
/// names are safe and unique, and whether the nodes fit together, is for the walk to say.
pub fn parse_node(bytes: &[u8]) -> Result<Node, DagError> {
    if bytes.len() > BLOCK_BYTES_MAX {
        return Err(DagError::limit("bytes in one node", BLOCK_BYTES_MAX));
    }
    let dagpb::Envelope { links, data } = dagpb::parse(bytes)?;
    let message = Data::parse(data)?;
    match message.kind {
        Kind::Raw | Kind::File => file(links, message).map(Node::File),
        Kind::Directory => Ok(directory(links, message.attributes)),
        Kind::Shard => shard(links, &message),
        Kind::Symlink => symlink(&message),
    }
}

fn file(links: Vec<dagpb::Link<'_>>, message: Data<'_>) -> Result<FileNode, DagError> {
    if links.len() > FILE_LINKS_MAX {
        return Err(DagError::limit(
            "links in one node of a file",
            FILE_LINKS_MAX,
        ));
    }
    if links.len() != message.blocksizes.len() {
        return Err(DagError::Malformed(
            "a file does not give a size for each link",
        ));
    }
    let inline = message.data.unwrap_or_default();
    let mut size = inline.len() as u64;
    let mut children = Vec::with_capacity(links.len());
    for (link, len) in links.into_iter().zip(message.blocksizes) {
        size = size.saturating_add(len);
        children.push(child(link.cid, len)?);
    }
    if size > FILE_BYTES_MAX {
        return Err(DagError::Limit {
            what: "bytes in one file",
            max: FILE_BYTES_MAX,
        });
    }
    if message.filesize.is_some_and(|claimed| claimed != size) {
        return Err(DagError::Malformed(
            "a file's size is not the sum of its parts",
        ));
    }
    Ok(FileNode {
        size,
        inline: inline.to_vec(),
        children,
        attributes: message.attributes,
    })
}

/// Refuses a part that cannot have this length.
fn child(cid: Cid, len: u64) -> Result<Child, DagError> {
    // Parts without bytes would make a walk's length independent of the file's.
    if len == 0 {
        return Err(DagError::Malformed("a part of a file has no bytes"));
    }
    if cid.codec() == Codec::Raw {
        if len > BLOCK_BYTES_MAX as u64 {
            return Err(DagError::limit("bytes in one leaf", BLOCK_BYTES_MAX));
        }
        if let Some(inline) = cid.inline() {
            let actual = inline.len() as u64;
            if actual != len {
                return Err(DagError::Length {
                    expected: len,
                    actual,
                });
            }
        }
    }
    Ok(Child { cid, len })
}

fn directory(links: Vec<dagpb::Link<'_>>, attributes: Attributes) -> Node {
    let entry = |link: dagpb::Link<'_>| {
        let name = link.name.to_owned();
        DirEntry {
            name,
            cid: link.cid,
            tsize: link.tsize,
        }
    };
    Node::Directory {
        entries: links.into_iter().map(entry).collect(),
        attributes,
    }
}

fn shard(links: Vec<dagpb::Link<'_>>, message: &Data<'_>) -> Result<Node, DagError> {
    if message.hash_type != Some(hamt::HASH_TYPE) {
        return Err(DagError::Unsupported(
            "a sharded directory with another hash than murmur3",
        ));
    }
    if message.fanout != Some(hamt::FANOUT) {
        return Err(DagError::Unsupported(
            "a sharded directory with another fan-out than 256",
        ));
    }
    let slots = links.into_iter().map(slot).collect::<Result<Vec<_>, _>>()?;
    if !slots.is_sorted_by(|one, next| one.index < next.index) {
        return Err(DagError::Malformed("the slots of a shard are not in order"));
    }
    let claimed = message.data.unwrap_or_default();
    let significant = claimed
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(claimed.len());
    let indexes: Vec<u8> = slots.iter().map(|slot| slot.index).collect();
    if claimed.get(significant..) != Some(&hamt::bitfield(&indexes)) {
        return Err(DagError::Malformed("the bits of a shard are not its links"));
    }
    Ok(Node::Shard {
        slots,
        attributes: message.attributes,
    })
}

fn slot(link: dagpb::Link<'_>) -> Result<Slot, DagError> {
    const NO_INDEX: DagError = DagError::Malformed("a link of a shard does not start with a slot");
    let (index, name) = link.name.split_first_chunk::<2>().ok_or(NO_INDEX)?;
    let digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'A'..=b'F');
    if !index.iter().copied().all(digit) {
        return Err(NO_INDEX);
    }
    let index = str::from_utf8(index)
        .ok()
        .and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let name = (!name.is_empty()).then(|| name.to_owned());
    Ok(Slot {
        index: index.ok_or(NO_INDEX)?,
        name,
        cid: link.cid,
        tsize: link.tsize,
    })
}

fn symlink(message: &Data<'_>) -> Result<Node, DagError> {
    let target = message.data.unwrap_or_default();
    if target.len() > TARGET_BYTES_MAX {
        return Err(DagError::limit(
            "bytes in a symlink's target",
            TARGET_BYTES_MAX,
        ));
    }
    let target = str::from_utf8(target)
        .map_err(|_| DagError::Unsupported("a symlink whose target is not UTF-8"))?;
    if target.is_empty() || target.contains('\0') {
        return Err(DagError::Malformed(
            "a symlink's target is empty or contains NUL",
        ));
    }
    Ok(Node::Symlink {
        target: target.to_owned(),
        attributes: message.attributes,
    })
}
