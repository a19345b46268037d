//! Finding each other and content through the DHT.

use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::lookups::RUNNING_MAX;
use crate::{AnnounceState, ProviderFound};

#[tokio::test]
async fn a_stranger_finds_a_provider_and_opens_a_stream() {
    let a = Node::new(&[]).await;
    let mut b = Node::new(&[&a]).await;
    b.announce(key(1)).await;
    let state = b.net.announced(key(1)).await;
    assert!(
        matches!(state, AnnounceState::Announced { peers: 1 }),
        "{state:?}"
    );
    a.holds(1).await;

    let mut c = Node::new(&[&a]).await;
    c.met(&a).await;
    let found = c.lookup(key(1)).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].peer, b.id());
    assert_eq!(
        found[0].addresses,
        b.net.addresses().external,
        "addresses came with it"
    );
    let mut stream = within("open", c.net.open_exchange(b.id())).await.unwrap();
    assert_eq!(stream.peer(), b.id());
    stream.write_all(b"opens it").await.unwrap();
    stream.flush().await.unwrap();
    let taken = within("taken", b.incoming.recv()).await.unwrap();
    assert_eq!(taken.peer(), c.id());
    assert!(
        c.lookup(key(2)).await.is_empty(),
        "unknown content ends the lookup"
    );
}

#[tokio::test]
async fn addresses_come_with_the_record_even_if_nobody_answers_there() {
    let a = Node::new(&[]).await;
    let mut b = Node::new(&[&a]).await;
    b.announce(key(1)).await;
    a.holds(1).await;
    let (peer, addresses) = (b.id(), b.net.addresses().external);
    b.stop().await;
    let mut c = Node::new(&[&a]).await;
    c.met(&a).await;
    let found = c.lookup(key(1)).await;
    assert_eq!(places(&found), [(peer, addresses)]);
    assert_eq!(hops(&found), [(1, 1)], "one peer was asked");
}

#[tokio::test]
async fn a_bootstrap_peer_may_be_a_name() {
    let a = Node::new(&[]).await;
    let named = a
        .address()
        .to_string()
        .replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    let by_name = NetConfig {
        bootstrap: vec![named.parse().unwrap()],
        ..config(&[])
    };
    let mut b = Home::new().start(by_name).await;
    b.met(&a).await;
    b.announce(key(1)).await;
    a.holds(1).await;
    assert_eq!(
        a.lookup(key(1)).await[0].addresses,
        b.net.addresses().external
    );
}

#[tokio::test]
async fn what_was_announced_to_nobody_is_announced_to_the_first_peers() {
    let mut b = Node::new(&[]).await;
    b.net.announce(key(1)).await;
    assert_eq!(b.net.announced(key(1)).await, AnnounceState::Pending);
    let a = Node::new(&[]).await;
    b.connect(&a).await;
    b.event(&NetEvent::Announced {
        key: key(1),
        peers: 1,
    })
    .await;
    a.holds(1).await;
    let found = a.lookup(key(1)).await;
    assert_eq!(
        found.iter().map(|one| one.peer).collect::<Vec<_>>(),
        [b.id()]
    );
}

#[tokio::test]
async fn withdrawn_keys_are_no_longer_provided_by_this_node() {
    let a = Node::new(&[]).await;
    let mut b = Node::new(&[&a]).await;
    b.announce(key(1)).await;
    let mut c = Node::new(&[]).await;
    c.connect(&b).await;
    c.met(&b).await;
    b.net.withdraw(key(1)).await;
    assert_eq!(b.net.announced(key(1)).await, AnnounceState::Unknown);
    a.stop().await;
    assert!(
        c.lookup(key(1)).await.is_empty(),
        "the only one left to ask is b"
    );
}

#[tokio::test]
async fn twenty_nodes_find_everything() {
    const NODES: u8 = 20;
    let first = Node::new(&[]).await;
    let mut nodes = vec![];
    for _ in 1..NODES {
        let mut node = Node::new(&[&first]).await;
        node.met(&first).await;
        nodes.push(node);
    }
    nodes.push(first);
    for (n, node) in (1..).zip(&mut nodes) {
        node.announce(key(n)).await;
    }
    // Nobody is told of what it provides itself; there are fewer nodes than peers that a record
    // lies at.
    for node in &nodes {
        node.holds(usize::from(NODES) - 1).await;
    }
    let ids: Vec<PeerId> = nodes.iter().map(Node::id).collect();
    for node in &nodes {
        for (n, provider) in (1..).zip(&ids) {
            if *provider != node.id() {
                let found: Vec<PeerId> = node
                    .lookup(key(n))
                    .await
                    .into_iter()
                    .map(|one| one.peer)
                    .collect();
                assert_eq!(found, [*provider]);
            }
        }
    }
}

#[tokio::test]
async fn records_and_announcements_survive_a_restart() {
    let home = Home::new();
    let a = home.start(config(&[])).await;
    let mut b = Node::new(&[&a]).await;
    b.announce(key(1)).await;
    let own = Home::new();
    let mut d = own.start(config(&[&a])).await;
    d.announce(key(2)).await;
    a.holds(2).await;
    d.stop().await;
    a.stop().await;
    assert_eq!(home.providers.rows().len(), 2, "one record of b, one of d");
    assert_eq!(own.providers.rows().len(), 1);

    let (peer, addresses) = (b.id(), b.net.addresses().external);
    b.stop().await;
    let a = home.start(config(&[])).await;
    assert_eq!(a.net.dht().await.records, 2);
    let found = a.lookup(key(1)).await;
    assert_eq!(places(&found), [(peer, addresses)]);
    assert_eq!(hops(&found), [(0, 0)], "it was known here");
    let mut d = own.start(config(&[&a])).await;
    d.net.announce_all(vec![key(2), key(3)]).await;
    d.announce(key(3)).await;
    let state = d.net.announced(key(2)).await;
    assert!(
        matches!(state, AnnounceState::Announced { .. }),
        "told by the run before: {state:?}"
    );
    d.stop().await;
}

#[tokio::test]
async fn remembered_peers_bring_a_node_back_without_a_bootstrap_list() {
    let mut a = Node::new(&[]).await;
    let home = Home::new();
    let mut b = home.start(config(&[&a])).await;
    b.met(&a).await;
    a.met(&b).await;
    b.stop().await;
    let mut b = home.start(config(&[])).await;
    b.met(&a).await;
}

#[tokio::test]
async fn a_lost_bootstrap_peer_is_dialled_again() {
    let home = Home::new();
    let a = home.start(config(&[])).await;
    let again = NetConfig {
        listen: a.net.addresses().listen,
        port_fallback: false,
        ..config(&[])
    };
    let mut b = Node::new(&[&a]).await;
    b.met(&a).await;
    let peer = a.id();
    a.stop().await;
    b.event(&NetEvent::PeerDisconnected { peer }).await;
    let a = home.start(again).await;
    b.met(&a).await;
}

#[tokio::test]
async fn lookups_that_nobody_listens_to_free_their_places() {
    let a = Node::new(&[]).await;
    let mut b = Node::new(&[&a]).await;
    b.announce(key(1)).await;
    a.holds(1).await;
    let mut c = Node::new(&[&a]).await;
    c.met(&a).await;
    for _ in 0..10 * RUNNING_MAX {
        drop(
            within("a place in line", c.net.find_providers(key(2)))
                .await
                .unwrap(),
        );
    }
    assert_eq!(c.lookup(key(1)).await.len(), 1);
}

/// Who was found, and where.
fn places(found: &[ProviderFound]) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let places = found.iter().map(|it| (it.peer, it.addresses.clone()));
    places.collect()
}

/// How many peers had answered when each was found, and in how many rounds.
fn hops(found: &[ProviderFound]) -> Vec<(u32, u32)> {
    let costs = found.iter().map(|it| it.cost);
    costs.map(|cost| (cost.answers, cost.hops)).collect()
}
