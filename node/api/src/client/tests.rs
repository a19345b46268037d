//! The client against daemons that misbehave: sockets that send what a test says, and then close or
//! hang.

#![allow(clippy::disallowed_methods, reason = "no bound is wrong in a test")]
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
};

use super::*;
use crate::types::UnshareRequest;

const HEARTBEAT: &str = "{\"event\":\"heartbeat\"}\n";

/// What a daemon does after it has sent its text.
#[derive(Clone, Copy)]
enum Then {
    Close,
    Hang,
}

/// A home whose socket answers the second connection (the first only looks whether anybody is
/// there).
struct Daemon {
    home: tempfile::TempDir,
    /// The head of the request that it got.
    request: JoinHandle<String>,
}

impl Daemon {
    fn start(head: &'static str, parts: Vec<String>, then: Then) -> Self {
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(home.path().join("api.sock")).unwrap();
        let request = tokio::spawn(async move {
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_head(&mut stream).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            for part in parts {
                stream.write_all(part.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                // Lets the parts arrive one by one.
                tokio::task::yield_now().await;
            }
            if matches!(then, Then::Hang) {
                // The client ends it.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
            request
        });
        Self { home, request }
    }

    async fn client(&self) -> Client {
        Client::connect(self.home.path()).await.unwrap()
    }
}

async fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";

/// Unshares through a daemon that sends `parts`.
async fn unshare(parts: &[&str], then: Then) -> Result<Unshared, ApiError> {
    let parts = parts.iter().map(|&part| part.to_owned()).collect();
    let daemon = Daemon::start(STREAM, parts, then);
    daemon
        .client()
        .await
        .unshare(&UnshareRequest::Cid("x".into()))
        .await
}

async fn check_failure(parts: &[&str], then: Then, code: ErrorCode, message: &str) {
    let error = unshare(parts, then).await.unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(message), "{error}");
}

#[tokio::test]
async fn the_last_line_decides_however_it_arrives() {
    let done = "{\"event\":\"done\",\"result\":{\"removed\":[]}}\n";
    for parts in [
        vec![done],
        vec![HEARTBEAT, HEARTBEAT, done],
        vec![
            "{\"event\":\"heart",
            "beat\"}\n{\"event\":\"done\",",
            "\"result\":{\"removed\":[]}}\n",
        ],
        vec![done, "whatever comes after it"],
    ] {
        assert_eq!(
            unshare(&parts, Then::Close).await.unwrap().removed,
            [],
            "{parts:?}"
        );
    }
    let error = "{\"event\":\"error\",\"error\":";
    let what = "{\"code\":\"not_shared\",\"message\":\"m\",\"hint\":null}}\n";
    check_failure(
        &[HEARTBEAT, error, what],
        Then::Hang,
        ErrorCode::NotShared,
        "m",
    )
    .await;
}

#[tokio::test]
async fn a_daemon_that_dies_is_noticed() {
    check_failure(&[], Then::Close, ErrorCode::DaemonLost, "went away").await;
    check_failure(
        &[HEARTBEAT],
        Then::Close,
        ErrorCode::DaemonLost,
        "went away",
    )
    .await;
    check_failure(
        &["{\"event\":\"do"],
        Then::Close,
        ErrorCode::DaemonLost,
        "went away",
    )
    .await;
    check_failure(
        &["nonsense\n"],
        Then::Hang,
        ErrorCode::Internal,
        "not understood",
    )
    .await;
}

/// Asks a daemon that sends `first`, and then what comes out of the channel, until that closes.
async fn ask_slowly(
    first: &'static str,
    told: mpsc::UnboundedSender<Silence>,
) -> (
    mpsc::Sender<&'static str>,
    JoinHandle<Result<Unshared, ApiError>>,
) {
    let home = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(home.path().join("api.sock")).unwrap();
    let client = Client::of(home.path()).unwrap();
    let client = client.on_silence(move |silence| told.send(silence).unwrap());
    let (sender, mut parts) = mpsc::channel(1);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(first.as_bytes()).await.unwrap();
        while let Some(part) = parts.recv().await {
            let part: &str = part;
            stream.write_all(part.as_bytes()).await.unwrap();
        }
        drop(home);
    });
    let request = UnshareRequest::Cid("x".into());
    let asking = tokio::spawn(async move { client.unshare(&request).await });
    (sender, asking)
}

/// Before the answer and in the middle of it: silence is told within five seconds and waited out.
#[tokio::test]
async fn a_daemon_that_hangs_is_told_of_and_waited_for() {
    let begins = Silence::Begins { process: None };
    let check = async |first, rest| {
        let (sender, mut told) = mpsc::unbounded_channel();
        let start = Instant::now();
        let (daemon, asking) = ask_slowly(first, sender).await;
        assert_eq!(told.recv().await, Some(begins));
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        daemon.send(rest).await.unwrap();
        assert_eq!(told.recv().await, Some(Silence::Ends));
        assert_eq!(asking.await.unwrap().unwrap().removed, []);
    };
    let done = "{\"event\":\"done\",\"result\":{\"removed\":[]}}\n";
    let answered = concat!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
        "{\"event\":\"done\",\"result\":{\"removed\":[]}}\n"
    );
    let lost = async {
        let (sender, mut told) = mpsc::unbounded_channel();
        let (daemon, asking) = ask_slowly(STREAM, sender).await;
        assert_eq!(told.recv().await, Some(begins));
        // Its process is gone, and the system closes what it held open.
        drop(daemon);
        let error = asking.await.unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::DaemonLost, "{error}");
        assert!(error.message.contains("went away"), "{error}");
    };
    tokio::join!(check("", answered), check(STREAM, done), lost);
}

#[tokio::test]
async fn a_daemon_is_given_up_when_that_was_asked_for() {
    for head in ["", STREAM] {
        let daemon = Daemon::start(head, Vec::new(), Then::Hang);
        let client = daemon.client().await.silent_for(Duration::from_secs(1));
        let error = client.unshare(&UnshareRequest::Cid("x".into())).await;
        let error = error.unwrap_err();
        assert_eq!(error.code, ErrorCode::DaemonLost, "{error}");
        assert!(error.message.contains("silent for 1 s"), "{error}");
    }
}

#[tokio::test]
async fn errors_in_the_head_are_the_daemons_own() {
    let body = "{\"error\":{\"code\":\"busy\",\"message\":\"m\",\"hint\":\"h\"}}";
    let daemon = Daemon::start(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n",
        vec![body.to_owned()],
        Then::Close,
    );
    let error = daemon.client().await.peers().await.unwrap_err();
    assert_eq!(error, ApiError::new(ErrorCode::Busy, "m").hint("h"));

    let daemon = Daemon::start(
        "HTTP/1.1 502 Bad\r\n\r\n",
        vec!["?".to_owned()],
        Then::Close,
    );
    let error = daemon.client().await.peers().await.unwrap_err();
    assert!(error.message.contains("502"), "{error}");
}

#[tokio::test]
async fn paths_travel_whole() {
    let daemon = Daemon::start(STREAM, Vec::new(), Then::Close);
    let path = std::path::PathBuf::from("/a b/ü&c=?#%");
    let request = UnshareRequest::Path(path.try_into().unwrap());
    daemon.client().await.unshare(&request).await.unwrap_err();
    let head = daemon.request.await.unwrap();
    let line = head.lines().next().unwrap();
    let query = "path=%2Fa+b%2F%C3%BC%26c%3D%3F%23%25";
    assert_eq!(line, format!("DELETE /api/v1/shares?{query} HTTP/1.1"));
}

#[tokio::test]
async fn nobody_there_is_its_own_error() {
    let home = tempfile::tempdir().unwrap();
    let check = async || Client::connect(home.path()).await.unwrap_err().code;
    assert_eq!(check().await, ErrorCode::NoDaemon);
    drop(std::os::unix::net::UnixListener::bind(home.path().join("api.sock")).unwrap());
    assert_eq!(check().await, ErrorCode::NoDaemon);
}

/// Reads a file from a daemon that sends `parts`: its bytes, and how that ended.
async fn cat(parts: &[&str], then: Then) -> (Vec<u8>, Result<CatResult, ApiError>) {
    let parts = parts.iter().map(|&part| part.to_owned()).collect();
    let daemon = Daemon::start(STREAM, parts, then);
    let client = daemon.client().await;
    let request = CatRequest {
        link: "x".into(),
        only: Vec::new(),
        peers: Vec::new(),
        timeout_ms: 1,
        patience_ms: 1,
    };
    let mut stream = client.cat(&request).await.unwrap();
    let mut all = Vec::new();
    loop {
        match stream.next().await {
            Ok(Part::Bytes(bytes)) => all.extend(bytes),
            Ok(Part::Progress(_)) => {}
            Ok(Part::Done(result)) => return (all, Ok(result)),
            Err(error) => return (all, Err(error)),
        }
    }
}

#[tokio::test]
async fn bytes_are_whole_only_with_the_last_frame() {
    let event = |text: &str| {
        let len = u8::try_from(text.len()).unwrap();
        format!("e\0\0\0{}{text}", char::from(len))
    };
    let heartbeat = event(HEARTBEAT);
    let failed = "{\"event\":\"error\",\"error\":{\"code\":\"integrity\",\"message\":\"m\"}}";
    let check = async |parts: &[&str], bytes: &[u8], code: ErrorCode| {
        let (got, ended) = cat(parts, Then::Close).await;
        let error = ended.unwrap_err();
        assert_eq!(
            (got.as_slice(), error.code),
            (bytes, code),
            "{parts:?}: {error}"
        );
    };
    let data = "d\0\0\0\x05bytes";
    check(
        &[data, &heartbeat, data, &event(failed)],
        b"bytesbytes",
        ErrorCode::Integrity,
    )
    .await;
    check(
        &["d\0\0", "\0\x05by", "tes"],
        b"bytes",
        ErrorCode::DaemonLost,
    )
    .await;
    check(&[data, "d\0\0\0\x05byt"], b"bytes", ErrorCode::DaemonLost).await;
    check(&[data, &heartbeat], b"bytes", ErrorCode::DaemonLost).await;
    check(&[data, "nonsense"], b"bytes", ErrorCode::Internal).await;
}
