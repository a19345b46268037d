//! The life of transfers, without running any.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use shoal_protocol::{
    address::{Cid, Digest, HashFn},
    link::Link,
};
use shoal_store::FileStat;

use super::*;
use crate::fetch::{Deadlines, Only, Renamed, Skipped, Unkept};

fn store(home: &tempfile::TempDir) -> Store {
    Store::open(home.path()).unwrap()
}

fn load(store: &Store) -> Transfers {
    Transfers::load(store, |_| {}, CancellationToken::new()).unwrap()
}

fn root(content: &str) -> Cid {
    Cid::raw(Digest::of(HashFn::Blake3, content.as_bytes()))
}

fn request(content: &str, output: &str) -> FetchRequest {
    FetchRequest {
        link: Link::new(root(content)),
        output: output.into(),
        into: false,
        peers: Vec::new(),
        only: Only::default(),
        overwrite: false,
        rename_unsafe: false,
        serve: true,
        sync: false,
        deadlines: Deadlines {
            timeout: Duration::from_secs(1),
            patience: Duration::from_secs(1),
        },
    }
}

fn place(store: &Store, name: &str) -> LandingPlace {
    LandingPlace {
        destination: crate::fetch::place::Destination {
            parent: "/x".into(),
            name: name.into(),
        },
        part: format!(".{name}.part").into(),
        share: store.new_share_id().unwrap(),
        moving: Some(FileStat::default()),
    }
}

/// A transfer that runs and has made its part: number 1.
fn placed(store: &Store) -> Transfers {
    let transfers = load(store);
    transfers.open(request("a", "/a")).unwrap();
    transfers.start_next().unwrap();
    transfers.set_place(1, Some(place(store, "a"))).unwrap();
    transfers
}

fn fetched(content: &str) -> Fetched {
    Fetched {
        cid: root(content),
        path: "/x".into(),
        size: 0,
        files: 1,
        elapsed: Duration::ZERO,
        downloaded_bytes: 0,
        resumed_bytes: 0,
        local_bytes: 0,
        left_out: 0,
        renamed: Renamed::default(),
        skipped: Skipped::default(),
        unmade: Skipped::default(),
        unkept: Unkept::default(),
        from: Vec::new(),
    }
}

fn states(transfers: &Transfers) -> Vec<(u64, TransferState)> {
    let listed = transfers.list().into_iter();
    listed.map(|it| (it.id, it.state)).collect()
}

fn outcome(ticket: &Ticket) -> String {
    match &*ticket.outcome.borrow() {
        Some(Err(error)) => error.to_string(),
        other => format!("{:?}", other.is_some()),
    }
}

#[test]
fn the_same_fetch_attaches_and_another_one_does_not() {
    let home = tempfile::tempdir().unwrap();
    let transfers = load(&store(&home));
    let first = transfers.open(request("a", "/a")).unwrap();
    let check = |other: FetchRequest, id: u64| {
        assert_eq!(transfers.open(other).unwrap().id, id);
    };
    check(request("a", "/a"), first.id);
    check(request("b", "/a"), 2);
    check(request("a", "/b"), 3);
    let overwrite = FetchRequest {
        overwrite: true,
        ..request("a", "/a")
    };
    check(overwrite, 4);
    let hurried = FetchRequest {
        deadlines: Deadlines {
            timeout: Duration::from_millis(1),
            patience: Duration::from_millis(1),
        },
        ..request("a", "/a")
    };
    check(hurried, first.id);
}

#[test]
fn a_transfer_rests_when_the_last_one_leaves_and_goes_on_when_asked_again() {
    let home = tempfile::tempdir().unwrap();
    let transfers = load(&store(&home));
    let (one, other) = (
        transfers.open(request("a", "/a")).unwrap(),
        transfers.open(request("a", "/a")).unwrap(),
    );
    let started = transfers.start_next().unwrap();
    assert!(!transfers.leave(one.id, one.serial, Pause::Interrupted));
    assert!(!started.cancel.is_cancelled());
    assert!(transfers.leave(other.id, other.serial, Pause::Interrupted));
    assert!(started.cancel.is_cancelled());
    transfers.ended(1, Err(FetchError::Cancelled));
    assert_eq!(
        states(&transfers),
        [(1, TransferState::Paused(Pause::Interrupted))]
    );

    let again = transfers.open(request("a", "/a")).unwrap();
    assert_eq!(again.id, 1);
    assert!(again.serial > one.serial);
    // Who waited for the run before has no say in this one.
    assert!(!transfers.leave(one.id, one.serial, Pause::Interrupted));
    assert_eq!(states(&transfers), [(1, TransferState::Queued)]);
}

#[test]
fn more_than_can_run_wait_and_begin_in_turn() {
    let home = tempfile::tempdir().unwrap();
    let transfers = load(&store(&home));
    let running_max = TRANSFERS_MAX as u64;
    for n in 0..running_max + 2 {
        transfers.open(request("a", &format!("/{n}"))).unwrap();
    }
    for id in 1..=running_max {
        assert_eq!(transfers.start_next().unwrap().id, id);
    }
    assert!(transfers.start_next().is_none());
    assert_eq!(
        states(&transfers)[TRANSFERS_MAX],
        (running_max + 1, TransferState::Queued)
    );
    transfers.ended(3, Err(FetchError::BareSymlink));
    assert_eq!(transfers.start_next().unwrap().id, running_max + 1);
    assert!(transfers.start_next().is_none());
}

#[test]
fn more_than_are_kept_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let transfers = load(&store(&home));
    for n in 0..UNFINISHED_MAX {
        transfers.open(request("a", &format!("/{n}"))).unwrap();
    }
    let refused = transfers.open(request("a", "/more"));
    assert!(matches!(refused, Err(FetchError::Busy(UNFINISHED_MAX))));
    assert!(transfers.open(request("a", "/0")).is_ok(), "it attaches");
}

#[test]
fn every_outcome_leads_to_one_state() {
    let check = |error: FetchError, placed: bool, expected: TransferState, over: bool| {
        let home = tempfile::tempdir().unwrap();
        let store = store(&home);
        let transfers = load(&store);
        let ticket = transfers.open(request("a", "/a")).unwrap();
        transfers.start_next().unwrap();
        let place = placed.then(|| place(&store, "a"));
        transfers.set_place(1, place).unwrap();
        let text = error.to_string();
        transfers.ended(1, Err(error));
        assert_eq!(states(&transfers), [(1, expected.clone())], "{text}");
        assert_eq!(transfers.info(1).unwrap().over, over, "{text}");
        assert_eq!(outcome(&ticket), text);
        // The next process finds what is not over, and nothing else.
        let left = if over { vec![] } else { vec![(1, expected)] };
        assert_eq!(states(&load(&store)), left, "{text}");
    };
    let problem = || FetchError::Destination(std::io::ErrorKind::StorageFull.into());
    let verdict = || FetchError::DestinationExists("/a".into());
    let paused = |why| TransferState::Paused(why);
    let failed = |error: FetchError| TransferState::Failed(error.to_string());
    check(
        problem(),
        true,
        paused(Pause::Problem(problem().to_string())),
        false,
    );
    check(problem(), false, failed(problem()), true);
    check(verdict(), true, failed(verdict()), false);
    check(verdict(), false, failed(verdict()), true);
    // Somebody waited for it: where nothing is there, the answer was all.
    for error in [not_found, no_progress] {
        let wants = paused(Pause::NoProvider(error().to_string()));
        check(error(), true, wants, false);
        check(error(), false, failed(error()), true);
    }
    check(FetchError::Cancelled, true, paused(Pause::Stopped), false);
    check(FetchError::Cancelled, false, paused(Pause::Stopped), false);
}

fn not_found() -> FetchError {
    FetchError::NotFound {
        root: root("a"),
        timeout: Duration::from_secs(1),
        asked: Vec::new(),
        was_alone: false,
    }
}

fn no_progress() -> FetchError {
    FetchError::NoProgress {
        patience: Duration::from_secs(1),
        asked: Vec::new(),
    }
}

#[test]
fn what_wants_a_provider_rests_until_one_is_found_also_in_the_next_process() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    {
        let transfers = placed(&store);
        transfers.ended(1, Err(no_progress()));
        // Nobody waits for this one, so nobody would hear that it failed.
        let ticket = transfers.open(request("b", "/b")).unwrap();
        transfers.resume(ticket.id).unwrap();
        transfers.start_next().unwrap();
        assert!(!transfers.leave(ticket.id, ticket.serial, Pause::Interrupted));
        transfers.ended(ticket.id, Err(not_found()));
    }
    let transfers = load(&store);
    let resting = transfers.resting();
    let ids: Vec<u64> = resting.iter().map(|it| it.id).collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(resting[1].request.link.root, root("b"));
    // A start alone is no reason to go on.
    transfers.resume_stopped();
    assert!(transfers.start_next().is_none());
    assert!(transfers.go_on(1));
    assert!(!transfers.go_on(1), "it is on its way");
    assert_eq!(transfers.start_next().unwrap().id, 1);
    // What somebody paused is his.
    assert!(matches!(transfers.pause(2).unwrap(), Stopping::Now));
    assert!(!transfers.go_on(2));
    assert!(transfers.resting().is_empty());
}

#[test]
fn a_transfer_that_is_to_go_on_alone_does_until_somebody_joins_and_leaves() {
    let home = tempfile::tempdir().unwrap();
    let transfers = load(&store(&home));
    let first = transfers.open(request("a", "/a")).unwrap();
    let started = transfers.start_next().unwrap();
    // The terminal of the one who waited was closed.
    transfers.resume(first.id).unwrap();
    assert!(!transfers.leave(first.id, first.serial, Pause::Interrupted));
    assert!(!started.cancel.is_cancelled());
    let second = transfers.open(request("a", "/a")).unwrap();
    assert!(transfers.leave(second.id, second.serial, Pause::Interrupted));
    assert!(started.cancel.is_cancelled());
}

#[test]
fn what_ended_with_its_process_goes_on_and_what_was_paused_does_not() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    {
        let transfers = load(&store);
        for name in ["/killed", "/paused", "/queued-and-paused"] {
            transfers.open(request("a", name)).unwrap();
        }
        transfers.start_next().unwrap();
        transfers.start_next().unwrap();
        assert!(matches!(transfers.pause(2).unwrap(), Stopping::Ending(_)));
        transfers.ended(2, Err(FetchError::Cancelled));
        assert!(matches!(transfers.pause(3).unwrap(), Stopping::Now));
        transfers.flush().unwrap();
        // The process ends here, without a word.
    }
    let transfers = load(&store);
    let rest = TransferState::Paused(Pause::Asked);
    let expected = [
        (1, TransferState::Paused(Pause::Stopped)),
        (2, rest.clone()),
        (3, rest.clone()),
    ];
    assert_eq!(states(&transfers), expected);
    transfers.resume_stopped();
    let expected = [(1, TransferState::Queued), (2, rest.clone()), (3, rest)];
    assert_eq!(states(&transfers), expected);
    assert_eq!(transfers.open(request("b", "/b")).unwrap().id, 4);
}

#[test]
fn a_cancelled_transfer_is_gone_once_nothing_is_left_of_it() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let transfers = placed(&store);
    assert!(matches!(transfers.pause(1).unwrap(), Stopping::Ending(_)));
    transfers.ended(1, Err(FetchError::Cancelled));
    let Stopping::Remove(Some(_)) = transfers.remove(1).unwrap() else {
        panic!("there is something to take away");
    };
    assert!(states(&transfers).is_empty(), "nobody sees it any more");
    assert!(matches!(
        transfers.resolve("1"),
        Err(ControlError::Unknown(_))
    ));
    transfers.flush().unwrap();
    // A process that ends here leaves it to the next.
    assert_eq!(load(&store).half_removed().len(), 1);
    transfers.removed(1, &Ok(()));
    assert!(load(&store).half_removed().is_empty());

    let cannot = FetchError::Destination(std::io::ErrorKind::PermissionDenied.into());
    let ticket = transfers.open(request("a", "/a")).unwrap();
    assert!(matches!(
        transfers.remove(2).unwrap(),
        Stopping::Remove(None)
    ));
    assert_eq!(outcome(&ticket), FetchError::Removed.to_string());
    transfers.removed(2, &Err(cannot));
    assert!(matches!(states(&transfers)[0].1, TransferState::Failed(_)));
}

#[test]
fn a_running_transfer_that_is_cancelled_is_to_be_removed_by_its_run() {
    let home = tempfile::tempdir().unwrap();
    let transfers = load(&store(&home));
    transfers.open(request("a", "/a")).unwrap();
    let started = transfers.start_next().unwrap();
    assert!(transfers.is_to_be_removed(1).is_none());
    assert!(matches!(transfers.pause(1).unwrap(), Stopping::Ending(_)));
    assert!(matches!(transfers.remove(1).unwrap(), Stopping::Ending(_)));
    assert!(started.cancel.is_cancelled());
    assert!(transfers.is_to_be_removed(1).is_some());
    transfers.ended(1, Err(FetchError::Removed));
    assert!(states(&transfers).is_empty());
    assert_eq!(transfers.open(request("a", "/a")).unwrap().id, 2);
}

#[test]
fn words_for_a_transfer() {
    let home = tempfile::tempdir().unwrap();
    let transfers = load(&store(&home));
    for (content, output) in [("a", "/1"), ("a", "/2"), ("b", "/3")] {
        transfers.open(request(content, output)).unwrap();
    }
    transfers.start_next().unwrap();
    transfers.ended(1, Err(FetchError::BareSymlink));
    let (a, b) = (root("a").to_string(), root("b").to_string());
    let check = |word: &str, expected: Result<u64, &str>| {
        let found = transfers.resolve(word).map_err(|error| match error {
            ControlError::Unknown(_) => "unknown",
            ControlError::Ambiguous { .. } => "ambiguous",
            _ => "other",
        });
        assert_eq!(found, expected, "{word}");
    };
    check("1", Ok(1));
    check("9", Err("unknown"));
    check("-1", Err("unknown"));
    // One that is not over comes before one that is.
    check(&a, Ok(2));
    check(&b, Ok(3));
    check(&b[..20], Ok(3));
    check(&a[..8], Err("ambiguous"));
    check("", Err("ambiguous"));
    check("zzz", Err("unknown"));
}

#[test]
fn what_another_spelling_left_at_the_same_place_is_taken_over() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let transfers = load(&store);
    transfers.open(request("a", "/x/a")).unwrap();
    transfers.start_next().unwrap();
    let left = place(&store, "a");
    transfers.set_place(1, Some(left.clone())).unwrap();
    transfers.ended(1, Err(FetchError::Cancelled));

    for (content, expected) in [("b", None), ("a", Some(left.clone()))] {
        let into = FetchRequest {
            into: true,
            ..request(content, "/x")
        };
        let id = transfers.open(into).unwrap().id;
        let inherited = transfers.inherit(id, |it| it.destination == left.destination);
        assert_eq!(inherited.unwrap(), expected);
        assert_eq!(transfers.place(id), expected);
    }
    let ids: Vec<_> = states(&load(&store)).iter().map(|it| it.0).collect();
    assert_eq!(ids, [2, 3], "the first one has ended in the third");
}

#[test]
fn only_the_last_that_are_over_are_listed() {
    let home = tempfile::tempdir().unwrap();
    let transfers = load(&store(&home));
    for n in 0..FINISHED_MAX as u64 + 3 {
        transfers.open(request("a", "/a")).unwrap();
        transfers.start_next().unwrap();
        transfers.ended(n + 1, Err(FetchError::BareSymlink));
    }
    let listed = states(&transfers);
    assert_eq!((listed.len(), listed[0].0), (FINISHED_MAX, 4));
}

#[test]
fn nothing_begins_once_it_is_closed() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let transfers = load(&store);
    let waits = transfers.open(request("a", "/a")).unwrap();
    transfers.close();
    assert_eq!(outcome(&waits), FetchError::Cancelled.to_string());
    assert!(transfers.start_next().is_none());
    assert!(matches!(
        transfers.open(request("b", "/b")),
        Err(FetchError::Cancelled)
    ));
    transfers.flush().unwrap();
    assert_eq!(
        states(&load(&store)),
        [(1, TransferState::Paused(Pause::Stopped))]
    );
}

#[test]
fn what_was_let_go_is_never_taken_away_again() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let transfers = placed(&store);
    transfers.let_go(1).unwrap();
    // A process that ends here leaves rows, and a part that is in place and no part any more.
    let left = load(&store).half_removed();
    let [(1, Some(place))] = left.as_slice() else {
        panic!("{left:?}");
    };
    assert_eq!(place.moving, None);
    transfers.ended(1, Ok(fetched("a")));
    assert_eq!(states(&transfers), [(1, TransferState::Done)]);
    assert!(load(&store).half_removed().is_empty());
}
