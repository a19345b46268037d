//! Peers that do harm with copies, beside real helpers: what they do is bounded, and those who fetch get
//! their content as before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use serde_json::Value;
use shoal_testnet::evil::{Behaviour, Blocks, Deeds};
use shoal_tests::{
    Daemon, RESIDENT_KIB_MAX, assert_same_file,
    copies::{World, start},
    evil::Evil,
    resident_kib_max, scratch, wait_for, write_content,
};

const MIB: u64 = 1 << 20;

/// Starts an evil peer that knows a file, beside these helpers.
fn start_evil(behaviour: Behaviour, source: &Path, beside: &Daemon) -> Evil {
    let mut blocks = Blocks::default();
    let root = blocks.path(source).unwrap();
    Evil::start(behaviour, &root, blocks, &[&beside.address])
}

fn wait_for_deeds(evil: &Evil, what: &str, done: impl Fn(&Deeds) -> u64) {
    wait_for(what, || (done(&evil.deeds()) > 0).then_some(()));
}

fn bytes_from(fetched: &Value, peer: &str) -> u64 {
    let from = fetched["from"].as_array().unwrap().iter();
    let from = from.filter(|it| it["peer"] == peer);
    from.map(|it| it["bytes"].as_u64().unwrap()).sum()
}

fn is_within_memory(node: &Daemon) {
    let resident = resident_kib_max(node.pid());
    assert!(resident <= RESIDENT_KIB_MAX, "{resident} KiB");
}

fn pulled_bytes(node: &Daemon) -> u64 {
    node.number("shoal_replica_bytes_total{direction=\"in\"}")
}

fn complete(node: &Daemon) -> u64 {
    node.number("shoal_replica_pulls_ended_total{outcome=\"complete\"}")
}

/// Three neighbours fetch a file one after the other beside an evil helper, which gives them nothing of
/// it.
fn fetch_beside(behaviour: Behaviour) -> (World, Evil) {
    let world = World::new(1);
    let source = world.file("popular");
    let evil = start_evil(behaviour, &source, &world.helpers[0]);
    world.helpers[0].wait_for_helpers(1);
    let cid = world.origin.share(&source)["cid"]
        .as_str()
        .unwrap()
        .to_owned();
    for name in ["first", "second", "third"] {
        let fetcher = world.fetcher_among(2, name);
        let fetched = world.fetch_and_forget(&fetcher, &cid, name);
        assert_eq!(bytes_from(&fetched, &evil.peer_id), 0, "{fetched}");
        is_within_memory(&fetcher);
    }
    is_within_memory(&world.helpers[0]);
    (world, evil)
}

#[test]
fn a_black_hole_is_offered_copies_and_keeps_nobody_from_the_content() {
    let (world, evil) = fetch_beside(Behaviour::BlackHoleHelper);
    wait_for_deeds(&evil, "it is asked", |it| it.asks_misled);
    wait_for_deeds(&evil, "it is offered copies", |it| it.offers_swallowed);
    wait_for_deeds(&evil, "it says that it holds them", |it| {
        it.holdings_invented
    });
    wait_for_deeds(&evil, "it is asked for them", |it| it.wants_ignored);
    // It says no more than a peer may, so nothing of it is refused.
    let refused = "shoal_replica_limits_hit_total{saying=\"holding\"}";
    assert_eq!(world.helpers[0].number(refused), 0);
    evil.end();
}

#[test]
fn a_false_holder_is_believed_by_no_fetch() {
    let (_world, evil) = fetch_beside(Behaviour::FalseHolder);
    wait_for_deeds(&evil, "it lies to who asks", |it| it.asks_misled);
    wait_for_deeds(&evil, "it says that it holds it", |it| it.holdings_invented);
    evil.end();
}

#[test]
fn made_up_demand_of_one_network_has_its_part_and_no_more() {
    let dir = scratch();
    let config = "[replicas]\nwarmup = '0s'\nquota = '64MiB'\ndiversity = 'all'\n";
    let helper = start(&dir, "helper", config, &[]);
    let source = dir.path().join("file");
    write_content(&source, "file", 1 << 20);
    let evil = start_evil(Behaviour::FakeAskers, &source, &helper);
    wait_for_deeds(&evil, "somebody pulls for it", |it| it.offers_taken);
    // The four that one network counts as, again and again.
    wait_for_deeds(&evil, "many identities", |it| it.identities_used / 24);
    wait_for("a pull ends", || (complete(&helper) > 0).then_some(()));
    // An eighth of an hour's credit, and the hour has hardly begun.
    let pulled = pulled_bytes(&helper);
    assert!((1..=9 * MIB).contains(&pulled), "{pulled} bytes");
    let kept = helper.run(&["replicas", "stats"]).ok()["bytes"].clone();
    // A tenth of the quota, and one more while it makes room.
    assert!(kept.as_u64().unwrap() <= 7 * MIB, "{kept} bytes");
    assert!(evil.deeds().asks_sent > 1000, "{:?}", evil.deeds());
    is_within_memory(&helper);

    let origin = start(&dir, "origin", "[replicas]\nscope = 'off'\n", &[&helper]);
    let shared = origin.share(&source);
    let fetcher = start(&dir, "fetcher", "", &[&helper]);
    let got = dir.path().join("got");
    fetcher.fetch(shared["cid"].as_str().unwrap(), &got);
    assert_same_file(&source, &got);
    evil.end();
}

#[test]
fn false_offers_leave_nothing_and_keep_nobody_from_helping() {
    let world = World::new(1);
    let helper = &world.helpers[0];
    let source = world.file("popular");
    let evil = start_evil(Behaviour::FalseOffers, &source, helper);
    wait_for_deeds(&evil, "it is believed at first", |it| it.offers_taken / 3);
    let ended = || {
        let outcomes = ["untrue", "failed", "malformed", "nobody", "silent"];
        let number = |it| format!("shoal_replica_pulls_ended_total{{outcome=\"{it}\"}}");
        let ended = outcomes.iter().map(|it| helper.number(&number(*it)));
        ended.sum::<u64>()
    };
    wait_for("pulls find it out", || (ended() > 0).then_some(()));
    assert_eq!(complete(helper), 0);

    let cid = world.origin.share(&source)["cid"]
        .as_str()
        .unwrap()
        .to_owned();
    for name in ["first", "second"] {
        world.fetch_and_forget(&world.fetcher(name), &cid, name);
    }
    wait_for("it pulls what is wanted", || {
        (complete(helper) == 1).then_some(())
    });
    let listed = helper.run(&["replicas", "ls"]).ok();
    let kept = listed["replicas"].as_array().unwrap();
    assert!(kept.iter().all(|it| it["asked_by"] == "near"), "{listed}");
    is_within_memory(helper);
    evil.end();
}
