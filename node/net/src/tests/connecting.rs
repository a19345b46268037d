//! Connecting, being refused, and ending.

use super::*;
use crate::{ConnectError, Direction, Diversity, NetError, Refusal, Scope};

async fn fails(node: &Node, address: &str) -> ConnectError {
    within("connect", node.net.connect(address.parse().unwrap()))
        .await
        .unwrap_err()
}

#[tokio::test]
async fn connecting_is_idempotent_and_shown() {
    let mut a = Node::new(&[]).await;
    let mut b = Node::new(&[]).await;
    let first = within("connect", a.net.connect(b.address())).await.unwrap();
    let again = within("connect", a.net.connect(b.address())).await.unwrap();
    assert_eq!((first, again), (b.id(), b.id()));
    a.met(&b).await;
    b.met(&a).await;
    let [seen] = &a.net.peers().await[..] else {
        panic!("one peer")
    };
    assert_eq!(
        (seen.peer_id, seen.direction),
        (b.id(), Direction::Outbound)
    );
    assert_eq!(seen.scope, Some(Scope::Loopback));
    assert_eq!(
        seen.agent.as_deref(),
        Some(concat!("shoal/", env!("CARGO_PKG_VERSION")))
    );
    let [seen] = &b.net.peers().await[..] else {
        panic!("one peer")
    };
    assert_eq!((seen.peer_id, seen.direction), (a.id(), Direction::Inbound));
    a.net.disconnect(b.id()).await;
    b.event(&NetEvent::PeerDisconnected { peer: a.id() }).await;
    assert!(b.net.peers().await.is_empty());
}

#[tokio::test]
async fn an_address_without_an_id_says_whose_it_is() {
    let (a, b) = (Node::new(&[]).await, Node::new(&[]).await);
    let address = b.net.addresses().external.remove(0);
    assert_eq!(
        within("connect", a.net.connect(address)).await.unwrap(),
        b.id()
    );
}

#[tokio::test]
async fn failures_say_what_is_wrong() {
    let (a, b) = (Node::new(&[]).await, Node::new(&[]).await);
    let there = b.net.addresses().external.remove(0);
    let other = PeerId::random();
    let error = fails(&a, &format!("{there}/p2p/{other}")).await;
    assert!(
        matches!(error, ConnectError::WrongPeer { obtained, .. } if obtained == b.id()),
        "{error}"
    );
    let error = fails(&a, &a.address().to_string()).await;
    assert!(matches!(error, ConnectError::Myself(_)), "{error}");
    let error = fails(&a, "/ip4/127.0.0.1/tcp/1").await;
    assert!(
        matches!(&error, ConnectError::Unreachable(tried) if tried.len() == 1),
        "{error}"
    );
    assert!(error.to_string().contains("refused"), "{error}");
    let error = fails(&a, "/ip4/127.0.0.1/tcp/1/ws").await;
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_banned_peer_is_disconnected_and_kept_out_for_a_time() {
    let (mut a, b) = (Node::new(&[]).await, Node::new(&[]).await);
    b.connect(&a).await;
    a.met(&b).await;
    a.net.ban(b.id(), DEADLINE).await;
    a.event(&NetEvent::PeerDisconnected { peer: b.id() }).await;
    let error = within("connect", a.net.connect(b.address()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::Refused(Refusal::Banned)),
        "{error}"
    );
    assert_eq!(a.net.counters().connections_banned, 1);
    a.net.ban(b.id(), Duration::ZERO).await;
    within("connect", a.net.connect(b.address())).await.unwrap();
}

#[tokio::test]
async fn connections_of_one_host_are_limited_where_that_applies() {
    let mut limited = config(&[]);
    limited.dht.diversity = Diversity::All;
    limited.limits.per_host_max = 2;
    let a = Home::new().start(limited).await;
    let clients = [
        Node::new(&[]).await,
        Node::new(&[]).await,
        Node::new(&[]).await,
    ];
    clients[0].connect(&a).await;
    clients[1].connect(&a).await;
    let error = within("refused", clients[2].net.connect(a.address()))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
    assert_eq!(a.net.counters().connections_refused, 1);
}

#[tokio::test]
async fn one_subnet_does_not_fill_the_routing_table() {
    const CLIENTS: usize = 20;
    let mut limited = config(&[]);
    limited.dht.diversity = Diversity::All;
    limited.limits.per_host_max = 100;
    let mut a = Home::new().start(limited).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = Node::new(&[&a]).await;
        a.met(&client).await;
        clients.push(client);
    }
    // At most three a bucket: twenty peers would have to fall into seven buckets evenly.
    let peers = a.net.dht().await.peers;
    let refused = a.net.counters().routes_refused;
    assert!(
        (3..CLIENTS).contains(&peers),
        "{peers} routed, {refused} refused"
    );
    assert!(refused > 0);
    assert_eq!(a.net.peers().await.len(), CLIENTS, "they stay connected");
}

#[tokio::test]
async fn hints_are_believed_as_far_as_the_teller_reaches() {
    let (a, b, mut c) = (
        Node::new(&[]).await,
        Node::new(&[]).await,
        Node::new(&[]).await,
    );
    let there = b.net.addresses().external;
    c.net.learn(b.id(), there.clone(), a.id()).await;
    let error = within("open", c.net.open_exchange(b.id()))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no address"),
        "the teller is nobody: {error}"
    );
    c.connect(&a).await;
    c.met(&a).await;
    c.net.learn(b.id(), there, a.id()).await;
    within("open", c.net.open_exchange(b.id())).await.unwrap();
}

#[tokio::test]
async fn networks_do_not_merge() {
    let mut a = Node::new(&[]).await;
    let other = NetConfig {
        network: "other".to_owned(),
        ..config(&[&a])
    };
    let b = Home::new().start(other).await;
    let c = Node::new(&[&a]).await;
    a.met(&c).await;
    let strangers = async {
        while a.net.counters().strangers + b.net.counters().strangers == 0 {
            tokio::task::yield_now().await;
        }
    };
    within("found out", strangers).await;
    assert!(
        !a.net
            .peers()
            .await
            .iter()
            .any(|peer| peer.peer_id == b.id() && peer.agent.is_some())
    );
}

#[tokio::test]
async fn a_taken_port_is_an_error_or_another_port() {
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let listening = NetConfig {
            listen: vec![listen.parse().unwrap()],
            ..config(&[])
        };
        let a = Home::new().start(listening).await;
        let taken = a.net.addresses().listen;
        let mut same = NetConfig {
            listen: taken.clone(),
            port_fallback: false,
            ..config(&[])
        };
        let home = Home::new();
        let deps = NetDeps {
            providers: Arc::new(home.providers.clone()),
            peers: Arc::new(home.peers.clone()),
            journal: None,
        };
        let started = within("start", Net::spawn(same.clone(), &home.keypair, deps)).await;
        let Err(NetError::PortInUse { addr }) = started else {
            panic!("{listen}: started")
        };
        assert_eq!(addr, taken[0]);
        same.port_fallback = true;
        let b = home.start(same).await;
        assert_ne!(b.net.addresses().listen, taken);
        a.connect(&b).await;
    }
}

#[tokio::test]
async fn a_wildcard_listens_by_all_transports_and_tells_real_addresses() {
    let everywhere = NetConfig {
        listen: crate::default_listen(0),
        ..config(&[])
    };
    let a = Home::new().start(everywhere).await;
    let own = a.net.addresses();
    let has = |part: &str| {
        own.external
            .iter()
            .any(|address| address.to_string().contains(part))
    };
    assert!(has("/tcp/") && has("/quic-v1"), "{own:?}");
    assert!(
        own.external
            .iter()
            .all(|address| Scope::of(address).is_some()),
        "{own:?}"
    );
    let is_here = |address: &&Multiaddr| Scope::of(address) == Some(Scope::Loopback);
    let wider = own.external.iter().take_while(|it| !is_here(it)).count();
    assert!(
        own.external[wider..].iter().all(|it| is_here(&it)),
        "loopback is named last: {own:?}"
    );
    assert_eq!(own.linked.iter().any(|it| is_here(&it)), wider == 0);
}

#[tokio::test]
async fn shutdown_is_for_everybody_and_ends_everything() {
    let (a, mut b) = (Node::new(&[]).await, Node::new(&[]).await);
    b.connect(&a).await;
    b.met(&a).await;
    let (first, second) = (a.net.clone(), a.net.clone());
    let (first, second) = within("shutdown", async {
        tokio::join!(first.shutdown(), second.shutdown())
    })
    .await;
    first.unwrap();
    second.unwrap();
    within("shutdown again", a.net.shutdown()).await.unwrap();
    b.event(&NetEvent::PeerDisconnected { peer: a.id() }).await;
    assert!(a.net.peers().await.is_empty());
    assert!(matches!(
        a.net.connect(b.address()).await,
        Err(ConnectError::Closed)
    ));
    assert!(a.net.find_providers(key(1)).await.is_err());
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_network() {
    let (a, mut b) = (Node::new(&[]).await, Node::new(&[]).await);
    b.connect(&a).await;
    b.met(&a).await;
    let peer = a.id();
    drop(a);
    b.event(&NetEvent::PeerDisconnected { peer }).await;
}
