//! This transport and one made of libp2p's stock parts understand each other, whoever dials.

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Transport, identify, noise, ping, quic, tcp, tls, yamux};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::activity::Activities;
use crate::counters::Counters;
use crate::exchange::Exchange;

/// More than any window, and not a multiple of any frame.
const BULK_BYTES: u32 = 5_000_001;

/// What a stranger is made of besides TCP.
#[derive(Clone, Copy, Debug)]
enum Stack {
    Tls,
    Noise,
    Quic,
}

impl Stack {
    fn transport(self, keypair: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
        let tcp = tcp::tokio::Transport::default().upgrade(Version::V1);
        let muxer = yamux::Config::default();
        match self {
            Self::Tls => {
                let tls = tls::Config::new(keypair).unwrap();
                tcp.authenticate(tls).multiplex(muxer).boxed()
            }
            Self::Noise => {
                let noise = noise::Config::new(keypair).unwrap();
                tcp.authenticate(noise).multiplex(muxer).boxed()
            }
            Self::Quic => quic::tokio::Transport::new(quic::Config::new(keypair))
                .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
                .boxed(),
        }
    }

    fn listen(self) -> Multiaddr {
        let address = match self {
            Self::Tls | Self::Noise => "/ip4/127.0.0.1/tcp/0",
            Self::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
        };
        address.parse().unwrap()
    }
}

#[derive(NetworkBehaviour)]
struct Stranger {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    exchange: Exchange,
}

/// A node on the stock transport, driven by hand.
struct StockNode {
    swarm: Swarm<Stranger>,
    incoming: mpsc::Receiver<ExchangeStream>,
    address: Multiaddr,
}

impl StockNode {
    async fn start(stack: Stack) -> Self {
        let keypair = Keypair::generate_ed25519();
        let protocols = NetConfig::default().protocols().unwrap();
        let limits = NetConfig::default().limits;
        let (counters, activities) = (Counters::default(), Activities::default());
        let (exchange, incoming) = Exchange::new(protocols.exchange, &limits, counters, activities);
        let behaviour = Stranger {
            identify: identify::Behaviour::new(identify::Config::new(
                protocols.id,
                keypair.public(),
            )),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::ZERO)),
            exchange,
        };
        let config = libp2p::swarm::Config::with_tokio_executor();
        let local = keypair.public().to_peer_id();
        let mut swarm = Swarm::new(stack.transport(&keypair), behaviour, local, config);
        swarm.listen_on(stack.listen()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        Self {
            swarm,
            incoming,
            address,
        }
    }

    /// Drives the swarm until `happens` has.
    async fn until<T>(&mut self, happens: impl Future<Output = T>) -> T {
        let mut happens = std::pin::pin!(happens);
        loop {
            tokio::select! {
                value = &mut happens => return value,
                _ = self.swarm.select_next_some() => {}
            }
        }
    }

    async fn was_pinged_and_identified(&mut self, peer: PeerId) {
        let (mut pinged, mut identified) = (false, false);
        while !pinged || !identified {
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(StrangerEvent::Ping(event)) => {
                    event.result.unwrap();
                    pinged |= event.peer == peer;
                }
                SwarmEvent::Behaviour(StrangerEvent::Identify(identify::Event::Received {
                    info,
                    ..
                })) => identified |= info.agent_version.starts_with("shoal/"),
                _ => {}
            }
        }
    }
}

/// Bulk from one end of a stream to the other and back.
async fn check_bulk(opened: ExchangeStream, taken: ExchangeStream) {
    let sent: Vec<u8> = (0..BULK_BYTES)
        .map(|n| n.wrapping_mul(7).to_le_bytes()[1])
        .collect();
    let (mut reader, mut writer) = tokio::io::split(opened);
    let sending = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let returning = async {
        let (mut reader, mut writer) = tokio::io::split(taken);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let receiving = reader.read_to_end(&mut received);
    let (_, _, read) = tokio::join!(sending, returning, receiving);
    read.unwrap();
    assert!(received == sent);
}

async fn check(stack: Stack, stock_dials: bool) {
    let mut stock = StockNode::start(stack).await;
    let listening = NetConfig {
        listen: vec![stack.listen()],
        ..config(&[])
    };
    let mut own = Home::new().start(listening).await;
    let (peer, stranger) = (own.id(), *stock.swarm.local_peer_id());
    if stock_dials {
        stock.swarm.dial(own.address()).unwrap();
        let connected = NetEvent::PeerConnected { peer: stranger };
        stock.until(own.event(&connected)).await;
    } else {
        let addresses = vec![stock.address.clone()];
        let connecting = own.net.connect_peer(stranger, addresses);
        stock.until(connecting).await.unwrap();
    }
    stock.was_pinged_and_identified(peer).await;

    let opened = stock.until(own.net.open_exchange(stranger)).await.unwrap();
    let taking = async {
        let mut opened = opened;
        // The name of the protocol leaves with the first bytes.
        opened.flush().await.unwrap();
        opened
    };
    let opened = stock.until(taking).await;
    let taken = loop {
        tokio::select! {
            taken = stock.incoming.recv() => break taken.unwrap(),
            _ = stock.swarm.select_next_some() => {}
        }
    };
    stock.until(check_bulk(opened, taken)).await;

    let (opener, opened) = oneshot::channel();
    let exchange = &mut stock.swarm.behaviour_mut().exchange;
    assert!(exchange.open(peer, opener).is_ok());
    let mut opened = stock.until(opened).await.unwrap().unwrap();
    stock.until(opened.flush()).await.unwrap();
    let taken = stock.until(own.incoming.recv()).await.unwrap();
    stock.until(check_bulk(opened, taken)).await;
    own.stop().await;
}

#[tokio::test]
async fn stock_peers_are_served_and_asked_over_every_stack() {
    for stack in [Stack::Tls, Stack::Noise, Stack::Quic] {
        for stock_dials in [true, false] {
            let what = format!("{stack:?}, stock dials: {stock_dials}");
            within(&what, check(stack, stock_dials)).await;
        }
    }
}

/// Says over what `from` is connected to its only peer.
async fn connected_by(from: &Node) -> Multiaddr {
    within("peers", from.net.peers()).await[0].addresses[0].clone()
}

#[tokio::test]
async fn tcp_is_preferred_and_quic_helps_out_where_it_stalls() {
    let tcp = Stack::Tls.listen();
    let both = NetConfig {
        listen: vec![Stack::Quic.listen(), tcp.clone()],
        ..config(&[])
    };
    let a = Home::new().start(both).await;
    let addresses = a.net.dial_addresses();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    let b = Node::new(&[]).await;
    within("connect", b.net.connect_peer(a.id(), addresses.clone()))
        .await
        .unwrap();
    let by = connected_by(&b).await;
    assert!(by.to_string().contains("/tcp/"), "{by}");

    // The system accepts for it; it never says a word.
    let stalled = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stalled.local_addr().unwrap().port();
    let stalls: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let is_quic = |address: &&Multiaddr| address.to_string().contains("/quic-v1");
    let quic = addresses.iter().find(is_quic).unwrap().clone();
    let listens_by_quic = NetConfig {
        listen: vec![Stack::Quic.listen()],
        ..config(&[])
    };
    let c = Home::new().start(listens_by_quic).await;
    within("connect", c.net.connect_peer(a.id(), vec![stalls, quic]))
        .await
        .unwrap();
    let by = connected_by(&c).await;
    assert!(by.to_string().contains("/quic-v1"), "{by}");
}
