//! The messages of AutoNAT v2, as <https://github.com/libp2p/specs/blob/master/autonat/autonat-v2.md>
//! has them, each behind its length.

use std::io;

use libp2p::Multiaddr;
use libp2p::futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::swarm::StreamProtocol;
use prost::Message as _;

/// Asks a peer to connect to this node.
pub(crate) const REQUEST: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

/// Tells, on the new connection, which request it answers.
pub(super) const BACK: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-back");

/// The largest message: what the reference implementation takes.
const MESSAGE_BYTES_MAX: usize = 4104;

/// Bytes of a length; two are enough for any that is allowed.
const LENGTH_BYTES_MAX: usize = 2;

/// What a peer that was asked has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has connected and told the number of the request.
    Reached,
    /// It has tried and could not connect.
    Unreachable,
    /// It has not tried: it may not, has to do too much, or wants to be sent data first.
    Refused,
}

/// What a peer is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Where to connect to. What is not an address is left out.
    pub(super) addresses: Vec<Multiaddr>,
    /// The number that the new connection has to tell.
    pub(super) nonce: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Request(DialRequest),
    #[prost(message, tag = "2")]
    Response(DialResponse),
    #[prost(message, tag = "3")]
    DataRequest(Nothing),
    #[prost(message, tag = "4")]
    DataResponse(Nothing),
}

#[derive(Clone, PartialEq, prost::Message)]
struct DialRequest {
    #[prost(bytes = "vec", repeated, tag = "1")]
    addresses: Vec<Vec<u8>>,
    #[prost(fixed64, tag = "2")]
    nonce: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DialResponse {
    #[prost(uint32, tag = "1")]
    status: u32,
    #[prost(uint32, tag = "2")]
    index: u32,
    #[prost(uint32, tag = "3")]
    dial_status: u32,
}

/// A message whose fields do not matter.
#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct DialBack {
    #[prost(fixed64, tag = "1")]
    nonce: u64,
}

/// `status` and `dialStatus`: it is done.
const OK: u32 = 200;
/// `status`: the server does not dial this address.
const DIAL_REFUSED: u32 = 101;
/// `dialStatus`: the dial failed.
const DIAL_ERROR: u32 = 100;

impl Request {
    fn encoded(&self) -> Vec<u8> {
        let request = DialRequest {
            addresses: self.addresses.iter().map(Multiaddr::to_vec).collect(),
            nonce: self.nonce,
        };
        let kind = Some(Kind::Request(request));
        Message { kind }.encode_to_vec()
    }

    fn decoded(bytes: &[u8]) -> io::Result<Self> {
        match Message::decode(bytes)?.kind {
            Some(Kind::Request(request)) => Ok(Self {
                addresses: request
                    .addresses
                    .into_iter()
                    .filter_map(|bytes| Multiaddr::try_from(bytes).ok())
                    .collect(),
                nonce: request.nonce,
            }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Answer {
    fn encoded(self) -> Vec<u8> {
        let (status, dial_status) = match self {
            Self::Reached => (OK, OK),
            Self::Unreachable => (OK, DIAL_ERROR),
            Self::Refused => (DIAL_REFUSED, 0),
        };
        let kind = Some(Kind::Response(DialResponse {
            status,
            // Only one address is asked for, and only the first is tried.
            index: 0,
            dial_status,
        }));
        Message { kind }.encode_to_vec()
    }

    fn decoded(bytes: &[u8]) -> io::Result<Self> {
        match Message::decode(bytes)?.kind {
            Some(Kind::Response(response)) => Ok(match (response.status, response.dial_status) {
                (OK, OK) => Self::Reached,
                (OK, DIAL_ERROR) => Self::Unreachable,
                _ => Self::Refused,
            }),
            // This node only asks for what may be dialled without.
            Some(Kind::DataRequest(_)) => Ok(Self::Refused),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Asks, and waits for the answer.
pub(super) async fn ask<S>(mut stream: S, request: &Request) -> io::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(&mut stream, &request.encoded()).await?;
    Answer::decoded(&receive(&mut stream).await?)
}

/// Reads what is asked.
pub(super) async fn asked<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Request> {
    Request::decoded(&receive(stream).await?)
}

/// Answers.
pub(super) async fn answer<S: AsyncWrite + Unpin>(mut stream: S, answer: Answer) -> io::Result<()> {
    send(&mut stream, &answer.encoded()).await?;
    stream.close().await
}

/// Tells a client the number of its request on a new connection, and waits until it has noted it.
pub(super) async fn tell_back<S>(mut stream: S, nonce: u64) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(&mut stream, &DialBack { nonce }.encode_to_vec()).await?;
    // Only one status is defined, and it has no bytes.
    receive(&mut stream).await.map(drop)
}

/// Hears the number that a server tells on a new connection.
pub(super) async fn hear_back<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<u64> {
    Ok(DialBack::decode(receive(stream).await?.as_slice())?.nonce)
}

/// Tells the server that its number is noted.
pub(super) async fn noted<S: AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    send(&mut stream, &[]).await?;
    stream.close().await
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(message.len() + LENGTH_BYTES_MAX);
    let seven = |bits: usize| u8::try_from(bits & 0x7f).unwrap_or_default();
    match message.len() {
        short @ ..0x80 => bytes.push(seven(short)),
        long @ ..=MESSAGE_BYTES_MAX => bytes.extend([seven(long) | 0x80, seven(long >> 7)]),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    }
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut length = 0;
    for at in 0..LENGTH_BYTES_MAX {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        let [byte] = byte;
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            if length > MESSAGE_BYTES_MAX {
                break;
            }
            let mut message = vec![0; length];
            stream.read_exact(&mut message).await?;
            return Ok(message);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use libp2p::futures::executor::block_on;
    use libp2p::futures::io::Cursor;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_wire_is_that_of_the_published_protocol() {
        let request = Request {
            addresses: vec!["/ip4/73.1.0.1/tcp/4101".parse().unwrap()],
            nonce: 0x0102_0304_0506_0708,
        };
        // Field 1, 19 bytes: field 1, 8 bytes of an address; field 2, eight bytes, low ones first.
        let bytes = "0a130a0804490100010610051108070605040302 01".replace(' ', "");
        assert_eq!(hex(&request.encoded()), bytes);
        assert_eq!(Request::decoded(&request.encoded()).unwrap(), request);
        for (answer, bytes) in [
            (Answer::Reached, "120608c80118c801"),
            (Answer::Unreachable, "120508c8011864"),
            (Answer::Refused, "12020865"),
        ] {
            assert_eq!(hex(&answer.encoded()), bytes, "{answer:?}");
            assert_eq!(Answer::decoded(&answer.encoded()).unwrap(), answer);
        }
        // A server that wants data first (field 3) is not given any.
        assert_eq!(Answer::decoded(&[0x1a, 0]).unwrap(), Answer::Refused);
        assert!(Answer::decoded(&[]).is_err());
        assert!(Request::decoded(&[0x12, 0]).is_err());
    }

    #[test]
    fn what_is_no_address_is_left_out() {
        let request = DialRequest {
            addresses: vec![vec![0xff; 9], Vec::new(), vec![4, 73, 1, 0, 1, 6, 16, 5]],
            nonce: 1,
        };
        let kind = Some(Kind::Request(request));
        let read = Request::decoded(&Message { kind }.encode_to_vec()).unwrap();
        let addresses: Vec<String> = read.addresses.iter().map(Multiaddr::to_string).collect();
        assert!(
            addresses.contains(&"/ip4/73.1.0.1/tcp/4101".to_owned()),
            "{addresses:?}"
        );
        assert!(addresses.len() < 3, "{addresses:?}");
    }

    #[test]
    fn a_message_has_a_length_that_is_allowed() {
        let read = |bytes: &[u8]| block_on(receive(&mut Cursor::new(bytes)));
        assert_eq!(read(&[2, 7, 8]).unwrap(), [7, 8]);
        assert!(read(&[0]).unwrap().is_empty());
        assert!(read(&[2, 7]).is_err(), "cut short");
        assert!(read(&[0x80, 0x80, 1]).is_err(), "a length of three bytes");
        assert!(read(&[0xff, 0x7f]).is_err(), "too long");
    }
}
