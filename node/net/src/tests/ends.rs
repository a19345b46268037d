//! Peers that freeze, and how their connections end and give way.

use std::sync::mpsc as blocking;
use std::thread::JoinHandle;

use libp2p::futures::StreamExt;
use libp2p::swarm::{Swarm, SwarmEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::activity::Activities;
use crate::counters::Counters;
use crate::exchange::Exchange;
use crate::swarm_transport;

/// More identities than a node accepts connections from.
const MANY: usize = 410;

/// Peers that connect, ask on a stream each, and then do nothing more: not even their sockets are
/// looked at, as if their process had been stopped. They end when dropped.
#[derive(Default)]
struct Frozen {
    peers: Vec<PeerId>,
    /// A thread for each, and what ends it when it is dropped.
    threads: Vec<(JoinHandle<()>, blocking::SyncSender<()>)>,
}

impl Frozen {
    /// Has so many peers connect to `address`, each with this question; returns when all are frozen.
    async fn start(count: usize, question: u8, address: &Multiaddr) -> Self {
        let mut frozen = Self::default();
        for _ in 0..count {
            frozen.add(question, address.clone()).await;
        }
        frozen
    }

    async fn add(&mut self, question: u8, address: Multiaddr) {
        let (release, released) = blocking::sync_channel(1);
        let (told, peer) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            let (swarm, _stream) = runtime.block_on(open_one(question, &address));
            told.send(*swarm.local_peer_id()).unwrap();
            // Nothing of the runtime runs from here on. The sender is dropped in the end.
            released.recv().ok();
        });
        self.threads.push((thread, release));
        let peer = within("it has frozen", peer).await.unwrap();
        self.peers.push(peer);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for (thread, release) in self.threads.drain(..) {
            drop(release);
            // A panic of the thread has failed the test already.
            thread.join().ok();
        }
    }
}

/// Both ends of all connections are in this process, beyond the usual soft limit of 1024.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// One peer that has asked something on a stream.
async fn open_one(question: u8, address: &Multiaddr) -> (Swarm<Exchange>, ExchangeStream) {
    let keypair = Keypair::generate_ed25519();
    let config = NetConfig::default();
    let transport = swarm_transport(&config, &keypair, &Default::default()).unwrap();
    let (counters, activities) = (Counters::default(), Activities::default());
    let protocol = config.protocols().unwrap().exchange;
    let (exchange, _) = Exchange::new(protocol, &config.limits, counters, activities);
    let alone = libp2p::swarm::Config::with_tokio_executor();
    let local = keypair.public().to_peer_id();
    let mut swarm = Swarm::new(transport, exchange, local, alone);
    swarm.dial(address.clone()).unwrap();
    let peer = loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => break peer_id,
            // While all others are being served there is no room.
            SwarmEvent::OutgoingConnectionError { .. } => swarm.dial(address.clone()).unwrap(),
            _ => {}
        }
    };
    let (opener, opened) = oneshot::channel();
    assert!(swarm.behaviour_mut().open(peer, opener).is_ok());
    let asking = async {
        let mut stream = opened.await.unwrap().unwrap();
        stream.write_all(&[question]).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let mut asking = std::pin::pin!(asking);
    let stream = loop {
        tokio::select! {
            stream = &mut asking => break stream,
            _ = swarm.select_next_some() => {}
        }
    };
    (swarm, stream)
}

/// What is asked for: an answer of so many KiB, as a power of two.
const NOTHING: u8 = 0;
const SOME: u8 = 10;
const MUCH: u8 = 16;

/// Answers every question, each in a task of its own.
fn answer_all(mut incoming: mpsc::Receiver<ExchangeStream>) {
    tokio::spawn(async move {
        while let Some(mut stream) = incoming.recv().await {
            tokio::spawn(async move {
                let mut question = [0];
                stream.read_exact(&mut question).await?;
                let piece = [0; 1 << 10];
                for _ in 0..1_u32 << question[0] {
                    stream.write_all(&piece).await?;
                }
                stream.shutdown().await
            });
        }
    });
}

/// Asks for an answer, to its end; how many KiB it has.
async fn ask(from: &Node, to: PeerId) -> usize {
    let asked = async {
        let mut stream = from.net.open_exchange(to).await.unwrap();
        stream.write_all(&[SOME]).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap() >> 10
    };
    within("an answer", asked).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_peer_with_unsent_bytes_is_gone_soon_after_the_decision_to_close() {
    let Node { net, incoming, .. } = Node::new(&[]).await;
    answer_all(incoming);
    let address = net.dial_addresses().remove(0);
    let frozen = Frozen::start(1, MUCH, &address).await;
    let peer = frozen.peers[0];
    // Until no more fits between here and there.
    let traffic = net.traffic();
    let stuck = async {
        let mut sent = 0;
        while sent == 0 || sent != traffic.total() {
            sent = traffic.total();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    within("the line is full", stuck).await;
    net.disconnect(peer).await;
    let gone = async {
        while net.peers().await.iter().any(|it| it.peer_id == peer) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("it is gone", gone).await;
    // Nothing more is written into the void.
    assert!(matches!(
        net.open_exchange(peer).await,
        Err(crate::OpenError::Connect(_))
    ));
    net.shutdown().await.unwrap();
    drop(frozen);
}

/// Connects a new node to the one at `address` and has it ask for something, at once.
async fn check_served(address: &Multiaddr) {
    let honest = Node::new(&[]).await;
    let peer = within("connect", honest.net.connect(address.clone()));
    let peer = peer.await.unwrap();
    assert_eq!(ask(&honest, peer).await, 1 << SOME);
    honest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_frozen_identities_keep_nobody_out() {
    raise_descriptors();
    let Node { net, incoming, .. } = Node::new(&[]).await;
    answer_all(incoming);
    let address = net.dial_addresses().remove(0);
    let frozen = Frozen::start(MANY, NOTHING, &address).await;
    let inbound_max = NetConfig::default().limits.inbound_max;
    let connected = net.peers().await.len();
    assert!(connected >= inbound_max as usize, "{connected}");
    let gave_way = net.counters().connections_gave_way;
    assert!(
        gave_way >= MANY as u64 - u64::from(inbound_max),
        "{gave_way}"
    );
    for _ in 0..3 {
        check_served(&address).await;
    }
    assert_eq!(net.counters().connections_refused, 0);
    net.shutdown().await.unwrap();
    drop(frozen);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_never_shake_hands_keep_nobody_out() {
    raise_descriptors();
    let Node { net, incoming, .. } = Node::new(&[]).await;
    answer_all(incoming);
    let address = net.dial_addresses().remove(0);
    let socket = crate::scope::Socket::parse(&address).unwrap();
    let mut silent = Vec::new();
    for _ in 0..MANY {
        let connected = tokio::net::TcpStream::connect((socket.ip, socket.port));
        silent.push(within("connect", connected).await.unwrap());
    }
    check_served(&address).await;
    net.shutdown().await.unwrap();
}

/// Descriptors of this process.
#[cfg(target_os = "linux")]
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// For `scripts/soak`: it takes a minute until a silent peer counts as gone.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes, and counts the descriptors of this process"]
async fn many_frozen_identities_leave_nothing_behind() {
    raise_descriptors();
    let Node { net, incoming, .. } = Node::new(&[]).await;
    answer_all(incoming);
    let address = net.dial_addresses().remove(0);
    let before = descriptors();
    let frozen = Frozen::start(MANY, MUCH, &address).await;
    let all = descriptors();
    check_served(&address).await;
    let start = std::time::Instant::now();
    let clean = async {
        while !net.peers().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), clean)
        .await
        .unwrap();
    let (clean_after, with_theirs) = (start.elapsed(), descriptors());
    check_served(&address).await;
    drop(frozen);
    let after = descriptors();
    let figures = format!(
        "clean after {clean_after:?}; descriptors: {before}, with the crowd {all}, when it is \
         forgotten {with_theirs}, without it {after}\n"
    );
    std::io::Write::write_all(&mut std::io::stderr(), figures.as_bytes()).unwrap();
    // What is left with them is theirs: as much as they hold without a connection at all.
    assert!(with_theirs < all - 300 && after < before + 20, "{figures}");
    net.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_oldest_idle_connection_gives_way_and_a_busy_one_stays() {
    let mut limited = config(&[]);
    limited.limits.inbound_max = 2;
    let mut a = Home::new().start(limited).await;
    let incoming = std::mem::replace(&mut a.incoming, mpsc::channel(1).1);
    answer_all(incoming);
    let (busy, idle, new) = (
        Node::new(&[]).await,
        Node::new(&[]).await,
        Node::new(&[]).await,
    );
    busy.connect(&a).await;
    a.met(&busy).await;
    idle.connect(&a).await;
    a.met(&idle).await;
    assert_eq!(ask(&busy, a.id()).await, 1 << SOME);
    new.connect(&a).await;
    a.event(&NetEvent::PeerDisconnected { peer: idle.id() })
        .await;
    assert_eq!(ask(&new, a.id()).await, 1 << SOME);
    assert_eq!(ask(&busy, a.id()).await, 1 << SOME);
    assert_eq!(a.net.counters().connections_gave_way, 1);
}

#[tokio::test]
async fn no_stream_is_opened_on_a_connection_that_is_being_closed() {
    let (mut a, mut b) = (Node::new(&[]).await, Node::new(&[]).await);
    a.connect(&b).await;
    a.met(&b).await;
    // The network task does both in this order and looks at the swarm in between, or does not.
    a.net.disconnect(b.id()).await;
    let mut stream = within("open", a.net.open_exchange(b.id())).await.unwrap();
    stream.write_all(b"?").await.unwrap();
    stream.flush().await.unwrap();
    let mut taken = within("taken", b.incoming.recv()).await.unwrap();
    within("read", taken.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn peers_that_are_not_understood_are_told_and_not_banned() {
    let a = Node::new(&[]).await;
    let other = NetConfig {
        network: "other".to_owned(),
        ..config(&[&a])
    };
    let b = Home::new().start(other).await;
    for (one, another) in [(&a, &b), (&b, &a)] {
        let told = async {
            loop {
                if let Some(misfit) = one.net.misfit(another.id()).await {
                    break misfit.to_string();
                }
                tokio::task::yield_now().await;
            }
        };
        let told = within("told", told).await;
        assert!(
            told.contains("\"other\"") && told.contains("\"main\""),
            "{told}"
        );
    }
    assert_eq!(a.net.counters().connections_banned, 0);
    within("again", a.net.connect(b.address())).await.unwrap();
}
