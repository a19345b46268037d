//! The stream of one peer: what it asks, offers and tells here, and what it is answered.
//!
//! Messages are taken one after the other, so a peer has as many open as its stream holds. What goes
//! beyond [`PeerLimits`](shoal_protocol::replicate::PeerLimits) is dropped and counted; a peer that
//! does so again and again loses its stream and gets none for a while. Only near peers are counted
//! and believed; a far one may offer what somebody near has asked for. It ends with the stream or with the node.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use libp2p::PeerId;
use shoal_net::ExchangeStream;
use shoal_protocol::{
    near::Nearness,
    replicate::{Answer, Asker, Key, Origin, PeerKey, Request, Response, Saying, Why},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    ReplicatorInner,
    config::{Diversity, Scope},
    talk::{self, Ended, Mouth},
};

/// What waits to be said on one stream beside answers.
const QUEUED_MAX: usize = 8;

/// The last asks of a peer that are remembered, for the offers that follow them.
const ASKS_REMEMBERED_MAX: usize = 64;

/// How long a peer that has just connected is waited for to be measured, and how often it is looked
/// at: the first ping goes out with the connection.
const MEASURED_WITHIN: Duration = Duration::from_secs(2);
const MEASURED_POLL: Duration = Duration::from_millis(20);

/// When a peer that is not near may ask again.
const FAR_RETRY_S: u32 = 600;

/// Who asks or reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) peer: PeerId,
    pub(super) key: PeerKey,
    /// Where it is connected from.
    pub(super) ip: Option<IpAddr>,
    pub(super) nearness: Nearness,
}

impl Caller {
    /// As who it counts.
    pub(super) fn asker(&self, diversity: Diversity) -> Asker {
        let position = super::people::position(&self.peer);
        let is_told_apart = |ip: &IpAddr| diversity == Diversity::All || is_public(*ip);
        let origin = match self.ip {
            Some(ip) if self.nearness != Nearness::Lan && is_told_apart(&ip) => {
                Origin::Elsewhere(ip)
            }
            _ => Origin::Lan,
        };
        Asker { position, origin }
    }

    /// Whether this node helps such a peer.
    pub(super) fn is_in(&self, scope: Scope) -> bool {
        is_in(scope, self.nearness, self.ip)
    }
}

impl Caller {
    /// Whether this node looks at what such a peer offers. Where copies are for everybody nearby, a far
    /// peer may offer what somebody nearby has asked for.
    pub(super) fn may_offer(&self, scope: Scope) -> bool {
        self.is_in(scope) || scope == Scope::Public && !self.nearness.is_near()
    }
}

fn is_in(scope: Scope, nearness: Nearness, ip: Option<IpAddr>) -> bool {
    match scope {
        Scope::Off => false,
        Scope::Lan => nearness == Nearness::Lan,
        Scope::Private => {
            nearness == Nearness::Lan || nearness.is_near() && ip.is_some_and(|ip| !is_public(ip))
        }
        Scope::Public => nearness.is_near(),
    }
}

/// Whether such a peer may read what is kept for others. Where that is for everybody nearby, a peer
/// that one of them sent here is not asked where it is.
pub(super) fn may_read(scope: Scope, nearness: Nearness, ip: Option<IpAddr>) -> bool {
    scope == Scope::Public || is_in(scope, nearness, ip)
}

/// Whether an address is neither of this machine nor of a private network.
fn is_public(ip: IpAddr) -> bool {
    let scope = shoal_net::Scope::of_ip(ip);
    !matches!(
        scope,
        Some(shoal_net::Scope::Loopback | shoal_net::Scope::Lan)
    )
}

/// An ask that an offer may follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) key: Key,
    pub(super) stays: bool,
    /// Whether it was answered that an offer is welcome.
    pub(super) is_invited: bool,
}

/// Serves one stream to its end.
pub(super) async fn serve(inner: Arc<ReplicatorInner>, stream: ExchangeStream) {
    let peer = stream.peer();
    if inner.is_shut_out(&peer) {
        // Dropped, the stream is reset.
        inner.counters.streams_shut_out.add();
        return;
    }
    let (said, to_say) = mpsc::channel(QUEUED_MAX);
    let ip = stream.remote_ip();
    let key = inner.call_began(&peer, said.clone());
    let call = Call {
        inner: &inner,
        peer,
        key,
        ip,
        asks: VecDeque::new(),
        nearness: None,
    };
    let shutdown = inner.shutdown.clone();
    let ended = shutdown.run_until_cancelled(call.run(stream, to_say)).await;
    if let Some(Err(ended)) = ended {
        tracing::debug!(%peer, %ended, "a peer's stream about replicas has ended");
    }
    inner.call_ended(&peer, key, &said);
}

struct Call<'a> {
    inner: &'a Arc<ReplicatorInner>,
    peer: PeerId,
    key: PeerKey,
    ip: Option<IpAddr>,
    asks: VecDeque<Asked>,
    nearness: Option<Nearness>,
}

impl Call<'_> {
    async fn run(
        mut self,
        stream: ExchangeStream,
        mut to_say: mpsc::Receiver<Response>,
    ) -> Result<(), Ended> {
        let (mut ear, mut mouth) = talk::both::<Request, Response>(stream);
        mouth
            .say(&Response::Hello(self.inner.hello(self.peer).await))
            .await?;
        let mut is_greeted = false;
        loop {
            let request = tokio::select! {
                request = ear.next() => request?,
                Some(response) = to_say.recv() => {
                    mouth.say(&response).await?;
                    continue;
                }
            };
            if !is_greeted && !matches!(request, Request::Hello(_)) {
                return Err(Ended::Protocol("it does not greet first".to_owned()));
            }
            is_greeted = true;
            self.take(request, &mut mouth).await?;
        }
    }

    async fn take(&mut self, request: Request, mouth: &mut Mouth<Response>) -> Result<(), Ended> {
        let saying = match &request {
            Request::Hello(_) => Saying::Hello,
            Request::Ask { .. } => Saying::Ask,
            Request::Offer(_) => Saying::Offer,
            Request::Holding { .. } => Saying::Holding,
        };
        if !self.inner.may_say(&self.peer, saying)? {
            return Ok(());
        }
        match request {
            Request::Hello(hello) => {
                self.inner.greeted(self.peer, &hello);
                Ok(())
            }
            Request::Ask { id, key, stays } => {
                let answer = self.ask(key, stays).await;
                mouth.say(&Response::Answer { id, answer }).await
            }
            Request::Offer(offer) => {
                let id = offer.id;
                let caller = self.caller().await;
                let asked = self
                    .asks
                    .iter()
                    .find(|it| Some(it.key) == super::key_of(&offer.root));
                let reply = self.inner.offered(offer, caller, asked.copied());
                mouth.say(&Response::Reply { id, reply }).await
            }
            Request::Holding { held } => {
                let caller = self.caller().await;
                if caller.is_in(self.inner.config.scope) {
                    self.inner.told(caller.key, held.into_vec());
                }
                Ok(())
            }
        }
    }

    async fn ask(&mut self, key: Key, stays: bool) -> Answer {
        let caller = self.caller().await;
        if !caller.is_in(self.inner.config.scope) {
            let why = match caller.nearness.is_near() {
                true => Why::Off,
                false => Why::Place,
            };
            let retry_s = FAR_RETRY_S;
            return Answer::No { why, retry_s };
        }
        let answer = self.inner.answer(&caller, key, stays).await;
        let is_invited = matches!(answer, Answer::Want | Answer::Have { wants: true, .. });
        self.asks.retain(|it| it.key != key);
        self.asks.push_front(Asked {
            key,
            stays,
            is_invited,
        });
        self.asks.truncate(ASKS_REMEMBERED_MAX);
        answer
    }

    /// Who the peer is, once it was measured or has had the time to be.
    async fn caller(&mut self) -> Caller {
        if self.nearness.is_none() {
            let until = Instant::now() + MEASURED_WITHIN;
            while self.inner.net.nearness(&self.peer).is_none() && Instant::now() < until {
                tokio::time::sleep(MEASURED_POLL).await;
            }
        }
        self.nearness = self.inner.net.nearness(&self.peer);
        Caller {
            peer: self.peer,
            key: self.key,
            ip: self.ip,
            nearness: self.nearness.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn caller(ip: &str, nearness: Nearness) -> Caller {
        Caller {
            peer: PeerId::random(),
            key: PeerKey(0),
            ip: Some(ip.parse().unwrap()),
            nearness,
        }
    }

    #[test]
    fn scopes_say_who_is_helped() {
        use Nearness::{Far, Lan, Near};
        let check = |ip: &str, nearness, [lan, private, public]: [bool; 3]| {
            let caller = caller(ip, nearness);
            let is_in = [Scope::Lan, Scope::Private, Scope::Public].map(|it| caller.is_in(it));
            assert_eq!(is_in, [lan, private, public], "{ip}, {nearness:?}");
            assert!(!caller.is_in(Scope::Off) && !caller.may_offer(Scope::Off));
            let may_offer = [Scope::Lan, Scope::Private].map(|it| caller.may_offer(it));
            assert_eq!(may_offer, [lan, private], "{ip}, {nearness:?}");
            assert!(caller.may_offer(Scope::Public), "{ip}, {nearness:?}");
        };
        check("192.168.0.7", Lan, [true, true, true]);
        check("10.9.9.9", Near, [false, true, true]);
        check("127.0.0.1", Near, [false, true, true]);
        check("8.8.8.8", Near, [false, false, true]);
        check("8.8.8.8", Far, [false, false, false]);
        check("10.9.9.9", Far, [false, false, false]);
    }

    #[test]
    fn addresses_tell_askers_apart_where_they_cost_something() {
        use Nearness::{Lan, Near};
        let check = |ip: &str, nearness, diversity, is_by_address| {
            let asker = caller(ip, nearness).asker(diversity);
            let origin = matches!(asker.origin, Origin::Elsewhere(_));
            assert_eq!(origin, is_by_address, "{ip}, {nearness:?}, {diversity:?}");
        };
        check("8.8.8.8", Near, Diversity::Public, true);
        check("127.0.0.1", Near, Diversity::Public, false);
        check("127.0.0.1", Near, Diversity::All, true);
        check("192.168.0.7", Lan, Diversity::All, false);
    }
}
