//! What one stream is about, and for whom: a root, where its blocks are, and the peer that reads
//! them.
//!
//! It counts what the peer gets, and what it reads of replicas, run by run; the last run counts when
//! it is dropped. It reads and sends nothing.

use std::net::IpAddr;

use libp2p::PeerId;
use parking_lot::Mutex;
use shoal_net::ExchangeStream;
use shoal_protocol::{
    address::Cid,
    exchange::{Helper, List, NEARBY_HELPERS_MAX, Response},
};
use shoal_store::{BlockKind, Held};

use super::{
    audience::Visit,
    crowd::Reading,
    news::Sources,
    parts::{Owner, Part, Source},
};
use crate::{
    limits::Class,
    replicate::{Reader, Readings},
};

/// The peer of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) peer: PeerId,
    /// Where it is connected from.
    pub(super) ip: Option<IpAddr>,
}

impl Client {
    pub(super) fn of(stream: &ExchangeStream) -> Self {
        Self {
            peer: stream.peer(),
            ip: stream.remote_ip(),
        }
    }
}

/// One stream's; see the module's head.
pub(super) struct Served {
    pub(super) source: Source,
    client: Client,
    /// What the client reads of replicas, once it has read some.
    readings: Mutex<Option<Readings>>,
    /// Its place in the books; none for what is kept for others alone.
    visit: Option<Visit>,
    /// Its place among those that read the root; none where nothing of it is ever offered.
    reading: Option<Reading>,
}

impl Served {
    pub(super) fn new(sources: &Sources, root: Cid, client: Client) -> Self {
        let is_own = sources.library.held(&root) != Held::Absent;
        let visit = is_own.then(|| sources.audience.visit(&root, client.peer));
        let source = Source {
            library: sources.library.clone(),
            replicas: (sources.replicator).reader_for(&root, (client.peer, client.ip)),
            root,
        };
        Self {
            reading: sources
                .crowds
                .reading(&source.root, (client.peer, client.ip)),
            source,
            client,
            readings: Mutex::default(),
            visit,
        }
    }

    /// Whether nothing of the root is here but what is kept for others.
    pub(super) fn is_for_others(&self) -> bool {
        let held = self.source.replicas.as_ref().and_then(Reader::held);
        held.is_some() && self.source.library.held(&self.source.root) == Held::Absent
    }

    /// The client has said that it has all of the root.
    pub(super) fn has_all(&self) {
        if let Some(visit) = &self.visit {
            visit.has_all();
        }
    }

    /// Waits until the client is to be asked for helpers near it. Cancel-safe.
    pub(super) async fn question(&self) {
        match &self.reading {
            Some(reading) => reading.question().await,
            None => std::future::pending().await,
        }
    }

    /// The question for helpers, which counts as asked.
    pub(super) fn take_question(&self) -> Response {
        if let Some(reading) = &self.reading {
            reading.take_question();
        }
        Response::Nominate
    }

    /// The client names helpers near it.
    pub(super) fn nominated(&self, helpers: List<Helper, NEARBY_HELPERS_MAX>) {
        if let Some(reading) = &self.reading {
            reading.nominated(helpers);
        }
    }

    /// Behind whom a part is sent: what is kept for others comes after what this node has by itself, and
    /// a copy that it has offered beyond the first whole one comes last.
    pub(super) fn class_of(&self, part: &Part) -> Class {
        let is_further = self.reading.as_ref().is_some_and(Reading::is_further_copy);
        match part.owner {
            Owner::Others { .. } => Class::Help,
            Owner::Own if is_further => Class::Replicate,
            Owner::Own => Class::Serve,
        }
    }

    /// So many bytes of a part were sent.
    pub(super) fn sent(&self, part: &Part, bytes: usize) {
        if let (Owner::Own, BlockKind::Chunk, Some(visit)) = (part.owner, part.kind, &self.visit) {
            visit.sent(bytes as u64);
        }
        let (Owner::Others { run }, Some(replicas)) = (part.owner, &self.source.replicas) else {
            return;
        };
        replicas.sent(bytes as u64);
        if let Some(run) = run {
            let mut readings = self.readings.lock();
            let Client { peer, ip } = self.client;
            let readings = readings.get_or_insert_with(|| replicas.readings(peer, ip));
            readings.read(run, bytes as u64);
        }
    }
}
