//! Every kind of evil peer beside one honest provider: the fetch completes with the right bytes, in
//! bounded time and memory, and the right one is blamed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use serde_json::Value;
use shoal_testnet::evil::{Behaviour, Blocks, Deeds};
use shoal_tests::{
    Daemon, RESIDENT_KIB_MAX, content, evil::Evil, resident_kib_max, scratch, text, wait_for,
    write_content,
};

const MIB: usize = 1 << 20;

/// Large enough that the evil peer is asked for some of it.
const CONTENT: usize = 24 * MIB;

/// What one behaviour is held to.
struct Case {
    behaviour: Behaviour,
    /// How much of the attack took place.
    done: fn(&Deeds) -> u64,
    /// What is said of the peer by a fetch that knows nobody else: its exit code, and a reason.
    blamed: (i32, &'static str),
    /// How many of the bytes may have come from it; what it serves right is right.
    bytes_max: u64,
}

impl Case {
    fn of(behaviour: Behaviour) -> Self {
        let (done, blamed): (fn(&Deeds) -> u64, _) = match behaviour {
            Behaviour::WrongBytes | Behaviour::WrongLengths => {
                (|deeds| deeds.chunks_wrong, (5, "wrong bytes"))
            }
            Behaviour::Stall => (|deeds| deeds.wants_ignored, (3, "delivers nothing")),
            Behaviour::Drip => (|deeds| deeds.bytes_dripped, (3, "delivers nothing")),
            Behaviour::Flood => (|deeds| deeds.streams_opened.min(deeds.frames_sent), (3, "")),
            Behaviour::LyingAvailability => (|deeds| deeds.wants_denied, (3, "delivers nothing")),
            // Some of them; it goes on for as long as it runs.
            Behaviour::ProviderSpam => (|deeds| deeds.records_sent / 1000, (3, "does not have it")),
            Behaviour::JunkRecords => (
                |deeds| deeds.lookups_misled.min(deeds.records_sent),
                (3, ""),
            ),
            Behaviour::JunkOffers => (|deeds| deeds.peers_invented, (3, "")),
            Behaviour::SlowReader => (|deeds| deeds.bytes_sipped, (3, "does not have it")),
            Behaviour::FrozenReader => (|deeds| deeds.readers_frozen, (3, "does not have it")),
            Behaviour::ManyIdentities => (
                |deeds| deeds.identities_used.min(deeds.readers_frozen),
                (3, "does not have it"),
            ),
            // What these do to helpers is in `false_helpers.rs`: here nobody helps yet.
            Behaviour::BlackHoleHelper => (
                |deeds| deeds.wants_ignored + deeds.asks_misled,
                (3, "delivers nothing"),
            ),
            Behaviour::FalseHolder => (|deeds| deeds.holdings_invented, (3, "delivers nothing")),
            Behaviour::FakeAskers | Behaviour::FalseOffers => (
                |deeds| deeds.identities_used.min(deeds.streams_opened),
                (3, "does not have it"),
            ),
        };
        let bytes_max = match behaviour {
            Behaviour::LyingAvailability => CONTENT as u64 / 4,
            // A byte a second: the block goes on elsewhere, behind those that are here.
            Behaviour::Drip => 8,
            _ => 0,
        };
        Self {
            behaviour,
            done,
            blamed,
            bytes_max,
        }
    }
}

/// A test for each kind of peer, and one that says when a kind has none.
macro_rules! no_evil_peer_keeps_a_fetch_from_an_honest_one {
    ($($name:ident: $behaviour:ident,)*) => {
        $(
            #[test]
            fn $name() {
                check(&Case::of(Behaviour::$behaviour));
            }
        )*

        #[test]
        fn every_kind_of_evil_is_tested() {
            assert_eq!(Behaviour::ALL, [$(Behaviour::$behaviour),*]);
        }
    };
}

no_evil_peer_keeps_a_fetch_from_an_honest_one! {
    not_one_that_sends_wrong_bytes: WrongBytes,
    not_one_that_sends_wrong_lengths: WrongLengths,
    not_one_that_stalls: Stall,
    not_one_that_drips: Drip,
    not_one_that_floods: Flood,
    not_one_that_lies_about_what_it_has: LyingAvailability,
    not_one_that_spams_provider_records: ProviderSpam,
    not_one_that_makes_up_records: JunkRecords,
    not_one_that_offers_junk: JunkOffers,
    not_one_that_takes_a_byte_a_second: SlowReader,
    not_one_that_asks_and_takes_nothing: FrozenReader,
    not_one_that_is_many: ManyIdentities,
    not_one_that_accepts_copies_and_serves_none: BlackHoleHelper,
    not_one_that_holds_nothing_of_what_it_says: FalseHolder,
    not_one_that_makes_up_demand: FakeAskers,
    not_one_that_offers_what_does_not_verify: FalseOffers,
}

fn check(case: &Case) {
    let name = case.behaviour.name();
    let dir = scratch();
    let source = dir.path().join("file");
    write_content(&source, name, CONTENT);
    let honest = Daemon::start(&dir.path().join("honest"), &[]);
    let cid = honest.share(&source)["cid"].as_str().unwrap().to_owned();
    let start = |bootstrap: &[&str]| {
        let mut blocks = Blocks::default();
        let root = blocks.path(&source).unwrap();
        assert_eq!(root.to_string(), cid, "{name}: it knows the content");
        Evil::start(case.behaviour, &root, blocks, bootstrap)
    };

    let evil = start(&[&honest.address]);
    let options = ["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut options: Vec<String> = options.map(str::to_owned).to_vec();
    for address in [&evil.address, &honest.address] {
        options.extend(["--bootstrap".to_owned(), address.clone()]);
    }
    let fetcher = Daemon::start_with(&dir.path().join("fetcher"), options);
    let got = dir.path().join("got");
    let peers = ["--peer", &evil.address, "--peer", &honest.address];
    let args = [&["fetch", &cid, "-o", text(&got)], &peers[..]].concat();
    let fetched = fetcher.run(&args).ok();
    assert!(fs::read(&got).unwrap() == content(name, CONTENT), "{name}");
    assert!(
        bytes_from(&fetched, &evil.peer_id) <= case.bytes_max,
        "{name}: {fetched}"
    );
    wait_for(&format!("the attack {name}"), || {
        // The fetch may have been over before it asked the DHT; what this finds is not the point.
        fetcher.run(&["find", &cid, "--timeout", "1s"]);
        ((case.done)(&evil.deeds()) > 0).then_some(())
    });
    for daemon in [&honest, &fetcher] {
        let resident = resident_kib_max(daemon.pid());
        assert!(resident <= RESIDENT_KIB_MAX, "{name}: {resident} KiB");
    }
    // The honest one is not taken for the other: it is who serves the next content.
    let next = dir.path().join("next");
    write_content(&next, "next", 3 * MIB);
    let link = honest.share(&next)["link"].as_str().unwrap().to_owned();
    let fetched = fetcher.fetch(&link, &dir.path().join("next-got"));
    let from_honest = bytes_from(&fetched, &honest.peer_id);
    assert_eq!(from_honest, 3 * MIB as u64, "{name}: {fetched}");
    evil.end();

    is_blamed(case, &start(&[]), dir.path(), &cid);
}

/// A fetch that knows nobody but an evil peer fails, and says whom to thank for that.
fn is_blamed(case: &Case, evil: &Evil, dir: &Path, cid: &str) {
    let name = case.behaviour.name();
    let lonely = Daemon::start(&dir.join("lonely"), &[]);
    let got = dir.join("alone");
    let args = [
        "--peer",
        &evil.address,
        "--timeout",
        "3s",
        "--patience",
        "3s",
    ];
    let args = [&["fetch", cid, "-o", text(&got)], &args[..]].concat();
    let alone = lonely.run(&args);
    let message = alone.json["error"]["message"].as_str().unwrap().to_owned();
    let (code, reason) = case.blamed;
    assert_eq!(alone.code, Some(code), "{name}: {message}");
    assert!(message.contains(reason), "{name}: {message}");
    assert!(message.contains(&evil.peer_id), "{name}: {message}");
    assert!(!got.exists(), "{name}");
}

/// How many bytes of a fetch came from a peer.
fn bytes_from(fetched: &Value, peer: &str) -> u64 {
    let from = fetched["from"].as_array().unwrap();
    let sources = from.iter().filter(|source| source["peer"] == peer);
    sources.map(|it| it["bytes"].as_u64().unwrap()).sum()
}
