//! Unfinished transfers as the database keeps them.
//!
//! | key                   | value                                                      |
//! | --------------------- | ---------------------------------------------------------- |
//! | `t`, number 8 BE      | a version byte and a [`TransferRecord`]                     |
//! | `n`                   | the next number, 8 BE: none is given twice                  |
//!
//! A record is there before anything of its transfer is on the disk, and goes when nothing of it is
//! left but what was asked for. Rows of another layout are left alone.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, time::Duration};

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use shoal_ground::units::Rate;
use shoal_protocol::link::Link;
use shoal_store::{FileStat, ShareId, Store, StoreError, TableChange, TableName};

use super::{
    FetchRequest, Only, Pause,
    place::Destination,
    progress::{Phase, Snapshot},
    verdict::Deadlines,
};

/// The layout that is written.
const VERSION: u8 = 6;
/// The layouts before, and what follows their rows in this one: no patterns, no new names, no limit,
/// the patience of 15 min.
const EARLIER: [(u8, &[u8]); 3] = [
    (3, b"\0\0\x03off\xa0\xf7\x36"),
    (4, b"\x03off\xa0\xf7\x36"),
    (5, b"\xa0\xf7\x36"),
];
const NEXT_KEY: &[u8] = b"n";
const RECORD_PREFIX: u8 = b't';
/// Rows read at a time while loading.
const SCAN_ROWS: usize = 256;

/// One unfinished transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TransferRecord {
    pub(super) request: StoredRequest,
    pub(super) created_ms: u64,
    pub(super) fate: Fate,
    pub(super) place: Option<LandingPlace>,
    pub(super) reached: Reached,
    /// The patterns of what is fetched; none for everything.
    pub(super) only: Vec<String>,
    pub(super) rename_unsafe: bool,
    /// What it may receive.
    pub(super) limit: Rate,
    /// For how long it waits without a byte once it has begun.
    pub(super) patience_ms: u64,
}

/// What a transfer was asked to do but for what follows in its record. A link is written without its peers, which follow as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredRequest {
    link: String,
    peers: Vec<String>,
    output: PathBuf,
    into: bool,
    overwrite: bool,
    serve: bool,
    sync: bool,
    timeout_ms: u64,
}

/// What becomes of a transfer at the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fate {
    /// A daemon goes on with it.
    Active,
    /// It waits until somebody asks for it.
    Paused(Pause),
    /// The same, although it will fail again unless something changes.
    Failed(String),
    /// It was cancelled; what is left of it is taken away.
    Removing,
}

/// Where a transfer lands, once that is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LandingPlace {
    pub(super) destination: Destination,
    /// The name of the hidden part, beside the destination.
    pub(super) part: OsString,
    /// The share that the landed rows belong to.
    pub(super) share: ShareId,
    /// What the system says of the part, once it is about to be moved into place.
    pub(super) moving: Option<FileStat>,
}

/// How far a transfer was when it last came to rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reached {
    pub(super) bytes: u64,
    files: u64,
    /// Bytes and files of the whole, once the tree was read.
    totals: Option<(u64, u64)>,
}

impl Reached {
    pub(super) fn at(progress: &Snapshot) -> Self {
        let totals = progress.bytes_total.zip(Some(progress.files_total));
        Self {
            bytes: progress.verified(),
            files: progress.files,
            totals,
        }
    }

    /// The same, as a run that has not gone on yet.
    pub(super) fn snapshot(&self) -> Snapshot {
        let (bytes_total, files_total) = self.totals.unzip();
        Snapshot {
            phase: match self.totals {
                Some(_) => Phase::Fetching,
                None => Phase::Finding,
            },
            bytes_total,
            files_total: files_total.unwrap_or_default(),
            files: self.files,
            resumed: self.bytes,
            ..Snapshot::default()
        }
    }
}

impl StoredRequest {
    pub(super) fn of(request: &FetchRequest) -> Self {
        let FetchRequest {
            link,
            output,
            into,
            peers,
            only: _,
            overwrite,
            rename_unsafe: _,
            serve,
            sync,
            deadlines,
        } = request;
        let peers = peers.iter().map(ToString::to_string);
        let bare = Link {
            peers: Vec::new(),
            ..link.clone()
        };
        Self {
            link: bare.to_string(),
            peers: peers.chain(link.peers.iter().cloned()).collect(),
            output: output.clone(),
            into: *into,
            overwrite: *overwrite,
            serve: *serve,
            sync: *sync,
            timeout_ms: millis(deadlines.timeout),
        }
    }
}

/// As rows keep a time.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl TransferRecord {
    /// The request again; none for a link or a pattern that this build does not read.
    pub(super) fn request(&self) -> Option<FetchRequest> {
        let of = &self.request;
        let peers = of.peers.iter();
        Some(FetchRequest {
            link: of.link.parse().ok()?,
            output: of.output.clone(),
            into: of.into,
            peers: peers
                .filter_map(|it| it.parse::<Multiaddr>().ok())
                .collect(),
            only: Only::new(self.only.clone()).ok()?,
            overwrite: of.overwrite,
            rename_unsafe: self.rename_unsafe,
            serve: of.serve,
            sync: of.sync,
            deadlines: Deadlines {
                timeout: Duration::from_millis(of.timeout_ms),
                patience: Duration::from_millis(self.patience_ms),
            },
        })
    }
}

/// No transfer ever gets this number: every program that reads JSON keeps those below it exactly. A row
/// that has it, or a larger one, is damaged.
const ID_MAX: u64 = 1 << 53;

/// The records of one home.
#[derive(Clone)]
pub(super) struct Records {
    store: Store,
}

impl Records {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Every record that this build reads, by number, and the next number to give.
    pub(super) fn load(&self) -> Result<(Vec<(u64, TransferRecord)>, u64), StoreError> {
        let table = self.store.table(TableName::Transfers);
        let (mut records, mut from) = (Vec::new(), Vec::new());
        loop {
            let rows = table.scan(&[RECORD_PREFIX], &from, SCAN_ROWS)?;
            records.extend(rows.iter().filter_map(|(key, value)| read(key, value)));
            match rows.last() {
                Some((last, _)) if rows.len() == SCAN_ROWS => {
                    from.clone_from(last);
                    from.push(0);
                }
                _ => break,
            }
        }
        let next = table.get(NEXT_KEY)?;
        let next = next.and_then(|value| Some(u64::from_be_bytes(value.try_into().ok()?)));
        let next = next.filter(|next| *next <= ID_MAX);
        // A counter that was lost must not lead to a number that is in use.
        let unused = records.last().map_or(1, |(last, _)| last + 1);
        Ok((records, next.unwrap_or(1).max(unused)))
    }

    /// Writes records, takes out those that are none any more, and notes the next number to give,
    /// all or nothing.
    pub(super) fn write(
        &self,
        records: &BTreeMap<u64, Option<TransferRecord>>,
        next_id: Option<u64>,
    ) -> Result<(), StoreError> {
        let mut changes = Vec::with_capacity(records.len() + 1);
        if let Some(next_id) = next_id {
            changes.push(TableChange::Put {
                key: NEXT_KEY.to_vec(),
                value: next_id.to_be_bytes().to_vec(),
            });
        }
        for (id, record) in records {
            let key = key(*id);
            changes.push(match record {
                Some(record) => TableChange::Put {
                    key,
                    value: encode(record)?,
                },
                None => TableChange::Delete { key },
            });
        }
        self.store
            .table(TableName::Transfers)
            .write(&changes, false)
    }
}

fn key(id: u64) -> Vec<u8> {
    [&[RECORD_PREFIX][..], &id.to_be_bytes()].concat()
}

fn encode(record: &TransferRecord) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(record, vec![VERSION]).map_err(|error| StoreError::Damaged {
        detail: format!("a transfer cannot be encoded: {error}"),
    })
}

fn read(key: &[u8], value: &[u8]) -> Option<(u64, TransferRecord)> {
    let id = u64::from_be_bytes(key.get(1..)?.try_into().ok()?);
    if id >= ID_MAX {
        return None;
    }
    let (version, body) = value.split_first()?;
    if *version == VERSION {
        return Some((id, postcard::from_bytes(body).ok()?));
    }
    let (_, rest) = EARLIER.iter().find(|(earlier, _)| earlier == version)?;
    Some((id, postcard::from_bytes(&[body, rest].concat()).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::address::{Cid, Digest, HashFn};

    use super::*;

    fn record() -> TransferRecord {
        let request = FetchRequest {
            link: Link {
                path: vec!["a".parse().unwrap()],
                peers: vec!["/ip4/127.0.0.1/tcp/2".into()],
                ..Link::new(Cid::raw(Digest::of(HashFn::Blake3, b"x")))
            },
            output: "/x".into(),
            into: true,
            peers: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()],
            only: Only::new(vec!["b".into(), "a/*".into()]).unwrap(),
            overwrite: false,
            rename_unsafe: true,
            serve: false,
            sync: true,
            deadlines: Deadlines {
                timeout: Duration::from_secs(7),
                patience: Duration::from_secs(900),
            },
        };
        TransferRecord {
            request: StoredRequest::of(&request),
            created_ms: 5,
            fate: Fate::Paused(Pause::Problem("full".into())),
            place: None,
            reached: Reached::default(),
            only: request.only.patterns().to_vec(),
            rename_unsafe: request.rename_unsafe,
            limit: "5MB/s".parse().unwrap(),
            patience_ms: 77,
        }
    }

    #[test]
    fn records_survive_and_numbers_are_given_once() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let records = Records::new(store.clone());
        assert_eq!(records.load().unwrap(), (Vec::new(), 1));
        let rows = (1..=300).map(|id| (id, Some(record()))).collect();
        records.write(&rows, Some(301)).unwrap();
        let placed = TransferRecord {
            place: Some(LandingPlace {
                destination: Destination {
                    parent: "/x".into(),
                    name: "y".into(),
                },
                part: ".y.part".into(),
                share: store.new_share_id().unwrap(),
                moving: Some(FileStat::default()),
            }),
            ..record()
        };
        let row = BTreeMap::from([(7, Some(placed.clone()))]);
        records.write(&row, None).unwrap();
        let (loaded, next) = records.load().unwrap();
        assert_eq!((loaded.len(), next), (300, 301));
        assert_eq!(loaded[6], (7, placed));

        let gone = (1..=300).map(|id| (id, None)).collect();
        records.write(&gone, None).unwrap();
        assert_eq!(records.load().unwrap(), (Vec::new(), 301));
    }

    #[test]
    fn numbers_that_none_can_have_lead_to_no_others() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let records = Records::new(store);
        for id in [ID_MAX, u64::MAX] {
            let row = BTreeMap::from([(id, Some(record()))]);
            records.write(&row, Some(u64::MAX)).unwrap();
        }
        assert_eq!(records.load().unwrap(), (Vec::new(), 1));
        let row = BTreeMap::from([(ID_MAX - 1, Some(record()))]);
        records.write(&row, None).unwrap();
        let (loaded, next) = records.load().unwrap();
        assert_eq!((loaded.len(), next), (1, ID_MAX));
    }

    #[test]
    fn rows_of_another_layout_are_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let table = store.table(TableName::Transfers);
        table.put(&key(4), &[VERSION + 1, 1, 2]).unwrap();
        table.put(b"tx", &[VERSION]).unwrap();
        let (loaded, _) = Records::new(store).load().unwrap();
        assert!(loaded.is_empty());
        assert!(table.get(&key(4)).unwrap().is_some());
    }

    #[test]
    fn rows_of_the_layouts_before_are_read() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let whole = TransferRecord {
            only: Vec::new(),
            rename_unsafe: false,
            limit: Rate::OFF,
            patience_ms: 900_000,
            ..record()
        };
        for (version, rest) in EARLIER {
            let mut row = encode(&whole).unwrap();
            assert!(row.ends_with(rest));
            row.truncate(row.len() - rest.len());
            row[0] = version;
            let table = store.table(TableName::Transfers);
            table.put(&key(version.into()), &row).unwrap();
        }
        let (loaded, _) = Records::new(store).load().unwrap();
        let expected = EARLIER.map(|(version, _)| (u64::from(version), whole.clone()));
        assert_eq!(loaded, expected);
    }

    #[test]
    fn a_request_comes_back_with_all_its_peers() {
        let request = record().request().unwrap();
        assert_eq!(request.deadlines.patience, Duration::from_millis(77));
        assert_eq!(request.peers.len(), 2);
        assert_eq!(request.only.patterns(), ["a/*", "b"]);
        assert!(request.rename_unsafe);
        assert_eq!(request.link.path[0].as_str(), "a");
        assert_eq!(StoredRequest::of(&request), record().request);
    }
}
