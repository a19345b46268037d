//! The wire format, byte by byte: a change that fails here needs another protocol version.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::num::NonZeroU32;

use super::*;
use crate::address::{Cid, Digest, HashFn};
use crate::link::Marks;

/// `1e 20` and the BLAKE3 hash of nothing.
const NOTHING_BLAKE3: &str =
    "1e20 af1349b9f5f9a1a6a0404dea36dcc949 9bcb25c9adc112b7cc9a93cae41f3262";
/// `12 20` and the SHA2-256 hash of nothing.
const NOTHING_SHA2: &str = "1220 e3b0c44298fc1c149afbf4c8996fb924 27ae41e4649b934ca495991b7852b855";

/// Reads a commented hexdump: what follows `#` on a line is for people.
fn bytes(hexdump: &str) -> Vec<u8> {
    let digits: String = hexdump
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn check<M: Message + PartialEq + std::fmt::Debug>(message: &M, hexdump: &str) {
    let expected = bytes(hexdump);
    let mut encoded = Vec::new();
    encode(message, &mut encoded).unwrap();
    assert_eq!(encoded, expected, "{message:?} encodes as {encoded:02x?}");
    let mut decoder = FrameDecoder::<M>::default();
    let mut input = expected.as_slice();
    assert_eq!(
        decoder.next(&mut input).unwrap().as_ref(),
        Some(&Event::Message(clone(message)))
    );
    assert!(input.is_empty());
}

/// `Message` has no `Clone`; what was encoded is as good.
fn clone<M: Message>(message: &M) -> M {
    postcard::from_bytes(&postcard::to_allocvec(message).unwrap()).unwrap()
}

#[test]
fn request_wire_format() {
    let blake3 = Digest::of(HashFn::Blake3, b"");
    let sha2 = Digest::of(HashFn::Sha2_256, b"");
    check(
        &Request::Open {
            root: Cid::dag_pb(blake3),
        },
        &format!(
            "00000026  # length: 38
             00        # Open
             24        # CID: 36 bytes
             01 70     # version 1, dag-pb
             {NOTHING_BLAKE3}"
        ),
    );
    check(
        &Request::Want {
            id: 300,
            blocks: vec![blake3, sha2].try_into().unwrap(),
        },
        &format!(
            "00000048  # length: 72
             01        # Want
             ac02      # id: 300
             02        # two digests, without lengths
             {NOTHING_BLAKE3}
             {NOTHING_SHA2}"
        ),
    );
    check(
        &Request::Cancel {
            id: u32::MAX,
            count: 1,
        },
        "00000007    # length: 7
         02          # Cancel
         ffffffff0f  # id: 4294967295
         01          # count",
    );
    check(&Request::Close, "00000001 03");
    check(
        &Request::Rest {
            id: 7,
            block: sha2,
            offset: NonZeroU32::new(300_000).unwrap(),
        },
        &format!(
            "00000027  # length: 39
             04        # Rest
             07        # id
             {NOTHING_SHA2}
             e0a712    # offset: 300000"
        ),
    );
    let helper = Helper {
        peer: vec![0x00, 0x24].try_into().unwrap(),
        addresses: vec![vec![4, 127, 0, 0, 1].try_into().unwrap()]
            .try_into()
            .unwrap(),
    };
    check(
        &Request::Nearby {
            helpers: vec![helper].try_into().unwrap(),
        },
        "0000000c       # length: 12
         05 01          # Nearby, one helper
         02 0024        # its id: 2 bytes
         01             # one address
         05 047f000001  # 5 bytes",
    );
}

#[test]
fn status_wire_format() {
    let ranges = LeafRanges::new(vec![0..1, 5..7, 300..1000]).unwrap();
    check(
        &Response::status(Availability::Complete),
        "00000003 00 00 00",
    );
    check(
        &Response::status(Availability::Partial {
            ranges: ranges.clone(),
            coming: vec![1, 300].try_into().unwrap(),
        }),
        "00000010   # length: 16
         00 01      # Status, Partial
         03         # three ranges, as gap and length
         00 01      # 0..1
         04 02      # 5..7
         a502 bc05  # 300..1000: gap 293, length 700
         02 01 ac02 # two leaves are coming: 1 and 300
         00         # no marks",
    );
    check(&Response::status(Availability::Absent), "00000003 00 02 00");
    check(&Response::status(Availability::Gone), "00000003 00 03 00");
    check(
        &Response::status(Availability::Busy {
            retry_after_ms: 1000,
        }),
        "00000005 00 04 e807 00  # Status, Busy, 1000 ms",
    );
    check(
        &Response::status(Availability::Held { ranges }),
        "0000000c 00 05 03 0001 0402 a502bc05 00  # Status, Held, as above",
    );
    check(
        &Response::status(Availability::Held {
            ranges: LeafRanges::all(),
        }),
        "0000000c               # length: 12
         00 05                  # Status, Held
         01                     # one range
         00 808080808080 01     # 0..2^42
         00                     # no marks",
    );
    for (bits, no_announce, no_replicate) in [
        (0, false, false),
        (1, true, false),
        (2, false, true),
        (3, true, true),
    ] {
        let marked = Response::Status {
            availability: Availability::Complete,
            marks: Marks {
                no_announce,
                no_replicate,
            },
        };
        check(&marked, &format!("00000003 00 00 {bits:02x}"));
    }
}

#[test]
fn response_wire_format() {
    let hint = PeerHint {
        peer: vec![0x00, 0x24].try_into().unwrap(),
        class: PeerClass::Member,
        addresses: vec![vec![4, 127, 0, 0, 1].try_into().unwrap(), List::default()]
            .try_into()
            .unwrap(),
    };
    check(
        &Response::Block {
            id: 7,
            len: 2 << 20,
        },
        "00000006 01 07 80808001  # 2 MiB follow",
    );
    check(
        &Response::Missing {
            id: 1,
            why: Missing::NotHere,
        },
        "00000003 02 01 00",
    );
    check(
        &Response::Missing {
            id: 1,
            why: Missing::Changed,
        },
        "00000003 02 01 01",
    );
    check(
        &Response::Missing {
            id: 1,
            why: Missing::Unreadable,
        },
        "00000003 02 01 02",
    );
    check(
        &Response::Missing {
            id: 1,
            why: Missing::Beyond,
        },
        "00000003 02 01 03",
    );
    check(
        &Response::Hint {
            peers: vec![hint].try_into().unwrap(),
        },
        "0000000e       # length: 14
         03 01          # Hint, one peer
         02 0024        # its id: 2 bytes
         02             # Member
         02             # two addresses
         05 047f000001  # 5 bytes
         00             # 0 bytes",
    );
    let reasons = [
        Reason::Done,
        Reason::Gone,
        Reason::ShuttingDown,
        Reason::Protocol,
        Reason::TooSlow,
        Reason::Busy,
    ];
    for (at, reason) in reasons.into_iter().enumerate() {
        check(&Response::Close(reason), &format!("00000002 04 {at:02x}"));
    }
    check(&Response::Nominate, "00000001 05");
}

#[test]
fn what_is_not_allowed_is_refused() {
    fn request(hexdump: &str, accepted: bool) {
        assert_eq!(
            decode_request(&bytes(hexdump)).is_ok(),
            accepted,
            "{hexdump}"
        );
    }
    fn response(hexdump: &str, accepted: bool) {
        assert_eq!(
            decode_response(&bytes(hexdump)).is_ok(),
            accepted,
            "{hexdump}"
        );
    }
    let want = |count: usize| format!("01 00 {:02x}{:02x}", count % 128 + 128, count / 128);
    request("", false);
    request("06 # no such request", false);
    request("05 00 # names nobody", true);
    request(&format!("05 03 {}", "00 00".repeat(3)), true);
    request(&format!("05 04 {}", "00 00".repeat(4)), false);
    request(&format!("05 01 00 04 {}", "00".repeat(4)), true);
    request(&format!("05 01 00 05 {}", "00".repeat(5)), false);
    request(&format!("04 00 {NOTHING_SHA2} 01"), true);
    request(&format!("04 00 {NOTHING_SHA2} 00 # from the start"), false);
    request(
        &format!("04 00 {NOTHING_SHA2} ffff7f # 2 MiB less a byte"),
        true,
    );
    request(&format!("04 00 {NOTHING_SHA2} 80808001 # 2 MiB"), false);
    request("03 00 # a byte after it", false);
    request(&format!("00 24 01 70 {NOTHING_BLAKE3}"), true);
    request(&format!("00 24 01 71 {NOTHING_BLAKE3} # dag-cbor"), false);
    request(&format!("01 00 01 {NOTHING_BLAKE3}"), true);
    request(&format!("01 00 01 {NOTHING_BLAKE3} 00"), false);
    request(
        &format!("01 00 02 {NOTHING_BLAKE3} # two digests, one there"),
        false,
    );
    request(
        &format!("01 00 01 16{} # sha3-256", &NOTHING_BLAKE3[2..]),
        false,
    );
    request("01 00 00 # no digest", false);
    request(
        &format!("01 ffffffff0f 01 {NOTHING_SHA2} # the last id"),
        true,
    );
    request(
        &format!("01 ffffffff0f 02 {NOTHING_SHA2}{NOTHING_SHA2} # beyond it"),
        false,
    );
    request(&(want(256) + &NOTHING_SHA2.repeat(256)), true);
    request(&(want(257) + &NOTHING_SHA2.repeat(257)), false);
    request("02 00 00 # cancels nothing", false);
    request("02 01 ffffffff0f", true);
    request("02 02 ffffffff0f # ids beyond u32", false);

    response("06 # no such response", false);
    response("05 00 # a byte after it", false);
    response("02 00 04 # no such reason", false);
    response("00 06 00 # no such availability", false);
    response("00 00 # no marks", false);
    response("00 00 03", true);
    response("00 00 04 # no such mark", false);
    response("01 00 80808001 # 2 MiB", true);
    response("01 00 81808001 # 2 MiB and a byte", false);
    response("01 00 ffffffff0f # 4 GiB", false);
    response("01 00 ffffffff1f # beyond u32", false);
    response("00 01 01 00 00 00 # an empty range", false);
    response(&format!("03 10 {}", "00 00 00".repeat(16)), true);
    response(&format!("03 11 {}", "00 00 00".repeat(17)), false);
    response("03 01 00 03 00 # no such class", false);
    response(&format!("03 01 40 {} 01 00", "aa".repeat(64)), true);
    response(&format!("03 01 41 {} 01 00", "aa".repeat(65)), false);
    response(&format!("03 01 00 00 08 {}", "00".repeat(8)), true);
    response(&format!("03 01 00 00 09 {}", "00".repeat(9)), false);
    response(&format!("03 01 00 00 01 8002 {}", "aa".repeat(256)), true);
    response(&format!("03 01 00 00 01 8102 {}", "aa".repeat(257)), false);
    response(
        "03 ffffffffffffffffff01 # as many peers as can be said",
        false,
    );
}

#[test]
fn what_no_one_would_accept_is_not_written() {
    let mut out = vec![1, 2, 3];
    for request in [
        Request::Want {
            id: 0,
            blocks: List::default(),
        },
        Request::Cancel { id: 0, count: 0 },
        Request::Cancel {
            id: 2,
            count: u32::MAX,
        },
    ] {
        assert!(
            matches!(encode(&request, &mut out), Err(WireError::Ids { .. })),
            "{request:?}"
        );
    }
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn a_declared_length_is_refused_before_it_is_read() {
    assert_eq!(frame_len([0, 1, 0, 0]), Ok(FRAME_BYTES_MAX));
    assert_eq!(
        frame_len([0, 1, 0, 1]),
        Err(WireError::FrameTooLong { len: 65_537 })
    );
    let mut decoder = FrameDecoder::<Request>::default();
    let mut input: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0];
    let error = WireError::FrameTooLong { len: 0xffff_ffff };
    assert_eq!(decoder.next(&mut input), Err(error.clone()));
    let mut valid: &[u8] = &[0, 0, 0, 1, 3];
    assert_eq!(decoder.next(&mut valid), Err(error), "an error is for good");
    assert!(!decoder.is_between_frames());
}

#[test]
fn the_longest_hint_fits_a_frame() {
    let address = || List::first_of(std::iter::repeat_n(0xaa, ADDRESS_BYTES_MAX));
    let peer = || PeerHint {
        peer: List::first_of(std::iter::repeat_n(0xaa, PEER_ID_BYTES_MAX)),
        class: PeerClass::Member,
        addresses: List::first_of(std::iter::repeat_with(address)),
    };
    let peers = List::first_of(std::iter::repeat_with(peer));
    let mut out = Vec::new();
    encode(&Response::Hint { peers }, &mut out).unwrap();
    assert!(out.len() < 35 * 1024, "{}", out.len());
}

#[test]
fn an_end_within_a_frame_or_payload_shows() {
    let stream = bytes("00000003 01 07 02  00000001 aa 00000001 bb  00000002 04 00");
    let ends: Vec<usize> = (0..=stream.len())
        .filter(|len| {
            let mut decoder = FrameDecoder::<Response>::default();
            let mut input = &stream[..*len];
            while decoder.next(&mut input).unwrap().is_some() {}
            decoder.is_between_frames()
        })
        .collect();
    assert_eq!(
        ends,
        [0, 17, 23],
        "only before, between and after the messages"
    );
}

/// What a decoder finds, as text.
fn found(hexdump: &str) -> Vec<String> {
    let stream = bytes(hexdump);
    let mut decoder = FrameDecoder::<Response>::default();
    let mut input = stream.as_slice();
    let mut found = Vec::new();
    loop {
        match decoder.next(&mut input) {
            Ok(None) => return found,
            Ok(Some(event)) => found.push(format!("{event:?}")),
            Err(error) => {
                found.push(error.to_string());
                return found;
            }
        }
    }
}

#[test]
fn a_payload_comes_in_pieces_and_may_end_early() {
    let block = "Message(Block { id: 7, len: 3 })";
    let head = "00000003 01 07 03 # Block, id 7, 3 bytes follow";
    let check = |rest: &str, expected: &[&str]| {
        let found = found(&format!("{head}\n{rest}"));
        assert_eq!(found[0], block);
        assert_eq!(found[1..], *expected, "{rest}");
    };
    check(
        "00000003 aabbcc",
        &["Payload { id: 7, bytes: [170, 187, 204], last: true }"],
    );
    check(
        "00000002 aabb 00000001 cc",
        &[
            "Payload { id: 7, bytes: [170, 187], last: false }",
            "Payload { id: 7, bytes: [204], last: true }",
        ],
    );
    check(
        "00000002 aabb 00000000 # no more of it
         00000002 04 00         # Close, Done",
        &[
            "Payload { id: 7, bytes: [170, 187], last: false }",
            "Cut { id: 7 }",
            "Message(Close(Done))",
        ],
    );
    check("00000000 # nothing of it", &["Cut { id: 7 }"]);
    check(
        "00000004 # longer than the block",
        &["a piece of 4 bytes, of a block that has 3 left"],
    );
    check(
        "00000002 aabb 00000002",
        &[
            "Payload { id: 7, bytes: [170, 187], last: false }",
            "a piece of 2 bytes, of a block that has 1 left",
        ],
    );
    assert_eq!(
        found("00000003 01 07 00  00000002 04 00"),
        [
            "Message(Block { id: 7, len: 0 })",
            "Payload { id: 7, bytes: [], last: true }",
            "Message(Close(Done))",
        ],
        "a block of no bytes has no piece"
    );
    assert_eq!(piece_head(258), [0, 0, 1, 2]);
    assert_eq!(piece_len([0, 0, 1, 2], 258), Ok(258));
    let error = WireError::Piece {
        len: 258,
        left: 257,
    };
    assert_eq!(piece_len([0, 0, 1, 2], 257), Err(error));
}
