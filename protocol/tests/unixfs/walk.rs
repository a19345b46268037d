//! What was built is read back: trees in any order of arrival, files leaf by leaf, paths.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shoal_protocol::{
    address::Cid,
    name::SafeName,
    unixfs::{Attributes, Built, DagError, Mtime},
    walk::{EntryKind, PathError, PathStep, PathWalk, Tree, TreeWalk},
};

use crate::store::{Arrival, Store, file_node, inline};

fn name(name: &str) -> SafeName {
    SafeName::parse(name).unwrap()
}

/// Walks in both orders of arrival and lists the tree as text.
fn list(store: &Store, root: &Cid) -> Vec<String> {
    let tree = store.read_tree(root, Arrival::First).unwrap();
    assert_eq!(tree, store.read_tree(root, Arrival::Last).unwrap());
    (0..)
        .zip(&tree.entries)
        .map(|(index, entry)| line(&tree, index, &entry.kind))
        .collect()
}

fn line(tree: &Tree, index: u32, kind: &EntryKind) -> String {
    let path: Vec<&str> = tree.path(index).into_iter().map(SafeName::as_str).collect();
    let path = path.join("/");
    match kind {
        EntryKind::Dir { .. } => format!("{path}/"),
        EntryKind::File { size, .. } => format!("{path} {}", size.unwrap()),
        EntryKind::Symlink { target, .. } => format!("{path} -> {target}"),
    }
}

#[test]
fn unsafe_names_are_changed_where_that_is_asked_for() {
    let mut store = Store::default();
    let leaf = store.leaf(b"x").cid;
    let sharded = store.raw_shard(&[(b"00a/b", &leaf)], &[1]).cid;
    assert!(
        store.read_renamed(&sharded, Arrival::First).is_err(),
        "the wrong shard"
    );
    let hash = murmur3::murmur3_x64_128(&mut &b"a/b"[..], 0).unwrap();
    let slot = hash.to_le_bytes()[7];
    let bitfield = [&[1 << (slot % 8)][..], &vec![0; usize::from(slot / 8)]].concat();
    let sharded = store.raw_shard(&[(format!("{slot:02X}a/b").as_bytes(), &leaf)], &bitfield);
    let names: [&[u8]; 6] = [b"..", b"a%2Fb", b"a/b", b"same", b"same", b"\xff"];
    let below = store.raw_dir(&names.map(|name| (name, &leaf))).cid;
    let root = store
        .raw_dir(&[(b"\n", &below), (b"fine", &leaf), (b"many", &sharded.cid)])
        .cid;
    let tree = store.read_renamed(&root, Arrival::First).unwrap();
    assert_eq!(tree, store.read_renamed(&root, Arrival::Last).unwrap());
    let entries = (0..).zip(&tree.entries);
    let entries = entries.map(|(index, entry)| {
        let path = line(&tree, index, &entry.kind);
        (
            path,
            entry.renamed_from.as_deref().unwrap_or_default().to_owned(),
        )
    });
    let expected = [
        ("%0A/", "\\n"),
        ("%0A/%2E%2E 1", ".."),
        ("%0A/a%2Fb 1", ""),
        ("%0A/a%2Fb (2) 1", "a/b"),
        ("%0A/same 1", ""),
        ("%0A/same (2) 1", "same"),
        ("%0A/%FF 1", "\\xff"),
        ("fine 1", ""),
        ("many/", ""),
        ("many/a%2Fb 1", "a/b"),
    ];
    let expected = expected.map(|(path, from)| (path.to_owned(), from.to_owned()));
    assert_eq!(entries.collect::<Vec<_>>(), expected);
    // What is safe comes out as ever.
    assert_eq!(
        store.read_renamed(&leaf, Arrival::First),
        store.read_tree(&leaf, Arrival::First)
    );
    let long = store.raw_dir(&[(&[b'x'; 256], &leaf)]).cid;
    let refused = store.read_renamed(&long, Arrival::First);
    assert!(matches!(refused, Err(DagError::Name { .. })), "{refused:?}");
}

#[test]
fn lists_parents_first_and_siblings_by_bytes() {
    let mut store = Store::default();
    let none = Attributes::default();
    let small = store.file(b"small", 4096, none);
    let large = store.file(&[7; 100], 10, none);
    let link = store.symlink("../a.txt");
    let sub = store.dir([
        ("z", small.clone()),
        ("link", link),
        ("large", large.clone()),
    ]);
    let empty = store.dir([]);
    let root = store.dir([
        ("a.txt", small),
        ("a", sub.clone()),
        ("again", sub),
        ("Z", empty),
        (
            "inline",
            Built {
                cid: inline(0x55, b"here"),
                tsize: 4,
                size: 4,
            },
        ),
        ("large", large),
    ]);
    let expected = [
        "Z/",
        "a/",
        "a/large 100",
        "a/link -> ../a.txt",
        "a/z 5",
        "a.txt 5",
        "again/",
        "again/large 100",
        "again/link -> ../a.txt",
        "again/z 5",
        "inline 4",
        "large 100",
    ];
    assert_eq!(list(&store, &root.cid), expected);

    let tree = store.read_tree(&root.cid, Arrival::First).unwrap();
    assert_eq!(
        (tree.files(), tree.bytes()),
        (7, 100 + 5 + 5 + 100 + 5 + 4 + 100)
    );
    assert!(matches!(tree.root, EntryKind::Dir { .. }));
}

#[test]
fn sharded_directories_list_like_plain_ones() {
    let mut store = Store::default();
    let leaf = store.leaf(b"x");
    let names: Vec<String> = (0..7000).map(|i| format!("entry number {i}")).collect();
    let sharded = store.dir(names.iter().map(|name| (name.as_str(), leaf.clone())));
    assert!(store.blocks.len() > 500, "this directory has shards");
    let root = store.dir([("dir", sharded)]);

    let mut expected = vec!["dir/".to_owned()];
    expected.extend(names.iter().map(|name| format!("dir/{name} 1")));
    expected.sort();
    assert_eq!(list(&store, &root.cid), expected);
}

#[test]
fn roots_that_are_no_directories() {
    let mut store = Store::default();
    let check = |store: &Store, root: &Built, size: Option<u64>| {
        let tree = store.read_tree(&root.cid, Arrival::First).unwrap();
        assert!(tree.entries.is_empty());
        let attributes = Attributes::default();
        assert_eq!(
            tree.root,
            EntryKind::File {
                cid: root.cid.clone(),
                size,
                attributes
            }
        );
    };
    let leaf = store.leaf(b"leaf");
    check(&store, &leaf, None);
    let large = store.file(&[1; 50], 7, Attributes::default());
    check(&store, &large, Some(50));
    let inline = Built {
        cid: inline(0x55, b"abc"),
        tsize: 3,
        size: 3,
    };
    check(&store, &inline, Some(3));

    let link = store.symlink("x");
    let tree = store.read_tree(&link.cid, Arrival::First).unwrap();
    assert!(matches!(tree.root, EntryKind::Symlink { target, .. } if target == "x"));
}

#[test]
fn attributes_arrive() {
    let mut store = Store::default();
    let attributes = Attributes {
        mode: Some(0o4755),
        mtime: Mtime::new(1_700_000_000, 17),
    };
    let file = store.file(b"one leaf", 100, attributes);
    let root = store.dir([("f", file.clone())]);
    let tree = store.read_tree(&root.cid, Arrival::First).unwrap();
    let expected = EntryKind::File {
        cid: file.cid,
        size: Some(8),
        attributes,
    };
    assert_eq!(tree.entries[0].kind, expected);
}

#[test]
fn totals_are_known_from_the_root_on() {
    let mut store = Store::default();
    let file = store.file(&[3; 5000], 1000, Attributes::default());
    let sub = store.dir([("f", file.clone())]);
    let root = store.dir([("a", sub), ("f", file)]);
    let mut walk = TreeWalk::new(root.cid.clone()).unwrap();
    assert_eq!(
        (walk.totals_hint().entries, walk.totals_hint().bytes),
        (0, None)
    );
    assert_eq!(walk.wants(9), std::slice::from_ref(&root.cid));
    walk.feed(&root.cid, &store.blocks[&root.cid]).unwrap();
    let claimed = root.tsize - store.blocks[&root.cid].len() as u64;
    assert_eq!(
        (walk.totals_hint().entries, walk.totals_hint().bytes),
        (2, Some(claimed))
    );
}

#[test]
fn a_caller_that_errs_is_told() {
    let mut store = Store::default();
    let other = store.dir([("x", inline_leaf())]);
    let root = store.dir([("dir", other.clone())]);
    let bytes = &store.blocks[&root.cid];
    let mut walk = TreeWalk::new(root.cid.clone()).unwrap();
    let unexpected = DagError::Unexpected(other.cid.clone());
    assert_eq!(
        walk.feed(&other.cid, &store.blocks[&other.cid]),
        Err(unexpected)
    );
    walk.feed(&root.cid, bytes).unwrap();
    walk.feed(&root.cid, bytes).unwrap();
    assert!(!walk.is_done());
    assert_eq!(walk.finish(), Err(DagError::Incomplete(1)));
}

fn inline_leaf() -> Built {
    Built {
        cid: inline(0x55, b""),
        tsize: 0,
        size: 0,
    }
}

#[test]
fn files_are_read_in_order() {
    let mut store = Store::default();
    let content: Vec<u8> = (0..5000_u32).flat_map(u32::to_le_bytes).collect();
    for leaf_bytes in [1, 7, 4096, 20_000] {
        let file = store.file(&content, leaf_bytes, Attributes::default());
        assert_eq!(
            store.read_file(&file.cid).unwrap(),
            content,
            "leaves of {leaf_bytes}"
        );
    }
    let empty = store.file(b"", 1, Attributes::default());
    assert_eq!(store.read_file(&empty.cid).unwrap(), b"");

    // Other tools put bytes into nodes and addresses.
    let leaf = store.leaf(b"leaf");
    let here = inline(0x55, b"addr");
    let below = inline(0x70, &file_node(&[(&here, 4)], b"node", 8));
    let root = file_node(&[(&leaf.cid, 4), (&below, 8), (&leaf.cid, 4)], b"root", 20);
    let root = store.node(root);
    assert_eq!(store.read_file(&root.cid).unwrap(), b"rootleafnodeaddrleaf");
    assert_eq!(store.read_file(&here).unwrap(), b"addr");
}

#[test]
fn paths_are_followed_through_both_forms() {
    let mut store = Store::default();
    let leaf = store.leaf(b"x");
    let names: Vec<String> = (0..7000).map(|i| format!("n{i:040}")).collect();
    let sharded = store.dir(names.iter().map(|name| (name.as_str(), leaf.clone())));
    let root = store.dir([("big", sharded.clone()), ("f", leaf.clone())]);

    let find = |path: &[&str]| {
        let mut walk = PathWalk::new(
            root.cid.clone(),
            path.iter().map(|part| name(part)).collect(),
        );
        let mut nodes_read = 0;
        loop {
            match walk.step()? {
                PathStep::Need(cid) => walk.feed(&cid, &store.blocks[&cid])?,
                PathStep::Found(cid) => return Ok((cid, nodes_read)),
            }
            nodes_read += 1;
        }
    };
    assert_eq!(find(&[]), Ok((root.cid.clone(), 0)));
    assert_eq!(find(&["f"]), Ok((leaf.cid.clone(), 1)));
    assert_eq!(find(&["big"]), Ok((sharded.cid, 1)));
    let (found, nodes_read) = find(&["big", &names[4711]]).unwrap();
    assert_eq!(found, leaf.cid);
    assert!(
        nodes_read <= 4,
        "read {nodes_read} of {} nodes",
        store.blocks.len()
    );

    let missing = "missing".to_owned();
    assert_eq!(
        find(&["missing"]),
        Err(PathError::NotFound(missing.clone()))
    );
    assert_eq!(
        find(&["big", "missing"]),
        Err(PathError::NotFound(missing.clone()))
    );
    assert_eq!(
        find(&["f", "missing"]),
        Err(PathError::NotADirectory(missing))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_is_listed_as_it_was_built(
        dirs in prop::collection::btree_map("[a-zA-Z0-9ü.-]{1,9}", names(), 0..5),
    ) {
        let mut store = Store::default();
        let mut expected = Vec::new();
        let mut root = Vec::new();
        for (dir, files) in &dirs {
            prop_assume!(dir != "." && dir != "..");
            expected.push(format!("{dir}/"));
            let mut entries = Vec::new();
            for (file, content) in files {
                prop_assume!(file != "." && file != "..");
                expected.push(format!("{dir}/{file} {}", content.len()));
                entries.push((file.as_str(), store.file(content, 3, Attributes::default())));
            }
            root.push((dir.as_str(), store.dir(entries)));
        }
        let root = store.dir(root);
        prop_assert_eq!(list(&store, &root.cid), expected);
    }
}

fn names() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let content = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::btree_map("[a-zA-Z0-9é_.]{1,12}", content, 0..12)
}
