//! A raw peer of libp2p that says it speaks another number of the exchange.

use libp2p::futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{StreamProtocol, identify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::activity::Activities;
use crate::counters::Counters;
use crate::exchange::Exchange;
use crate::{Misfit, swarm_transport};

#[derive(NetworkBehaviour)]
struct OtherNumber {
    identify: identify::Behaviour,
    exchange: Exchange,
}

/// Starts a peer of the main network with this exchange protocol and without a DHT; its id and
/// where it listens. It runs until the task ends.
async fn start(protocol: &'static str) -> (PeerId, Multiaddr) {
    let keypair = Keypair::generate_ed25519();
    let config = NetConfig::default();
    let transport = swarm_transport(&config, &keypair, &Default::default()).unwrap();
    let (counters, activities) = (Counters::default(), Activities::default());
    let protocol = StreamProtocol::new(protocol);
    let (exchange, _) = Exchange::new(protocol, &config.limits, counters, activities);
    let said = identify::Config::new("/shoal/main/id/1".to_owned(), keypair.public());
    let behaviour = OtherNumber {
        identify: identify::Behaviour::new(said),
        exchange,
    };
    let local = keypair.public().to_peer_id();
    let alone = libp2p::swarm::Config::with_tokio_executor();
    let mut swarm = Swarm::new(transport, behaviour, local, alone);
    swarm
        .listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap())
        .unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    (local, address)
}

#[tokio::test]
async fn a_peer_of_another_number_is_told_and_not_banned() {
    let a = Node::new(&[]).await;
    let (peer, address) = start("/shoal/main/exchange/77").await;
    let connect = || a.net.connect_peer(peer, vec![address.clone()]);
    within("connect", connect()).await.unwrap();
    let told = async {
        loop {
            if let Some(misfit) = a.net.misfit(peer).await {
                break misfit;
            }
            tokio::task::yield_now().await;
        }
    };
    let misfit = within("told", told).await;
    assert!(
        matches!(misfit, Misfit::Exchange { theirs: 77, .. }),
        "{misfit}"
    );
    assert!(misfit.to_string().ends_with("(this one)"), "{misfit}");
    // Nobody is banned, and what is asked of it fails at its first answer.
    within("connect again", connect()).await.unwrap();
    assert_eq!(a.net.counters().connections_banned, 0);
    let mut stream = within("open", a.net.open_exchange(peer)).await.unwrap();
    let asked = async {
        stream.write_all(b"?").await?;
        stream.flush().await?;
        stream.read(&mut [0]).await
    };
    within("an answer", asked).await.unwrap_err();
}
