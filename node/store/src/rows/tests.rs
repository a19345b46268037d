#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn rows_of_earlier_layouts_are_read() {
    let record = ShareRecord {
        id: ShareId(7),
        root: Cid::raw(Digest::of(HashFn::Blake3, b"root")),
        name: "name".to_owned(),
        source: "/source".into(),
        base: "/base".into(),
        selection: Vec::new(),
        origin: Origin::Fetched,
        announce: false,
        recipe: Recipe::default(),
        size: 1,
        files: 2,
        chunks: 3,
        created_ms: 4,
        unflushed_boot: None,
        state: ShareState::Live,
        written: None,
        replicate: true,
        terms: Terms::default(),
    };
    let now = encode(&record).unwrap();
    assert_eq!(decode::<ShareRecord>(&now).unwrap(), record);
    for (version, rest) in ShareRecord::EARLIER {
        let mut earlier = now[..now.len() - rest.len()].to_vec();
        earlier[0] = *version;
        assert_eq!(
            decode::<ShareRecord>(&earlier).unwrap(),
            record,
            "{version}"
        );
    }
    let marked = ShareRecord {
        replicate: false,
        ..record
    };
    let read: ShareRecord = decode(&encode(&marked).unwrap()).unwrap();
    assert!(read.marks().no_announce && read.marks().no_replicate);
}

const STAT: FileStat = FileStat {
    size: 10,
    mtime_ns: 5_000_000_000,
    ctime_ns: 6_000_000_000,
    ino: 7,
    dev: 8,
};

#[test]
fn stats_compare_by_what_differs() {
    let check = |now: FileStat, expected: Comparison| {
        assert_eq!(STAT.compare(&now), expected, "{now:?}");
    };
    check(STAT, Comparison::Same);
    check(
        FileStat {
            ctime_ns: 1,
            ..STAT
        },
        Comparison::Doubtful,
    );
    check(FileStat { dev: 1, ..STAT }, Comparison::Doubtful);
    check(
        FileStat {
            mtime_ns: 1,
            ino: 1,
            ..STAT
        },
        Comparison::Doubtful,
    );
    check(FileStat { size: 11, ..STAT }, Comparison::Resized);
    check(FileStat { size: 0, ..STAT }, Comparison::Resized);
    let fresh = STAT.recorded_at(UNIX_EPOCH + Duration::from_secs(6));
    assert_eq!(fresh.compare(&STAT), Comparison::Doubtful);
    assert_eq!(fresh.compare(&fresh), Comparison::Doubtful);
    let none = FileStat { size: 0, ..STAT };
    assert_eq!(none.unsized_with(10).compare(&none), Comparison::Doubtful);
    assert_eq!(none.compare(&none), Comparison::Same, "an empty file");
}

#[test]
fn what_differs_most_plainly_is_blamed() {
    let check = |now: FileStat, expected: ChangeKind| {
        assert_eq!(STAT.blame(&now), expected, "{now:?}");
    };
    check(STAT, ChangeKind::Content);
    check(
        FileStat {
            ctime_ns: 9,
            ..STAT
        },
        ChangeKind::Content,
    );
    check(
        FileStat {
            mtime_ns: 9,
            ..STAT
        },
        ChangeKind::Modified,
    );
    let replaced = FileStat {
        ino: 9,
        mtime_ns: 9,
        ..STAT
    };
    check(replaced, ChangeKind::Replaced);
    check(
        FileStat {
            size: 9,
            ..replaced
        },
        ChangeKind::Resized,
    );
}

#[test]
fn a_file_that_just_changed_is_not_vouched_for_by_its_ctime() {
    let check = |age: Duration, vouched: bool| {
        let fine = FileStat {
            ctime_ns: 6_000_000_001,
            ..STAT
        };
        let now = UNIX_EPOCH + Duration::from_nanos(6_000_000_001) + age;
        assert_eq!(fine.recorded_at(now).ctime_ns != 0, vouched, "{age:?}");
    };
    let coarse = |secs: u64| STAT.recorded_at(UNIX_EPOCH + Duration::from_secs(6 + secs));
    assert_eq!(coarse(1).ctime_ns, 0, "whole seconds are a coarse clock");
    assert_ne!(coarse(2).ctime_ns, 0);
    check(Duration::ZERO, false);
    check(Duration::from_millis(19), false);
    check(Duration::from_millis(20), true);
    check(Duration::from_secs(1), true);
    let unflushed = |age: u64| STAT.may_be_unflushed(UNIX_EPOCH + Duration::from_secs(6 + age));
    assert!(unflushed(1) && unflushed(59) && !unflushed(60));
    // A ctime in the future says as little as one of this moment.
    assert_eq!(STAT.recorded_at(UNIX_EPOCH).ctime_ns, 0);
}

#[test]
fn rows_survive_encoding_and_foreign_ones_are_refused() {
    let row = FileRow {
        share: ShareId(9),
        path: "a/b".to_owned(),
        stat: STAT,
        state: FileState::Stable,
    };
    let bytes = encode(&row).unwrap();
    assert_eq!(decode::<FileRow>(&bytes).unwrap(), row);
    assert!(decode::<FileRow>(&[]).is_err());
    assert!(decode::<FileRow>(&[2, 0, 0]).is_err());
    assert!(decode::<FileRow>(&bytes[..bytes.len() - 1]).is_err());
}
