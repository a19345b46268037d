//! One protocol on one connection: negotiates streams and gives them away.
//!
//! Owns the caps of its connection: inbound streams that are open, outbound streams that are being
//! opened. No byte of content passes here. Ends with the connection; openers that still wait then
//! hear [`OpenError::Lost`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, DialUpgradeError, FullyNegotiatedInbound,
    FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::stream::{Ends, ExchangeStream, Slots};
use crate::OpenError;
use crate::activity::{Activities, Activity};
use crate::counters::Counters;

/// How long the peer may take to agree to a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams that wait to be opened on one connection. More than one peer's worth of inbound slots
/// would only wait for refusals.
const OPENING_MAX: usize = 32;

/// Where an opener waits for its stream.
pub(crate) type Opener = oneshot::Sender<Result<ExchangeStream, OpenError>>;

/// What the behaviour asks of a handler.
#[derive(Debug)]
pub(crate) enum Order {
    /// Open a stream for this opener.
    Open(Opener),
    /// Keep the connection open although nothing uses it.
    Keep,
    /// Do not keep it any more.
    Release,
}

/// What all handlers of a node share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) protocol: StreamProtocol,
    /// Where inbound streams go.
    pub(super) incoming: mpsc::Sender<ExchangeStream>,
    /// Slots for inbound streams of the whole node.
    pub(super) node_slots: Arc<Semaphore>,
    pub(super) counters: Counters,
    pub(super) activities: Activities,
    /// Whether streams keep their connection open, and what they move makes it busy.
    pub(super) holds: bool,
}

pub(crate) struct Handler {
    shared: Shared,
    ends: Ends,
    activity: Arc<Activity>,
    /// Slots for inbound streams of this connection.
    slots: Arc<Semaphore>,
    waiting: VecDeque<Opener>,
    /// Openers whose stream is being negotiated.
    negotiating: usize,
    keep: bool,
    waker: Option<Waker>,
}

impl Handler {
    pub(super) fn new(shared: Shared, ends: Ends, slots_max: usize) -> Self {
        Self {
            activity: shared.activities.of(ends.connection),
            shared,
            ends,
            slots: Arc::new(Semaphore::new(slots_max)),
            waiting: VecDeque::new(),
            negotiating: 0,
            keep: false,
            waker: None,
        }
    }

    /// Gives an inbound stream away, or drops it, which resets it, when a cap is reached or nobody
    /// takes it.
    fn handle_inbound(&self, stream: Stream) {
        let connection = Arc::clone(&self.slots).try_acquire_owned();
        let node = Arc::clone(&self.shared.node_slots).try_acquire_owned();
        let (Ok(connection), Ok(node)) = (connection, node) else {
            self.shared.counters.streams_over_limit.add();
            return;
        };
        let slots = Slots {
            _connection: connection,
            _node: node,
        };
        let stream = self.stream(stream, Some(slots));
        if self.shared.incoming.try_send(stream).is_err() {
            self.shared.counters.streams_not_taken.add();
        }
    }

    fn stream(&self, mut stream: Stream, slots: Option<Slots>) -> ExchangeStream {
        let activity = self.shared.holds.then(|| Arc::clone(&self.activity));
        if activity.is_none() {
            stream.ignore_for_keep_alive();
        }
        ExchangeStream::new(stream, self.ends, activity, slots)
    }

    fn handle_open(&mut self, opener: Opener) {
        self.waiting.retain(|opener| !opener.is_closed());
        if self.waiting.len() + self.negotiating >= OPENING_MAX {
            // A lost answer means that the opener has gone.
            opener.send(Err(OpenError::Busy)).ok();
            return;
        }
        self.waiting.push_back(opener);
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opener;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.shared.protocol.clone()), ())
            .with_timeout(OPEN_TIMEOUT)
    }

    /// Streams keep their connection by themselves; this is for neighbours.
    fn connection_keep_alive(&self) -> bool {
        self.keep
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Opener, Infallible>> {
        while let Some(opener) = self.waiting.pop_front() {
            if opener.is_closed() {
                continue;
            }
            self.negotiating += 1;
            let upgrade = ReadyUpgrade::new(self.shared.protocol.clone());
            let protocol = SubstreamProtocol::new(upgrade, opener).with_timeout(OPEN_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Open(opener) => self.handle_open(opener),
            Order::Keep => self.keep = true,
            Order::Release => self.keep = false,
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Opener>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => {
                self.handle_inbound(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => {
                self.negotiating = self.negotiating.saturating_sub(1);
                let stream = self.stream(protocol, None);
                // An opener that has gone drops the stream, which resets it.
                info.send(Ok(stream)).ok();
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.negotiating = self.negotiating.saturating_sub(1);
                info.send(Err(open_error(error))).ok();
            }
            _ => {}
        }
    }
}

fn open_error(error: StreamUpgradeError<Infallible>) -> OpenError {
    match error {
        StreamUpgradeError::Timeout => OpenError::Timeout,
        // Said by the first answer only, for the protocol is offered along with the first bytes.
        StreamUpgradeError::NegotiationFailed => {
            OpenError::Lost("the peer does not speak this protocol of this network".to_owned())
        }
        StreamUpgradeError::Io(error) => OpenError::Lost(error.to_string()),
        StreamUpgradeError::Apply(never) => match never {},
    }
}
