//! DAGs that are refused, whole and before any content is asked for.

use proptest::prelude::*;
use shoal_protocol::{
    address::{AddressError, BLOCK_BYTES_MAX, Cid},
    name::NameError,
    unixfs::{
        Attributes, DagError, ENTRIES_MAX, FILE_BYTES_MAX, FILE_DEPTH_MAX, FILE_LINKS_MAX,
        LINKS_PER_NODE_MAX, TARGET_BYTES_MAX, TREE_DEPTH_MAX, parse_node,
    },
    walk::{FileStep, FileWalk, TREE_TEXT_BYTES_MAX, TreeWalk},
};

use crate::store::{Arrival, Store, bytes, file_node, inline, link, node, number};

fn limit(what: &'static str, max: usize) -> DagError {
    DagError::Limit {
        what,
        max: max as u64,
    }
}

/// Both orders of arrival refuse alike.
fn check_tree(store: &Store, root: &Cid, expected: &DagError) {
    for arrival in [Arrival::First, Arrival::Last] {
        assert_eq!(store.read_tree(root, arrival).as_ref(), Err(expected));
    }
}

#[test]
fn names() {
    let check = |name: &[u8], escaped: &str, reason: NameError| {
        let mut store = Store::default();
        let leaf = store.leaf(b"x").cid;
        let expected = DagError::Name {
            name: escaped.into(),
            reason,
        };
        let plain = store.raw_dir(&[(b"good", &leaf), (name, &leaf)]);
        let below = store.raw_dir(&[(b"sub", &plain.cid)]);
        check_tree(&store, &plain.cid, &expected);
        check_tree(&store, &below.cid, &expected);
        if !name.is_empty() {
            let shard = store.raw_shard(&[(&[b"00", name].concat(), &leaf)], &[1]);
            check_tree(&store, &shard.cid, &expected);
        }
    };
    check(b"", "", NameError::Empty);
    check(b"..", "..", NameError::Dots);
    check(b"a/../b", "a/../b", NameError::Slash);
    check(b"/etc/passwd", "/etc/passwd", NameError::Slash);
    check(b"nul\0", "nul\\u{0}", NameError::Nul);
    check(b"\x1b[2J", "\\u{1b}[2J", NameError::Control(0x1b));
    check(
        "gpj\u{202e}exe".as_bytes(),
        "gpj\\u{202e}exe",
        NameError::Bidi(0x202e),
    );
    check(b"\xff", "\\xff", NameError::NotUtf8);
    check(&[b'x'; 256], &"x".repeat(256), NameError::TooLong(256));
}

#[test]
fn two_entries_of_one_name() {
    let mut store = Store::default();
    let leaf = store.leaf(b"x").cid;
    let root = store.raw_dir(&[(b"b", &leaf), (b"a", &leaf), (b"b", &leaf)]);
    check_tree(&store, &root.cid, &DagError::Duplicate("b".into()));
}

#[test]
fn what_cannot_be_verified() {
    let mut store = Store::default();
    let sha3 = [&[1, 0x55, 0x16, 32][..], &[0; 32]].concat();
    let root = store.node(node(&[link(&sha3, b"x")], &number(1, 1)));
    let unsupported = AddressError::UnsupportedHash {
        name: "sha3-256",
        code: 0x16,
    };
    check_tree(&store, &root.cid, &DagError::Address(unsupported));
}

#[test]
fn trees_that_are_too_deep() {
    let mut store = Store::default();
    let mut dir = store.dir([]);
    for _ in 1..TREE_DEPTH_MAX {
        dir = store.dir([("d", dir)]);
    }
    let tree = store.read_tree(&dir.cid, Arrival::First).unwrap();
    assert_eq!(tree.entries.len(), TREE_DEPTH_MAX - 1);
    let mut deeper = store.dir([("d", dir)]);
    let expected = limit("levels in one tree", TREE_DEPTH_MAX);
    check_tree(&store, &deeper.cid, &expected);

    // A chain without end is not read to its end.
    let bottom = deeper.cid.clone();
    for _ in 0..8 * TREE_DEPTH_MAX {
        deeper = store.dir([("d", deeper)]);
    }
    store.blocks.remove(&bottom);
    check_tree(&store, &deeper.cid, &expected);
}

/// A few small blocks that would be 10^12 entries, or 10^6 with long names or targets.
#[test]
fn shared_directories_that_multiply() {
    let check = |bottom: &str, name_bytes: usize, levels: usize, expected: &DagError| {
        let mut store = Store::default();
        let mut dir = store.symlink(bottom);
        let names: Vec<String> = (0..700).map(|i| format!("{i:0name_bytes$}")).collect();
        for _ in 0..levels {
            dir = store.dir(names.iter().map(|name| (name.as_str(), dir.clone())));
        }
        check_tree(&store, &dir.cid, expected);
    };
    check("x", 3, 4, &limit("entries in one tree", ENTRIES_MAX));
    check(
        "x",
        255,
        2,
        &limit("bytes of names in one tree", TREE_TEXT_BYTES_MAX),
    );
    check(
        &"x".repeat(255),
        3,
        2,
        &limit("bytes of names in one tree", TREE_TEXT_BYTES_MAX),
    );
}

/// Refused as soon as the directories that were read hold too much, not at the end.
#[test]
fn too_many_entries_and_too_much_text() {
    let check = |per_dir: usize, padding: usize, dirs: usize, expected: &DagError| {
        let mut store = Store::default();
        let leaf = inline(0x55, b"");
        let mut root = Vec::new();
        for dir in 0..dirs {
            let names: Vec<_> = (0..per_dir)
                .map(|i| format!("{dir:02}{i:05}{}", "x".repeat(padding)))
                .collect();
            let links: Vec<_> = names.iter().map(|name| (name.as_bytes(), &leaf)).collect();
            root.push((format!("{dir}"), store.raw_dir(&links)));
        }
        // The last one is never sent.
        let unsent = store.raw_dir(&[(b"unsent", &leaf)]);
        root.push(("last".into(), unsent));
        let root = store.dir(
            root.iter()
                .map(|(name, built)| (name.as_str(), built.clone())),
        );
        assert_eq!(
            store.read_tree(&root.cid, Arrival::First).as_ref(),
            Err(expected)
        );
    };
    check(60_000, 0, 17, &limit("entries in one tree", ENTRIES_MAX));
    check(
        7500,
        240,
        36,
        &limit("bytes of names in one tree", TREE_TEXT_BYTES_MAX),
    );
}

#[test]
fn shards() {
    let mut store = Store::default();
    let leaf = store.leaf(b"x").cid;
    let malformed = |what| DagError::Malformed(what);
    // "hello" has the digits cb d8 …
    let right = store.raw_shard(&[(b"CBhello", &leaf)], &bit(0xcb));
    assert_eq!(
        store
            .read_tree(&right.cid, Arrival::First)
            .unwrap()
            .entries
            .len(),
        1
    );
    let below = store.raw_shard(&[(b"D8hello", &leaf)], &bit(0xd8));
    let deep = store.raw_shard(&[(b"CB", &below.cid)], &bit(0xcb));
    assert_eq!(
        store
            .read_tree(&deep.cid, Arrival::First)
            .unwrap()
            .entries
            .len(),
        1
    );

    let wrong = malformed("a name is in the wrong shard");
    let here = store.raw_shard(&[(b"CAhello", &leaf)], &bit(0xca));
    check_tree(&store, &here.cid, &wrong);
    let above = store.raw_shard(&[(b"CA", &below.cid)], &bit(0xca));
    check_tree(&store, &above.cid, &wrong);
    let as_dir = store.dir([("sub", below)]);
    check_tree(&store, &as_dir.cid, &wrong);

    let no_shard = malformed("a slot holds no shard");
    let raw = store.raw_shard(&[(b"CB", &leaf)], &bit(0xcb));
    check_tree(&store, &raw.cid, &no_shard);
    let dir = store.dir([]).cid;
    let plain = store.raw_shard(&[(b"CB", &dir)], &bit(0xcb));
    check_tree(&store, &plain.cid, &no_shard);
    let empty = store.raw_shard(&[], &[]);
    assert_eq!(
        store
            .read_tree(&empty.cid, Arrival::First)
            .unwrap()
            .entries
            .len(),
        0
    );
    let around = store.raw_shard(&[(b"CB", &empty.cid)], &bit(0xcb));
    check_tree(&store, &around.cid, &no_shard);
}

/// The bitfield with one bit.
fn bit(slot: u8) -> Vec<u8> {
    let mut field = vec![1 << (slot % 8)];
    field.resize(usize::from(slot / 8) + 1, 0);
    field
}

/// A few small blocks that would be 256^8 shards: refused on the first way down.
#[test]
fn shared_shards_that_multiply() {
    let check = |levels: usize, bottom: Option<&[u8]>, expected| {
        let mut store = Store::default();
        let leaf = store.leaf(b"x").cid;
        let mut shard = match bottom {
            Some(name) => store.raw_shard(&[(name, &leaf)], &[1]).cid,
            None => store.raw_shard(&[], &[]).cid,
        };
        for _ in 1..levels {
            let names: Vec<_> = (0..=255).map(|slot| format!("{slot:02X}")).collect();
            let links: Vec<_> = names.iter().map(|name| (name.as_bytes(), &shard)).collect();
            shard = store.raw_shard(&links, &[0xff; 32]).cid;
        }
        check_tree(&store, &shard, &DagError::Malformed(expected));
    };
    check(8, Some(b"00x"), "a name is in the wrong shard");
    check(8, None, "a slot holds no shard");
    check(
        9,
        Some(b"00x"),
        "a sharded directory is deeper than its hash",
    );
}

fn check_node(bytes: &[u8], expected: DagError) {
    assert_eq!(parse_node(bytes), Err(expected));
}

#[test]
fn file_nodes() {
    let mut store = Store::default();
    let leaf = store.leaf(b"x").cid;
    let check = |children: &[(&Cid, u64)], inline: &[u8], filesize: u64, expected| {
        check_node(&file_node(children, inline, filesize), expected);
    };
    let sum = DagError::Malformed("a file's size is not the sum of its parts");
    check(&[(&leaf, 1)], b"", 2, sum.clone());
    check(&[(&leaf, 1)], b"own", 1, sum);
    check(
        &[(&leaf, 0)],
        b"",
        0,
        DagError::Malformed("a part of a file has no bytes"),
    );
    let over = BLOCK_BYTES_MAX as u64 + 1;
    check(
        &[(&leaf, over)],
        b"",
        over,
        limit("bytes in one leaf", BLOCK_BYTES_MAX),
    );
    let four = inline(0x55, b"four");
    check(
        &[(&four, 5)],
        b"",
        5,
        DagError::Length {
            expected: 5,
            actual: 4,
        },
    );
    let many = vec![(&four, 4); FILE_LINKS_MAX + 1];
    check(
        &many,
        b"",
        0,
        limit("links in one node of a file", FILE_LINKS_MAX),
    );

    let dag = store.file(&[0; 9], 2, Attributes::default()).cid;
    let too_large = || DagError::Limit {
        what: "bytes in one file",
        max: FILE_BYTES_MAX,
    };
    check(
        &[(&dag, 1 << 62), (&dag, 1 << 62)],
        b"",
        1 << 63,
        too_large(),
    );
    check(
        &[(&dag, u64::MAX), (&dag, u64::MAX)],
        b"",
        u64::MAX - 1,
        too_large(),
    );

    let no_sizes = node(
        &[link(&leaf.to_bytes(), b"")],
        &[number(1, 2), number(3, 0)].concat(),
    );
    check_node(
        &no_sizes,
        DagError::Malformed("a file does not give a size for each link"),
    );
}

#[test]
fn nodes_that_are_too_large() {
    let many = vec![link(&inline(0x55, b"").to_bytes(), b""); LINKS_PER_NODE_MAX + 1];
    let many = node(&many, &number(1, 1));
    check_node(&many, limit("links in one node", LINKS_PER_NODE_MAX));
    let sizes = [number(1, 2), bytes(4, &vec![1; LINKS_PER_NODE_MAX + 1])].concat();
    check_node(
        &node(&[], &sizes),
        limit("block sizes in one node", LINKS_PER_NODE_MAX),
    );
    check_node(
        &vec![0; BLOCK_BYTES_MAX + 1],
        limit("bytes in one node", BLOCK_BYTES_MAX),
    );
}

#[test]
fn symlinks() {
    let check = |target: &[u8], expected| {
        check_node(
            &node(&[], &[number(1, 4), bytes(2, target)].concat()),
            expected,
        );
    };
    let no_target = DagError::Malformed("a symlink's target is empty or contains NUL");
    check(b"", no_target.clone());
    check(b"a\0b", no_target);
    check(
        b"\xff",
        DagError::Unsupported("a symlink whose target is not UTF-8"),
    );
    let long = [b'x'; TARGET_BYTES_MAX + 1];
    check(
        &long,
        limit("bytes in a symlink's target", TARGET_BYTES_MAX),
    );
}

#[test]
fn shard_nodes() {
    let shard = |names: &[&[u8]], field: &[u8], hash_type: u64, fanout: u64| {
        let links: Vec<_> = names
            .iter()
            .map(|name| link(&inline(0x55, b"").to_bytes(), name))
            .collect();
        let data = [
            number(1, 5),
            bytes(2, field),
            number(5, hash_type),
            number(6, fanout),
        ];
        node(&links, &data.concat())
    };
    let other = DagError::Unsupported("a sharded directory with another hash than murmur3");
    check_node(&shard(&[], &[], 0x12, 256), other);
    let other = DagError::Unsupported("a sharded directory with another fan-out than 256");
    check_node(&shard(&[], &[], 0x22, 16), other);

    let check = |names: &[&[u8]], field: &[u8], expected: &'static str| {
        check_node(
            &shard(names, field, 0x22, 256),
            DagError::Malformed(expected),
        );
    };
    for name in [&b""[..], b"0", b"0ax", b"0gx", b"+1x"] {
        check(
            &[name],
            &[1],
            "a link of a shard does not start with a slot",
        );
    }
    check(
        &[b"01x", b"00y"],
        &[3],
        "the slots of a shard are not in order",
    );
    check(
        &[b"01x", b"01y"],
        &[2],
        "the slots of a shard are not in order",
    );
    check(&[b"01x"], &[3], "the bits of a shard are not its links");
    check(&[b"01x"], &[], "the bits of a shard are not its links");
    check(&[], &[1; 4096], "the bits of a shard are not its links");
    assert!(parse_node(&shard(&[b"01x"], &[0, 2], 0x22, 256)).is_ok());
}

#[test]
fn files_whose_parts_do_not_fit() {
    let mut store = Store::default();
    let part = store.file(&[0; 9], 2, Attributes::default()).cid;
    let check = |store: &Store, root: &Cid, expected: DagError| {
        assert_eq!(store.read_file(root), Err(expected));
    };
    let short = store.raw_file(&[(&part, 10)], 10).cid;
    check(
        &store,
        &short,
        DagError::Length {
            expected: 10,
            actual: 9,
        },
    );
    let dir = store.dir([]).cid;
    let root = store.raw_file(&[(&dir, 4)], 4).cid;
    check(
        &store,
        &root,
        DagError::Malformed("a part of a file is no file"),
    );

    let leaf = store.leaf(b"x").cid;
    let mut file = store.raw_file(&[(&leaf, 1)], 1).cid;
    for _ in 1..FILE_DEPTH_MAX {
        file = store.raw_file(&[(&file, 1)], 1).cid;
    }
    assert_eq!(store.read_file(&file).unwrap(), b"x");
    let too_deep = store.raw_file(&[(&file, 1)], 1).cid;
    check(
        &store,
        &too_deep,
        limit("levels in one file", FILE_DEPTH_MAX),
    );
}

#[test]
fn a_node_that_a_file_does_not_need() {
    let mut store = Store::default();
    let file = store.file(&[0; 9], 2, Attributes::default()).cid;
    let other = store.leaf(b"x").cid;
    let mut walk = FileWalk::new(file.clone());
    assert_eq!(walk.step(), Ok(FileStep::Need(file.clone())));
    assert_eq!(walk.feed(&other, b"x"), Err(DagError::Unexpected(other)));
    assert_eq!(walk.step(), Ok(FileStep::Need(file)));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_node(&bytes);
    }

    /// Damage to a good node is refused or reads as something else; it never panics.
    #[test]
    fn no_damage_panics(
        kind in 0_usize..4,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut store = Store::default();
        let leaf = store.leaf(b"x");
        let good = match kind {
            0 => store.file(&[0; 9], 2, Attributes { mode: Some(1), mtime: None }).cid,
            1 => store.dir([("a", leaf.clone()), ("b", leaf)]).cid,
            2 => store.raw_shard(&[(b"CBhello", &leaf.cid)], &bit(0xcb)).cid,
            _ => store.symlink("target").cid,
        };
        let mut damaged = store.blocks[&good].clone();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let root = store.node(damaged).cid;
        let mut walk = TreeWalk::new(root.clone()).unwrap();
        if walk.feed(&root, &store.blocks[&root]).is_ok() && walk.is_done() {
            let _ = walk.finish();
        }
    }
}
