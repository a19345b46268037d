//! The replicas of a home, without a network: what peers offer and ask is made up here.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

pub(crate) mod crash;
mod damage;
mod disk;
mod held;
mod secrets;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use shoal_protocol::address::HashFn;
use shoal_protocol::replicate::helper::{Accepted, Around, Declined, Offered};
use shoal_protocol::replicate::slabs::EXTENT_ALIGN;
use shoal_protocol::replicate::{
    Asker, CreditConfig, NearTable, Origin, PeerKey, Position, Salt, Shape,
};

use super::*;
use crate::Cut;
use shoal_protocol::address::Digest;

const KIB: usize = 1 << 10;
const NOW: Duration = Duration::from_hours(24 * 365 * 50);

/// Leaves of the roots of tests: a run of them counts as its bytes.
const LEAF_BYTES: usize = 64 * KIB;
const RUN_BYTES: u64 = 4 * LEAF_BYTES as u64;

/// A root whose leaves and nodes are noise; nobody here looks whether the nodes are some.
struct Root {
    nodes: Vec<Block>,
    leaves: Vec<Block>,
    leaf_bytes: usize,
}

type Block = (Digest, Vec<u8>);

impl Root {
    fn new(name: &str, leaves: usize) -> Self {
        Self::of(name, leaves, LEAF_BYTES)
    }

    fn of(name: &str, leaves: usize, leaf_bytes: usize) -> Self {
        let block = |what: &str, n: usize, bytes| {
            let mut content = vec![0; bytes];
            let mut hasher = blake3::Hasher::new();
            hasher.update(format!("{name} {what} {n}").as_bytes());
            hasher.finalize_xof().fill(&mut content);
            (Digest::of(HashFn::Blake3, &content), content)
        };
        Self {
            nodes: (0..3).map(|n| block("node", n, 900 + n)).collect(),
            leaves: (0..leaves).map(|n| block("leaf", n, leaf_bytes)).collect(),
            leaf_bytes,
        }
    }

    fn digest(&self) -> Digest {
        self.nodes[0].0
    }

    fn key(&self) -> Key {
        Key::of(&self.digest())
    }

    fn shape(&self) -> Shape {
        Shape {
            leaves: self.leaves.len() as u64,
            size: (self.leaves.len() * self.leaf_bytes) as u64,
        }
    }

    fn run(&self, run: u64) -> Vec<(Digest, &[u8])> {
        let leaves = self.shape().leaves_of(run);
        let leaves = &self.leaves[leaves.start as usize..leaves.end as usize];
        borrowed(leaves)
    }
}

fn borrowed(blocks: &[Block]) -> Vec<(Digest, &[u8])> {
    let blocks = blocks.iter();
    blocks
        .map(|(digest, bytes)| (*digest, bytes.as_slice()))
        .collect()
}

fn config(quota: u64) -> ReplicaConfig {
    ReplicaConfig {
        helper: HelperConfig {
            quota,
            pulls_max: 1000,
            pulls_offered_max: 1000,
            roots_hourly: 1000,
            credit: CreditConfig {
                hourly: 1 << 40,
                start: 1 << 40,
                most: 1 << 40,
                ..CreditConfig::default()
            },
            ..HelperConfig::default()
        },
        floor: Some(0),
    }
}

/// The replicas of a home, and what they told.
struct Kit {
    replicas: Replicas,
    told: Arc<Mutex<Vec<ReplicaEvent>>>,
}

impl Kit {
    fn open(store: &Store, quota: u64) -> Self {
        Self::configured(store, config(quota))
    }

    fn configured(store: &Store, config: ReplicaConfig) -> Self {
        let told = Arc::<Mutex<Vec<_>>>::default();
        let tell = Arc::clone(&told);
        let on_event = move |event| tell.lock().push(event);
        Self {
            replicas: Replicas::open(store, config, Salt([7; 32]), NOW, on_event).unwrap(),
            told,
        }
    }

    /// Has a peer of its own offer a root; the runs that are accepted.
    fn offer(&self, root: &Root) -> Vec<u64> {
        let accepted = self.try_offer(root).unwrap();
        self.replicas.begin_pull(&root.digest(), Cause::Near, NOW);
        accepted.runs
    }

    fn try_offer(&self, root: &Root) -> Result<Accepted, Declined> {
        let bytes = root.digest().key();
        let peer = u32::from_be_bytes(*bytes.last_chunk().unwrap());
        let offer = Offered {
            key: root.key(),
            peer: PeerKey(peer),
            by: Asker {
                position: Position::of_peer(&bytes),
                origin: Origin::Elsewhere(IpAddr::V4(Ipv4Addr::from(peer))),
            },
            is_near: true,
            stays: false,
            shape: root.shape(),
            ranges: LeafRanges::from_sorted(0..root.shape().leaves),
            asked: 9,
        };
        let table = NearTable::new(Position::of_peer(b"self"));
        let around = Around {
            table: &table,
            is_lan: false,
        };
        self.replicas
            .decide(|helper| helper.offered(&offer, around, NOW))
    }

    fn nodes(&self, root: &Root) -> Result<(), AdmitError> {
        let nodes = borrowed(&root.nodes);
        self.replicas.admit_nodes(&root.digest(), &nodes, NOW)
    }

    fn run(&self, root: &Root, run: u64) -> Result<(), AdmitError> {
        let leaves = root.run(run);
        self.replicas.admit_run(&root.digest(), run, &leaves, NOW)
    }

    /// Pulls all of a root.
    fn pull(&self, root: &Root) {
        let runs = self.offer(root);
        self.nodes(root).unwrap();
        for run in runs {
            self.run(root, run).unwrap();
        }
        self.replicas.end_pull(&root.digest(), NOW).unwrap();
    }

    /// So many others read a run.
    fn readers(&self, root: &Root, run: u64, readers: u32) {
        for n in 0..readers {
            let by = Asker {
                position: Position::of_peer(&n.to_le_bytes()),
                origin: Origin::Lan,
            };
            let by = self.replicas.decide(|helper| helper.mark(&by));
            self.replicas.served(root.key(), run, RUN_BYTES, by, NOW);
        }
    }

    fn read(&self, root: &Root, block: &Block) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let read = self
            .replicas
            .read(&root.digest(), &block.0, Cut::WHOLE, &mut out);
        match read {
            Ok(_) => Some(out),
            Err(crate::ReadError::NotHere) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The runs that are held of a root. What is held can be read, and nothing else can.
    fn runs(&self, root: &Root) -> Vec<u64> {
        let held = self.replicas.held(root.key());
        let is_held = |leaf| held.as_ref().is_some_and(|it| it.contains(leaf));
        for (leaf, block) in (0..).zip(&root.leaves) {
            let found = self.read(root, block);
            assert_eq!(found.is_some(), is_held(leaf), "leaf {leaf}");
            assert!(found.is_none_or(|it| it == block.1), "leaf {leaf}");
        }
        let runs = 0..root.shape().runs();
        runs.filter(|run| is_held(root.shape().leaves_of(*run).start))
            .collect()
    }

    fn told(&self) -> Vec<ReplicaEvent> {
        std::mem::take(&mut self.told.lock())
    }

    /// The slabs take no more of the disk than what is held.
    fn check_disk(&self) {
        let list = self.replicas.list();
        let bytes: u64 = list.iter().map(|it| it.bytes).sum();
        // Each run is a piece, and the nodes of a root are one.
        let pieces: u64 = list.iter().map(|it| it.runs + 1).sum();
        let most = bytes + pieces * u64::from(EXTENT_ALIGN);
        let on_disk = on_disk(self.replicas.folder());
        assert!(on_disk <= most, "{on_disk} bytes on disk for {most}");
        let stats = self.replicas.stats();
        assert!(stats.used <= stats.quota, "{stats:?}");
        if list.is_empty() {
            assert_eq!(fs::read_dir(self.replicas.folder()).unwrap().count(), 0);
        }
    }
}

/// The bytes that the files of a folder take of the disk.
fn on_disk(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().blocks() * 512)
        .sum()
}

fn keys(roots: &[&Root]) -> BTreeSet<Key> {
    roots.iter().map(|root| root.key()).collect()
}
