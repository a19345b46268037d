//! The bus, and what its events look like.

#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::*;
use crate::types::{Audience, Damage, FetchPhase, FetchResult, Unkept};

fn warning(number: usize) -> Event {
    Event::Warning {
        message: number.to_string(),
    }
}

#[tokio::test]
async fn readers_get_each_event_once_and_in_order() {
    let events = Events::default();
    events.publish(warning(1));
    let mut early = events.read(None);
    events.publish(warning(2));
    events.publish(warning(3));
    let mut late = events.read(Some(1));
    for number in [2, 3] {
        for reader in [&mut early, &mut late] {
            let next = reader.next().await;
            assert_eq!(next.sequence, number as u64);
            assert_eq!(next.event, warning(number));
        }
    }
    // Numbers that this run has not given out say nothing about what was seen.
    let mut stranger = events.read(Some(99));
    events.publish(warning(4));
    for reader in [&mut early, &mut late, &mut stranger] {
        assert_eq!(reader.next().await.event, warning(4));
    }
}

#[tokio::test]
async fn who_waits_is_woken_by_the_next_event() {
    let events = Events::default();
    let mut reader = events.read(None);
    let waiting = tokio::spawn(async move { reader.next().await.sequence });
    events.publish(warning(1));
    assert_eq!(waiting.await.unwrap(), 1);
}

#[tokio::test]
async fn a_slow_reader_is_told_how_many_it_missed() {
    let events = Events::default();
    let mut slow = events.read(None);
    for number in 0..EVENTS_KEPT_MAX + 5 {
        events.publish(warning(number));
    }
    let lagged = slow.next().await;
    assert_eq!(lagged.event, Event::Lagged { missed: 5 });
    assert_eq!(lagged.sequence, 5);
    for number in 5..EVENTS_KEPT_MAX + 5 {
        let next = slow.next().await;
        assert_eq!(next.sequence, number as u64 + 1);
        assert_eq!(next.event, warning(number));
    }
    assert_eq!(events.inner.missed.load(Relaxed), 5);
}

fn check(event: Event, name: &str, field: &str) {
    let occurrence = Occurrence {
        sequence: 7,
        time: Timestamp::UNIX_EPOCH,
        event,
    };
    assert_eq!(occurrence.event.name(), name);
    let json = serde_json::to_value(&occurrence).unwrap();
    assert_eq!(json["event"], name);
    assert_eq!(json["sequence"], 7);
    assert_eq!(json["time"], "1970-01-01T00:00:00Z");
    assert!(field.is_empty() || json[field] != Value::Null, "{json}");
    assert_eq!(
        serde_json::from_value::<Occurrence>(json).unwrap(),
        occurrence
    );
}

fn share() -> ShareInfo {
    ShareInfo {
        cid: "bafk".to_owned(),
        name: "n".to_owned(),
        path: "/n".into(),
        paths: Vec::new(),
        size: u64::MAX,
        files: 1,
        created: Timestamp::UNIX_EPOCH,
        announce: true,
        replicate: true,
        state: ShareState::Changed {
            changed: "it is gone".to_owned(),
        },
        audience: Audience::default(),
        until: None,
        expires: None,
        processes: Vec::new(),
    }
}

fn transfer(state: TransferState) -> Transfer {
    Transfer {
        id: 1,
        cid: "bafk".to_owned(),
        name: "n".to_owned(),
        path: "/n".into(),
        created: Timestamp::UNIX_EPOCH,
        state,
        progress: FetchProgress {
            phase: FetchPhase::Fetching,
            bytes: 1,
            verified_bytes: 1,
            bytes_total: None,
            files: 0,
            files_total: None,
            rate: 0,
            eta_ms: None,
            sources: 1,
            asked: 1,
            waiting_ms: None,
        },
        limit: shoal_ground::units::Rate::OFF,
        waits_for: None,
        on_done: None,
    }
}

fn result() -> FetchResult {
    FetchResult {
        cid: "bafk".to_owned(),
        path: "/n".into(),
        size: 1,
        files: 1,
        elapsed_ms: 1,
        downloaded_bytes: 1,
        resumed_bytes: 0,
        local_bytes: 0,
        skipped: 0,
        unkept: Unkept::default(),
        renamed: Vec::new(),
        from: Vec::new(),
        warnings: Vec::new(),
    }
}

#[test]
fn events_are_flat_objects_that_can_be_read_back() {
    let (share, result) = (share(), result());
    let (id, cid) = (1, "bafk".to_owned());
    let damage = Damage {
        cid: cid.clone(),
        path: "/file".into(),
        reason: "has other content".to_owned(),
        unreadable: false,
    };
    let peer_id = libp2p::PeerId::random();
    let addresses = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
    let ready = addresses.clone();
    check(
        Event::NodeReady {
            peer_id,
            addresses: ready,
        },
        "node_ready",
        "peer_id",
    );
    check(Event::NodeStopping, "node_stopping", "");
    check(
        Event::AddressesChanged { addresses },
        "addresses_changed",
        "addresses",
    );
    check(Event::ShareAdded(share.clone()), "share_added", "cid");
    check(Event::ShareRemoved(share.clone()), "share_removed", "state");
    check(Event::ShareChanged(share), "share_changed", "changed");
    check(
        Event::Announced {
            cid: cid.clone(),
            peers: 1,
        },
        "announced",
        "peers",
    );
    let paused = transfer(TransferState::Paused {
        reason: "asked to pause".to_owned(),
    });
    let failed = transfer(TransferState::Failed {
        reason: "no space".to_owned(),
    });
    let queued = transfer(TransferState::Queued);
    let running = transfer(TransferState::Running);
    check(Event::TransferQueued(queued), "transfer_queued", "state");
    check(
        Event::TransferStarted(running.clone()),
        "transfer_started",
        "name",
    );
    check(
        Event::TransferProgress(running),
        "transfer_progress",
        "phase",
    );
    check(Event::TransferPaused(paused), "transfer_paused", "reason");
    check(Event::TransferFailed(failed), "transfer_failed", "reason");
    check(
        Event::TransferRemoved { id, cid },
        "transfer_removed",
        "cid",
    );
    check(
        Event::TransferFinished { id, result },
        "transfer_finished",
        "downloaded_bytes",
    );
    check(
        Event::PeerConnected { peer_id },
        "peer_connected",
        "peer_id",
    );
    check(
        Event::PeerDisconnected { peer_id },
        "peer_disconnected",
        "peer_id",
    );
    check(Event::DamageFound(damage), "damage_found", "unreadable");
    check(
        Event::ScrubFinished { checked_bytes: 1 },
        "scrub_finished",
        "checked_bytes",
    );
    check(warning(1), "warning", "message");
    check(Event::Lagged { missed: 1 }, "lagged", "missed");
}

#[test]
fn events_of_replicas_are_flat_objects_too() {
    check(
        Event::ReplicaAdmitted {
            key: "k".to_owned(),
            run: 1,
            bytes: 2,
            cause: "near".to_owned(),
        },
        "replica_admitted",
        "cause",
    );
    check(
        Event::ReplicaGone {
            key: "k".to_owned(),
            run: 1,
            bytes: 2,
            reason: "space".to_owned(),
        },
        "replica_gone",
        "reason",
    );
}
