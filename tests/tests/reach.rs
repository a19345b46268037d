//! What a node finds out about who can connect to it: behind routers of every kind, with two
//! helpers on the internet, with one and with none; and nodes on the internet that are new together.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::mpsc::sync_channel,
    thread,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, identity::Keypair};
use shoal_net::{Net, NetConfig, Reachability, Verdict, default_listen};
use shoal_testnet::{
    evil::nothing_kept,
    lab::{Internet, Nat, Router},
};
use shoal_tests::{
    netns::{self, Machine},
    wait_for,
};

/// The port that every node listens on.
const PORT: u16 = 4101;

/// How soon a node has to know what it is.
const SOON: Duration = Duration::from_secs(30);

/// The network of a node, in a machine.
struct Node {
    net: Net,
    _machine: Machine,
}

impl Node {
    /// Starts one that knows these others. All that it runs is in the machine, for so is the thread
    /// that starts it.
    fn start(machine: Machine, bootstrap: &[Multiaddr]) -> Self {
        let config = NetConfig {
            listen: default_listen(PORT),
            bootstrap: bootstrap.to_vec(),
            mdns: false,
            ..NetConfig::default()
        };
        let (started, net) = sync_channel(1);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let key = Keypair::generate_ed25519();
                let (net, _incoming) = Net::spawn(config, &key, nothing_kept()).await.unwrap();
                started.send(net.clone()).unwrap();
                net.ended().await.unwrap();
            });
        };
        machine.within(|| thread::spawn(run));
        let net = net.recv().unwrap();
        Self {
            net,
            _machine: machine,
        }
    }

    /// Waits until it says this of itself; what it says.
    fn finds(&self, what: &str, expected: impl Fn(&Reachability) -> bool) -> Reachability {
        let began = Instant::now();
        let found = wait_for(&format!("{what}: the verdict"), || {
            let judged = self.net.reachability();
            expected(&judged).then_some(judged)
        });
        assert!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
        found
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Ends when its last handle is gone; its thread waits for that.
        let net = self.net.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(net.shutdown()).ok();
        });
    }
}

/// Two nodes on the internet, of different sites.
fn helpers(internet: &Internet) -> [Node; 2] {
    [1, 2].map(|site| {
        let ip = Internet::address(site, 1);
        Node::start(internet.host(&[ip]).unwrap().into(), &[])
    })
}

/// Where the node of a site listens.
fn address(site: u8) -> Multiaddr {
    let ip = Internet::address(site, 1);
    format!("/ip4/{ip}/tcp/{PORT}").parse().unwrap()
}

/// What the node behind a router of this kind has to find, with two helpers, and with one.
fn expected(nat: Nat) -> (Verdict, Verdict) {
    use Verdict::{Hard, NobodyToAsk, Public, Punchable};
    match nat {
        Nat::PortRestricted | Nat::UdpBlocked | Nat::Cgnat => (Punchable, Punchable),
        Nat::Remapped => (Punchable, NobodyToAsk),
        Nat::Symmetric => (Hard, NobodyToAsk),
        // Helpers connect from another port. Whether a router lets in any port of whoever was
        // asked, or of anybody, only a host shows that was never asked.
        Nat::FullCone | Nat::AddressRestricted | Nat::Forwarded => (Public, Public),
    }
}

/// A router of this kind, and a node behind it that knows these others.
fn behind(internet: &Internet, nat: Nat, bootstrap: &[Multiaddr]) -> (Router, Node) {
    let site = 10 + u8::try_from(Nat::ALL.iter().position(|it| *it == nat).unwrap()).unwrap();
    let public = Internet::address(site, 1);
    let router = internet.router(nat, public, PORT).unwrap();
    let machine = router.host().unwrap().0.into();
    (router, Node::start(machine, bootstrap))
}

#[test]
fn each_kind_of_router_is_named_by_the_node_behind_it() {
    if !netns::translate_here("nodes behind routers") {
        return;
    }
    let internet = Internet::new().unwrap();
    let _helpers = helpers(&internet);
    let known = [address(1), address(2)];
    for nat in Nat::ALL {
        let (with_two, with_one) = expected(nat);
        for (helpers, verdict) in [(0, Verdict::NobodyToAsk), (1, with_one), (2, with_two)] {
            let (router, node) = behind(&internet, nat, &known[..helpers]);
            let what = format!("{nat}, {helpers} helpers");
            // What one helper says is not the end where there are two.
            let settled = |it: &Reachability| match helpers {
                0 => it.reason.contains("no peer is connected"),
                1 => it.verdict == verdict && it.reason.contains("one peer"),
                _ => it.verdict == verdict && !it.reason.contains("one peer"),
            };
            let found = node.finds(&what, settled);
            assert_eq!(found.verdict, verdict, "{what}: {found:?}");
            // Nobody that it never asked has come yet.
            assert!(!found.is_sure || verdict != Verdict::Public, "{found:?}");
            let public = router.public().to_string();
            let mut seen = found.seen.iter().map(Multiaddr::to_string);
            assert!(seen.all(|it| it.contains(&public)), "{found:?}");
        }
    }
}

/// A stranger that connects makes sure that a forwarded port works.
#[test]
fn a_stranger_that_connects_makes_it_sure() {
    if !netns::translate_here("a stranger") {
        return;
    }
    let internet = Internet::new().unwrap();
    let _helpers = helpers(&internet);
    let (router, node) = behind(&internet, Nat::Forwarded, &[address(1), address(2)]);
    node.finds("before", |it| it.verdict == Verdict::Public);
    let there: Multiaddr = format!("/ip4/{}/tcp/{PORT}", router.public())
        .parse()
        .unwrap();
    let told = node.net.addresses();
    assert!(told.external.contains(&there), "{told:?}");
    assert!(told.linked.contains(&there), "{told:?}");

    let stranger = internet.host(&[Internet::address(7, 1)]).unwrap();
    let _stranger = Node::start(stranger.into(), &[there]);
    let found = node.finds("a stranger", |it| it.is_sure);
    assert_eq!(found.verdict, Verdict::Public, "{found:?}");
    assert!(found.reason.contains("never contacted"), "{found:?}");
}

/// Nodes on the internet that start together, and know one address.
#[test]
fn a_young_network_finds_itself_public() {
    if !netns::translate_here("a young network") {
        return;
    }
    let internet = Internet::new().unwrap();
    let node = |site: u8, bootstrap: &[Multiaddr]| {
        let machine = internet.host(&[Internet::address(site, 1)]).unwrap();
        Node::start(machine.into(), bootstrap)
    };
    let first = node(1, &[]);
    let others = [node(2, &[address(1)]), node(3, &[address(1)])];
    let is_public = |it: &Reachability| it.verdict == Verdict::Public;
    first.finds("the first one", |it| is_public(it) && it.is_sure);
    for other in &others {
        other.finds("another one", |it| {
            is_public(it) && !it.reason.contains("nobody has tried")
        });
    }
}
