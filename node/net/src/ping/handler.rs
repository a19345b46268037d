//! One connection's pings, and the answers to those of the peer.

use std::collections::VecDeque;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt as _};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError,
    SubstreamProtocol,
};
use shoal_ground::clock_gap::ClockGaps;
use tokio::time::{Sleep, sleep_until};

use super::schedule::Schedule;
use crate::activity::Activity;
use crate::config::{SILENCE_BEHIND_CONTENT_MAX, SILENCE_MAX};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

/// What a ping carries.
const PING_BYTES: usize = 32;

/// How often it is looked whether a peer is gone that has not answered in time.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Asks for a ping now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hurry;

/// What the handler tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    /// The peer has answered, after so long.
    Pong(Duration),
    /// It has not, and nothing else came of it.
    Gone,
}

/// The stream for own pings.
enum Outbound {
    None,
    /// It is being opened for the ping that is due.
    Opening(Instant),
    Idle(Stream),
    /// An answer is waited for since then.
    Pinging(BoxFuture<'static, io::Result<(Stream, Duration)>>, Instant),
    /// The peer does not speak the protocol, or is gone.
    Over,
}

/// The handler.
pub(crate) struct Handler {
    activity: Arc<Activity>,
    gaps: ClockGaps,
    schedule: Schedule,
    outbound: Outbound,
    /// Answers the pings of the peer.
    inbound: Option<BoxFuture<'static, io::Result<Stream>>>,
    /// When to look again.
    timer: Pin<Box<Sleep>>,
    seen: VecDeque<Seen>,
    waker: Option<Waker>,
}

impl Handler {
    pub(super) fn new(activity: Arc<Activity>, gaps: ClockGaps) -> Self {
        let now = Instant::now();
        Self {
            activity,
            gaps,
            schedule: Schedule::new(now),
            outbound: Outbound::None,
            inbound: None,
            timer: Box::pin(sleep_until(now.into())),
            seen: VecDeque::new(),
            waker: None,
        }
    }

    /// Goes on with the own ping as far as that goes; says when to look again.
    fn advance(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let due = self.schedule.due(self.activity.is_used());
            match std::mem::replace(&mut self.outbound, Outbound::Over) {
                Outbound::None if due <= now => {
                    self.schedule.sent(now);
                    self.outbound = Outbound::Opening(now);
                    // The caller asks for the stream.
                    return Some(now + LOOK_INTERVAL);
                }
                Outbound::None => {
                    self.outbound = Outbound::None;
                    return Some(due);
                }
                Outbound::Idle(stream) if due <= now => {
                    self.schedule.sent(now);
                    self.outbound = Outbound::Pinging(ping(stream).boxed(), now);
                }
                Outbound::Idle(stream) => {
                    self.outbound = Outbound::Idle(stream);
                    return Some(due);
                }
                Outbound::Pinging(mut answer, since) => match answer.poll_unpin(cx) {
                    Poll::Ready(Ok((stream, rtt))) => {
                        self.seen.push_back(Seen::Pong(rtt));
                        self.outbound = Outbound::Idle(stream);
                    }
                    Poll::Ready(Err(_)) => self.outbound = Outbound::None,
                    Poll::Pending if self.is_gone(since, now) => {
                        self.seen.push_back(Seen::Gone);
                        return None;
                    }
                    Poll::Pending => {
                        self.outbound = Outbound::Pinging(answer, since);
                        return Some(now + LOOK_INTERVAL);
                    }
                },
                Outbound::Opening(since) if self.is_gone(since, now) => {
                    self.seen.push_back(Seen::Gone);
                    return None;
                }
                Outbound::Opening(since) => {
                    self.outbound = Outbound::Opening(since);
                    return Some(now + LOOK_INTERVAL);
                }
                Outbound::Over => return None,
            }
        }
    }

    /// Whether a peer that was asked `since` then is gone: neither an answer nor content has come,
    /// for a time in which this program ran.
    fn is_gone(&self, since: Instant, now: Instant) -> bool {
        let since = match self.gaps.look() {
            Some(gap) => since.max(gap.ended),
            None => since,
        };
        let idle = self.activity.idle(now).unwrap_or_default();
        let idle_max = match self.activity.has_moved() {
            true => SILENCE_BEHIND_CONTENT_MAX,
            false => SILENCE_MAX,
        };
        now.saturating_duration_since(since) >= SILENCE_MAX && idle >= idle_max
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Hurry;
    type ToBehaviour = Seen;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, _: Hurry) {
        self.schedule.hurry();
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Seen>> {
        while let Some(answering) = &mut self.inbound {
            match answering.poll_unpin(cx) {
                Poll::Ready(Ok(stream)) => self.inbound = Some(answer(stream).boxed()),
                Poll::Ready(Err(_)) => self.inbound = None,
                Poll::Pending => break,
            }
        }
        loop {
            let was_opening = matches!(self.outbound, Outbound::Opening(_));
            let look_at = self.advance(cx);
            if let Some(seen) = self.seen.pop_front() {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(seen));
            }
            if !was_opening && matches!(self.outbound, Outbound::Opening(_)) {
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
            self.waker = Some(cx.waker().clone());
            let Some(look_at) = look_at else {
                return Poll::Pending;
            };
            // Streams that open or end change when the next one is due.
            if self.timer.deadline() != look_at.into() {
                self.timer.as_mut().reset(look_at.into());
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                mut protocol,
                ..
            }) => {
                // What tries a connection out is no use of it.
                protocol.ignore_for_keep_alive();
                // A peer that opens another one has given the one before up.
                self.inbound = Some(answer(protocol).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                mut protocol,
                ..
            }) => {
                protocol.ignore_for_keep_alive();
                self.outbound = Outbound::Pinging(ping(protocol).boxed(), Instant::now());
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.outbound = match error {
                    StreamUpgradeError::NegotiationFailed => Outbound::Over,
                    _ => Outbound::None,
                };
            }
            _ => {}
        }
    }
}

/// Sends a ping and waits for its answer.
async fn ping(mut stream: Stream) -> io::Result<(Stream, Duration)> {
    let sent: [u8; PING_BYTES] = rand::random();
    stream.write_all(&sent).await?;
    stream.flush().await?;
    let began = Instant::now();
    let mut answer = [0; PING_BYTES];
    stream.read_exact(&mut answer).await?;
    match answer == sent {
        true => Ok((stream, began.elapsed())),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Waits for a ping and answers it.
async fn answer(mut stream: Stream) -> io::Result<Stream> {
    let mut ping = [0; PING_BYTES];
    stream.read_exact(&mut ping).await?;
    stream.write_all(&ping).await?;
    stream.flush().await?;
    Ok(stream)
}
