//! The wire format under any values, any cuts and any damage.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::address::{BLOCK_BYTES_MAX, Cid, Digest, HashFn};
use crate::link::Marks;

/// All that a decoder finds, payload pieces joined.
fn decode_pieces(pieces: &[&[u8]]) -> Result<(Vec<Response>, Vec<Vec<u8>>), WireError> {
    let mut decoder = FrameDecoder::<Response>::default();
    let (mut messages, mut payloads, mut payload) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut input = *piece;
        while let Some(event) = decoder.next(&mut input)? {
            match event {
                Event::Message(message) => messages.push(message),
                Event::Payload { bytes, last, .. } => {
                    payload.extend_from_slice(bytes);
                    if last {
                        payloads.push(std::mem::take(&mut payload));
                    }
                }
                Event::Cut { .. } => payloads.push(std::mem::take(&mut payload)),
            }
        }
    }
    Ok((messages, payloads))
}

fn any_digest() -> impl Strategy<Value = Digest> {
    (any::<bool>(), any::<[u8; 8]>()).prop_map(|(sha2, content)| {
        Digest::of(
            if sha2 {
                HashFn::Sha2_256
            } else {
                HashFn::Blake3
            },
            &content,
        )
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any_digest().prop_map(|digest| Request::Open {
            root: Cid::raw(digest)
        }),
        any_digest().prop_map(|digest| Request::Open {
            root: Cid::dag_pb(digest)
        }),
        (
            0..1_u32 << 31,
            proptest::collection::vec(any_digest(), 1..20)
        )
            .prop_map(|(id, blocks)| Request::Want {
                id,
                blocks: blocks.try_into().unwrap()
            }),
        (0..1_u32 << 31, 1..1_u32 << 31).prop_map(|(id, count)| Request::Cancel { id, count }),
        Just(Request::Close),
        (any::<u32>(), any_digest(), 1..BLOCK_BYTES_MAX as u32).prop_map(|(id, block, offset)| {
            let offset = NonZeroU32::new(offset).unwrap();
            Request::Rest { id, block, offset }
        }),
        proptest::collection::vec(any_helper(), 0..=NEARBY_HELPERS_MAX).prop_map(|helpers| {
            Request::Nearby {
                helpers: helpers.try_into().unwrap(),
            }
        }),
    ]
}

fn any_helper() -> impl Strategy<Value = Helper> {
    let addresses = proptest::collection::vec(any::<[u8; 8]>(), 0..=HELPER_ADDRESSES_MAX);
    (any::<[u8; 38]>(), addresses).prop_map(|(peer, addresses)| Helper {
        peer: peer.to_vec().try_into().unwrap(),
        addresses: List::first_of(
            addresses
                .iter()
                .map(|address| address.to_vec().try_into().unwrap()),
        ),
    })
}

fn any_availability() -> impl Strategy<Value = Availability> {
    let leaves = proptest::collection::btree_set(0..LEAF_END_MAX, 0..50);
    let ranges = leaves.prop_map(LeafRanges::from_sorted);
    prop_oneof![
        Just(Availability::Complete),
        (
            ranges.clone(),
            proptest::collection::vec(0..LEAF_END_MAX, 0..=COMING_LEAVES_MAX)
        )
            .prop_map(|(ranges, coming)| Availability::Partial {
                ranges,
                coming: coming.try_into().unwrap(),
            }),
        ranges.prop_map(|ranges| Availability::Held { ranges }),
        any::<u32>().prop_map(|retry_after_ms| Availability::Busy { retry_after_ms }),
    ]
}

fn any_response() -> impl Strategy<Value = Response> {
    let hint = (
        any::<[u8; 38]>(),
        proptest::collection::vec(any::<[u8; 8]>(), 0..9),
    )
        .prop_map(|(peer, addresses)| PeerHint {
            peer: peer.to_vec().try_into().unwrap(),
            class: PeerClass::Holder,
            addresses: List::first_of(
                addresses
                    .iter()
                    .map(|address| address.to_vec().try_into().unwrap()),
            ),
        });
    let marks = (any::<bool>(), any::<bool>());
    let marks = marks.prop_map(|(no_announce, no_replicate)| Marks {
        no_announce,
        no_replicate,
    });
    prop_oneof![
        (any_availability(), marks).prop_map(|(availability, marks)| Response::Status {
            availability,
            marks
        }),
        (any::<u32>(), 0..3000_u32).prop_map(|(id, len)| Response::Block { id, len }),
        any::<u32>().prop_map(|id| Response::Missing {
            id,
            why: Missing::Changed
        }),
        proptest::collection::vec(hint, 0..17).prop_map(|peers| Response::Hint {
            peers: peers.try_into().unwrap()
        }),
        Just(Response::Close(Reason::ShuttingDown)),
        Just(Response::Nominate),
    ]
}

proptest! {
    #[test]
    fn requests_come_back(request in any_request()) {
        let mut frame = Vec::new();
        encode(&request, &mut frame).unwrap();
        let (head, body) = frame.split_first_chunk().unwrap();
        prop_assert_eq!(frame_len(*head), Ok(body.len()));
        prop_assert_eq!(decode_request(body), Ok(request));
    }

    #[test]
    fn responses_and_payloads_come_back_in_any_pieces(
        responses in proptest::collection::vec(any_response(), 1..10),
        cuts in proptest::collection::vec(1..5000_usize, 1..20),
        (piece, early) in (1..2000_usize, any::<bool>()),
    ) {
        let (mut stream, mut payloads) = (Vec::new(), Vec::new());
        for (at, response) in responses.iter().enumerate() {
            encode(response, &mut stream).unwrap();
            if let Response::Block { len, .. } = response {
                let mut payload = vec![at as u8; *len as usize];
                let ends_early = early && at % 2 == 0 && !payload.is_empty();
                if ends_early {
                    payload.truncate(payload.len() / 2);
                }
                for piece in payload.chunks(piece) {
                    stream.extend_from_slice(&piece_head(piece.len() as u32));
                    stream.extend_from_slice(piece);
                }
                if ends_early {
                    stream.extend_from_slice(&piece_head(0));
                }
                payloads.push(payload);
            }
        }
        let (mut pieces, mut rest) = (Vec::new(), stream.as_slice());
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(decode_pieces(&pieces), Ok((responses, payloads)));
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_mean_what_they_say(body: Vec<u8>) {
        let _ = decode_pieces(&[&body]);
        if let Ok(request) = decode_request(&body) {
            let mut again = Vec::new();
            encode(&request, &mut again).unwrap();
            prop_assert_eq!(decode_request(&again[FRAME_HEAD_BYTES..]), Ok(request));
        }
        if let Ok(response) = decode_response(&body) {
            if let Response::Block { len, .. } = response {
                prop_assert!(len as usize <= BLOCK_BYTES_MAX);
            }
            let mut again = Vec::new();
            encode(&response, &mut again).unwrap();
            prop_assert_eq!(decode_response(&again[FRAME_HEAD_BYTES..]), Ok(response));
        }
    }

    #[test]
    fn a_damaged_message_never_panics(
        response in any_response(), at: prop::sample::Index, byte: u8,
    ) {
        let mut frame = Vec::new();
        encode(&response, &mut frame).unwrap();
        let at = at.index(frame.len());
        frame[at] = byte;
        let _ = decode_pieces(&[&frame]);
    }
}
