//! Every vector of the published profile, built for both hashes and read back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use shoal_protocol::{
    address::{CHUNK_BYTES, Cid, Digest, HashFn},
    unixfs::{Attributes, Block, Built, DirBuilder, FileBuilder, Node, parse_node},
    walk::{Tree, TreeWalk},
};

const BOTH: [HashFn; 2] = [HashFn::Blake3, HashFn::Sha2_256];

/// The distinct blocks of a DAG: nodes with their bytes, leaves with their length.
#[derive(Default)]
struct Blocks {
    nodes: BTreeMap<Cid, Vec<u8>>,
    leaves: BTreeMap<Cid, u64>,
}

impl Blocks {
    fn keep(&mut self, block: Block) {
        if block.data.is_empty() {
            self.leaves.insert(block.cid, 0);
        } else {
            self.nodes.insert(block.cid, block.data);
        }
    }

    fn bytes(&self) -> u64 {
        let nodes: usize = self.nodes.values().map(Vec::len).sum();
        nodes as u64 + self.leaves.values().sum::<u64>()
    }

    /// Counts blocks once per link that reaches them.
    fn tree_nodes(&self, cid: &Cid) -> u64 {
        let Some(bytes) = self.nodes.get(cid) else {
            return 1;
        };
        let below: u64 = children(&parse_node(bytes).unwrap())
            .map(|c| self.tree_nodes(c))
            .sum();
        below + 1
    }

    fn root_type(&self, cid: &Cid) -> &'static str {
        match self.nodes.get(cid).map(|bytes| parse_node(bytes).unwrap()) {
            None => "raw-leaf",
            Some(Node::File(_)) => "file",
            Some(Node::Directory { .. }) => "directory",
            Some(Node::Shard { .. }) => "hamt-sharded-directory",
            Some(Node::Symlink { .. }) => "symlink",
        }
    }

    /// Reads the tree back.
    fn tree(&self, root: &Cid) -> Tree {
        let mut walk = TreeWalk::new(root.clone()).unwrap();
        while !walk.is_done() {
            for cid in walk.wants(usize::MAX) {
                walk.feed(&cid, &self.nodes[&cid]).unwrap();
            }
        }
        walk.finish().unwrap()
    }

    fn shards(&self) -> usize {
        let is_shard = |bytes: &&Vec<u8>| matches!(parse_node(bytes), Ok(Node::Shard { .. }));
        self.nodes.values().filter(is_shard).count()
    }
}

fn children(node: &Node) -> impl Iterator<Item = &Cid> {
    let cids: Vec<&Cid> = match node {
        Node::File(file) => file.children.iter().map(|child| &child.cid).collect(),
        Node::Directory { entries, .. } => entries.iter().map(|entry| &entry.cid).collect(),
        Node::Shard { slots, .. } => slots.iter().map(|slot| &slot.cid).collect(),
        Node::Symlink { .. } => Vec::new(),
    };
    cids.into_iter()
}

/// One DAG per hash, and the hash of the content that went into them.
struct Dag {
    built: Built,
    blocks: Blocks,
    plain_block_bytes: Option<u64>,
}

/// Builds a file for both hashes in one pass over its content, one chunk in memory at a time.
fn build_file(content: &mut dyn FnMut(&mut [u8]), len: u64, into: &mut [Blocks; 2]) -> [Built; 2] {
    let mut builders = BOTH.map(|hash_fn| FileBuilder::new(hash_fn, Attributes::default()));
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut left = len;
    while left > 0 {
        let chunk_len = left.min(CHUNK_BYTES as u64);
        let chunk = &mut buffer[..usize::try_from(chunk_len).unwrap()];
        content(chunk);
        for (i, builder) in builders.iter_mut().enumerate() {
            let leaf = Cid::raw(Digest::of(BOTH[i], chunk));
            into[i].leaves.insert(leaf.clone(), chunk_len);
            builder.push(leaf, chunk_len, &mut |block| into[i].keep(block));
        }
        left -= chunk_len;
    }
    let mut blocks = into.iter_mut();
    builders.map(|builder| {
        let blocks = blocks.next().unwrap();
        builder.finish(&mut |block| blocks.keep(block))
    })
}

fn seeded(seed: &str) -> blake3::OutputReader {
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof()
}

fn file_case(case: &Value) -> [Dag; 2] {
    let mut source = seeded(text(case, "seed"));
    let mut hasher = blake3::Hasher::new();
    let mut blocks = [Blocks::default(), Blocks::default()];
    let mut content = |chunk: &mut [u8]| {
        source.fill(chunk);
        hasher.update(chunk);
    };
    let built = build_file(&mut content, number(case, "len"), &mut blocks);
    assert_eq!(hasher.finalize().to_string(), text(case, "content_blake3"));
    dags(built, blocks, [None, None])
}

fn dags(built: [Built; 2], blocks: [Blocks; 2], plain: [Option<u64>; 2]) -> [Dag; 2] {
    let mut rest = blocks.into_iter().zip(plain);
    built.map(|built| {
        let (blocks, plain_block_bytes) = rest.next().unwrap();
        Dag {
            built,
            blocks,
            plain_block_bytes,
        }
    })
}

/// A directory of a case, before it is built.
#[derive(Default)]
struct Dir {
    dirs: BTreeMap<String, Dir>,
    files: BTreeMap<String, (Content, u64)>,
}

enum Content {
    Seed(String),
    Text(String),
}

impl Dir {
    fn at(&mut self, path: &str) -> &mut Dir {
        path.split('/')
            .filter(|part| !part.is_empty())
            .fold(self, |dir, part| {
                dir.dirs.entry(part.to_owned()).or_default()
            })
    }

    fn add_entry(&mut self, entry: &Value) {
        if let Some(generator) = entry.get("generator") {
            return self.generate(generator);
        }
        let path = text(entry, "path");
        if entry.get("dir").is_some() {
            self.at(path);
            return;
        }
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let content = Content::Seed(text(entry, "seed").to_owned());
        self.at(dir)
            .files
            .insert(name.to_owned(), (content, number(entry, "len")));
    }

    fn generate(&mut self, generator: &Value) {
        let dir = self.at(text(generator, "dir"));
        let digits = usize::try_from(number(generator, "digits")).unwrap();
        let start = number(generator, "start");
        for i in start..start + number(generator, "count") {
            let (prefix, suffix) = (text(generator, "prefix"), text(generator, "suffix"));
            let name = format!("{prefix}{i:0digits$}{suffix}");
            let content = match text(generator, "content") {
                "own-name" => (Content::Text(name.clone()), name.len() as u64),
                "seeded" => {
                    let seed = format!("{}{name}", text(generator, "seed_prefix"));
                    (Content::Seed(seed), number(generator, "len"))
                }
                other => panic!("unknown content {other}"),
            };
            dir.files.insert(name, content);
        }
    }

    /// Builds what is below first, then this directory.
    fn build(&self, blocks: &mut [Blocks; 2]) -> ([Built; 2], [Option<u64>; 2]) {
        let mut builders = BOTH.map(|hash_fn| DirBuilder::new(hash_fn, Attributes::default()));
        let mut add = |name: &str, built: &[Built; 2]| {
            for (builder, built) in builders.iter_mut().zip(built) {
                builder.add(name, built).unwrap();
            }
        };
        for (name, dir) in &self.dirs {
            add(name, &dir.build(blocks).0);
        }
        for (name, (content, len)) in &self.files {
            let built = match content {
                Content::Seed(seed) => {
                    let mut source = seeded(seed);
                    build_file(&mut |chunk| source.fill(chunk), *len, blocks)
                }
                Content::Text(text) => build_file(
                    &mut |chunk| chunk.copy_from_slice(text.as_bytes()),
                    *len,
                    blocks,
                ),
            };
            add(name, &built);
        }
        let plain = builders
            .each_ref()
            .map(|builder| Some(builder.plain_block_bytes()));
        let mut blocks = blocks.iter_mut();
        let built = builders.map(|builder| {
            let blocks = blocks.next().unwrap();
            builder.finish(&mut |block| blocks.keep(block)).unwrap()
        });
        (built, plain)
    }
}

fn dir_case(case: &Value) -> [Dag; 2] {
    let mut root = Dir::default();
    for entry in case["entries"].as_array().unwrap() {
        root.add_entry(entry);
    }
    let mut blocks = [Blocks::default(), Blocks::default()];
    let (built, plain) = root.build(&mut blocks);
    dags(built, blocks, plain)
}

fn check(case: &Value, hash_fn: HashFn, dag: &Dag) {
    let label = format!("{} with {hash_fn}", text(case, "name"));
    let (built, blocks) = (&dag.built, &dag.blocks);
    let hash_key = if hash_fn == HashFn::Blake3 {
        "blake3"
    } else {
        "sha2_256"
    };
    let root = blocks.nodes.get(&built.cid);

    assert_eq!(
        built.cid.to_string(),
        text(case, &format!("cid_{hash_key}")),
        "{label}"
    );
    if let Some(hex) = case.get("root_block_hex") {
        let bytes: String = root
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(bytes, text(hex, hash_key), "{label}");
    }
    let equal = |key: &str, actual: u64| {
        assert_eq!(actual, number(case, key), "{key} of {label}");
    };
    equal("blocks", (blocks.nodes.len() + blocks.leaves.len()) as u64);
    equal("tree_nodes", blocks.tree_nodes(&built.cid));
    equal("dag_bytes", blocks.bytes());
    equal("cumulative_size", built.tsize);
    match dag.plain_block_bytes {
        None => equal("len", built.size),
        Some(plain) => {
            equal("flat_block_bytes", plain);
            equal("content_bytes", built.size);
            equal("hamt_blocks", blocks.shards() as u64);
            let tree = blocks.tree(&built.cid);
            equal("files", tree.files() as u64);
            equal("content_bytes", tree.bytes());
        }
    }
    if let Some(root) = root {
        equal("root_block_bytes", root.len() as u64);
        equal(
            "root_links",
            children(&parse_node(root).unwrap()).count() as u64,
        );
    }
    assert_eq!(
        blocks.root_type(&built.cid),
        text(case, "root_type"),
        "{label}"
    );
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text {key} in {value}"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {key} in {value}"))
}

#[test]
fn every_vector_for_both_hashes() {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/unixfs.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 24);
    let mut kinds = BTreeSet::new();
    for case in cases {
        kinds.insert(text(case, "kind"));
        let dags = match text(case, "kind") {
            "file" => file_case(case),
            _ => dir_case(case),
        };
        for (hash_fn, dag) in BOTH.into_iter().zip(&dags) {
            check(case, hash_fn, dag);
        }
    }
    assert_eq!(kinds, BTreeSet::from(["dir", "file"]));
}
