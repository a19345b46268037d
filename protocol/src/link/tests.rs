#![allow(clippy::unwrap_used)]

mod damaged;
mod short;

use proptest::prelude::*;

use super::*;
use crate::address::{Digest, HashFn};

const CID: &str = "bafkr4ifpcne3t5pzugtkaqcn5i3nzskjtpfslsnnyejlpte2spfoihzsmi";
const ID: &str = "12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay";
const PEER: &str =
    "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay";

fn name(name: &str) -> SafeName {
    SafeName::parse(name).unwrap()
}

fn bare() -> Link {
    Link::new(CID.parse().unwrap())
}

#[test]
fn prints_and_parses() {
    let check = |link: Link, text: &str| {
        assert_eq!(link.to_string(), text);
        assert_eq!(text.parse(), Ok(link));
    };
    check(bare(), &format!("shoal:{CID}"));
    check(
        Link {
            name: Some(name("linux 6.tar&co")),
            ..bare()
        },
        &format!("shoal:{CID}?name=linux%206.tar%26co"),
    );
    check(
        Link {
            path: vec![name("a b"), name("ü?#%")],
            peers: vec![PEER.into(), "/dns6/x.example/udp/4/quic-v1".into()],
            ..bare()
        },
        &format!(
            "shoal:{CID}/a%20b/%C3%BC%3F%23%25?peer={PEER}&peer=/dns6/x.example/udp/4/quic-v1"
        ),
    );
    check(
        Link {
            name: Some(name("x.")),
            peers: vec![PEER.into()],
            marks: Marks {
                no_announce: true,
                no_replicate: true,
            },
            ..bare()
        },
        &format!("shoal:{CID}?mark=no-announce&mark=no-replicate&name=x.&peer={PEER}"),
    );
    // Behind a link, a full stop is that of the sentence.
    check(
        Link {
            name: Some(name("etc.")),
            ..bare()
        },
        &format!("shoal:{CID}?name=etc%2E"),
    );
}

#[test]
fn accepts_other_forms() {
    let check = |text: String, expected: Link| assert_eq!(text.parse(), Ok(expected), "{text}");
    let below = Link {
        path: vec![name("a"), name("100% b")],
        ..bare()
    };
    check(CID.into(), bare());
    check(CID.to_uppercase(), bare());
    check(format!("SHOAL:{CID}/"), bare());
    check(format!("shoal://{CID}"), bare());
    check(format!("shoal:{CID}?"), bare());
    check(format!("shoal:{CID}?later=1&flag&mark=later"), bare());
    check(format!("ipfs://{CID}"), bare());
    check(format!("{CID}/a/100%25%20b"), below.clone());
    check(
        format!("ipfs://{CID}/a/100%25%20b/?filename=z"),
        below.clone(),
    );
    check(format!("/ipfs/{CID}/a/100% b"), below.clone());
    check(
        format!("{CID}/a/100%25%20b?name=x"),
        Link {
            name: Some(name("x")),
            ..below
        },
    );
}

#[test]
fn fragments_go_nowhere() {
    let short = bare().short().unwrap();
    for text in [
        format!("shoal:{CID}#sEcReT"),
        format!("{CID}#sEcReT?peer=x"),
        format!("{CID}&#35;sEcReT"),
        format!("{short}#sEcReT"),
        format!("\"{short}#sEcReT\""),
        format!("/ipfs/{CID}#sEcReT"),
    ] {
        let link: Link = text.parse().unwrap();
        assert_eq!(link, bare());
    }
    for text in [
        "shoal:x#sEcReT",
        "http://x#sEcReT",
        "#sEcReT",
        &format!("shoal:{CID}/../x#sEcReT"),
        &format!("shoal:{CID}?peer=/x#sEcReT"),
        &format!("{}#sEcReT", &short[..50]),
        "shoal:S#sEcReT",
    ] {
        let error = text.parse::<Link>().unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("sEcReT"),
            "{error:?}"
        );
    }
}

#[test]
fn refusals() {
    let check = |text: String, expected: LinkError| {
        assert_eq!(text.parse::<Link>(), Err(expected), "{text}");
    };
    check(String::new(), LinkError::Scheme);
    check("magnet:?xt=urn".into(), LinkError::Scheme);
    check("https://example.org/x".into(), LinkError::Scheme);
    check("./file".into(), LinkError::Scheme);
    check("summer/beach.raw".into(), LinkError::Scheme);
    check(
        format!("shoal:{CID}/../x"),
        LinkError::Path(NameError::Dots),
    );
    check(format!("{CID}/../x"), LinkError::Path(NameError::Dots));
    check(
        format!("shoal:{CID}/a//b"),
        LinkError::Path(NameError::Empty),
    );
    check(
        format!("shoal:{CID}/a%2Fb"),
        LinkError::Path(NameError::Slash),
    );
    check(
        format!("shoal:{CID}?name=a%2F..%2Fb"),
        LinkError::Name(NameError::Slash),
    );
    check(
        format!("shoal:{CID}?name="),
        LinkError::Name(NameError::Empty),
    );
    check(format!("shoal:{CID}?name=a&name=b"), LinkError::TwoNames);
    check(format!("shoal:{CID}?name=%ff"), LinkError::Encoding);
    check(
        format!("shoal:{CID}?{}", format!("peer={PEER}&").repeat(17)),
        LinkError::TooManyPeers,
    );
    check("x".repeat(LINK_BYTES_MAX + 1), LinkError::TooLong);
    check(format!("shoal:{CID} shoal:{CID}"), LinkError::Several);

    // An unsupported hash is another mistake than a typing error.
    let sha3 = format!("shoal:f01551620{}", "ab".repeat(32))
        .parse::<Link>()
        .unwrap_err();
    assert!(matches!(
        sha3,
        LinkError::Address(AddressError::UnsupportedHash { .. })
    ));
    check(
        format!("shoal:{}", &CID[..50]),
        LinkError::Address(AddressError::Cut),
    );
    for nothing in ["shoal:", "SHOAL: ", "shoa", "shoal:…"] {
        let cut = LinkError::Cut {
            have: 0,
            whole: None,
        };
        check(nothing.into(), cut);
    }
}

#[test]
fn an_illegible_peer_is_told_as_such() {
    let check = |peer: &str, shown: &str| {
        let error = format!("shoal:{CID}?name=x&peer={peer}").parse::<Link>();
        assert_eq!(error, Err(LinkError::Peer(shown.to_owned())), "{peer}");
    };
    check("", "");
    check("example.org", "example.org");
    check("/ip4/%0a", "/ip4/\n");
    check("/ip4/192.0.2/tcp/4001", "/ip4/192.0.2/tcp/4001");
    check("/ip4/192.0.2.1/tpc/4001", "/ip4/192.0.2.1/tpc/4001");
    check("/ip4/192.0.2.1/tcp", "/ip4/192.0.2.1/tcp");
    let cut = &PEER[..PEER.len() - 7];
    check(cut, cut);
    let long = format!("/{}", "x".repeat(600));
    check(&long, &format!("{}…", &long[..PEER_SHOWN_MAX]));
    // The peers of later versions of libp2p are not illegible.
    for peer in [
        format!("/dns4/example.org/tcp/443/wss/p2p/{ID}"),
        format!("/ip4/192.0.2.1/tcp/4001/p2p/{ID}/p2p-circuit"),
        "/ip4/192.0.2.1/udp/4001/webrtc-direct".to_owned(),
    ] {
        let link: Link = format!("shoal:{CID}?peer={peer}").parse().unwrap();
        assert_eq!(link.peers, [peer]);
    }
}

#[test]
fn prints_four_peers() {
    let link = Link {
        peers: vec![PEER.into(); 6],
        ..bare()
    };
    assert_eq!(link.to_string().matches("peer=").count(), PEERS_PRINTED_MAX);
}

pub(super) fn any_name() -> impl Strategy<Value = SafeName> {
    "[^/\\x00]{1,20}".prop_filter_map("unsafe", |text| SafeName::parse(&text).ok())
}

fn any_peer() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<([u8; 4], u16)>()
            .prop_map(|(ip, port)| format!("/ip4/{}/tcp/{port}", std::net::Ipv4Addr::from(ip))),
        any::<([u8; 16], u16)>().prop_map(|(ip, port)| format!(
            "/ip6/{}/udp/{port}/quic-v1/p2p/{ID}",
            std::net::Ipv6Addr::from(ip)
        )),
        "[a-z]{1,20}".prop_map(|host| format!("/dns4/{host}/tcp/443/wss/p2p/{ID}")),
    ]
}

proptest! {
    #[test]
    fn round_trips(
        content in any::<[u8; 4]>(),
        path in prop::collection::vec(any_name(), 0..4),
        name in prop::option::of(any_name()),
        peers in prop::collection::vec(any_peer(), 0..=PEERS_PRINTED_MAX),
        (no_announce, no_replicate) in any::<(bool, bool)>(),
    ) {
        let root = Cid::dag_pb(Digest::of(HashFn::Blake3, &content));
        let marks = Marks { no_announce, no_replicate };
        let link = Link { root, path, name, peers, marks };
        prop_assert_eq!(link.to_string().parse(), Ok(link));
    }

    #[test]
    fn no_text_panics(
        text in "(<a href=\"|\\(|‘|)(shoal:|ipfs://|/ipfs/|)(bafkqaaa|S[0-9A-Z]{1,8})?[/?#&=%a-z0-9.;\\n\\PC]{0,60}",
    ) {
        if let Ok(link) = text.parse::<Link>() {
            let printed = Link { peers: link.peers.iter().take(4).cloned().collect(), ..link };
            prop_assert_eq!(printed.to_string().parse(), Ok(printed));
        }
    }
}
