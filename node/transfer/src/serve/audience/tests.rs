//! The books over a real database.

#![allow(clippy::unwrap_used)]

use shoal_protocol::address::{Digest, HashFn};
use shoal_store::{Store, TableName};

use super::*;

fn root(name: &str) -> Cid {
    Cid::raw(Digest::of(HashFn::Blake3, name.as_bytes()))
}

fn open(home: &tempfile::TempDir) -> Arc<Audience> {
    let store = Store::open(home.path()).unwrap();
    Audience::load(store.table(TableName::Node)).unwrap()
}

#[tokio::test]
async fn what_was_sent_to_whom_survives_the_process() {
    let home = tempfile::tempdir().unwrap();
    let (one, other) = (PeerId::random(), PeerId::random());
    let audience = open(&home);
    let mut completed = audience.completed();
    let shutdown = CancellationToken::new();
    let run = tokio::spawn(Arc::clone(&audience).run(|_| true, shutdown.clone()));
    let (visit, second) = (
        audience.visit(&root("a"), one),
        audience.visit(&root("a"), other),
    );
    assert_eq!(
        audience.of(&root("a"), 9),
        AudienceOf::default(),
        "nothing was sent"
    );
    visit.sent(10);
    second.sent(5);
    visit.has_all();
    completed.changed().await.unwrap();
    let of = audience.of(&root("a"), 9);
    assert_eq!((of.sent, of.copies, of.counted, of.fetching), (15, 1, 1, 1));
    let first = of.peers.first().unwrap();
    assert_eq!(
        (first.peer, first.sent),
        (other, 5),
        "who fetches comes first"
    );
    shutdown.cancel();
    run.await.unwrap();
    drop((visit, second));
    drop(audience);

    // Nothing of the first run holds the database, so it opens at once.
    let audience = open(&home);
    let of = audience.of(&root("a"), 9);
    assert_eq!((of.sent, of.copies, of.fetching), (15, 1, 0));
    let complete = of.peers.iter().find(|it| it.peer == one).unwrap();
    assert!(complete.complete && complete.sent == 10);
    // The same peer again is no second copy, also where it is counted anew.
    let again = audience.visit(&root("a"), one);
    again.sent(3);
    assert!(!audience.of(&root("a"), 9).peers[0].complete);
    assert_eq!(audience.of(&root("a"), 9).peers[0].current, 3);
    again.has_all();
    assert_eq!(
        (
            audience.of(&root("a"), 1).copies,
            audience.counted(&root("a"))
        ),
        (1, 1)
    );
    audience.count_anew(&root("a"));
    assert_eq!(audience.counted(&root("a")), 0);
    again.has_all();
    assert_eq!(
        (
            audience.of(&root("a"), 1).copies,
            audience.counted(&root("a"))
        ),
        (1, 1)
    );
    // Nothing is left of what is not shared any more.
    audience.forget(|_| false);
    audience.write();
    assert!(
        audience
            .table
            .scan(PREFIX.as_bytes(), &[], 9)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_slow_peer_has_a_steady_rate_also_from_one_stream_to_the_next() {
    const STEP: Duration = Duration::from_millis(250);
    const PIECE: u64 = 3000;
    let home = tempfile::tempdir().unwrap();
    let audience = open(&home);
    let (peer, start) = (PeerId::random(), Instant::now());
    let mut visit = audience.visit(&root("a"), peer);
    let mut seen = Vec::new();
    for step in 0..120_u32 {
        if step % 20 == 19 {
            drop(visit);
            audience.measure_rates(start + STEP * step);
            assert_eq!(audience.of(&root("a"), 1).rate, 0, "nobody fetches now");
            visit = audience.visit(&root("a"), peer);
        }
        visit.sent(PIECE);
        audience.measure_rates(start + STEP * step);
        if step > 8 {
            seen.push(audience.of(&root("a"), 1).rate);
        }
    }
    let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
    assert!(*least > 11_000 && *most < 13_000, "{seen:?}");
}

#[test]
fn what_buffers_take_at_once_is_no_rate() {
    let home = tempfile::tempdir().unwrap();
    let audience = open(&home);
    let visit = audience.visit(&root("a"), PeerId::random());
    visit.sent(1_000_000);
    let start = Instant::now();
    let after = |millis| {
        audience.measure_rates(start + Duration::from_millis(millis));
        audience.of(&root("a"), 1).rate
    };
    // Nobody saw when the first bytes went.
    assert_eq!(after(100), 0);
    visit.sent(1_000_000);
    let rate = after(1000);
    assert!((1_500_000..=2_000_000).contains(&rate), "{rate}");
}

#[test]
fn thousands_of_peers_leave_the_last_ones_and_the_sum() {
    let home = tempfile::tempdir().unwrap();
    let audience = open(&home);
    let stays = audience.visit(&root("a"), PeerId::random());
    stays.sent(1);
    for _ in 0..3000 {
        audience.visit(&root("a"), PeerId::random()).sent(1);
    }
    let of = audience.of(&root("a"), usize::MAX);
    assert_eq!((of.sent, of.peers.len()), (3001, PEERS_MAX));
    assert_eq!(of.peers[0].peer, stays.peer, "who fetches is not forgotten");
    audience.write();
    let rows = audience.table.scan(PREFIX.as_bytes(), &[], 9000).unwrap();
    assert_eq!(rows.len(), PEERS_MAX + 1);
    // When all fetch, one more is only summed up.
    let visits: Vec<_> = (0..PEERS_MAX + 9)
        .map(|_| audience.visit(&root("b"), PeerId::random()))
        .collect();
    visits.iter().for_each(|visit| visit.sent(1));
    let of = audience.of(&root("b"), usize::MAX);
    assert_eq!(
        (of.sent, of.fetching),
        (PEERS_MAX as u64 + 9, PEERS_MAX as u64)
    );
}

#[test]
fn rows_that_make_no_sense_are_no_end() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let table = store.table(TableName::Node);
    let cid = root("a").to_string();
    for key in [
        "sent.",
        "sent.x",
        "sent./",
        &format!("sent.{cid}/x"),
        &format!("sent.{cid}"),
    ] {
        table.put(key.as_bytes(), b"\xff{").unwrap();
    }
    let audience = Audience::load(table).unwrap();
    assert_eq!(audience.of(&root("a"), 9), AudienceOf::default());
}
