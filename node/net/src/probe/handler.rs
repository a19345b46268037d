//! AutoNAT on one connection: the streams of both protocols, each a task with a deadline.
//!
//! It decides nothing: what is asked goes to the behaviour, and comes back with an answer. It keeps
//! no connection open.

use std::collections::VecDeque;
use std::future::ready;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, SubstreamProtocol,
};

use super::wire::{self, Answer, BACK, REQUEST, Request};

/// How long a peer may take to answer: its dial takes up to 10 s, and the new connection tells the
/// number.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long any other message may take.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams of one connection at once. A peer of this network opens one for each of its addresses.
const TASKS_MAX: usize = 8;

/// What the behaviour asks of a handler.
#[derive(Debug)]
pub(crate) enum Order {
    /// Ask the peer to connect to this node.
    Ask(Request),
    /// Tell the peer the number of its request, on this new connection.
    TellBack(u64),
    /// Answer the peer on the stream that it asked on.
    Answer(Stream, Answer),
    /// Tell the peer that the number is noted, on the stream that it came on.
    Noted(Stream),
}

/// What the handler tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// The peer has answered the request with this number, or not.
    Answered(u64, io::Result<Answer>),
    /// The peer asks to be connected to, and waits for the answer on this stream.
    Asked(Request, Stream),
    /// The peer has told the number of a request, and waits until that is noted.
    Heard(u64, Stream),
    /// The peer was told the number of its request, or does not listen.
    Delivered(bool),
    /// Nothing that matters.
    Nothing,
}

/// The handler.
#[derive(Default)]
pub(crate) struct Handler {
    /// Streams that are to be opened; as many as the behaviour asks for.
    opening: VecDeque<Purpose>,
    tasks: FuturesUnordered<BoxFuture<'static, Told>>,
    waker: Option<Waker>,
}

impl Handler {
    fn task(&mut self, task: impl Future<Output = Told> + Send + 'static) {
        if self.tasks.len() < TASKS_MAX {
            self.tasks.push(task.boxed());
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn handle_inbound(&mut self, mut stream: Stream, protocol: &StreamProtocol) {
        stream.ignore_for_keep_alive();
        if *protocol == BACK {
            self.task(async move {
                match within(MESSAGE_TIMEOUT, wire::hear_back(&mut stream)).await {
                    Ok(nonce) => Told::Heard(nonce, stream),
                    Err(_) => Told::Nothing,
                }
            });
        } else {
            self.task(async move {
                match within(MESSAGE_TIMEOUT, wire::asked(&mut stream)).await {
                    Ok(request) => Told::Asked(request, stream),
                    Err(_) => Told::Nothing,
                }
            });
        }
    }

    fn handle_outbound(&mut self, mut stream: Stream, purpose: Purpose) {
        stream.ignore_for_keep_alive();
        match purpose {
            Purpose::Ask(request) => self.task(async move {
                let answer = within(ANSWER_TIMEOUT, wire::ask(stream, &request)).await;
                Told::Answered(request.nonce, answer)
            }),
            Purpose::TellBack(nonce) => self.task(async move {
                let told = within(MESSAGE_TIMEOUT, wire::tell_back(stream, nonce)).await;
                Told::Delivered(told.is_ok())
            }),
        }
    }
}

/// What a stream is opened for.
#[derive(Debug)]
pub(crate) enum Purpose {
    Ask(Request),
    TellBack(u64),
}

/// Both protocols; the stream comes with the one that was agreed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Either;

impl UpgradeInfo for Either {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        [REQUEST, BACK]
    }
}

impl InboundUpgrade<Stream> for Either {
    type Output = (Stream, StreamProtocol);
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Told;
    type InboundProtocol = Either;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Purpose;

    fn listen_protocol(&self) -> SubstreamProtocol<Either> {
        SubstreamProtocol::new(Either, ())
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Answer(stream, answer) => self.task(async move {
                // A client that is gone does not need it.
                let _ = within(MESSAGE_TIMEOUT, wire::answer(stream, answer)).await;
                Told::Nothing
            }),
            Order::Noted(stream) => self.task(async move {
                // A server that is gone has the connection closed, which says the same.
                let _ = within(MESSAGE_TIMEOUT, wire::noted(stream)).await;
                Told::Nothing
            }),
            Order::Ask(request) => self.opening.push_back(Purpose::Ask(request)),
            Order::TellBack(nonce) => self.opening.push_back(Purpose::TellBack(nonce)),
        }
        self.wake();
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Purpose, Told>> {
        if let Some(purpose) = self.opening.pop_front() {
            let protocol = match purpose {
                Purpose::Ask(_) => REQUEST,
                Purpose::TellBack(_) => BACK,
            };
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(protocol), purpose);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        while let Poll::Ready(Some(told)) = self.tasks.poll_next_unpin(cx) {
            if !matches!(told, Told::Nothing) {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(told));
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Either, Self::OutboundProtocol, (), Purpose>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => self.handle_inbound(stream, &protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => self.handle_outbound(protocol, info),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = io::Error::other(error.to_string());
                self.task(ready(match info {
                    Purpose::Ask(request) => Told::Answered(request.nonce, Err(error)),
                    Purpose::TellBack(_) => Told::Delivered(false),
                }));
            }
            _ => {}
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
