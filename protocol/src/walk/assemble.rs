//! Putting a tree together from nodes that were all read.
//!
//! Only here a node is seen in each place that links to it, so this is where limits count what is
//! shared as often as it appears, and where the shards of a directory are held against the names
//! in them.

use std::{collections::BTreeMap, vec};

use super::{
    Entry, EntryKind, Tree,
    summary::{Name, NamedLink, ShardSlot, Summary, check_totals, refused_name},
};
use crate::{
    address::{BLOCK_BYTES_MAX, Cid, Codec},
    name::{NameRules, SafeName, escaped_bytes, landing_names},
    unixfs::{
        Attributes, DagError, ENTRIES_MAX, FILE_BYTES_MAX, HAMT_DIGITS, HashedName, TREE_DEPTH_MAX,
    },
};

/// Lists every entry below a root whose nodes are all here.
pub(super) fn assemble(
    root: &Cid,
    nodes: &BTreeMap<Cid, Summary>,
    renames: bool,
) -> Result<Tree, DagError> {
    let mut assembly = Assembly {
        nodes,
        renames,
        entries: Vec::new(),
        planned: 0,
        text_bytes: 0,
        bytes: 0,
    };
    let root_kind = assembly.kind(root, None)?;
    if matches!(root_kind, EntryKind::Dir { .. }) {
        assembly.descend(root)?;
    }
    Ok(Tree {
        root: root_kind,
        entries: assembly.entries,
    })
}

struct Assembly<'a> {
    nodes: &'a BTreeMap<Cid, Summary>,
    /// Whether names that cannot be kept are changed.
    renames: bool,
    entries: Vec<Entry>,
    /// Entries listed or waiting in an open directory.
    planned: usize,
    text_bytes: usize,
    bytes: u64,
}

/// A directory whose entries are being listed.
struct Open {
    /// Its own index; `None` for the root.
    index: Option<u32>,
    rest: vec::IntoIter<Child>,
}

/// An entry with the name that it lands under.
struct Child {
    name: SafeName,
    renamed_from: Option<Box<str>>,
    cid: Cid,
    tsize: u64,
}

impl<'a> Assembly<'a> {
    /// Lists everything below a root directory, each directory before what is in it.
    fn descend(&mut self, root: &Cid) -> Result<(), DagError> {
        let mut open = vec![Open {
            index: None,
            rest: self.children(root)?.into_iter(),
        }];
        while let Some(dir) = open.last_mut() {
            let Some(link) = dir.rest.next() else {
                open.pop();
                continue;
            };
            let kind = self.kind(&link.cid, Some(link.tsize))?;
            let is_dir = matches!(kind, EntryKind::Dir { .. });
            let index = u32::try_from(self.entries.len())
                .map_err(|_| DagError::limit("entries in one tree", ENTRIES_MAX))?;
            self.entries.push(Entry {
                parent: dir.index,
                name: link.name,
                renamed_from: link.renamed_from,
                kind,
            });
            if is_dir {
                if open.len() >= TREE_DEPTH_MAX {
                    return Err(DagError::limit("levels in one tree", TREE_DEPTH_MAX));
                }
                let rest = self.children(&link.cid)?.into_iter();
                open.push(Open {
                    index: Some(index),
                    rest,
                });
            }
        }
        Ok(())
    }

    /// What a block is, seen as an entry or as the root; `tsize` is what an entry's link claims.
    fn kind(&mut self, cid: &Cid, tsize: Option<u64>) -> Result<EntryKind, DagError> {
        if cid.codec() == Codec::Raw {
            let size = match cid.inline() {
                Some(inline) => Some(inline.len() as u64),
                None => tsize.filter(|tsize| *tsize <= BLOCK_BYTES_MAX as u64),
            };
            return self.file(cid, size, Attributes::default());
        }
        match self.node(cid)? {
            Summary::Dir { attributes, .. } | Summary::Shard { attributes, .. } => {
                Ok(EntryKind::Dir {
                    attributes: *attributes,
                })
            }
            Summary::File { size, attributes } => self.file(cid, Some(*size), *attributes),
            Summary::Symlink { target, attributes } => {
                self.text_bytes = self.text_bytes.saturating_add(target.len());
                check_totals(self.planned, self.text_bytes)?;
                Ok(EntryKind::Symlink {
                    target: target.clone(),
                    attributes: *attributes,
                })
            }
        }
    }

    fn file(
        &mut self,
        cid: &Cid,
        size: Option<u64>,
        attributes: Attributes,
    ) -> Result<EntryKind, DagError> {
        self.bytes = self.bytes.saturating_add(size.unwrap_or_default());
        if self.bytes > FILE_BYTES_MAX {
            return Err(DagError::Limit {
                what: "bytes in one tree",
                max: FILE_BYTES_MAX,
            });
        }
        Ok(EntryKind::File {
            cid: cid.clone(),
            size,
            attributes,
        })
    }

    /// The entries of a directory in either form, by the bytes of their own names.
    fn children(&mut self, dir: &Cid) -> Result<Vec<Child>, DagError> {
        let mut children = match self.node(dir)? {
            Summary::Dir { links, .. } => links.clone(),
            Summary::Shard { slots, .. } => {
                let mut entries = Vec::new();
                self.shard(slots, &mut Vec::new(), &mut entries)?;
                entries
            }
            Summary::File { .. } | Summary::Symlink { .. } => Vec::new(),
        };
        // Those of one name stay in the order of the block.
        children.sort_by(|one, other| one.name.as_bytes().cmp(other.name.as_bytes()));
        let text = children
            .iter()
            .map(|link| link.name.as_bytes().len())
            .fold(0, usize::saturating_add);
        self.planned = self.planned.saturating_add(children.len());
        self.text_bytes = self.text_bytes.saturating_add(text);
        check_totals(self.planned, self.text_bytes)?;
        let twin = children.windows(2).find_map(|pair| match pair {
            [one, other] if one.name.as_bytes() == other.name.as_bytes() => Some(&one.name),
            _ => None,
        });
        if let Some(twin) = twin
            && !self.renames
        {
            let name = escaped_bytes(twin.as_bytes()).to_string();
            return Err(DagError::Duplicate(name));
        }
        match children.iter().map(kept).collect::<Option<_>>() {
            Some(kept) if twin.is_none() => Ok(kept),
            _ => renamed(&children),
        }
    }

    /// Collects the entries below a shard that the digits in `prefix` lead to. The recursion is
    /// [`HAMT_DIGITS`] deep at most.
    ///
    /// Every name must have the digits of its place, and no shard below the root may be empty. So
    /// a shard fits in one place only, and sharing shards cannot make a small DAG a large tree.
    fn shard(
        &self,
        slots: &[ShardSlot],
        prefix: &mut Vec<u8>,
        entries: &mut Vec<NamedLink>,
    ) -> Result<(), DagError> {
        if prefix.len() >= HAMT_DIGITS {
            return Err(DagError::Malformed(
                "a sharded directory is deeper than its hash",
            ));
        }
        for slot in slots {
            match slot {
                ShardSlot::Entry { index, link } => {
                    prefix.push(*index);
                    if !HashedName::of(link.name.as_bytes()).starts_with(prefix) {
                        return Err(DagError::Malformed("a name is in the wrong shard"));
                    }
                    entries.push(link.clone());
                }
                ShardSlot::Shard { index, cid } => {
                    prefix.push(*index);
                    match self.node(cid)? {
                        Summary::Shard { slots, .. } if !slots.is_empty() => {
                            self.shard(slots, prefix, entries)?;
                        }
                        _ => return Err(DagError::Malformed("a slot holds no shard")),
                    }
                }
            }
            prefix.pop();
        }
        Ok(())
    }

    fn node(&self, cid: &Cid) -> Result<&'a Summary, DagError> {
        // Only a sub-shard of codec raw was never wanted; everything else was read.
        self.nodes
            .get(cid)
            .ok_or(DagError::Malformed("a slot holds no shard"))
    }
}

/// An entry under its own name, if that is safe.
fn kept(link: &NamedLink) -> Option<Child> {
    match &link.name {
        Name::Safe(name) => Some(Child {
            name: name.clone(),
            renamed_from: None,
            cid: link.cid.clone(),
            tsize: link.tsize,
        }),
        Name::Unsafe(_) => None,
    }
}

/// The entries of a directory under names that are safe and different.
fn renamed(children: &[NamedLink]) -> Result<Vec<Child>, DagError> {
    let own: Vec<&[u8]> = children.iter().map(|link| link.name.as_bytes()).collect();
    let landing = landing_names(&own, NameRules::default()).map_err(|(index, reason)| {
        let name = own.get(index).copied().unwrap_or_default();
        refused_name(name, reason)
    })?;
    let child = |(name, link): (SafeName, &NamedLink)| {
        let own = link.name.as_bytes();
        let is_own = name.as_bytes() == own;
        Child {
            renamed_from: (!is_own).then(|| escaped_bytes(own).to_string().into()),
            name,
            cid: link.cid.clone(),
            tsize: link.tsize,
        }
    };
    Ok(landing.into_iter().zip(children).map(child).collect())
}
