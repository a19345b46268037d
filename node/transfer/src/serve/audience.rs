//! Who gets what of the roots that are shared here: how much was sent to whom, who fetches now, and
//! who has all of it.
//!
//! A peer is in the books of a root from the first chunk that is sent to it, or once it says that it
//! has all of the root ([`Request::HAS_ALL`](shoal_protocol::exchange::Request::HAS_ALL)). Of each root
//! the last [`PEERS_MAX`] peers are known, and sums over all. The books are rows of the database:
//! `sent.` and the root, `sent.` and the root, `/` and the peer, both JSON, so that later versions may
//! add fields. They are written every [`WRITE_INTERVAL`], when somebody has all of it, and at the end;
//! so `kill -9` loses what was sent in that time, and no copy.
//!
//! It decides nothing: whoever ends shares is told of new copies and asks for their number. It ends
//! with [`Audience::run`].

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use libp2p::PeerId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use shoal_ground::{meter::Meter, metrics::Numbers};
use shoal_protocol::address::Cid;
use shoal_store::{StoreError, Table, TableChange};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Peers that are known of one root: about 300 bytes each, so 75 KiB.
pub const PEERS_MAX: usize = 256;
/// Between two looks at how fast bytes go out.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// A peer that begins is shown no more than it has got on average: what the buffers on the way take at
/// once says nothing of its line.
const BEGINNING: Duration = Duration::from_secs(8);
/// The longest that what was sent is not written down.
pub const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// Rows that are to be taken out with the next write; of more, the next start takes care.
const GONE_MAX: usize = 4 * PEERS_MAX;
/// Rows that are read at a time.
const SCAN_ROWS: usize = 1024;
/// How the keys of all rows begin.
const PREFIX: &str = "sent.";

/// The books of all roots.
pub struct Audience {
    table: Table,
    books: Mutex<Books>,
    /// Held while rows are written, so that they are written in the order in which they changed.
    writing: Mutex<()>,
    /// A peer has said that it has all of a root, and [`Audience::run`] has not written that yet.
    said: Notify,
    /// Counts how often such words were written down.
    completed: watch::Sender<u64>,
}

#[derive(Default)]
struct Books {
    roots: HashMap<Cid, Book>,
    /// Keys of rows that are to go.
    gone: Vec<String>,
    /// Peers that were forgotten for others.
    evicted: u64,
}

/// The book of one root.
#[derive(Default)]
struct Book {
    row: RootRow,
    is_new: bool,
    peers: HashMap<PeerId, Entry>,
}

/// What is kept of a root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct RootRow {
    sent: u64,
    /// Peers that have said that they have all of it.
    copies: u64,
    /// The same, since it was counted anew.
    counted: u64,
}

/// One peer in the book of a root.
#[derive(Default)]
struct Entry {
    row: PeerRow,
    is_new: bool,
    streams: usize,
    meter: Meter,
    rate: u64,
    /// When it began to fetch, and what it had been sent before.
    begun: Option<(Instant, u64)>,
}

/// What is kept of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct PeerRow {
    sent: u64,
    /// What was sent since it last had all of it.
    current: u64,
    /// It has all of it, and was sent nothing since.
    complete: bool,
    /// It had all of it at some time.
    was_complete: bool,
    /// It is one of [`RootRow::counted`].
    counted: bool,
    /// When something was last heard of it or sent to it, in milliseconds of Unix time.
    last_ms: u64,
}

/// What is known of a root's audience.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AudienceOf {
    /// Bytes of chunks that were sent of it.
    pub sent: u64,
    /// Peers that have said that they have all of it.
    pub copies: u64,
    /// The same, since it was counted anew.
    pub counted: u64,
    /// Peers that fetch it now.
    pub fetching: u64,
    /// Bytes per second that go to these.
    pub rate: u64,
    /// Those that fetch first, then the latest.
    pub peers: Vec<PeerOf>,
}

/// A peer of a root's audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerOf {
    /// Who.
    pub peer: PeerId,
    /// It fetches now.
    pub fetching: bool,
    /// It has all of it.
    pub complete: bool,
    /// Bytes of chunks that were sent to it.
    pub sent: u64,
    /// The same since it last had all of it.
    pub current: u64,
    /// Bytes per second.
    pub rate: u64,
    /// In milliseconds of Unix time.
    pub last_ms: u64,
}

impl Audience {
    /// Reads what earlier runs have left. Blocking.
    ///
    /// # Errors
    /// When the database cannot be read. Rows that are not understood are left alone.
    pub fn load(table: Table) -> Result<Arc<Self>, StoreError> {
        let mut books = Books::default();
        let mut from = Vec::new();
        loop {
            let rows = table.scan(PREFIX.as_bytes(), &from, SCAN_ROWS)?;
            for (key, value) in &rows {
                books.read(key, value);
            }
            match rows.last() {
                Some((last, _)) if rows.len() == SCAN_ROWS => {
                    from.clone_from(last);
                    // The key right behind the last one.
                    from.push(0);
                }
                _ => break,
            }
        }
        Ok(Arc::new(Self {
            table,
            books: Mutex::new(books),
            writing: Mutex::default(),
            said: Notify::new(),
            completed: watch::Sender::default(),
        }))
    }

    /// Measures rates and writes the books until `shutdown`, and what is left then. Roots that are
    /// not `known` any more are forgotten.
    pub async fn run(
        self: Arc<Self>,
        known: impl Fn(&Cid) -> bool + Send,
        shutdown: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(MEASURE_INTERVAL);
        let mut written = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.said.notified() => {
                    self.write_beside().await;
                    self.completed.send_modify(|count| *count += 1);
                }
                _ = ticks.tick() => {
                    self.measure_rates(Instant::now());
                    if written.elapsed() >= WRITE_INTERVAL {
                        written = Instant::now();
                        self.forget(&known);
                        self.write_beside().await;
                    }
                }
            }
        }
        self.write_beside().await;
    }

    /// Changes after peers have said that they have all of a root, once that is written down.
    pub fn completed(&self) -> watch::Receiver<u64> {
        self.completed.subscribe()
    }

    /// How many peers have all of a root, since it was counted anew.
    pub fn counted(&self, root: &Cid) -> u64 {
        let books = self.books.lock();
        books.roots.get(root).map_or(0, |book| book.row.counted)
    }

    /// From now on counts those who have all of a root from the start.
    pub fn count_anew(&self, root: &Cid) {
        let mut books = self.books.lock();
        let Some(book) = books.roots.get_mut(root) else {
            return;
        };
        book.row.counted = 0;
        book.is_new = true;
        for entry in book.peers.values_mut() {
            entry.is_new |= entry.row.counted;
            entry.row.counted = false;
        }
    }

    /// What is known of a root, with so many peers at the most.
    pub fn of(&self, root: &Cid, peers_max: usize) -> AudienceOf {
        let books = self.books.lock();
        let Some(book) = books.roots.get(root) else {
            return AudienceOf::default();
        };
        let peers = book.peers.iter();
        let mut peers: Vec<_> = peers.map(|(peer, entry)| entry.told(*peer)).collect();
        let fetching = peers.iter().filter(|it| it.fetching).count() as u64;
        let rate = peers.iter().map(|it| it.rate).sum();
        peers.sort_by_key(|it| std::cmp::Reverse((it.fetching, it.last_ms, it.peer)));
        peers.truncate(peers_max);
        AudienceOf {
            sent: book.row.sent,
            copies: book.row.copies,
            counted: book.row.counted,
            fetching,
            rate,
            peers,
        }
    }

    /// Writes what is new. Blocking.
    fn write(&self) {
        let _writing = self.writing.lock();
        let changes = self.books.lock().changes();
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.table.write(&changes, false) {
            tracing::warn!(%error, "what was sent to whom was not written down");
        }
    }

    /// Adds its numbers.
    pub fn measure(&self, numbers: &mut Numbers) {
        let books = self.books.lock();
        let all = books.roots.values();
        let (mut copies, mut fetching) = (0, 0);
        for book in all {
            copies += book.row.copies;
            let streams = book.peers.values().filter(|entry| entry.streams > 0);
            fetching += streams.count() as u64;
        }
        numbers.gauge(
            "shoal_share_fetching_peers",
            "Peers that fetch something that is shared here, counted for each root.",
            fetching,
        );
        numbers.gauge(
            "shoal_share_copies",
            "Complete copies that peers have said to have of what is shared here.",
            copies,
        );
        numbers.counter(
            "shoal_share_peers_forgotten",
            "Peers that were forgotten because a root had too many to remember.",
            books.evicted,
        );
    }

    /// Writes what is new on a thread that may block, and waits for it, so that nothing holds the
    /// database once [`Audience::run`] has ended.
    async fn write_beside(self: &Arc<Self>) {
        let audience = Arc::clone(self);
        let writing = tokio::task::spawn_blocking(move || audience.write());
        if let Err(panic) = writing.await {
            tracing::error!(%panic, "what was sent to whom was not written down");
        }
    }

    fn measure_rates(&self, now: Instant) {
        let mut books = self.books.lock();
        let peers = books
            .roots
            .values_mut()
            .flat_map(|it| it.peers.values_mut());
        // A peer that opens its next stream a moment after the last one goes on at its rate.
        for entry in peers.filter(|entry| entry.streams > 0 || entry.rate > 0) {
            entry.measure_rate(now);
        }
    }

    fn forget(&self, known: impl Fn(&Cid) -> bool) {
        // Asked without the lock: who is asked may be told of something that wants it.
        let roots: Vec<Cid> = self.books.lock().roots.keys().cloned().collect();
        let unknown: HashSet<Cid> = roots.into_iter().filter(|root| !known(root)).collect();
        let mut books = self.books.lock();
        for root in unknown {
            books.forget(&root);
        }
    }

    /// A peer has opened a stream for a root.
    pub(super) fn visit(self: &Arc<Self>, root: &Cid, peer: PeerId) -> Visit {
        Visit {
            audience: Arc::clone(self),
            root: root.clone(),
            peer,
            fetches: AtomicBool::new(false),
        }
    }

    fn change<T>(
        &self,
        visit: &Visit,
        change: impl FnOnce(&mut RootRow, Option<&mut Entry>) -> T,
    ) -> T {
        let mut books = self.books.lock();
        let Books {
            roots,
            gone,
            evicted,
        } = &mut *books;
        let book = roots.entry(visit.root.clone()).or_default();
        book.is_new = true;
        if !book.peers.contains_key(&visit.peer) {
            if let Some(peer) = book.surplus() {
                book.peers.remove(&peer);
                *evicted += 1;
                if gone.len() < GONE_MAX {
                    gone.push(peer_key(&visit.root, &peer));
                }
            }
            if book.peers.len() < PEERS_MAX {
                book.peers.insert(visit.peer, Entry::default());
            }
        }
        let Book { row, peers, .. } = book;
        let mut entry = peers.get_mut(&visit.peer);
        if let Some(entry) = &mut entry {
            entry.is_new = true;
            entry.row.last_ms = now_ms();
        }
        change(row, entry)
    }
}

/// A stream that a peer has open for a root.
pub(super) struct Visit {
    audience: Arc<Audience>,
    root: Cid,
    peer: PeerId,
    /// A chunk was sent on it.
    fetches: AtomicBool,
}

impl Visit {
    /// So many bytes of a chunk were sent.
    pub(super) fn sent(&self, bytes: u64) {
        let is_first = !self.fetches.swap(true, Relaxed);
        self.audience.change(self, |row, entry| {
            row.sent = row.sent.saturating_add(bytes);
            let Some(entry) = entry else { return };
            if is_first {
                if (entry.streams, entry.rate) == (0, 0) {
                    entry.begun = Some((Instant::now(), entry.row.sent));
                }
                entry.streams += 1;
            }
            if std::mem::take(&mut entry.row.complete) {
                entry.row.current = 0;
            }
            entry.row.sent = entry.row.sent.saturating_add(bytes);
            entry.row.current = entry.row.current.saturating_add(bytes);
        });
    }

    /// The peer has said that it has all of the root. Its word is written down soon.
    pub(super) fn has_all(&self) {
        self.audience.change(self, |row, entry| {
            let Some(entry) = entry else {
                // Nobody can say whether it is one of those that were counted.
                row.copies += 1;
                row.counted += 1;
                return;
            };
            row.copies += u64::from(!entry.row.was_complete);
            row.counted += u64::from(!entry.row.counted);
            entry.row.complete = true;
            entry.row.was_complete = true;
            entry.row.counted = true;
        });
        self.audience.said.notify_one();
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.fetches.load(Relaxed) {
            return;
        }
        let mut books = self.audience.books.lock();
        let book = books.roots.get_mut(&self.root);
        if let Some(entry) = book.and_then(|book| book.peers.get_mut(&self.peer)) {
            entry.streams = entry.streams.saturating_sub(1);
        }
    }
}

impl Books {
    /// Takes over a row.
    fn read(&mut self, key: &[u8], value: &[u8]) {
        let Some(key) = std::str::from_utf8(key)
            .ok()
            .and_then(|it| it.strip_prefix(PREFIX))
        else {
            return;
        };
        let (root, peer) = match key.split_once('/') {
            Some((root, peer)) => (root, Some(peer)),
            None => (key, None),
        };
        let Ok(root) = root.parse::<Cid>() else {
            return;
        };
        let book = self.roots.entry(root.clone()).or_default();
        let Some(peer) = peer else {
            book.row = serde_json::from_slice(value).unwrap_or_default();
            return;
        };
        let (Ok(peer), Ok(row)) = (peer.parse::<PeerId>(), serde_json::from_slice(value)) else {
            return;
        };
        if let Some(surplus) = book.surplus() {
            book.peers.remove(&surplus);
            self.gone.push(peer_key(&root, &surplus));
        }
        let entry = Entry {
            row,
            ..Entry::default()
        };
        book.peers.insert(peer, entry);
    }

    fn forget(&mut self, root: &Cid) {
        let Some(book) = self.roots.remove(root) else {
            return;
        };
        self.gone.push(root_key(root));
        let peers = book.peers.keys().map(|peer| peer_key(root, peer));
        self.gone.extend(peers);
    }

    /// What is to be written, which counts as written from now on.
    fn changes(&mut self) -> Vec<TableChange> {
        let gone = std::mem::take(&mut self.gone);
        let mut changes: Vec<_> = gone
            .into_iter()
            .map(|key| TableChange::Delete {
                key: key.into_bytes(),
            })
            .collect();
        for (root, book) in &mut self.roots {
            if !std::mem::take(&mut book.is_new) {
                continue;
            }
            changes.extend(put(root_key(root), &book.row));
            for (peer, entry) in &mut book.peers {
                if std::mem::take(&mut entry.is_new) {
                    changes.extend(put(peer_key(root, peer), &entry.row));
                }
            }
        }
        changes
    }
}

impl Book {
    /// The peer that one more takes the place of, once there are [`PEERS_MAX`]: none that fetches,
    /// and rather one that does not have all of it; of these the one that was heard of longest ago.
    fn surplus(&self) -> Option<PeerId> {
        if self.peers.len() < PEERS_MAX {
            return None;
        }
        let resting = self.peers.iter().filter(|(_, entry)| entry.streams == 0);
        let oldest = resting.min_by_key(|(_, entry)| (entry.row.was_complete, entry.row.last_ms));
        oldest.map(|(peer, _)| *peer)
    }
}

impl Entry {
    fn measure_rate(&mut self, now: Instant) {
        let measured = self.meter.rate(self.row.sent, now);
        let Some((at, before)) = self.begun else {
            self.rate = measured;
            return;
        };
        let elapsed = now.saturating_duration_since(at);
        if elapsed > BEGINNING {
            self.begun = None;
        }
        let millis = elapsed.max(MEASURE_INTERVAL).as_millis();
        let sent = u128::from(self.row.sent.saturating_sub(before));
        let average = u64::try_from(sent * 1000 / millis).unwrap_or(u64::MAX);
        self.rate = measured.min(average);
    }

    fn told(&self, peer: PeerId) -> PeerOf {
        PeerOf {
            peer,
            fetching: self.streams > 0 && !self.row.complete,
            complete: self.row.complete,
            sent: self.row.sent,
            current: self.row.current,
            rate: match self.streams > 0 && !self.row.complete {
                true => self.rate,
                false => 0,
            },
            last_ms: self.row.last_ms,
        }
    }
}

fn root_key(root: &Cid) -> String {
    format!("{PREFIX}{root}")
}

fn peer_key(root: &Cid, peer: &PeerId) -> String {
    format!("{PREFIX}{root}/{peer}")
}

fn put(key: String, row: &impl Serialize) -> Option<TableChange> {
    let value = serde_json::to_vec(row).ok()?;
    let key = key.into_bytes();
    Some(TableChange::Put { key, value })
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
