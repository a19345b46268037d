//! Exchange streams: what they carry and what bounds them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::exchange::INCOMING_MAX;
use crate::reach::Contacts;
use crate::transport;
use crate::{ConnectError, OpenError};

/// Writes and reads until the stream ends; small enough to need no second task.
async fn echo(mut stream: ExchangeStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        stream.write_all(&buffer[..n]).await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn bytes_go_both_ways_over_tcp_and_quic() {
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let listening = NetConfig {
            listen: vec![listen.parse().unwrap()],
            ..config(&[])
        };
        let mut a = Home::new().start(listening.clone()).await;
        let b = Home::new().start(listening).await;
        b.connect(&a).await;
        let mut stream = within("open", b.net.open_exchange(a.id())).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
        let server = tokio::spawn(echo(within("taken", a.incoming.recv()).await.unwrap()));
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
        let (mut read, mut write) = tokio::io::split(stream);
        let sending = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let receiving = read.read_to_end(&mut received);
        let (_, received_bytes) = within(listen, async { tokio::join!(sending, receiving) }).await;
        assert_eq!(received_bytes.unwrap(), sent.len() + 5, "{listen}");
        assert_eq!(received.strip_prefix(b"hello").unwrap(), sent, "{listen}");
        server.await.unwrap();
    }
}

/// Opens a stream and says whether the other side took it: a refused one is reset.
async fn is_taken(from: &Node, to: &mut Node) -> Option<(ExchangeStream, ExchangeStream)> {
    let mut stream = within("open", from.net.open_exchange(to.id()))
        .await
        .unwrap();
    stream.write_all(b"x").await.ok();
    stream.flush().await.ok();
    let mut byte = [0];
    tokio::select! {
        taken = to.incoming.recv() => Some((stream, taken.unwrap())),
        end = stream.read(&mut byte) => {
            assert!(!matches!(end, Ok(1..)), "nobody writes");
            None
        }
    }
}

#[tokio::test]
async fn inbound_streams_are_capped_per_connection_while_they_are_open() {
    let mut limited = config(&[]);
    limited.limits.streams_per_connection_max = 3;
    let mut a = Home::new().start(limited).await;
    let b = Node::new(&[]).await;
    b.connect(&a).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(
            within("taken", is_taken(&b, &mut a))
                .await
                .expect("below the cap"),
        );
    }
    assert!(within("refused", is_taken(&b, &mut a)).await.is_none());
    assert_eq!(a.net.counters().streams_over_limit, 1);
    open.pop();
    assert!(
        within("taken", is_taken(&b, &mut a)).await.is_some(),
        "a slot was given back"
    );
}

#[tokio::test]
async fn inbound_streams_are_capped_in_total() {
    let mut limited = config(&[]);
    limited.limits.streams_max = 2;
    let mut a = Home::new().start(limited).await;
    let (b, c) = (Node::new(&[]).await, Node::new(&[]).await);
    b.connect(&a).await;
    c.connect(&a).await;
    let _first = within("taken", is_taken(&b, &mut a))
        .await
        .expect("below the cap");
    let _second = within("taken", is_taken(&c, &mut a))
        .await
        .expect("below the cap");
    assert!(within("refused", is_taken(&b, &mut a)).await.is_none());
    assert!(within("refused", is_taken(&c, &mut a)).await.is_none());
}

#[tokio::test]
async fn streams_that_nobody_takes_are_reset_and_nothing_else_waits() {
    let mut roomy = config(&[]);
    roomy.limits.streams_per_connection_max = 1000;
    let a = Home::new().start(roomy).await;
    let b = Node::new(&[]).await;
    b.connect(&a).await;
    let mut open = Vec::new();
    for _ in 0..INCOMING_MAX {
        let mut stream = within("open", b.net.open_exchange(a.id())).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        open.push(stream);
    }
    let mut refused = within("open", b.net.open_exchange(a.id())).await.unwrap();
    refused.write_all(b"x").await.ok();
    refused.flush().await.ok();
    let mut byte = [0];
    let end = within("reset", refused.read(&mut byte)).await;
    assert!(!matches!(end, Ok(1..)));
    assert_eq!(a.net.counters().streams_not_taken, 1);
    assert_eq!(
        within("peers", a.net.peers()).await.len(),
        1,
        "the node answers"
    );
}

#[tokio::test]
async fn opening_says_why_it_failed() {
    let a = Node::new(&[]).await;
    let nowhere = PeerId::random();
    let error = within("open", a.net.open_exchange(nowhere))
        .await
        .unwrap_err();
    assert!(
        matches!(error, OpenError::Connect(ConnectError::NoAddresses(peer)) if peer == nowhere),
        "{error}"
    );
    a.net.shutdown().await.unwrap();
    let error = within("open", a.net.open_exchange(nowhere))
        .await
        .unwrap_err();
    assert!(
        matches!(error, OpenError::Connect(ConnectError::Closed)),
        "{error}"
    );
}

#[tokio::test]
async fn a_peer_without_the_protocol_says_so_with_its_first_answer() {
    use libp2p::futures::StreamExt;
    use libp2p::swarm::{Swarm, SwarmEvent, dummy};

    // A stranger that never says what it speaks, so that it is not disconnected first.
    let keypair = Keypair::generate_ed25519();
    let traffic = Default::default();
    let (limits, gaps) = (Default::default(), Default::default());
    let (contacts, links) = (Contacts::default(), transport::Links::Real);
    let transport = transport::build(&keypair, &limits, &traffic, &gaps, &contacts, &links);
    let transport = transport.unwrap();
    let executor =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(DEADLINE);
    let local = keypair.public().to_peer_id();
    let mut swarm = Swarm::new(transport, dummy::Behaviour, local, executor);
    swarm
        .listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap())
        .unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let driving = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let a = Node::new(&[]).await;
    within("connect", a.net.connect_peer(local, vec![address]))
        .await
        .unwrap();
    let mut stream = within("open", a.net.open_exchange(local)).await.unwrap();
    // The offer goes along with the first bytes, so it is the first answer that says no.
    let asked = async {
        stream.write_all(b"asked").await?;
        stream.flush().await?;
        stream.read(&mut [0]).await
    };
    let refused = within("answer", asked).await.unwrap_err();
    assert!(refused.to_string().contains("negotiation"), "{refused}");
    driving.abort();
}

#[tokio::test]
async fn streams_of_replication_come_out_apart_and_keep_no_connection() {
    let mut quick = config(&[]);
    quick.limits.neighbours_max = 0;
    quick.idle_timeout = Duration::from_millis(300);
    let mut a = Home::new().start(quick.clone()).await;
    let b = Home::new().start(quick).await;
    b.connect(&a).await;
    let peer = b.id();
    let mut stream = within("open", b.net.open_replicate(a.id())).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let mut taken = within("taken", a.replicate.recv()).await.unwrap();
    let mut said = [0; 5];
    within("read", taken.read_exact(&mut said)).await.unwrap();
    assert_eq!((&said, taken.peer()), (b"hello", peer));
    assert!(taken.remote_ip().unwrap().is_loopback());
    assert!(a.incoming.try_recv().is_err(), "it is none of the exchange");
    a.event(&NetEvent::PeerDisconnected { peer }).await;
}

#[tokio::test]
async fn a_connection_has_two_streams_of_replication_at_the_most() {
    let mut a = Node::new(&[]).await;
    let b = Node::new(&[]).await;
    b.connect(&a).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = within("open", b.net.open_replicate(a.id())).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        let taken = within("taken", a.replicate.recv()).await.unwrap();
        open.push((stream, taken));
    }
    let mut third = within("open", b.net.open_replicate(a.id())).await.unwrap();
    third.write_all(b"x").await.ok();
    third.flush().await.ok();
    let read = within("refused", third.read(&mut [0])).await;
    assert!(!matches!(read, Ok(1..)), "nobody took it");
    assert_eq!(a.net.counters().streams_over_limit, 1);
}

#[tokio::test]
async fn near_peers_that_speak_of_replicas_are_told() {
    let a = Node::new(&[]).await;
    let b = Node::new(&[&a]).await;
    let seen = async {
        loop {
            match b.net.near_peers().as_slice() {
                [near] => break *near,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let near = within("measured", seen).await;
    assert_eq!((near.peer, near.nearness.is_near()), (a.id(), true));
    assert_eq!(b.net.nearness(&a.id()), Some(near.nearness));
}
