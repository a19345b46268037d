//! The frames of `/shoal/mux/1`, byte by byte.
//!
//! A frame is a header of eight bytes, big endian: the stream (4), the kind (1), a number (3). Only
//! data has bytes after it, as many as the number says. Pure: parses and writes headers, keeps
//! nothing.

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 8;

/// Payload of one frame. A control message waits for one frame of every busy stream at most: 64 KiB
/// are 5 ms at 100 Mbit/s.
pub(super) const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// The greatest number that a header has room for, and so the most that is credited at once.
pub(super) const NUMBER_MAX: u32 = (1 << 24) - 1;

/// The number of a stream: those of the dialler are odd, those of the listener even, each greater
/// than all before it; 0 is none.
pub(super) type StreamId = u32;

/// What a frame says of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It begins.
    Open,
    /// So many of its bytes follow.
    Data(u32),
    /// So many bytes more may be sent on it.
    Credit(u32),
    /// Its sender has no more bytes.
    Finish,
    /// Its sender neither writes nor reads any more.
    Reset,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) stream: StreamId,
    pub(super) kind: Kind,
}

/// A header that no peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent a frame of kind {kind} with the number {number}")]
pub(super) struct Malformed {
    kind: u8,
    number: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let (kind, number) = match self.kind {
            Kind::Open => (0, 0),
            Kind::Data(bytes) => (1, bytes),
            Kind::Credit(bytes) => (2, bytes),
            Kind::Finish => (3, 0),
            Kind::Reset => (4, 0),
        };
        let [a, b, c, d] = self.stream.to_be_bytes();
        let [_, high, middle, low] = number.to_be_bytes();
        [a, b, c, d, kind, high, middle, low]
    }

    pub(super) fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, Malformed> {
        let [a, b, c, d, kind, high, middle, low] = bytes;
        let number = u32::from_be_bytes([0, high, middle, low]);
        let kind = match (kind, number) {
            (0, 0) => Kind::Open,
            (1, bytes) if (1..=PAYLOAD_BYTES_MAX).contains(&(bytes as usize)) => Kind::Data(bytes),
            (2, 1..) => Kind::Credit(number),
            (3, 0) => Kind::Finish,
            (4, 0) => Kind::Reset,
            _ => return Err(Malformed { kind, number }),
        };
        Ok(Self {
            stream: u32::from_be_bytes([a, b, c, d]),
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn headers_are_these_bytes() {
        let check = |stream, kind, bytes: [u8; HEADER_BYTES]| {
            let header = Header { stream, kind };
            assert_eq!(header.encode(), bytes, "{header:?}");
            assert_eq!(Header::decode(bytes), Ok(header));
        };
        //                                      stream      kind  number
        check(1, Kind::Open, [0, 0, 0, 1, /**/ 0, /**/ 0, 0, 0]);
        check(2, Kind::Data(1), [0, 0, 0, 2, /**/ 1, /**/ 0, 0, 1]);
        check(3, Kind::Data(65_536), [0, 0, 0, 3, /**/ 1, /**/ 1, 0, 0]);
        let all = Kind::Credit(NUMBER_MAX);
        check(u32::MAX, all, [255, 255, 255, 255, 2, 255, 255, 255]);
        check(4, Kind::Finish, [0, 0, 0, 4, /**/ 3, /**/ 0, 0, 0]);
        check(258, Kind::Reset, [0, 0, 1, 2, /**/ 4, /**/ 0, 0, 0]);
    }

    #[test]
    fn other_headers_are_refused() {
        for (kind, number) in [
            (0, 1),
            (1, 0),
            (1, 65_537),
            (2, 0),
            (3, 1),
            (4, 256),
            (5, 0),
            (255, 1),
        ] {
            let [_, high, middle, low] = u32::to_be_bytes(number);
            let error = Header::decode([0, 0, 0, 1, kind, high, middle, low]).unwrap_err();
            assert_eq!(error, Malformed { kind, number });
        }
    }
}
