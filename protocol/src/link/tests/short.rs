//! The short form: frozen vectors, what it keeps, and that nothing but what was printed is read.

use proptest::prelude::*;

use super::{super::short::*, *};

/// Made by another implementation of the format, in another language and by polynomial division.
const VECTORS: [(&str, &[&str], Option<&str>, &str); 7] = [
    (
        CID,
        &[],
        None,
        "S00AY4T9Q7TZK8D6M104VTHPVK4MK6YB4Q4TVG8JPZ69N4YAWGFK4RG5SH6",
    ),
    (
        CID,
        &[V4_TCP],
        None,
        "S03AY4T9Q7TZK8D6M104VTHPVK4MK6YB4Q4TVG8JPZ69N4YAWGFK4RQMQN354777PNW9KBKF9JG9XQFCD29JFA3A48\
         SD98ZJMKSSNHMAKV0000G11YGGMAZH",
    ),
    (
        CID,
        &[V4_TCP],
        Some("photos"),
        "S0KAY4T9Q7TZK8D6M104VTHPVK4MK6YB4Q4TVG8JPZ69N4YAWGFK4RQMQN354777PNW9KBKF9JG9XQFCD29JFA3A48\
         SD98ZJMKSSNHMAKV0000G11YGKAVGX04W/photos",
    ),
    (
        CID,
        &[V4_TCP, V4_QUIC],
        Some("summer 2026.tar"),
        "S0MAY4T9Q7TZK8D6M104VTHPVK4MK6YB4Q4TVG8JPZ69N4YAWGFK4RQMQN354777PNW9KBKF9JG9XQFCD29JFA3A48\
         SD98ZJMKSSNHMAKV0000G11YGW0002047T2YNTV9J5/summer%202026.tar",
    ),
    (
        CID,
        &[V6_TCP, V4_TCP],
        Some("Übung.pdf"),
        "S0RTY4T9Q7TZK8D6M104VTHPVK4MK6YB4Q4TVG8JPZ69N4YAWGFK4RQMQN354777PNW9KBKF9JG9XQFCD29JFA3A48\
         SD98ZJMKSSNHMAKRG023DR0000000000000000003GZ8E0001023X1ANQ9SN1/%C3%9Cbung.pdf",
    ),
    (
        SHA2_DIR,
        &[V6_QUIC],
        None,
        "SWANK5447435YAB1KVT1506BQ4SBWMP5DPCWB5KBCQG124HSY2CBQVZMQN354777PNW9KBKF9JG9XQFCD29JFA3A48\
         SD98ZJMKSSNHMAKRG023DR0000000000000000003ZZZRRSYQ",
    ),
    (
        SHA2_DIR,
        &[],
        None,
        "SY05K5447435YAB1KVT1506BQ4SBWMP5DPCWB5KBCQG124HSY2CBQVR9RWE",
    ),
];

/// The marks of the vectors.
const MARKS: [(bool, bool); 7] = [
    (false, false),
    (false, false),
    (false, false),
    (false, false),
    (false, false),
    (true, false),
    (true, true),
];

const SHA2_DIR: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";
const V4_TCP: &str = PEER;
const V4_QUIC: &str =
    "/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay";
const V6_TCP: &str =
    "/ip6/2001:db8::7/tcp/4001/p2p/12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay";
const V6_QUIC: &str =
    "/ip6/2001:db8::7/udp/65535/quic-v1/p2p/12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay";

#[test]
fn the_format_is_frozen() {
    for ((cid, peers, name, text), (no_announce, no_replicate)) in VECTORS.into_iter().zip(MARKS) {
        let link = Link {
            root: cid.parse().unwrap(),
            path: Vec::new(),
            name: name.map(super::name),
            peers: peers.iter().map(ToString::to_string).collect(),
            marks: Marks {
                no_announce,
                no_replicate,
            },
        };
        let text = format!("shoal:{text}");
        assert_eq!(link.short().as_ref(), Some(&text));
        assert_eq!(text.parse(), Ok(link));
    }
}

fn with_peers(peers: &[&str]) -> Link {
    Link {
        peers: peers.iter().map(ToString::to_string).collect(),
        ..bare()
    }
}

fn kept(peers: &[&str]) -> Option<Vec<String>> {
    let link: Link = with_peers(peers).short()?.parse().unwrap();
    Some(link.peers)
}

#[test]
fn the_first_two_addresses_that_fit_are_kept() {
    let check = |peers: &[&str], expected: &[&str]| {
        assert_eq!(kept(peers).unwrap(), expected, "{peers:?}");
    };
    check(&[V4_TCP, V6_TCP, V4_QUIC], &[V4_TCP, V6_TCP]);
    check(&[V4_QUIC, V4_TCP], &[V4_QUIC, V4_TCP]);
    // Two addresses of IPv6 do not fit a code: the next that does is taken.
    check(&[V6_TCP, V6_QUIC], &[V6_TCP]);
    check(&[V6_TCP, V6_QUIC, V4_QUIC], &[V6_TCP, V4_QUIC]);
    check(&[V4_TCP, V4_TCP], &[V4_TCP]);
    let dns = format!("/dns4/example.org/tcp/1/p2p/{ID}");
    let relayed = format!("/ip4/192.0.2.9/tcp/1/p2p/{ID}/p2p-circuit/p2p/{ID}");
    check(
        &[&dns, &relayed, "/ip4/192.0.2.1/tcp/4001", V4_TCP],
        &[V4_TCP],
    );
    // One peer has room.
    let other = V4_QUIC.replace("WSHj3", "WSHj4");
    check(&[V4_TCP, &other, V6_QUIC], &[V4_TCP, V6_QUIC]);
}

#[test]
fn what_does_not_fit_has_the_long_form() {
    let dns = format!("/dns4/example.org/tcp/1/p2p/{ID}");
    let rsa = "/ip4/192.0.2.1/tcp/1/p2p/QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn";
    for peers in [&[dns.as_str()][..], &["/ip4/192.0.2.1/tcp/4001"], &[rsa]] {
        let link = with_peers(peers);
        assert_eq!(link.short(), None, "{peers:?}");
        assert_eq!(link.passed_on(), link.to_string());
    }
    assert_eq!(Link::new("bafkqaaa".parse().unwrap()).short(), None);
}

#[test]
fn the_longest_fits_a_code_of_version_5() {
    let longest = with_peers(&[V6_TCP, V4_QUIC]).short().unwrap();
    assert_eq!(longest.len(), 154);
    let named = Link {
        name: Some(name("x")),
        ..with_peers(&[V6_TCP, V4_QUIC])
    };
    assert_eq!(
        named.short().unwrap().len(),
        "shoal:".len() + 151 + "/x".len()
    );
}

#[test]
fn names_and_paths_follow_and_are_told_apart() {
    let check = |named: Option<&str>, path: &[&str], behind: &str| {
        let link = Link {
            name: named.map(name),
            path: path.iter().map(|it| name(it)).collect(),
            ..bare()
        };
        let text = link.short().unwrap();
        assert!(text.ends_with(behind), "{text}");
        assert!(!text.contains(['&', '?', '#', ' ']), "{text}");
        assert_eq!(text.parse(), Ok(link));
    };
    check(Some("photos"), &[], "/photos");
    check(Some("photos"), &["a", "b c"], "/photos/a/b%20c");
    check(None, &["a", "b c"], "/a/b%20c");
    check(Some("photos"), &["photos"], "/photos/photos");
    check(Some("100%?#&.iso"), &[], "/100%25%3F%23%26.iso");
    check(Some("my_file~1"), &[], "/my%5Ffile%7E1");
    check(Some("etc."), &["etc."], "/etc%2E/etc%2E");
    check(Some(&"ü".repeat(127)), &[], "%BC");

    let named = Link {
        name: Some(name("photos")),
        ..bare()
    };
    let text = named.short().unwrap();
    let below: Link = format!("{text}/summer/beach.raw").parse().unwrap();
    assert_eq!(below.path, [name("summer"), name("beach.raw")]);
    assert_eq!(below.name, named.name);
    // Without its name it works, too.
    let token = text.strip_suffix("/photos").unwrap();
    assert_eq!(token.parse(), Ok(bare()));
    assert_eq!(format!("{token}/").parse(), Ok(bare()));
}

#[test]
fn what_a_later_version_made_is_told_as_such() {
    // The reserved bit set, and addresses of kind 26, of which nobody knows how long they are.
    for (at, bit) in [(1, 0b00001), (2, 0b01101)] {
        let text = bare().short().unwrap();
        let letters = text.strip_prefix("shoal:").unwrap();
        let alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut values: Vec<u8> = letters
            .chars()
            .map(|c| u8::try_from(alphabet.find(c).unwrap()).unwrap())
            .collect();
        values.truncate(55);
        values[at] ^= bit;
        values.extend(crate::link::checksum::Letters::check(&values));
        let made = values
            .iter()
            .map(|it| alphabet.as_bytes()[usize::from(*it)]);
        let made: String = made.map(char::from).collect();
        let error = format!("shoal:{made}").parse::<Link>().unwrap_err();
        assert_eq!(error, LinkError::Newer, "{made}");
    }
}

/// A link of any shape that has a short form.
fn any_link() -> impl Strategy<Value = Link> {
    let peer = (any::<[u8; 16]>(), any::<u16>(), 0..4_u8).prop_map(|(ip, port, kind)| {
        let [a, b, c, d, ..] = ip;
        let v4 = std::net::Ipv4Addr::new(a, b, c, d);
        let v6 = std::net::Ipv6Addr::from(ip);
        match kind {
            0 => format!("/ip4/{v4}/tcp/{port}/p2p/{ID}"),
            1 => format!("/ip4/{v4}/udp/{port}/quic-v1/p2p/{ID}"),
            2 => format!("/ip6/{v6}/tcp/{port}/p2p/{ID}"),
            _ => format!("/ip6/{v6}/udp/{port}/quic-v1/p2p/{ID}"),
        }
    });
    (
        any::<([u8; 4], bool, bool, bool, bool)>(),
        prop::collection::vec(any_name(), 0..3),
        prop::option::of(any_name()),
        prop::collection::vec(peer, 0..=1),
    )
        .prop_map(
            |((content, raw, sha2, no_announce, no_replicate), path, name, peers)| {
                let hash_fn = if sha2 {
                    HashFn::Sha2_256
                } else {
                    HashFn::Blake3
                };
                let digest = Digest::of(hash_fn, &content);
                Link {
                    root: if raw {
                        Cid::raw(digest)
                    } else {
                        Cid::dag_pb(digest)
                    },
                    path,
                    name,
                    peers,
                    marks: Marks {
                        no_announce,
                        no_replicate,
                    },
                }
            },
        )
}

proptest! {
    #[test]
    fn every_short_link_round_trips(link in any_link()) {
        let text = link.short().unwrap();
        prop_assert_eq!(text.parse(), Ok(link.clone()));
        // In one case and behind the same words in another, names but for their case.
        let lower: Link = text.to_lowercase().parse().unwrap();
        prop_assert_eq!((lower.root, lower.peers), (link.root, link.peers));
        prop_assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "/:%.-".contains(c)));
    }

    #[test]
    fn any_changed_letters_are_refused(
        link in any_link(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[!-~]"), 1..=3),
    ) {
        let text = link.short().unwrap();
        let token = text.split('/').next().unwrap();
        let mut changed: Vec<String> = token.chars().map(String::from).collect();
        for (at, letter) in changes {
            // Not the scheme, and no delimiter: what is behind one is no part of the token.
            let at = 6 + at.index(changed.len() - 6);
            if !"/?#<>\"`|".contains(&letter) {
                changed[at] = letter;
            }
        }
        let changed = changed.concat();
        let alike = |text: &str| text.to_uppercase().replace('O', "0").replace(['I', 'L'], "1");
        if alike(&changed[6..]) != alike(&token[6..]) {
            prop_assert!(changed.parse::<Link>().is_err(), "{changed}");
        }
    }

    #[test]
    fn no_token_panics(letters in "[0-9A-Za-z\\n ]{0,200}", behind in "[/%.?#\\PC]{0,20}") {
        let _ = format!("shoal:S{letters}{behind}").parse::<Link>();
        let _ = read(&letters);
    }
}
