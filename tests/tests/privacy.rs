//! What is private stays private: a share that is not announced, through whoever fetched it, and a
//! fetch that is not served, in every state.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::Path,
    process::{Child, Stdio},
};

use shoal_protocol::{
    address::{Cid, Digest, HashFn},
    exchange::Availability,
    link::Link,
};
use shoal_tests::{
    Daemon,
    asker::Asker,
    command, content,
    peer::{Blocks, Peer},
    scratch, text, wait_for, write_content,
};

const MIB: usize = 1 << 20;

fn cid(shared: &serde_json::Value) -> &str {
    shared["cid"].as_str().unwrap()
}

#[test]
fn what_is_not_announced_is_found_through_nobody_who_fetched_it() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    let hub = Daemon::start(&at("hub"), &[]);
    let sharer = Daemon::start(&at("sharer"), &[&hub]);
    let mut fetchers: Vec<Daemon> = (0..3)
        .map(|n| Daemon::start(&at(&format!("fetcher{n}")), &[&hub]))
        .collect();
    write_content(&at("private"), "private", 3 * MIB);
    let private = sharer
        .run(&["share", text(&at("private")), "--no-announce"])
        .ok();
    let link = private["link"].as_str().unwrap();

    // By the link, which says so; by the bare address, from the sharer and from one who fetched it.
    fetchers[0].fetch(link, &at("got0"));
    let from_sharer = sharer.address.as_str();
    let from_fetcher = fetchers[0].address.clone();
    for (n, from) in [(1, from_sharer), (2, from_fetcher.as_str())] {
        let output = at(&format!("got{n}"));
        let args = ["fetch", cid(&private), "--peer", from, "-o", text(&output)];
        fetchers[n].run(&args).ok();
    }
    // A path of it, too, and once more to another place.
    let again = at("again");
    let args = [
        "fetch",
        cid(&private),
        "--peer",
        from_sharer,
        "-o",
        text(&again),
    ];
    fetchers[1].run(&args).ok();
    let check = |fetchers: &[Daemon], round: &str| {
        let stranger = Daemon::start(&at(&format!("stranger-{round}")), &[&hub]);
        for (n, fetcher) in fetchers.iter().enumerate() {
            // What this node announces after it is found: so there was time for the other.
            let name = format!("public-{round}-{n}");
            write_content(&at(&name), &name, 1000);
            let public = fetcher.share(&at(&name));
            wait_for("a public share is found", || {
                let found = stranger.run(&["find", cid(&public), "--timeout", "5s"]);
                (found.code == Some(0)).then_some(())
            });
            let listed = fetcher.run(&["ls"]).ok();
            let listed = listed["entries"].as_array().unwrap().clone();
            let copies = listed.iter().filter(|it| cid(it) == cid(&private));
            assert!(copies.clone().count() > 0, "{listed:?}");
            assert!(
                copies.into_iter().all(|it| it["announce"] == false),
                "{listed:?}"
            );
        }
        let found = stranger.run(&["find", cid(&private), "--timeout", "3s"]);
        assert_eq!(found.code, Some(3), "{round}: {found:?}");
        // Each of them passes the mark on.
        let root: Cid = cid(&private).parse().unwrap();
        for fetcher in fetchers {
            let asked = Asker::start().ask(&fetcher.address, &root, &[]);
            assert!(asked.marks.no_announce, "{asked:?}");
        }
    };
    check(&fetchers, "running");
    fetchers = fetchers.into_iter().map(Daemon::restart).collect();
    check(&fetchers, "restarted");
}

#[test]
fn what_is_not_to_be_replicated_says_so_wherever_it_came_by() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    let sharer = Daemon::start(&at("sharer"), &[]);
    write_content(&at("unique"), "unique", 2 * MIB);
    let shared = sharer
        .run(&["share", text(&at("unique")), "--no-replicate"])
        .ok();
    let link = shared["link"].as_str().unwrap();
    let parsed: Link = link.parse().unwrap();
    assert!(
        parsed.marks.no_replicate && !parsed.marks.no_announce,
        "{link}"
    );

    // By the link; by the bare address, from the sharer and from one who fetched it, each with the
    // record of the one before.
    let mut fetchers: Vec<Daemon> = (0..3)
        .map(|n| Daemon::start(&at(&format!("fetcher{n}")), &[&sharer]))
        .collect();
    fetchers[0].fetch(link, &at("got0"));
    for n in 1..3 {
        let from = match n {
            1 => sharer.address.clone(),
            _ => fetchers[1].address.clone(),
        };
        let output = at(&format!("got{n}"));
        let args = ["fetch", cid(&shared), "--peer", &from, "-o", text(&output)];
        fetchers[n].run(&args).ok();
    }
    let root: Cid = cid(&shared).parse().unwrap();
    let check = |fetchers: &[Daemon], when: &str| {
        for fetcher in fetchers {
            let asked = Asker::start().ask(&fetcher.address, &root, &[]);
            assert!(asked.marks.no_replicate, "{when}: {asked:?}");
            assert!(!asked.marks.no_announce, "{when}: {asked:?}");
            let listed = fetcher.run(&["ls"]).ok();
            let listed = listed["entries"].as_array().unwrap();
            let copy = listed.iter().find(|it| cid(it) == cid(&shared)).unwrap();
            assert_eq!(copy["replicate"], false, "{when}: {copy:?}");
            // Whoever passes it on passes the mark on.
            let again = fetcher.run(&["link", cid(&shared)]).ok();
            let again: Link = again["link"].as_str().unwrap().parse().unwrap();
            assert!(again.marks.no_replicate, "{when}: {again:?}");
        }
    };
    check(&fetchers, "running");
    fetchers = fetchers.into_iter().map(Daemon::restart).collect();
    check(&fetchers, "restarted");
}

/// A fetch of a file of two chunks that stops in the middle until the peer goes on.
fn begin(home: &Path, root: &str, peer: &Peer, output: &Path) -> Child {
    let fetch = [
        "fetch",
        root,
        "--peer",
        &peer.address,
        "--no-serve",
        "-o",
        text(output),
    ];
    let mut fetch = command(home, &fetch);
    fetch
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn what_is_not_served_is_read_through_nothing_in_any_state() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    let bytes = content("hidden", 4 * MIB);
    let chunks: Vec<Digest> = bytes
        .chunks(MIB)
        .map(|chunk| Digest::of(HashFn::Blake3, chunk))
        .collect();
    let mut blocks = Blocks::default();
    let hidden = blocks.file(&bytes);
    let peer = Peer::start_gated(blocks, 2);
    let mut node = Daemon::start(&at("home"), &[]);
    write_content(&at("public"), "public", 2 * MIB);
    let public = node.share(&at("public"));
    let roots: [Cid; 2] = [hidden.clone(), cid(&public).parse().unwrap()];

    let asker = Asker::start();
    let check = |node: &Daemon, when: &str| {
        for root in &roots {
            let mut wanted = chunks.clone();
            wanted.extend(hidden.digest());
            let asked = asker.ask(&node.address, root, &wanted);
            assert!(asked.sent.is_empty(), "{when}, through {root}: {asked:?}");
        }
        // The stranger would get what is there for it.
        let own = content("public", 2 * MIB);
        let own = Digest::of(HashFn::Blake3, &own[..MIB]);
        assert_eq!(
            asker.ask(&node.address, &roots[1], &[own]).sent,
            [own],
            "{when}"
        );
    };
    let mut fetch = begin(node.home(), &hidden.to_string(), &peer, &at("got"));
    let listed = |node: &Daemon| node.run(&["transfers"]).ok()["transfers"][0].clone();
    wait_for("half of it has landed", || {
        (listed(&node)["verified_bytes"].as_u64()? >= 2 * MIB as u64).then_some(())
    });
    check(&node, "running");
    node.run(&["pause", "1"]).ok();
    fetch.wait().unwrap();
    // What has landed is recorded now.
    check(&node, "paused");
    node = node.restart();
    check(&node, "restarted");
    node.run(&["resume", "1"]).ok();
    check(&node, "running again");
    peer.open();
    wait_for("all of it has landed", || at("got").exists().then_some(()));
    wait_for("the transfer is over", || {
        let over = listed(&node)["state"] == "done" || listed(&node).is_null();
        over.then_some(())
    });
    check(&node, "done");
}

#[test]
fn a_block_is_read_only_on_streams_of_a_root_that_has_it() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    let node = Daemon::start(&at("home"), &[]);
    let mut roots = Vec::new();
    for name in ["one", "other"] {
        write_content(&at(name), name, 2 * MIB);
        roots.push(cid(&node.share(&at(name))).parse::<Cid>().unwrap());
    }
    let of_one = content("one", 2 * MIB);
    let mut wanted: Vec<Digest> = of_one
        .chunks(MIB)
        .map(|chunk| Digest::of(HashFn::Blake3, chunk))
        .collect();
    wanted.extend(roots[0].digest());
    let asker = Asker::start();
    let asked = asker.ask(&node.address, &roots[0], &wanted);
    assert_eq!(
        (&asked.has[..], asked.sent.len()),
        (&[Availability::Complete][..], 3)
    );
    let asked = asker.ask(&node.address, &roots[1], &wanted);
    assert_eq!(
        (&asked.has[..], asked.sent.len()),
        (&[Availability::Complete][..], 0)
    );
}
