//! The second step of a fetch: the leaves of one file, in order.

use std::vec;

use crate::{
    address::{Cid, Codec},
    unixfs::{Child, DagError, FILE_DEPTH_MAX, FileNode, Node, parse_node},
};

/// Names the leaves of one file in order, reading its nodes when it comes to them.
///
/// It keeps one node's links for each level: at most [`FILE_DEPTH_MAX`] levels.
#[derive(Debug)]
pub struct FileWalk {
    /// The root, until it was visited.
    root: Option<Cid>,
    /// A node that was asked for, with the length that its link gave.
    needed: Option<(Cid, Option<u64>)>,
    /// Bytes of a node's own that come next.
    inline: Vec<u8>,
    /// What is left of the nodes from the root down to the current one.
    open: Vec<vec::IntoIter<Child>>,
    /// Where the next leaf's bytes go.
    offset: u64,
    /// Length of the file, once it is known.
    size: Option<u64>,
}

/// What comes next in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileStep {
    /// A leaf.
    Leaf {
        /// Where its bytes go in the file.
        offset: u64,
        /// How many bytes it must have; `None` if it is the whole file. With another length, the
        /// file is to be refused with [`DagError::Length`].
        len: Option<u64>,
        /// The leaf, of codec raw and with a digest.
        cid: Cid,
    },
    /// Bytes that stand in a node or an address and need no fetching.
    Inline {
        /// Where they go in the file.
        offset: u64,
        /// The bytes, at least one.
        data: Vec<u8>,
    },
    /// The walk goes on when this node was fed.
    Need(Cid),
    /// The file is complete.
    Done {
        /// Its length in bytes; `None` if it is one leaf, whose length is the file's.
        size: Option<u64>,
    },
}

impl FileWalk {
    /// Starts at the root of a file.
    pub fn new(root: Cid) -> FileWalk {
        FileWalk {
            root: Some(root),
            needed: None,
            inline: Vec::new(),
            open: Vec::new(),
            offset: 0,
            size: None,
        }
    }

    /// Says what comes next. After [`FileStep::Need`] and [`FileStep::Done`] it repeats itself.
    ///
    /// # Errors
    /// [`DagError`] if a node that stands in an address is refused.
    pub fn step(&mut self) -> Result<FileStep, DagError> {
        loop {
            if let Some((cid, _)) = &self.needed {
                return Ok(FileStep::Need(cid.clone()));
            }
            if !self.inline.is_empty() {
                let data = std::mem::take(&mut self.inline);
                let offset = self.advance(data.len() as u64);
                return Ok(FileStep::Inline { offset, data });
            }
            let Some((cid, len)) = self.next_link() else {
                return Ok(FileStep::Done { size: self.size });
            };
            if cid.codec() == Codec::Raw && cid.inline().is_none() {
                let offset = self.advance(len.unwrap_or_default());
                return Ok(FileStep::Leaf { offset, len, cid });
            }
            self.enter(cid, len)?;
        }
    }

    /// Takes the bytes of the node that was asked for, verified against its address.
    ///
    /// # Errors
    /// [`DagError`] if the file is refused, or [`DagError::Unexpected`] if the node is not needed.
    pub fn feed(&mut self, cid: &Cid, bytes: &[u8]) -> Result<(), DagError> {
        match self.needed.take() {
            Some((needed, len)) if needed == *cid => self.read(bytes, len),
            other => {
                self.needed = other;
                Err(DagError::Unexpected(cid.clone()))
            }
        }
    }

    fn next_link(&mut self) -> Option<(Cid, Option<u64>)> {
        if let Some(root) = self.root.take() {
            return Some((root, None));
        }
        while let Some(open) = self.open.last_mut() {
            match open.next() {
                Some(Child { cid, len }) => return Some((cid, Some(len))),
                None => self.open.pop(),
            };
        }
        None
    }

    /// Goes into what is not a leaf to be fetched.
    fn enter(&mut self, cid: Cid, len: Option<u64>) -> Result<(), DagError> {
        let Some(bytes) = cid.inline() else {
            self.needed = Some((cid, len));
            return Ok(());
        };
        match cid.codec() {
            // Its length was held against its link when that was read.
            Codec::Raw => {
                self.size.get_or_insert(bytes.len() as u64);
                self.inline = bytes.to_vec();
                Ok(())
            }
            Codec::DagPb => self.read(bytes, len),
        }
    }

    fn read(&mut self, bytes: &[u8], len: Option<u64>) -> Result<(), DagError> {
        let Node::File(file) = parse_node(bytes)? else {
            return Err(DagError::Malformed("a part of a file is no file"));
        };
        let FileNode {
            size,
            inline,
            children,
            ..
        } = file;
        if let Some(expected) = len
            && expected != size
        {
            return Err(DagError::Length {
                expected,
                actual: size,
            });
        }
        if self.open.len() >= FILE_DEPTH_MAX {
            return Err(DagError::limit("levels in one file", FILE_DEPTH_MAX));
        }
        self.size.get_or_insert(size);
        self.inline = inline;
        self.open.push(children.into_iter());
        Ok(())
    }

    /// Moves on by `len` bytes and returns where they start. Every length was held against the one
    /// above it, so that the sum stays within the root's size.
    fn advance(&mut self, len: u64) -> u64 {
        let start = self.offset;
        self.offset = self.offset.saturating_add(len);
        start
    }
}
