//! What clients may not do: be slow, be too many, speak for another host.

use std::{io::ErrorKind, pin::pin};

use futures::poll;

use super::*;
use crate::listener::CONNECTIONS_MAX;

/// Reads until the server closes the connection, and returns what it sent before.
async fn rest(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes));
    match read.await.expect("the connection is closed") {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let served = Served::with_heads_within(Duration::from_millis(50));
    let check = async |sent: &str, answered: bool| {
        let mut stream = UnixStream::connect(&served.socket).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert_eq!(
            answer.starts_with("HTTP/1.1 200"),
            answered,
            "{sent}: {answer}"
        );
    };
    check("", false).await;
    check("GET /healthz HTTP/1.1\r\nhost: loc", false).await;
    // One that asks for nothing more is ended, too.
    check("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", true).await;
    // What takes long to answer is not.
    let body = fetch("slow").to_string();
    let mut answer = served
        .send("POST /api/v1/fetches", "application/json", &body)
        .await;
    let mut buffer = vec![0; 4096];
    let mut text = String::new();
    while !text.contains("heartbeat") {
        let read = tokio::time::timeout(DEADLINE, answer.read(&mut buffer));
        let count = read.await.expect("it goes on").unwrap();
        assert!(count > 0, "it was ended: {text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    served.seen.notify_one();
    assert!(rest(&mut answer).await.contains("\"done\""));
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let served = Served::start();
    let request = format!("GET /api/v1/id?{}", "x".repeat(64 << 10));
    let mut stream = served.send(&request, "", "").await;
    let answer = rest(&mut stream).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    // A path of the longest that there are, escaped, is not.
    let path = "%41".repeat(4096);
    let (status, _) = served
        .ask(&format!("DELETE /api/v1/shares?path={path}"), "", "")
        .await;
    assert_eq!(status, 400, "it is read, and not absolute");
}

#[tokio::test]
async fn one_connection_too_many_waits_until_another_ends() {
    let dir = tempfile::tempdir().unwrap();
    let lock = HomeLock::acquire(dir.path()).unwrap();
    let mut listener = bind(&lock).unwrap();
    // The system keeps as many waiting as it is told to, which is more than one.
    let mut clients = Vec::new();
    let mut accepted = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let path = listener.path().to_owned();
        clients.push(UnixStream::connect(path).await.unwrap());
        accepted.push(listener.accept().await);
    }
    let path = listener.path().to_owned();
    clients.push(UnixStream::connect(path).await.unwrap());
    let mut next = pin!(listener.accept());
    assert!(poll!(next.as_mut()).is_pending());
    accepted.pop();
    let accepted = tokio::time::timeout(DEADLINE, next).await;
    accepted.expect("there is room");
}

#[tokio::test]
async fn requests_that_do_not_come_keep_nobody_away() {
    // Nothing but giving way ends these connections within the test.
    let served = Served::with_heads_within(DEADLINE * 10);
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS_MAX * 4 {
        // The backlog is shorter than that: each waits until the one before it is accepted.
        let mut stream = UnixStream::connect(&served.socket).await.unwrap();
        stream
            .write_all(b"GET /api/v1/status HTTP/1.1\r\nho")
            .await
            .unwrap();
        slow.push(stream);
    }
    let asked = served.ask("GET /api/v1/status", "", "");
    let (status, _) = tokio::time::timeout(DEADLINE, asked).await.unwrap();
    assert_eq!(status, 200);
    // The oldest gave way, the newest did not.
    let mut oldest = slow.remove(0);
    assert_eq!(rest(&mut oldest).await, "");
    let mut newest = slow.pop().unwrap();
    newest
        .write_all(b"st: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(rest(&mut newest).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_for_other_hosts_reach_no_route() {
    let served = Served::start();
    for head in [
        "host: example.org",
        "origin: http://example.org",
        "origin: null",
    ] {
        let mut stream = UnixStream::connect(&served.socket).await.unwrap();
        let request = format!("POST /api/v1/stop HTTP/1.0\r\n{head}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        let (status, body) = (answer.split(' ').nth(1), answer.lines().last());
        assert_eq!(status, Some("403"), "{head}: {answer}");
        let body: ErrorBody = serde_json::from_str(body.unwrap()).unwrap();
        assert_eq!(body.error.code, ErrorCode::ForeignOrigin, "{head}");
        assert!(!served.shutdown.is_cancelled());
    }
}

#[tokio::test]
async fn times_to_wait_are_as_long_as_the_document_says() {
    let served = Served::start();
    let (_, document) = served.ask("GET /api/v1/openapi.json", "", "").await;
    let document: Value = serde_json::from_str(&document.concat()).unwrap();
    let schemas = &document["components"]["schemas"];
    for (request, field) in [
        ("FetchRequest", "timeout_ms"),
        ("FetchRequest", "patience_ms"),
        ("CatRequest", "timeout_ms"),
        ("CatRequest", "patience_ms"),
        ("ListRequest", "timeout_ms"),
        ("FindRequest", "timeout_ms"),
    ] {
        let said = &schemas[request]["properties"][field];
        let range = (said["minimum"].as_u64(), said["maximum"].as_u64());
        assert_eq!(range, (Some(1), Some(WAIT_MS_MAX)), "{request}: {field}");
    }
    for (time, expected) in [
        (1, 200),
        (WAIT_MS_MAX, 200),
        (0, 400),
        (WAIT_MS_MAX + 1, 400),
    ] {
        let body = json!({ "link": "x", "timeout_ms": time });
        let (status, _) = served.post("find", body).await;
        assert_eq!(status, expected, "{time}");
    }
}
