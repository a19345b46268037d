//! Two muxers over a pipe, and one whose peer is the test.

#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures::future::join_all;
use libp2p::core::muxing::StreamMuxer;
use libp2p::futures::{AsyncReadExt, AsyncWriteExt};
use parking_lot::Mutex;
use proptest::prelude::*;
use shoal_ground::budgets::{FETCHES_MAX, InFlight, OPENER_WINDOW_BYTES, Share};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::connection::Side;
use super::frame::{HEADER_BYTES, Header, Kind, NUMBER_MAX, StreamId};
use super::{Muxer, Stream};

const STREAMS_MAX: u16 = 8;

type Line = Compat<DuplexStream>;

/// A muxer that a task drives, as libp2p's task of a connection does.
struct Driven {
    muxer: Arc<Mutex<Muxer<Line>>>,
    task: JoinHandle<io::Error>,
}

impl Driven {
    fn new(line: DuplexStream, side: Side) -> Self {
        let muxer = Muxer::new(line.compat(), side, STREAMS_MAX);
        let muxer = Arc::new(Mutex::new(muxer));
        let driven = Arc::clone(&muxer);
        let task = tokio::spawn(async move {
            let event = poll_fn(|cx| Pin::new(&mut *driven.lock()).poll(cx)).await;
            event.unwrap_err()
        });
        Self { muxer, task }
    }

    async fn open(&self) -> Stream<Line> {
        let opened = poll_fn(|cx| Pin::new(&mut *self.muxer.lock()).poll_outbound(cx));
        opened.await.unwrap()
    }

    async fn accept(&self) -> io::Result<Stream<Line>> {
        poll_fn(|cx| Pin::new(&mut *self.muxer.lock()).poll_inbound(cx)).await
    }
}

fn pair(pipe_bytes: usize) -> (Driven, Driven) {
    let (near, far) = duplex(pipe_bytes);
    let dialler = Driven::new(near, Side::Dialler);
    (dialler, Driven::new(far, Side::Listener))
}

/// A muxer, and the raw end of its line.
fn raw(side: Side) -> (Driven, DuplexStream) {
    let (near, far) = duplex(1 << 20);
    (Driven::new(near, side), far)
}

fn frame(stream: StreamId, kind: Kind) -> [u8; HEADER_BYTES] {
    Header { stream, kind }.encode()
}

/// Bytes that tell which stream they are of.
fn content(seed: usize, bytes: usize) -> Vec<u8> {
    let byte = |at: usize| at.wrapping_mul(31).wrapping_add(seed * 7).to_le_bytes()[0];
    (0..bytes).map(byte).collect()
}

/// A question on a stream, and the answer to it, to their ends.
async fn ask(mut stream: Stream<Line>, question: Vec<u8>) -> Vec<u8> {
    stream.write_all(&question).await.unwrap();
    stream.close().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

/// Answers each question with so many bytes that its first two say how many KiB.
async fn answer(mut stream: Stream<Line>) -> Vec<u8> {
    let mut question = Vec::new();
    stream.read_to_end(&mut question).await.unwrap();
    let kib = usize::from(u16::from_le_bytes([question[0], question[1]]));
    stream.write_all(&content(kib, kib << 10)).await.unwrap();
    stream.close().await.unwrap();
    question
}

fn question(kib: u16, bytes: usize) -> Vec<u8> {
    let mut question = kib.to_le_bytes().to_vec();
    question.extend(content(1, bytes));
    question
}

/// All of these at once, as (bytes asked with, KiB answered), in both directions.
async fn check_streams(pipe_bytes: usize, streams: &[(usize, u16)]) {
    let (dialler, listener) = pair(pipe_bytes);
    let asks = |side: &'static str| {
        let (asking, answering) = match side {
            "dialler" => (&dialler, &listener),
            _ => (&listener, &dialler),
        };
        let asked = join_all(streams.iter().map(|&(bytes, kib)| async move {
            let question = question(kib, bytes);
            let answer = ask(asking.open().await, question).await;
            assert!(
                answer == content(kib.into(), usize::from(kib) << 10),
                "{side}: {kib}"
            );
        }));
        let answered = join_all(streams.iter().map(|_| async {
            let stream = answering.accept().await.unwrap();
            answer(stream).await.len()
        }));
        async move {
            let (_, mut lengths) = tokio::join!(asked, answered);
            let mut expected: Vec<_> = streams.iter().map(|(bytes, _)| bytes + 2).collect();
            lengths.sort_unstable();
            expected.sort_unstable();
            assert_eq!(lengths, expected, "{side}");
        }
    };
    tokio::join!(asks("dialler"), asks("listener"));
}

#[tokio::test]
async fn questions_and_answers_of_any_size_pass_both_ways_at_once() {
    check_streams(1 << 16, &[(0, 0), (10, 1)]).await;
    // More than a frame, than the window of a question, and than what is credited at once.
    check_streams(1 << 16, &[(70_000, 65), (600_000, 300)]).await;
    check_streams(1 << 20, &[(100, 20_000), (1, 1), (3_000_000, 0)]).await;
    check_streams(7, &[(1_000, 2), (0, 1), (5, 0)]).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn streams_keep_their_bytes_whatever_the_line(
        pipe_bytes in prop_oneof![1..40_usize, 1_000..300_000_usize],
        streams in prop::collection::vec((0..9_000_usize, 0..20_u16), 1..8),
    ) {
        Runtime::new().unwrap().block_on(check_streams(pipe_bytes, &streams));
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_in_nobodys_way() {
    let (dialler, listener) = pair(1 << 14);
    let (mut idle, other) = (dialler.open().await, dialler.open().await);
    idle.write_all(b"x").await.unwrap();
    idle.flush().await.unwrap();
    let mut flood = listener.accept().await.unwrap();
    // Its window and no more: the rest has to wait.
    let sent = tokio::spawn(async move {
        let sent = flood.write_all(&vec![7; 20 << 20]).await;
        (flood, sent)
    });
    let asked = ask(other, question(3_000, 10));
    let answered = async { answer(listener.accept().await.unwrap()).await };
    let (got, _) = tokio::join!(asked, answered);
    assert_eq!(got.len(), 3_000 << 10);
    assert!(!sent.is_finished(), "more was sent than there is room for");
    let mut read = vec![0; 20 << 20];
    idle.read_exact(&mut read).await.unwrap();
    let (_flood, sent) = sent.await.unwrap();
    sent.unwrap();
    assert!(read.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn what_was_finished_arrives_though_the_stream_is_dropped() {
    let (dialler, listener) = pair(1 << 10);
    let mut told = dialler.open().await;
    told.write_all(&content(3, 100_000)).await.unwrap();
    told.close().await.unwrap();
    drop(told);
    let mut heard = listener.accept().await.unwrap();
    // As a protocol is agreed on: what is written before the rest is read is no error.
    heard.write_all(b"yes").await.unwrap();
    heard.flush().await.unwrap();
    let mut bytes = Vec::new();
    heard.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes == content(3, 100_000));
    // Nobody is there for an answer, which is said before it waits for ever.
    let mut written = 0;
    let error = loop {
        match heard.write(&[1; 100_000]).await {
            Ok(count) => written += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(written <= 16 << 20, "{written}");
}

#[tokio::test]
async fn streams_that_nobody_ends_do_not_pile_up() {
    let (dialler, mut line) = raw(Side::Dialler);
    let told = async {
        for _ in 0..200 {
            dialler.open().await.close().await.unwrap();
        }
    };
    let heard = async {
        let mut resets = 0;
        while resets < 200 - 64 {
            let mut header = [0; HEADER_BYTES];
            line.read_exact(&mut header).await.unwrap();
            let header = Header::decode(header).unwrap();
            resets += u32::from(header.kind == Kind::Reset);
        }
    };
    tokio::join!(told, heard);
}

#[tokio::test]
async fn a_stream_dropped_in_the_middle_is_cut_and_the_others_live() {
    let (dialler, listener) = pair(1 << 10);
    let (mut cut, whole) = (dialler.open().await, dialler.open().await);
    cut.write_all(b"half").await.unwrap();
    cut.flush().await.unwrap();
    let mut heard = listener.accept().await.unwrap();
    heard.read_exact(&mut [0; 4]).await.unwrap();
    drop(cut);
    let error = heard.read(&mut [0; 4]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    // What is on its way to a stream that is gone is thrown away.
    let (got, _) = tokio::join!(ask(whole, question(100, 100)), async {
        answer(listener.accept().await.unwrap()).await
    });
    assert_eq!(got.len(), 100 << 10);
}

#[tokio::test]
async fn streams_that_outlive_the_connection_end_with_it() {
    let (dialler, listener) = pair(1 << 10);
    let mut stream = dialler.open().await;
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let mut heard = listener.accept().await.unwrap();
    heard.read_exact(&mut [0; 5]).await.unwrap();
    let reading = tokio::spawn(async move { heard.read(&mut [0; 1]).await });
    dialler.task.abort();
    assert!(dialler.task.await.unwrap_err().is_cancelled());
    drop(dialler.muxer);
    let error = stream.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    let error = reading.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let ended = listener.task.await.unwrap();
    assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_loses_the_connection() {
    let open = |stream| frame(stream, Kind::Open).to_vec();
    let data = |stream, bytes: u32| {
        let mut frame = frame(stream, Kind::Data(bytes)).to_vec();
        frame.resize(frame.len() + bytes as usize, 0);
        frame
    };
    let many = (0..=u32::from(STREAMS_MAX)).flat_map(|it| open(1 + 2 * it));
    let cases: [(&str, Vec<u8>); 11] = [
        ("no kind", vec![0, 0, 0, 1, 9, 0, 0, 0]),
        ("a stream of ours", open(2)),
        ("no stream", open(0)),
        ("opened twice", [open(1), open(1)].concat()),
        ("going back", [open(3), open(1)].concat()),
        ("data of no stream", data(1, 5)),
        ("an end of no stream", frame(2, Kind::Finish).to_vec()),
        ("too many", many.collect()),
        (
            "beyond the window",
            [open(1), data(1, 65_536).repeat(5)].concat(),
        ),
        (
            "after the end",
            [open(1), frame(1, Kind::Finish).to_vec(), data(1, 1)].concat(),
        ),
        (
            "endless credit",
            [open(1), frame(1, Kind::Credit(NUMBER_MAX)).repeat(256)].concat(),
        ),
    ];
    for (what, bytes) in cases {
        let (listener, mut line) = raw(Side::Listener);
        line.write_all(&bytes).await.unwrap();
        let error = listener.task.await.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}: {error}");
        // The line is closed, with what was queued before.
        line.read_to_end(&mut Vec::new()).await.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_has_streams_reset_and_reads_nothing_is_left() {
    let (near, mut line) = duplex(64);
    let listener = Driven::new(near, Side::Listener);
    let opening = async {
        for stream in 0.. {
            let stream = frame(1 + 2 * stream, Kind::Open);
            if line.write_all(&stream).await.is_err() {
                break;
            }
        }
    };
    let dropping = async { while listener.accept().await.is_ok() {} };
    tokio::join!(opening, dropping);
    let error = listener.task.await.unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[tokio::test]
async fn the_wire_is_this() {
    let (dialler, mut line) = raw(Side::Dialler);
    let mut stream = dialler.open().await;
    stream.write_all(b"hi").await.unwrap();
    stream.close().await.unwrap();
    let mut sent = [0; 26];
    line.read_exact(&mut sent).await.unwrap();
    let expected = [
        &[0, 0, 0, 1, /* opens */ 0, 0, 0, 0][..],
        &[0, 0, 0, 1, /* two bytes */ 1, 0, 0, 2],
        b"hi",
        &[0, 0, 0, 1, /* no more */ 3, 0, 0, 0],
    ];
    assert_eq!(sent[..], expected.concat());
    drop((stream, dialler.open().await));
    let mut sent = [0; 16];
    line.read_exact(&mut sent).await.unwrap();
    let expected = [
        [0, 0, 0, 3, /* opens */ 0, 0, 0, 0],
        [0, 0, 0, 3, /* gone */ 4, 0, 0, 0],
    ];
    assert_eq!(sent[..], expected.concat());
}

#[tokio::test]
async fn nobody_is_cut_off_for_what_all_fetches_may_ask_for_while_nothing_is_read() {
    let check = async |fetches: usize| {
        let in_flight = InFlight::default();
        let shares: Vec<Share> = (0..fetches).map(|_| in_flight.share()).collect();
        let (dialler, listener) = pair(1 << 20);
        let mut unread = Vec::new();
        for share in &shares {
            // One after the other, so that the first have asked for more than their part.
            let mut asking = dialler.open().await;
            asking.write_all(b"?").await.unwrap();
            asking.flush().await.unwrap();
            let mut answering = listener.accept().await.unwrap();
            let window = u64::from(OPENER_WINDOW_BYTES);
            let asked = usize::try_from(share.grant().min(window)).unwrap();
            answering.write_all(&vec![1; asked]).await.unwrap();
            answering.close().await.unwrap();
            unread.push((asking, asked));
        }
        for (mut asking, asked) in unread {
            let mut answer = Vec::new();
            asking.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer.len(), asked, "of {fetches}");
        }
        assert!(!dialler.task.is_finished() && !listener.task.is_finished());
    };
    check(1).await;
    check(6).await;
    check(FETCHES_MAX.min(STREAMS_MAX.into())).await;
}
