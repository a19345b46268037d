//! Two nodes that were never told about each other: found through the DHT, fetched, served on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::symlink, path::Path};

use shoal_tests::{Daemon, assert_same_tree, content, scratch, text, wait_for, write_content};

/// A tree with everything that a tree can hold: hidden and empty things, links, many names, and
/// files around the chunk size.
fn make_tree(root: &Path) {
    for (name, len) in [
        ("empty", 0),
        ("one", 1),
        (".hidden", 10),
        ("deep/er/still/file", 70_000),
        ("chunk", 1 << 20),
        ("chunk-and-one", (1 << 20) + 1),
        ("big", 5 * (1 << 20) + 12_345),
        ("ünïcode – name", 33),
    ] {
        write_content(&root.join(name), name, len);
    }
    for directory in ["empty-directory", "deep/empty-too"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    symlink("big", root.join("link")).unwrap();
    symlink("../chunk", root.join("deep/up")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    // Repeats: the same chunk many times in one file, and the same file twice.
    fs::write(root.join("zeros"), vec![0; 4 << 20]).unwrap();
    write_content(&root.join("twin"), "chunk", 1 << 20);
}

#[test]
fn a_bare_address_is_enough_and_what_was_fetched_is_served_on() {
    let dir = scratch();
    let source = dir.path().join("tree");
    make_tree(&source);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let mut b = Daemon::start(&dir.path().join("b"), &[&a]);
    let c = Daemon::start(&dir.path().join("c"), &[&a]);

    let shared = b.share(&source);
    let cid = shared["cid"].as_str().unwrap().to_owned();
    assert_eq!(shared["files"], 10);
    let got = dir.path().join("c-got/tree");
    fs::create_dir(dir.path().join("c-got")).unwrap();
    let fetched = c.fetch(&cid, &got);
    assert_same_tree(&source, &got);
    assert_eq!(fetched["cid"], shared["cid"]);
    assert_eq!(fetched["size"], shared["size"]);
    assert_eq!(fetched["files"], shared["files"]);
    assert_eq!(fetched["from"][0]["peer"], b.peer_id.as_str());
    let leftovers = fs::read_dir(dir.path().join("c-got")).unwrap().count();
    assert_eq!(leftovers, 1, "no part stays behind");

    b.kill();
    let d = Daemon::start(&dir.path().join("d"), &[&a]);
    fs::create_dir(dir.path().join("d-got")).unwrap();
    let got = dir.path().join("d-got/tree");
    let fetched = d.fetch(&cid, &got);
    assert_same_tree(&source, &got);
    assert_eq!(fetched["from"][0]["peer"], c.peer_id.as_str());
}

#[test]
fn a_link_carries_peers_and_a_path() {
    let dir = scratch();
    let source = dir.path().join("tree");
    make_tree(&source);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let b = Daemon::start(&dir.path().join("b"), &[]);
    let shared = a.run(&["share", text(&source), "--no-announce"]).ok();
    let link = shared["link"].as_str().unwrap();
    assert!(
        link.starts_with("shoal:S") && link.ends_with("/tree"),
        "{link}"
    );

    let into = dir.path().join("got");
    b.run(&["fetch", link, "-o", &format!("{}/", text(&into))])
        .ok();
    assert_same_tree(&source, &into.join("tree"));

    let path = format!("{link}/deep/er");
    let fetched = b
        .run(&["fetch", &path, "-o", &format!("{}/", text(&into))])
        .ok();
    assert_same_tree(&source.join("deep/er"), &into.join("er"));
    assert_eq!(
        fetched["downloaded_bytes"], 0,
        "the bytes are on this disk already"
    );
    assert_eq!(fetched["local_bytes"], 70_000);
}

#[test]
fn a_file_of_one_chunk_has_its_size_as_soon_as_it_is_known() {
    let dir = scratch();
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let b = Daemon::start(&dir.path().join("b"), &[]);
    for size in [0_usize, 1, 1000, 1 << 20, (1 << 20) + 1] {
        let name = format!("f{size}");
        write_content(&dir.path().join(&name), &name, size);
        let shared = a.share(&dir.path().join(&name));
        let link = shared["link"].as_str().unwrap();
        let listed = |node: &Daemon| node.run(&["ls", link]).ok()["size"].clone();
        assert_eq!(listed(&a), size, "{shared}");
        if (1..=1 << 20).contains(&size) {
            // Its root is its only chunk, and does not say how long it is.
            assert!(listed(&b).is_null(), "{shared}");
        }
        let fetched = b.fetch(link, &dir.path().join(format!("got-{name}")));
        assert_eq!(fetched["size"], size, "{fetched}");
        assert_eq!(listed(&b), size, "{shared}");
        let mine = b.run(&["ls"]).ok();
        let mine = mine["entries"].as_array().unwrap().last().unwrap().clone();
        let called = format!("got-{name}");
        assert_eq!(
            (&mine["name"], &mine["size"]),
            (&called.into(), &size.into())
        );
    }
}

#[test]
fn a_folder_of_many_names_is_sharded_and_comes_back() {
    let dir = scratch();
    let source = dir.path().join("many");
    fs::create_dir(&source).unwrap();
    for n in 0..7000 {
        fs::write(
            source.join(format!("file-with-a-name-{n:05}")),
            n.to_string(),
        )
        .unwrap();
    }
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let b = Daemon::start(&dir.path().join("b"), &[&a]);
    let shared = a.share(&source);
    assert_eq!(shared["files"], 7000);
    let got = dir.path().join("got");
    b.fetch(shared["cid"].as_str().unwrap(), &got);
    assert_same_tree(&source, &got);
}

#[test]
fn both_hashes_and_both_chunkers_are_fetched() {
    let dir = scratch();
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let b = Daemon::start(&dir.path().join("b"), &[&a]);
    for (name, options) in [
        ("sha2", ["--hash", "sha2-256"].as_slice()),
        ("cdc", ["--chunker", "cdc"].as_slice()),
        ("copy", ["--copy"].as_slice()),
        ("kept", ["--preserve", "mode,mtime"].as_slice()),
    ] {
        let source = dir.path().join(name);
        write_content(&source, name, 3_333_333);
        let mut args = vec!["share", text(&source)];
        args.extend(options);
        let shared = a.run(&args).ok();
        if name == "copy" {
            fs::remove_file(&source).unwrap();
        }
        let got = dir.path().join(format!("got-{name}"));
        b.fetch(shared["cid"].as_str().unwrap(), &got);
        assert_eq!(fs::read(&got).unwrap(), content(name, 3_333_333), "{name}");
    }
}

#[test]
fn find_names_the_providers() {
    let dir = scratch();
    let source = dir.path().join("file");
    write_content(&source, "find", 100_000);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let b = Daemon::start(&dir.path().join("b"), &[&a]);
    let c = Daemon::start(&dir.path().join("c"), &[&a]);
    let cid = b.share(&source)["cid"].as_str().unwrap().to_owned();
    let found = c.run(&["find", &cid]).ok();
    assert_eq!(found["providers"][0]["peer"], b.peer_id.as_str());
    assert_eq!(found["providers"][0]["complete"], true);

    b.run(&["unshare", &cid]).ok();
    assert!(source.exists(), "the user's file stays");
    let gone = c.run(&["find", &cid, "--timeout", "2s"]);
    assert!(
        gone.code == Some(3) || gone.json["providers"][0]["complete"] != true,
        "{gone:?}"
    );
    let peers = wait_for("c sees a", || {
        let peers = c.run(&["peers"]).ok();
        peers["peers"]
            .as_array()
            .is_some_and(|it| it.len() >= 2)
            .then_some(peers)
    });
    assert!(peers.to_string().contains(&a.peer_id), "{peers}");
}
