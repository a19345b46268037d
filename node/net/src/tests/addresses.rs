//! Many addresses of one peer, and two transports to one peer.

use libp2p::multiaddr::Protocol;
use tokio::net::TcpListener;

use super::*;
use crate::{ConnectError, Direction};

/// Listens by TCP and QUIC.
fn both() -> NetConfig {
    NetConfig {
        listen: ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        ..config(&[])
    }
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::QuicV1)
}

fn only_quic(node: &Node) -> Multiaddr {
    let mut all = node.net.dial_addresses().into_iter();
    all.find(is_quic).unwrap()
}

/// Waits until `node` is connected with one peer by TCP.
async fn has_tcp(node: &Node) {
    let connected = async {
        loop {
            let peers = node.net.peers().await;
            if peers.iter().any(|peer| !peer.addresses.iter().all(is_quic)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within("TCP", connected).await;
}

#[tokio::test]
async fn a_dial_names_tcp_and_takes_it() {
    let a = Home::new().start(both()).await;
    let b = Home::new().start(both()).await;
    let mut addresses = b.net.dial_addresses();
    assert!(!is_quic(&addresses[0]), "TCP is named first: {addresses:?}");
    addresses.sort_by_key(|address| !is_quic(address));
    within("connect", a.net.connect_peer(b.id(), addresses))
        .await
        .unwrap();
    let [seen] = &a.net.peers().await[..] else {
        panic!("one peer")
    };
    assert!(!seen.addresses.iter().any(is_quic), "{seen:?}");
}

#[tokio::test]
async fn a_peer_that_was_reached_by_quic_is_asked_by_tcp() {
    let a = Home::new().start(both()).await;
    let mut b = Home::new().start(both()).await;
    within("connect", a.net.connect(only_quic(&b)))
        .await
        .unwrap();
    let seen = a.net.peers().await;
    assert!(seen[0].addresses.iter().all(is_quic), "{seen:?}");
    let (from_a, from_b) = tokio::join!(
        within("open", a.net.open_exchange(b.id())),
        within("open", b.net.open_exchange(a.id())),
    );
    let _streams = (from_a.unwrap(), from_b.unwrap());
    has_tcp(&a).await;
    has_tcp(&b).await;
    // A stream that is opened now goes over it: QUIC may go.
    let mut stream = within("open", a.net.open_exchange(b.id())).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"x")
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::flush(&mut stream).await.unwrap();
    within("taken", b.incoming.recv()).await.unwrap();
}

#[tokio::test]
async fn a_peer_without_tcp_is_asked_by_quic() {
    let listening = NetConfig {
        listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()],
        ..config(&[])
    };
    let a = Home::new().start(both()).await;
    let b = Home::new().start(listening).await;
    within("connect", a.net.connect(only_quic(&b)))
        .await
        .unwrap();
    within("open", a.net.open_exchange(b.id())).await.unwrap();
}

#[tokio::test]
async fn addresses_that_fail_in_any_way_leave_the_good_one() {
    let a = Node::new(&[]).await;
    let (b, other) = (Node::new(&[]).await, Node::new(&[]).await);
    // One that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().port();
    let mut addresses: Vec<Multiaddr> = vec![
        format!("/ip4/127.0.0.1/tcp/{silent}").parse().unwrap(),
        "/ip4/127.0.0.1/tcp/1".parse().unwrap(),
        "/ip4/127.0.0.1/udp/1/quic-v1".parse().unwrap(),
        "/dns4/nobody.invalid/tcp/1".parse().unwrap(),
        "/ip4/127.0.0.1/tcp/1/ws".parse().unwrap(),
        a.net.addresses().external.remove(0),
        other.net.addresses().external.remove(0),
    ];
    addresses.push(b.address());
    let met = within("connect", a.net.connect_peer(b.id(), addresses)).await;
    assert_eq!(met.unwrap(), b.id());
    let error = a.net.connect_peer(
        PeerId::random(),
        vec![other.net.addresses().external.remove(0)],
    );
    let error = within("connect", error).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::WrongPeer { obtained, .. } if obtained == other.id()),
        "{error}"
    );
}

#[tokio::test]
async fn an_address_that_becomes_known_is_tried_beside_one_that_hangs() {
    let (a, b) = (Node::new(&[]).await, Node::new(&[]).await);
    // Connections wait in its queue and nobody answers there.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port())
        .parse()
        .unwrap();
    let waiting = tokio::spawn({
        let (net, peer) = (a.net.clone(), b.id());
        async move { net.connect_peer(peer, vec![hangs]).await }
    });
    let (_dialled, _) = within("dialled", silent.accept()).await.unwrap();
    a.net.try_too(b.id(), vec![b.address()]);
    let met = within("connect", waiting).await.unwrap();
    assert_eq!(met.unwrap(), b.id());
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_at_once_are_connected() {
    for _ in 0..5 {
        let (a, b) = (Node::new(&[]).await, Node::new(&[]).await);
        let (to_b, to_a) = (b.address(), a.address());
        let dials = async { tokio::join!(a.net.connect(to_b), b.net.connect(to_a)) };
        let (at_a, at_b) = within("connect", dials).await;
        assert_eq!((at_a.unwrap(), at_b.unwrap()), (b.id(), a.id()));
        let listens = a.net.addresses().listen;
        let seen = b.net.peers().await;
        let inbound = seen.iter().filter(|it| it.direction == Direction::Inbound);
        for peer in inbound {
            // Two dials from listening ports would become one connection with a dialler at each end.
            assert!(!listens.contains(&peer.addresses[0]), "{peer:?}");
        }
    }
}
