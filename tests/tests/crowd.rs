//! More readers than a sharer has places for, none of which reads on: one that wants its file still
//! gets it, in bounded time and memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, sync::Arc};

use shoal_protocol::address::Cid;
use shoal_testnet::evil::{Blocks, Crowd};
use shoal_tests::{
    Daemon, RESIDENT_KIB_MAX, content, http, peer::loopback, resident_kib_max, scratch, wait_for,
    write_content,
};
use tokio::runtime::Runtime;

const CONTENT: usize = 24 << 20;

/// As many as a node lets connect, and some more.
const IDENTITIES: usize = 400;

#[test]
fn identities_that_open_and_freeze_leave_others_their_part() {
    check("freeze", false);
}

#[test]
fn readers_that_ask_for_everything_and_cancel_cost_nothing_that_lasts() {
    check("cancel", true);
}

fn check(name: &str, cancel: bool) {
    let dir = scratch();
    let source = dir.path().join("file");
    write_content(&source, name, CONTENT);
    let sharer = Daemon::start(&dir.path().join("sharer"), &[]);
    let shared = sharer.share(&source);
    let (cid, link) = (shared["cid"].as_str().unwrap(), &shared["link"]);
    let fetcher = Daemon::start(&dir.path().join("fetcher"), &[&sharer]);
    wait_for("a connection", || {
        let peers = fetcher.run(&["peers"]).ok();
        (!peers["peers"].as_array().unwrap().is_empty()).then_some(())
    });

    let runtime = Runtime::new().unwrap();
    let crowd = runtime.block_on(crowd(&sharer, &source, cid, cancel));
    assert!(crowd.count() > IDENTITIES / 2, "{}", crowd.count());

    let got = dir.path().join("got");
    fetcher.fetch(link.as_str().unwrap(), &got);
    assert!(fs::read(&got).unwrap() == content(name, CONTENT));
    let resident = resident_kib_max(sharer.pid());
    assert!(resident <= RESIDENT_KIB_MAX, "{resident} KiB");
    runtime.block_on(async { drop(crowd) });
    // Nothing of them is left behind, but for what the fetcher itself has open.
    wait_for("their places", || {
        (metric(&sharer, "shoal_serve_streams") <= 1).then_some(())
    });
    assert_eq!(metric(&sharer, "shoal_serve_buffered_bytes"), 0);
}

async fn crowd(sharer: &Daemon, source: &Path, cid: &str, cancel: bool) -> Crowd {
    let mut blocks = Blocks::default();
    let root = blocks.path(source).unwrap();
    assert_eq!(root.to_string(), cid);
    let net = loopback(&[&sharer.address]);
    let roots: Vec<Cid> = vec![root];
    let crowd = Crowd::start(&net, IDENTITIES, roots, Arc::new(blocks), cancel);
    crowd.await.unwrap()
}

fn metric(daemon: &Daemon, name: &str) -> u64 {
    http::metric(daemon.home(), name).unwrap_or_else(|| panic!("no {name}"))
}
