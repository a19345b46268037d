//! Finding one entry of a tree without reading the rest of it.

use std::vec;

use thiserror::Error;

use crate::{
    address::{Cid, Codec},
    name::{SafeName, escaped},
    unixfs::{DagError, HashedName, Node, Slot, parse_node},
};

/// Follows a path of names from a root, reading the directories on the way and of a sharded one
/// only the shards that the name is in.
#[derive(Debug)]
pub struct PathWalk {
    /// The names that are still to be followed.
    rest: vec::IntoIter<SafeName>,
    at: At,
}

/// Where a path walk stands.
#[derive(Debug)]
enum At {
    /// All names that were taken so far led here.
    Entry(Cid),
    /// A name is looked for in a directory or shard; `depth` counts the shards above it.
    Looking {
        name: SafeName,
        hash: HashedName,
        depth: usize,
        node: Cid,
    },
}

/// What a path walk needs or has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// The walk goes on when this node was fed.
    Need(Cid),
    /// The path leads here.
    Found(Cid),
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// No entry of that name, escaped for printing.
    #[error("there is no `{0}` in this share")]
    NotFound(String),
    /// The name, escaped for printing, is looked for in something that is not a directory.
    #[error("`{0}` is looked for in something that is not a directory")]
    NotADirectory(String),
    /// A directory on the way is refused.
    #[error(transparent)]
    Dag(#[from] DagError),
}

impl PathWalk {
    /// Starts at a root.
    pub fn new(root: Cid, path: Vec<SafeName>) -> PathWalk {
        PathWalk {
            rest: path.into_iter(),
            at: At::Entry(root),
        }
    }

    /// Says what comes next; it repeats itself until the node was fed.
    ///
    /// # Errors
    /// [`PathError`] if the path leads nowhere.
    pub fn step(&mut self) -> Result<PathStep, PathError> {
        loop {
            let node = match &self.at {
                At::Looking { node, .. } => node.clone(),
                At::Entry(cid) => {
                    let cid = cid.clone();
                    let Some(name) = self.rest.next() else {
                        return Ok(PathStep::Found(cid));
                    };
                    self.look_for(name, cid)?;
                    continue;
                }
            };
            let Some(bytes) = node.inline() else {
                return Ok(PathStep::Need(node));
            };
            self.read(bytes)?;
        }
    }

    /// Takes the bytes of the node that was asked for, verified against its address.
    ///
    /// # Errors
    /// [`PathError`] if the path leads nowhere, or [`DagError::Unexpected`] in it if the node is
    /// not needed.
    pub fn feed(&mut self, cid: &Cid, bytes: &[u8]) -> Result<(), PathError> {
        match &self.at {
            At::Looking { node, .. } if node == cid => self.read(bytes),
            _ => Err(DagError::Unexpected(cid.clone()).into()),
        }
    }

    fn look_for(&mut self, name: SafeName, node: Cid) -> Result<(), PathError> {
        if node.codec() == Codec::Raw {
            return Err(PathError::NotADirectory(escaped(&name).to_string()));
        }
        let hash = HashedName::of(name.as_bytes());
        self.at = At::Looking {
            name,
            hash,
            depth: 0,
            node,
        };
        Ok(())
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        let At::Looking {
            name, hash, depth, ..
        } = &self.at
        else {
            return Ok(());
        };
        let not_found = || PathError::NotFound(escaped(name).to_string());
        let next = match parse_node(bytes)? {
            Node::Directory { entries, .. } if *depth == 0 => {
                let entry = entries
                    .into_iter()
                    .find(|entry| entry.name == name.as_bytes());
                At::Entry(entry.ok_or_else(not_found)?.cid)
            }
            Node::Shard { slots, .. } => {
                let digit = hash.digit(*depth).ok_or_else(not_found)?;
                let slot = slots.into_iter().find(|slot| slot.index == digit);
                match slot.ok_or_else(not_found)? {
                    Slot {
                        name: Some(other),
                        cid,
                        ..
                    } if other == name.as_bytes() => At::Entry(cid),
                    Slot { name: Some(_), .. } => return Err(not_found()),
                    Slot {
                        name: None, cid, ..
                    } => At::Looking {
                        name: name.clone(),
                        hash: *hash,
                        depth: depth.saturating_add(1),
                        node: cid,
                    },
                }
            }
            _ => return Err(PathError::NotADirectory(escaped(name).to_string())),
        };
        self.at = next;
        Ok(())
    }
}
