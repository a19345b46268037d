//! TLS between this transport and the stock one, over sockets of any size and bytes of any kind.

#![allow(clippy::unwrap_used)]

use std::io;

use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::identity::Keypair;
use libp2p::{PeerId, tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::record::TlsStream;
use super::tls::Tls;

const PROTOCOL: &str = "/tls/1.0.0";

type Socket = Compat<DuplexStream>;
type Stock = tls::TlsStream<Socket>;
type Own = TlsStream<Socket>;

fn own() -> (Tls, PeerId) {
    let keypair = Keypair::generate_ed25519();
    (Tls::new(&keypair).unwrap(), keypair.public().to_peer_id())
}

fn stock() -> (tls::Config, PeerId) {
    let keypair = Keypair::generate_ed25519();
    let config = tls::Config::new(&keypair).unwrap();
    (config, keypair.public().to_peer_id())
}

/// Two ends of a pipe that holds so many bytes each way.
fn pipe(bytes: usize) -> (Socket, Socket) {
    let (a, b) = tokio::io::duplex(bytes);
    (a.compat(), b.compat())
}

fn content(bytes: u32) -> Vec<u8> {
    (0..bytes)
        .map(|n| n.wrapping_mul(31).to_le_bytes()[1])
        .collect()
}

/// An own client and a stock server, who know each other's identity.
async fn own_to_stock(pipe_bytes: usize) -> (Own, Stock) {
    let ((own, own_id), (stock, stock_id)) = (own(), stock());
    let (a, b) = pipe(pipe_bytes);
    let dialled = own.upgrade_outbound(a, PROTOCOL);
    let (dialled, accepted) = tokio::join!(dialled, stock.upgrade_inbound(b, PROTOCOL));
    let ((met, dialled), (met_too, accepted)) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!((met, met_too), (stock_id, own_id));
    (dialled, accepted)
}

/// A stock client and an own server.
async fn stock_to_own(pipe_bytes: usize) -> (Stock, Own) {
    let ((own, own_id), (stock, stock_id)) = (own(), stock());
    let (a, b) = pipe(pipe_bytes);
    let dialled = stock.upgrade_outbound(a, PROTOCOL);
    let (dialled, accepted) = tokio::join!(dialled, own.upgrade_inbound(b, PROTOCOL));
    let ((met, dialled), (met_too, accepted)) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!((met, met_too), (own_id, stock_id));
    (dialled, accepted)
}

/// Both directions at once, to their clean ends.
async fn check_exchange<A, B>(a: A, b: B, bytes: u32)
where
    A: libp2p::futures::AsyncRead + libp2p::futures::AsyncWrite,
    B: libp2p::futures::AsyncRead + libp2p::futures::AsyncWrite,
{
    let (there, back) = (content(bytes), content(bytes / 3));
    let (mut a_reads, mut a_writes) = a.split();
    let (mut b_reads, mut b_writes) = b.split();
    let a_sends = async {
        a_writes.write_all(&there).await?;
        a_writes.close().await
    };
    let b_sends = async {
        b_writes.write_all(&back).await?;
        b_writes.flush().await
    };
    let b_receives = async {
        let mut received = Vec::new();
        b_reads.read_to_end(&mut received).await?;
        io::Result::Ok(received)
    };
    let a_receives = async {
        let mut received = vec![0; back.len()];
        a_reads.read_exact(&mut received).await?;
        io::Result::Ok(received)
    };
    let (a_sent, b_sent, at_b, at_a) = tokio::join!(a_sends, b_sends, b_receives, a_receives);
    a_sent.unwrap();
    b_sent.unwrap();
    assert!(at_b.unwrap() == there, "{bytes} bytes there");
    assert!(at_a.unwrap() == back, "{bytes} bytes back");
}

#[tokio::test]
async fn bytes_pass_between_own_and_stock() {
    // A stock server sends session tickets that a pipe must hold until somebody reads.
    for (pipe_bytes, bytes) in [(1_000, 300_000), (65_536, 3_000_000), (1 << 20, 9_000_000)] {
        let (own, stock) = own_to_stock(pipe_bytes).await;
        check_exchange(stock, own, bytes).await;
        let (own, stock) = own_to_stock(pipe_bytes).await;
        check_exchange(own, stock, bytes).await;
        let (stock, own) = stock_to_own(pipe_bytes).await;
        check_exchange(own, stock, bytes).await;
        let (stock, own) = stock_to_own(pipe_bytes).await;
        check_exchange(stock, own, bytes).await;
    }
}

#[tokio::test]
async fn bytes_pass_through_the_narrowest_pipes() {
    for (pipe_bytes, bytes) in [(1, 5_000), (7, 50_000), (16 * 1024, 500_000)] {
        let ((client, client_id), (server, server_id)) = (own(), own());
        let (a, b) = pipe(pipe_bytes);
        let dialled = client.upgrade_outbound(a, PROTOCOL);
        let (dialled, accepted) = tokio::join!(dialled, server.upgrade_inbound(b, PROTOCOL));
        let ((met, dialled), (met_too, accepted)) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!((met, met_too), (server_id, client_id));
        check_exchange(dialled, accepted, bytes).await;
    }
}

#[tokio::test]
async fn what_comes_in_while_only_writing_is_kept_for_its_reader() {
    let (mut own, mut stock) = own_to_stock(1 << 20).await;
    let sent = content(200_000);
    stock.write_all(&sent).await.unwrap();
    stock.flush().await.unwrap();
    // The first read takes more from the socket than it hands out.
    let mut received = vec![0; 10];
    own.read_exact(&mut received).await.unwrap();
    own.write_all(&sent).await.unwrap();
    own.flush().await.unwrap();
    let mut rest = vec![0; sent.len() - 10];
    own.read_exact(&mut rest).await.unwrap();
    received.extend(rest);
    assert!(received == sent);
    let mut back = vec![0; sent.len()];
    stock.read_exact(&mut back).await.unwrap();
    assert!(back == sent);
}

/// A connection whose server side is in the hands of the test: raw bytes from a stock server pass
/// through it to the own client.
async fn with_raw_server(mut client: Own, raw: Vec<u8>, mut line: DuplexStream) -> io::Error {
    line.write_all(&raw).await.unwrap();
    drop(line);
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap_err()
}

/// An own client that has shaken hands through a line that the test holds, and that line.
async fn client_on_a_held_line() -> (Own, DuplexStream) {
    let ((own, _), (stock, _)) = (own(), stock());
    let (near, mut line) = tokio::io::duplex(1 << 16);
    let (far, mut far_line) = tokio::io::duplex(1 << 16);
    let mut accepting = stock.upgrade_inbound(far.compat(), PROTOCOL);
    let mut dialling = own.upgrade_outbound(near.compat(), PROTOCOL);
    let (mut client, mut server) = (None, None);
    while client.is_none() || server.is_none() {
        tokio::select! {
            dialled = &mut dialling, if client.is_none() => client = Some(dialled.unwrap().1),
            accepted = &mut accepting, if server.is_none() => server = Some(accepted.unwrap()),
            passed = tokio::io::copy_bidirectional(&mut line, &mut far_line) => {
                passed.unwrap();
            }
        }
    }
    (client.unwrap(), line)
}

#[tokio::test]
async fn a_cut_or_forged_line_is_an_error_and_never_an_end() {
    let cases: [(&str, Vec<u8>, io::ErrorKind); 4] = [
        ("cut", Vec::new(), io::ErrorKind::UnexpectedEof),
        (
            "cut in a record",
            vec![23, 3, 3, 0, 100, 1, 2],
            io::ErrorKind::UnexpectedEof,
        ),
        (
            "forged",
            [&[23, 3, 3, 0, 40][..], &[9; 40]].concat(),
            io::ErrorKind::InvalidData,
        ),
        (
            "too long",
            vec![23, 3, 3, 255, 255, 0],
            io::ErrorKind::InvalidData,
        ),
    ];
    for (what, raw, expected) in cases {
        let (client, line) = client_on_a_held_line().await;
        let error = with_raw_server(client, raw, line).await;
        assert_eq!(error.kind(), expected, "{what}: {error}");
    }
}

#[tokio::test]
async fn who_does_not_speak_tls_is_refused() {
    let (own, _) = own();
    let (near, mut far) = tokio::io::duplex(1 << 10);
    let accepting = own.upgrade_inbound(near.compat(), PROTOCOL);
    let talking = async {
        far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let (accepted, answer) = tokio::join!(accepting, talking);
    assert_eq!(accepted.err().unwrap().kind(), io::ErrorKind::InvalidData);
    assert_eq!(answer.first(), Some(&21), "an alert says so");
}
