//! What a walk keeps of each node: the names in it and what they lead to.

use std::sync::Arc;

use crate::{
    address::Cid,
    name::{NameError, SafeName, escaped_bytes},
    unixfs::{Attributes, DagError, DirEntry, ENTRIES_MAX, Node, Slot},
};

/// Most bytes in all names and symlink targets of one tree: 64 for each of [`ENTRIES_MAX`] entries.
pub const TREE_TEXT_BYTES_MAX: usize = 64 * ENTRIES_MAX;

/// What the walk keeps of a node.
#[derive(Debug)]
pub(super) enum Summary {
    Dir {
        links: Vec<NamedLink>,
        attributes: Attributes,
    },
    Shard {
        slots: Vec<ShardSlot>,
        attributes: Attributes,
    },
    File {
        size: u64,
        attributes: Attributes,
    },
    Symlink {
        target: String,
        attributes: Attributes,
    },
}

/// An entry of a directory.
#[derive(Debug, Clone)]
pub(super) struct NamedLink {
    pub(super) name: Name,
    pub(super) cid: Cid,
    pub(super) tsize: u64,
}

/// A name as it was read.
#[derive(Debug, Clone)]
pub(super) enum Name {
    Safe(SafeName),
    /// It has to get another one.
    Unsafe(Arc<[u8]>),
}

impl Name {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Name::Safe(name) => name.as_bytes(),
            Name::Unsafe(name) => name,
        }
    }
}

/// A taken slot of a shard.
#[derive(Debug)]
pub(super) enum ShardSlot {
    Entry { index: u8, link: NamedLink },
    Shard { index: u8, cid: Cid },
}

/// Keeps what the tree needs of a node, and refuses unsafe names unless they are renamed later.
pub(super) fn summarise(node: Node, renames: bool) -> Result<Summary, DagError> {
    Ok(match node {
        Node::File(file) => Summary::File {
            size: file.size,
            attributes: file.attributes,
        },
        Node::Symlink { target, attributes } => Summary::Symlink { target, attributes },
        Node::Directory {
            entries,
            attributes,
        } => {
            let link = |entry: DirEntry| {
                let DirEntry { name, cid, tsize } = entry;
                NamedLink::parse(&name, cid, tsize, renames)
            };
            let links = entries.into_iter().map(link).collect::<Result<_, _>>()?;
            Summary::Dir { links, attributes }
        }
        Node::Shard { slots, attributes } => {
            let slots = slots
                .into_iter()
                .map(|slot| ShardSlot::parse(slot, renames))
                .collect::<Result<_, _>>()?;
            Summary::Shard { slots, attributes }
        }
    })
}

impl NamedLink {
    fn parse(name: &[u8], cid: Cid, tsize: u64, renames: bool) -> Result<NamedLink, DagError> {
        let name = match SafeName::from_bytes(name) {
            Ok(name) => Name::Safe(name),
            Err(_) if renames => Name::Unsafe(name.into()),
            Err(reason) => return Err(refused_name(name, reason)),
        };
        Ok(NamedLink { name, cid, tsize })
    }
}

impl ShardSlot {
    fn parse(slot: Slot, renames: bool) -> Result<ShardSlot, DagError> {
        let Slot {
            index,
            name,
            cid,
            tsize,
        } = slot;
        match name {
            Some(name) => {
                let link = NamedLink::parse(&name, cid, tsize, renames)?;
                Ok(ShardSlot::Entry { index, link })
            }
            None => Ok(ShardSlot::Shard { index, cid }),
        }
    }
}

impl Summary {
    /// The directory entries that stand in this node.
    pub(super) fn entries(&self) -> impl Iterator<Item = &NamedLink> {
        let (links, slots) = match self {
            Summary::Dir { links, .. } => (&links[..], &[][..]),
            Summary::Shard { slots, .. } => (&[][..], &slots[..]),
            Summary::File { .. } | Summary::Symlink { .. } => (&[][..], &[][..]),
        };
        links
            .iter()
            .chain(slots.iter().filter_map(|slot| match slot {
                ShardSlot::Entry { link, .. } => Some(link),
                ShardSlot::Shard { .. } => None,
            }))
    }

    /// The blocks right below that the tree is made of.
    pub(super) fn links(&self) -> impl Iterator<Item = &Cid> {
        let slots = if let Summary::Shard { slots, .. } = self {
            &slots[..]
        } else {
            &[]
        };
        let shards = slots.iter().filter_map(|slot| match slot {
            ShardSlot::Entry { .. } => None,
            ShardSlot::Shard { cid, .. } => Some(cid),
        });
        self.entries().map(|link| &link.cid).chain(shards)
    }

    /// Bytes of its names and of its target.
    pub(super) fn text_bytes(&self) -> usize {
        let target = if let Summary::Symlink { target, .. } = self {
            target.len()
        } else {
            0
        };
        self.entries()
            .map(|link| link.name.as_bytes().len())
            .fold(target, usize::saturating_add)
    }
}

/// Refuses a tree of too many entries or too much text.
pub(super) fn check_totals(entries: usize, text_bytes: usize) -> Result<(), DagError> {
    if entries > ENTRIES_MAX {
        return Err(DagError::limit("entries in one tree", ENTRIES_MAX));
    }
    if text_bytes > TREE_TEXT_BYTES_MAX {
        return Err(DagError::limit(
            "bytes of names in one tree",
            TREE_TEXT_BYTES_MAX,
        ));
    }
    Ok(())
}

/// Refuses a tree for a name.
pub(super) fn refused_name(name: &[u8], reason: NameError) -> DagError {
    DagError::Name {
        name: escaped_bytes(name).to_string(),
        reason,
    }
}
