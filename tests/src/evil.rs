//! A provider that serves wrong bytes.
//!
//! Every chunk of it has one bit flipped. DAG nodes it serves as they are, so that a fetcher gets
//! as far as the chunks.

use std::{fs, path::Path};

use crate::peer::{Blocks, Peer};

/// A running liar; it ends when dropped.
pub struct Liar {
    /// Its address with its peer id.
    pub address: String,
    peer: Peer,
}

impl Liar {
    /// Starts a liar that offers `file`, whose root is `cid`.
    pub fn start(file: &Path, cid: &str) -> Self {
        let mut blocks = Blocks::default();
        let root = blocks.file(&fs::read(file).expect("the file to lie about"));
        assert_eq!(root.to_string(), cid, "the liar knows the file");
        blocks.spoil();
        let peer = Peer::start(blocks);
        let address = peer.address.clone();
        Self { address, peer }
    }

    /// How many wrong chunks it has sent.
    pub fn served(&self) -> u64 {
        self.peer.sent()
    }
}
