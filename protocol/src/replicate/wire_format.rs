//! The wire format, byte by byte: a change that fails here needs another protocol version.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;
use crate::address::{Cid, Digest, HashFn};
use crate::exchange::{ADDRESS_BYTES_MAX, LEAF_END_MAX, LeafRanges, List, PEER_ID_BYTES_MAX};

/// `1e 20` and the BLAKE3 hash of nothing.
const NOTHING_BLAKE3: &str =
    "1e20 af1349b9f5f9a1a6a0404dea36dcc949 9bcb25c9adc112b7cc9a93cae41f3262";

/// A key: 32 bytes, without a length.
const KEY: &str = "4444444444444444 4444444444444444 4444444444444444 4444444444444444";

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
    let mut input = expected.as_slice();
    let decoded = FrameDecoder::<M>::default().next(&mut input).unwrap();
    assert_eq!(decoded.as_ref(), Some(message));
    assert!(input.is_empty());
}

fn key() -> Key {
    Key([0x44; 32])
}

fn ranges(ranges: &[std::ops::Range<u64>]) -> LeafRanges {
    LeafRanges::new(ranges.to_vec()).unwrap()
}

fn range(range: std::ops::Range<u64>) -> LeafRanges {
    ranges(std::slice::from_ref(&range))
}

fn peer() -> Peer {
    Peer {
        peer: vec![0x00, 0x24].try_into().unwrap(),
        addresses: vec![vec![4, 127, 0, 0, 1].try_into().unwrap()]
            .try_into()
            .unwrap(),
    }
}

const PEER: &str = "
    02 0024           # its id: 2 bytes
    01 05 047f000001  # one address of 5 bytes
";

fn root() -> Cid {
    Cid::dag_pb(Digest::of(HashFn::Blake3, b""))
}

#[test]
fn request_wire_format() {
    check(
        &Request::Hello(Hello {
            helps: true,
            free_mib: 2048,
            near: vec![peer()].try_into().unwrap(),
        }),
        &format!(
            "0000000f    # length: 15
             00          # Hello
             01          # it helps
             8010        # 2048 MiB are free
             01          # one near helper
             {PEER}"
        ),
    );
    check(
        &Request::Ask {
            id: 300,
            key: key(),
            stays: true,
        },
        &format!(
            "00000024    # length: 36
             01          # Ask
             ac02        # id: 300
             {KEY}
             01          # it stays"
        ),
    );
    check(
        &Request::Offer(Offer {
            id: 7,
            root: root(),
            leaves: 1000,
            size: 1000 << 20,
            ranges: ranges(&[0..4, 8..12]),
            asked: 2,
            holders: vec![peer()].try_into().unwrap(),
        }),
        &format!(
            "0000003f    # length: 63
             02          # Offer
             07          # id
             24          # CID: 36 bytes
             01 70       # version 1, dag-pb
             {NOTHING_BLAKE3}
             e807        # 1000 leaves
             808080f403  # 1000 MiB
             02          # two ranges, as gap and length
             00 04       # 0..4
             04 04       # 8..12
             02          # two have asked
             01          # one holder
             {PEER}"
        ),
    );
    check(
        &Request::Holding {
            held: vec![
                Held {
                    key: key(),
                    ranges: range(0..4),
                    busy: true,
                },
                Held {
                    key: key(),
                    ranges: LeafRanges::default(),
                    busy: false,
                },
            ]
            .try_into()
            .unwrap(),
        },
        &format!(
            "00000048    # length: 72
             03          # Holding
             02          # two keys
             {KEY}
             01 00 04    # one range: 0..4
             01          # it is busy
             {KEY}
             00          # nothing any more
             00          # it is not busy"
        ),
    );
}

#[test]
fn response_wire_format() {
    let answer = |answer| Response::Answer { id: 7, answer };
    check(
        &Response::Hello(Hello::default()),
        "00000004    # length: 4
         00          # Hello
         00          # it does not help
         00          # nothing is free
         00          # no near helpers",
    );
    check(
        &answer(Answer::Have {
            ranges: range(0..1),
            wants: false,
        }),
        "00000007    # length: 7
         01 07 00    # Answer, id, Have
         01 00 01    # one range: 0..1
         00          # it wants no more",
    );
    check(&answer(Answer::Pulling), "00000003 01 07 01");
    check(&answer(Answer::Want), "00000003 01 07 02");
    check(
        &answer(Answer::Elsewhere {
            holders: vec![peer()].try_into().unwrap(),
            closer: List::default(),
        }),
        &format!(
            "0000000f    # length: 15
             01 07 03    # Answer, id, Elsewhere
             01          # one holder
             {PEER}
             00          # no closer node"
        ),
    );
    check(
        &Response::Reply {
            id: 7,
            reply: Reply::Accept {
                ranges: range(4..8),
            },
        },
        "00000006    # length: 6
         02 07 00    # Reply, id, Accept
         01 04 04    # one range: 4..8",
    );
    check(
        &Response::Tell { id: 7, key: key() },
        &format!("00000022 03 07 {KEY}"),
    );
    let reasons = [
        Why::Off,
        Why::Demand,
        Why::Enough,
        Why::Busy,
        Why::Budget,
        Why::Room,
        Why::Place,
        Why::Refused,
        Why::Untrue,
        Why::Unasked,
    ];
    for (at, why) in reasons.into_iter().enumerate() {
        let retry_s = 300;
        check(
            &answer(Answer::No { why, retry_s }),
            &format!("00000006 01 07 04 {at:02x} ac02  # Answer, id, No, why, 300 s"),
        );
        check(
            &Response::Reply {
                id: 7,
                reply: Reply::Decline { why, retry_s },
            },
            &format!("00000006 02 07 01 {at:02x} ac02  # Reply, id, Decline, why, 300 s"),
        );
    }
}

/// Reads a message without its length.
fn decode<M: Message>(hexdump: &str) -> Result<M, FrameError> {
    let body = bytes(hexdump);
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    FrameDecoder::<M>::default()
        .next(&mut frame.as_slice())
        .map(Option::unwrap)
}

#[test]
fn what_is_not_allowed_is_refused() {
    fn request(hexdump: &str, accepted: bool) {
        assert_eq!(decode::<Request>(hexdump).is_ok(), accepted, "{hexdump}");
    }
    fn response(hexdump: &str, accepted: bool) {
        assert_eq!(decode::<Response>(hexdump).is_ok(), accepted, "{hexdump}");
    }
    let many = |ranges: usize| {
        format!(
            "{:02x}{:02x} {}",
            ranges % 128 + 128,
            ranges / 128,
            "0101".repeat(ranges)
        )
    };
    let offer = |leaves: &str, ranges: &str| {
        format!("02 00 24 01 70 {NOTHING_BLAKE3} {leaves} 01 {ranges} 01 00")
    };
    request("", false);
    request("04 # no such request", false);
    request(&format!("01 00 {KEY} 01"), true);
    request(&format!("01 00 {KEY} 02 # neither yes nor no"), false);
    request(&format!("01 00 {KEY} 01 00 # a byte after it"), false);
    request(&format!("01 00 {}", &KEY[2..]), false);
    request(&format!("00 01 00 08 {}", "00 00".repeat(8)), true);
    request(&format!("00 01 00 09 {}", "00 00".repeat(9)), false);
    request(&format!("00 01 00 01 00 04 {}", "00".repeat(4)), true);
    request(&format!("00 01 00 01 00 05 {}", "00".repeat(5)), false);
    request(&format!("00 01 00 01 40 {} 00", "aa".repeat(64)), true);
    request(&format!("00 01 00 01 41 {} 00", "aa".repeat(65)), false);
    request(&offer("04", "01 00 04"), true);
    request(&offer("04", "01 00 05 # beyond the last leaf"), false);
    request(&offer("00", "00 # no leaf"), false);
    request(&offer("04", "00 # nothing offered"), false);
    request(&offer("8080 01", &many(1024)), true);
    request(&offer("8080 01", &many(1025)), false);
    request("03 00 # about no key", false);
    request(&format!("03 01 {KEY} 40 {} 00", "0101".repeat(64)), true);
    request(&format!("03 01 {KEY} 41 {} 00", "0101".repeat(65)), false);
    let held = format!("{KEY} 00 00");
    request(&format!("03 8002 {}", held.repeat(256)), true);
    request(&format!("03 8102 {}", held.repeat(257)), false);

    response("04 # no such response", false);
    response("01 00 05 # no such answer", false);
    response("01 00 04 0a 00 # no such reason", false);
    response("02 00 02 # no such reply", false);
    response(&format!("01 00 00 {} 00", many(1024)), true);
    response(&format!("01 00 00 {} 00", many(1025)), false);
    response(&format!("02 00 00 {}", many(1025)), false);
    response(&format!("01 00 03 08 {} 00", "00 00".repeat(8)), true);
    response(&format!("01 00 03 09 {} 00", "00 00".repeat(9)), false);
    response(&format!("01 00 03 00 04 {}", "00 00".repeat(4)), true);
    response(&format!("01 00 03 00 05 {}", "00 00".repeat(5)), false);
    response(
        "01 00 03 ffffffffffffffffff01 # as many as can be said",
        false,
    );
}

#[test]
fn what_no_one_would_accept_is_not_written() {
    let mut out = vec![1, 2, 3];
    let mut refuses = |message: &Request, expected: &FrameError| {
        assert_eq!(encode(message, &mut out).as_ref(), Err(expected));
        assert_eq!(out, [1, 2, 3]);
    };
    let held = List::default();
    refuses(&Request::Holding { held }, &FrameError::Nothing);
    let many: Vec<_> = (0..65).map(|n| 2 * n..2 * n + 1).collect();
    let held = vec![Held {
        key: key(),
        ranges: ranges(&many),
        busy: false,
    }];
    refuses(
        &Request::Holding {
            held: held.try_into().unwrap(),
        },
        &FrameError::Ranges { len: 65, max: 64 },
    );
    let offer = Offer {
        id: 0,
        root: root(),
        leaves: 4,
        size: 4,
        ranges: range(0..5),
        asked: 1,
        holders: List::default(),
    };
    refuses(&Request::Offer(offer), &FrameError::Beyond);
}

#[test]
fn a_declared_length_is_refused_before_it_is_read() {
    let mut decoder = FrameDecoder::<Request>::default();
    let error = FrameError::TooLong { len: 16_385 };
    assert_eq!(
        decoder.next(&mut [0, 0, 0x40, 1, 0].as_slice()),
        Err(error.clone())
    );
    assert_eq!(
        decoder.next(&mut [0].as_slice()),
        Err(error),
        "an error is for good"
    );
    assert!(!decoder.is_between_frames());
    let mut decoder = FrameDecoder::<Request>::default();
    assert_eq!(decoder.next(&mut [0, 0, 0x40, 0, 0].as_slice()), Ok(None));
}

#[test]
fn the_longest_of_each_kind_fits_a_frame() {
    let address = || List::first_of(std::iter::repeat_n(0xaa, ADDRESS_BYTES_MAX));
    let peer = || Peer {
        peer: List::first_of(std::iter::repeat_n(0xaa, PEER_ID_BYTES_MAX)),
        addresses: List::first_of(std::iter::repeat_with(address)),
    };
    let step = LEAF_END_MAX / RANGES_MAX as u64;
    let widest: Vec<_> = (0..RANGES_MAX as u64)
        .map(|n| n * step + step / 2..(n + 1) * step)
        .collect();
    let mut sizes = Vec::new();
    let mut measure = |out: Result<Vec<u8>, FrameError>| sizes.push(out.unwrap().len());
    measure(frame(&Request::Hello(Hello {
        helps: true,
        free_mib: u32::MAX,
        near: List::first_of(std::iter::repeat_with(peer)),
    })));
    measure(frame(&Request::Offer(Offer {
        id: u32::MAX,
        root: root(),
        leaves: u64::MAX,
        size: u64::MAX,
        ranges: ranges(&widest),
        asked: u32::MAX,
        holders: List::first_of(std::iter::repeat_with(peer)),
    })));
    measure(frame(&Response::Answer {
        id: u32::MAX,
        answer: Answer::Elsewhere {
            holders: List::first_of(std::iter::repeat_with(peer)),
            closer: List::first_of(std::iter::repeat_with(peer)),
        },
    }));
    let held = || Held {
        key: key(),
        ranges: range(1 << 20..2 << 20),
        busy: true,
    };
    measure(frame(&Request::Holding {
        held: List::first_of(std::iter::repeat_with(held)),
    }));
    let most = sizes.iter().max().copied().unwrap_or_default();
    assert!(most < 15 << 10, "{sizes:?}");
}

fn frame(message: &impl Message) -> Result<Vec<u8>, FrameError> {
    let mut out = Vec::new();
    encode(message, &mut out).map(|()| out)
}

#[test]
fn an_end_within_a_frame_shows() {
    let stream = bytes("00000003 01 07 01  00000003 01 07 02");
    let ends: Vec<usize> = (0..=stream.len())
        .filter(|len| {
            let mut decoder = FrameDecoder::<Response>::default();
            let mut input = &stream[..*len];
            while decoder.next(&mut input).unwrap().is_some() {}
            decoder.is_between_frames()
        })
        .collect();
    assert_eq!(ends, [0, 7, 14]);
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_read_is_written_the_same(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        cuts in proptest::collection::vec(1..20_usize, 0..20),
    ) {
        let mut stream = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        stream.extend_from_slice(&body);
        let whole = FrameDecoder::<Request>::default().next(&mut stream.as_slice());
        let mut decoder = FrameDecoder::<Request>::default();
        let (mut rest, mut found) = (stream.as_slice(), Ok(None));
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (mut piece, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            found = decoder.next(&mut piece);
            if !matches!(found, Ok(None)) {
                break;
            }
        }
        prop_assert_eq!(&found, &whole, "pieces change nothing");
        if let Ok(Some(message)) = whole {
            let again = frame(&message).unwrap();
            let read = FrameDecoder::<Request>::default().next(&mut again.as_slice());
            prop_assert_eq!(read, Ok(Some(message)));
        }
        let _ = FrameDecoder::<Response>::default().next(&mut stream.as_slice());
    }
}
