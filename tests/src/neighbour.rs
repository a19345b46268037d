//! A near peer that speaks about copies as a test has it, and moves no content at all.
//!
//! One that helps answers whatever is asked of it in one manner, and accepts every offer. It can say
//! anything to a node, too.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use libp2p::PeerId;
use shoal_net::{ExchangeStream, Incoming, Net};
use shoal_protocol::{
    exchange::List,
    replicate::{self, Answer, Hello, Peer, Reply, Request, Response},
};
use shoal_testnet::evil::{Ear, say};
use tokio::{io::AsyncWriteExt as _, runtime::Runtime, time::timeout};

use crate::{
    DEADLINE,
    peer::{address_of, start_alone},
};

/// A running one; it ends when dropped.
pub struct Neighbour {
    /// Its address with its peer id.
    pub address: String,
    asked: Arc<AtomicUsize>,
    offered: Arc<AtomicUsize>,
    net: Net,
    runtime: Runtime,
}

/// What it does with streams of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// It takes them and is silent.
    Silent,
    /// It resets them.
    Refused,
}

/// What a node said.
#[derive(Debug, Default)]
pub struct Said {
    /// All that came, its greeting first.
    pub responses: Vec<Response>,
    /// Whether the node ended the stream.
    pub has_ended: bool,
}

impl Neighbour {
    /// Starts one that says that it helps and answers all asks so; without an answer it does neither.
    #[must_use]
    pub fn start(answer: Option<&Answer>, content: Content) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (net, incoming) = start_alone(&runtime);
        let (asked, offered) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&asked), Arc::clone(&offered));
        runtime.spawn(take_streams(incoming, answer.cloned(), content, counts));
        Self {
            address: address_of(&net),
            asked,
            offered,
            net,
            runtime,
        }
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// How often it was offered something.
    #[must_use]
    pub fn offered(&self) -> usize {
        self.offered.load(SeqCst)
    }

    /// Says these bytes to the node at an address on a stream of their own, and hears what it says
    /// until that is enough or the node ends the stream.
    ///
    /// # Panics
    /// When the node does neither.
    #[must_use]
    pub fn say(
        &self,
        address: &str,
        bytes: &[u8],
        is_enough: impl Fn(&[Response]) -> bool,
    ) -> Said {
        let saying = async {
            let address = address.parse().expect("an address");
            let peer = self.net.connect(address).await.expect("a connection");
            let mut stream = self.net.open_replicate(peer).await.expect("a stream");
            let mut said = Said::default();
            // A stream that the node has reset may be found out by the write, too.
            let written = async {
                stream.write_all(bytes).await?;
                stream.flush().await
            };
            let heard = match written.await {
                Ok(()) => hear(&mut stream, &mut said.responses, is_enough).await,
                Err(error) => Err(error),
            };
            said.has_ended = heard.is_err();
            said
        };
        let said = self
            .runtime
            .block_on(async { timeout(DEADLINE, saying).await });
        said.expect("the node answers or ends the stream")
    }
}

/// A greeting, and these requests.
#[must_use]
pub fn greeting_and(requests: &[Request]) -> Vec<u8> {
    let mut frames = Vec::new();
    let greeting = Request::Hello(Hello::default());
    for request in std::iter::once(&greeting).chain(requests) {
        replicate::encode(request, &mut frames).expect("a message within its limits");
    }
    frames
}

/// A peer that does not exist, at an address that nobody has.
#[must_use]
pub fn nobody() -> Peer {
    let address = "/ip4/127.0.0.1/tcp/1".parse::<libp2p::Multiaddr>();
    let address = address.expect("an address").to_vec();
    Peer {
        peer: List::try_from(PeerId::random().to_bytes()).expect("a short id"),
        addresses: List::first_of([List::try_from(address).expect("a short address")]),
    }
}

async fn take_streams(
    incoming: Incoming,
    answer: Option<Answer>,
    content: Content,
    counts: (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let Incoming {
        mut exchange,
        mut replicate,
    } = incoming;
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            Some(stream) = replicate.recv() => {
                // An error is a peer that went away.
                tokio::spawn(talk(stream, answer.clone(), counts.clone()));
            }
            Some(stream) = exchange.recv() => match content {
                Content::Silent => waiting.push(stream),
                Content::Refused => drop(stream),
            },
            else => return,
        }
    }
}

async fn talk(
    mut stream: ExchangeStream,
    answer: Option<Answer>,
    (asked, offered): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) -> io::Result<()> {
    let hello = Hello {
        helps: answer.is_some(),
        free_mib: 1 << 20,
        near: List::default(),
    };
    say(&mut stream, &Response::Hello(hello)).await?;
    let mut ear = Ear::<Request>::default();
    loop {
        match ear.next(&mut stream).await? {
            Request::Ask { id, .. } => {
                asked.fetch_add(1, SeqCst);
                if let Some(answer) = answer.clone() {
                    say(&mut stream, &Response::Answer { id, answer }).await?;
                }
            }
            Request::Offer(offer) => {
                offered.fetch_add(1, SeqCst);
                let (id, ranges) = (offer.id, offer.ranges);
                let reply = Reply::Accept { ranges };
                say(&mut stream, &Response::Reply { id, reply }).await?;
            }
            Request::Hello(_) | Request::Holding { .. } => {}
        }
    }
}

async fn hear(
    stream: &mut ExchangeStream,
    heard: &mut Vec<Response>,
    is_enough: impl Fn(&[Response]) -> bool,
) -> io::Result<()> {
    let mut ear = Ear::<Response>::default();
    while !is_enough(heard) {
        heard.push(ear.next(stream).await?);
    }
    Ok(())
}
