//! The API over a real socket, with a scripted node behind it.

#![allow(clippy::disallowed_methods, reason = "no bound is wrong in a test")]
#![allow(clippy::unwrap_used)]

mod bounds;
mod observe;
mod scripted;

use std::{io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use libp2p::PeerId;
use serde_json::{Value, json};
use shoal_ground::{
    metrics::Numbers,
    units::{Rate, Size},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    types::{
        CatRequest, CatResult, Collected, ConnectRequest, Connected, Database, DatabaseState, Disk,
        FetchPhase, FetchProgress, FetchRequest, FetchResult, FetchUpdate, FindProgress,
        FindRequest, Found, GcProgress, GcRequest, Identity, LimitSource, Limits, LimitsChange,
        LinkedShare, ListProgress, ListRequest, Listing, MonthlyLimit, Peers, RateLimit, Rates,
        Reachability, ReplicaDrop, ReplicaList, ReplicaStats, ReplicaSwitch, Replicas,
        ReplicasDropped, Scope, Scrub, ShareChange, ShareProgress, ShareRequest, ShareResult,
        Shares, Status, Transfer, TransferChange, TransferState, Transfers, Unkept, UnshareRequest,
        Unshared, Verified, VerifyProgress, VerifyRequest, WAIT_MS_MAX,
    },
    *,
};
use crate::events::{Event, EventReader, Events};

use self::scripted::Scripted;

/// Anything that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// A served API, its node's events, and what ends it.
struct Served {
    socket: PathBuf,
    events: mpsc::UnboundedReceiver<&'static str>,
    seen: Arc<Notify>,
    bus: Events,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
    _lock: HomeLock,
    _dir: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        Self::with_heads_within(DEADLINE)
    }

    /// One that gives the head of a request this long.
    fn with_heads_within(head_deadline: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lock = HomeLock::acquire(dir.path()).unwrap();
        let listener = bind(&lock).unwrap();
        let socket = listener.path().to_owned();
        let (sender, events) = mpsc::unbounded_channel();
        let seen = Arc::<Notify>::default();
        let bus = Events::default();
        let service = Arc::new(Scripted {
            events: sender,
            seen: Arc::clone(&seen),
            bus: bus.clone(),
        });
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(server::serve_with(
            listener,
            service,
            shutdown.clone(),
            head_deadline,
        ));
        Self {
            socket,
            events,
            seen,
            bus,
            shutdown,
            server,
            _lock: lock,
            _dir: dir,
        }
    }

    /// Sends a request whose answer is not chunked and ends with the connection.
    async fn send(&self, request: &str, content_type: &str, body: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let length = body.len();
        let head = format!(
            "{request} HTTP/1.0\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A refused body may be cut off while it is being sent.
        let _ = stream.write_all(body.as_bytes()).await;
        stream
    }

    /// The status and the lines of the body.
    async fn ask(&self, request: &str, content_type: &str, body: &str) -> (u16, Vec<String>) {
        let mut stream = self.send(request, content_type, body).await;
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes));
        let _ = read.await.expect("the answer ends");
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.lines().map(str::to_owned).collect())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Vec<Value>) {
        let request = format!("POST /api/v1/{path}");
        let (status, lines) = self
            .ask(&request, "application/json", &body.to_string())
            .await;
        (
            status,
            lines
                .iter()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
        )
    }

    async fn event(&mut self) -> &'static str {
        tokio::time::timeout(DEADLINE, self.events.recv())
            .await
            .expect("an event")
            .unwrap()
    }
}

fn fetch(link: &str) -> Value {
    json!({ "link": link, "destination": { "into": "/tmp" } })
}

#[tokio::test]
async fn every_route_answers() {
    let served = Served::start();
    for path in ["/healthz", "/readyz"] {
        let (status, lines) = served.ask(&format!("GET {path}"), "", "").await;
        assert_eq!((status, lines[0].as_str()), (200, "ok"), "{path}");
    }
    for path in [
        "id",
        "status",
        "peers",
        "shares",
        "transfers",
        "limits",
        "replicas",
        "replicas/stats",
    ] {
        let (status, lines) = served.ask(&format!("GET /api/v1/{path}"), "", "").await;
        assert_eq!(status, 200, "{path}");
        assert!(
            serde_json::from_str::<Value>(&lines[0])
                .unwrap()
                .is_object(),
            "{path}"
        );
    }
    let streamed = [
        (
            "POST /api/v1/peers",
            json!({ "address": "/ip4/127.0.0.1/tcp/1" }),
        ),
        (
            "POST /api/v1/shares",
            json!({ "paths": ["/a"], "name": "n" }),
        ),
        ("POST /api/v1/ls", json!({ "link": "x" })),
        ("POST /api/v1/fetches", fetch("x")),
        ("POST /api/v1/transfers/7/pause", Value::Null),
        ("POST /api/v1/transfers/7/resume", Value::Null),
        ("POST /api/v1/transfers/7/cancel", Value::Null),
        ("POST /api/v1/verify", json!({})),
        ("POST /api/v1/gc", json!({ "dry_run": true })),
        ("DELETE /api/v1/shares/known", Value::Null),
        ("DELETE /api/v1/shares?path=%2Fa%20b%2F%C3%BC", Value::Null),
    ];
    for (request, body) in streamed {
        let (status, lines) = served
            .ask(request, "application/json", &body.to_string())
            .await;
        let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        assert_eq!(
            (status, &last["event"]),
            (200, &json!("done")),
            "{request}: {last}"
        );
        assert!(last["result"].is_object(), "{request}");
    }
}

#[tokio::test]
async fn what_is_not_understood_is_refused_with_a_reason() {
    let served = Served::start();
    let json = "application/json";
    let large = format!("{{\"link\":\"{}\"}}", "x".repeat(5 << 20));
    let check = async |request: &str, kind: &str, body: &str, status: u16, code: &str| {
        let (answered, lines) = served.ask(request, kind, body).await;
        assert_eq!(answered, status, "{request}: {lines:?}");
        let body: ErrorBody = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(json!(body.error.code), json!(code), "{request}");
        assert!(!body.error.message.is_empty());
    };
    check("GET /api/v1/nothing", "", "", 404, "no_route").await;
    check("GET /", "", "", 404, "no_route").await;
    check("DELETE /api/v1/id", "", "", 405, "no_route").await;
    check(
        "POST /api/v1/ls",
        "text/plain",
        "{\"link\":\"x\"}",
        400,
        "usage",
    )
    .await;
    check("POST /api/v1/ls", json, "{\"link\":", 400, "usage").await;
    check(
        "POST /api/v1/ls",
        json,
        "{\"link\":\"x\",\"lnk\":1}",
        400,
        "usage",
    )
    .await;
    check("POST /api/v1/ls", json, &large, 413, "too_large").await;
    check("POST /api/v1/shares", json, "{\"paths\":[]}", 400, "usage").await;
    check(
        "POST /api/v1/shares",
        json,
        "{\"paths\":[\"relative\"]}",
        400,
        "usage",
    )
    .await;
    check(
        "POST /api/v1/peers",
        json,
        "{\"address\":\"localhost\"}",
        400,
        "usage",
    )
    .await;
    let rate = "{\"up\":\"fast\"}";
    check("PATCH /api/v1/limits", json, rate, 400, "usage").await;
    check("DELETE /api/v1/shares", "", "", 400, "usage").await;
    check("DELETE /api/v1/shares?path=relative", "", "", 400, "usage").await;
}

#[tokio::test]
async fn an_operation_ends_with_one_last_line() {
    let served = Served::start();
    let body = fetch("slow").to_string();
    let mut answer = served
        .send("POST /api/v1/fetches", "application/json", &body)
        .await;
    let mut text = String::new();
    let mut buffer = [0; 1024];
    loop {
        let read = tokio::time::timeout(DEADLINE, answer.read(&mut buffer)).await;
        let count = read.expect("the answer goes on").unwrap();
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        if text.contains("\"progress\"") {
            served.seen.notify_one();
        }
        if count == 0 {
            break;
        }
    }
    let (_, lines) = text.split_once("\r\n\r\n").expect("an answer");
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    // A slow machine may see heartbeats in between.
    let lines: Vec<_> = lines.filter(|line| line["event"] != "heartbeat").collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0]["event"], "progress");
    assert_eq!(lines[0]["bytes_total"], 2);
    assert_eq!(lines[1]["event"], "done");

    let check = async |path: &str, body: Value, code: &str| {
        let (status, lines) = served.post(path, body).await;
        let last = lines.last().unwrap();
        assert_eq!((status, &last["event"]), (200, &json!("error")), "{last}");
        assert_eq!(last["error"]["code"], code);
    };
    check("fetches", fetch("fail"), "integrity").await;
    check("fetches", fetch("panic"), "internal").await;
    check("find", json!({ "link": "x" }), "not_found").await;
}

#[tokio::test]
async fn a_quiet_operation_shows_that_it_lives_and_ends_with_its_client() {
    let mut served = Served::start();
    let body = fetch("wait").to_string();
    let stream = served
        .send("POST /api/v1/fetches", "application/json", &body)
        .await;
    assert_eq!(served.event().await, "started");
    let mut lines = BufReader::new(stream).lines();
    let heartbeat = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line == "{\"event\":\"heartbeat\"}" {
                return;
            }
        }
        panic!("the answer ended");
    };
    tokio::time::timeout(DEADLINE, heartbeat)
        .await
        .expect("a heartbeat");
    drop(lines);
    assert_eq!(served.event().await, "cancelled");
}

#[tokio::test]
async fn stopping_cancels_what_runs_and_removes_the_socket() {
    let mut served = Served::start();
    let body = fetch("wait").to_string();
    let mut waiting = served
        .send("POST /api/v1/fetches", "application/json", &body)
        .await;
    assert_eq!(served.event().await, "started");
    let (status, lines) = served.post("stop", Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(lines[0]["pid"], std::process::id());
    assert_eq!(served.event().await, "cancelled");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    let last: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "shutting_down");
    assert!(served.shutdown.is_cancelled());
    tokio::time::timeout(DEADLINE, &mut served.server)
        .await
        .expect("it ends")
        .unwrap();
    assert!(!served.socket.exists());
}

#[tokio::test]
async fn who_asked_it_to_stop_may_be_gone_when_it_looks() {
    let mut served = Served::start();
    let mut asking = std::os::unix::net::UnixStream::connect(&served.socket).unwrap();
    // Nothing is served before this test awaits: the connection waits with its end behind the request.
    asking
        .write_all(b"POST /api/v1/stop HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    drop(asking);
    tokio::time::timeout(DEADLINE, &mut served.server)
        .await
        .expect("it ends")
        .unwrap();
    assert!(served.shutdown.is_cancelled());
}

#[tokio::test]
async fn operations_have_a_cap_that_leaves_short_requests_alone() {
    let mut served = Served::start();
    let body = fetch("wait").to_string();
    let mut running = Vec::new();
    for _ in 0..operations::OPERATIONS_MAX {
        running.push(
            served
                .send("POST /api/v1/fetches", "application/json", &body)
                .await,
        );
        assert_eq!(served.event().await, "started");
    }
    let (status, lines) = served.post("fetches", fetch("x")).await;
    assert_eq!((status, &lines[0]["error"]["code"]), (503, &json!("busy")));
    let (status, _) = served.ask("GET /api/v1/id", "", "").await;
    assert_eq!(status, 200);

    running.pop();
    assert_eq!(served.event().await, "cancelled");
    let (status, _) = served.post("fetches", fetch("fail")).await;
    assert_eq!(status, 200);
}
