//! Looking at a node: its document, its events, its numbers.

use super::*;
use crate::{routes::LISTENERS_MAX, types::Occurrence};

async fn get_json(served: &Served, path: &str) -> Value {
    let (status, lines) = served.ask(&format!("GET {path}"), "", "").await;
    assert_eq!(status, 200, "{path}");
    serde_json::from_str(&lines[0]).unwrap()
}

/// Every `$ref` below `value`.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref") {
                found.push(target);
            }
            fields.values().for_each(|it| references(it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| references(it, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_describes_what_is_served() {
    let served = Served::start();
    let document = get_json(&served, "/api/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.2.0");
    let mut targets = Vec::new();
    references(&document, &mut targets);
    for target in targets {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{target} is missing");
    }
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path}");
            if path == "/api/v1/stop" {
                continue;
            }
            let request = format!("{} {path}", method.to_uppercase());
            // Listening does not end by itself: its head is enough.
            if path == "/api/v1/events" {
                assert_eq!(Listener::start(&served, None).await.status, 200);
            } else {
                let (_, lines) = served.ask(&request, "", "").await;
                let answer: Value = serde_json::from_str(&lines[0]).unwrap_or_default();
                assert_ne!(answer["error"]["code"], "no_route", "{request}");
            }
            operations += 1;
        }
    }
    assert!(operations >= 15, "{operations}");
}

/// One who listens to events.
struct Listener {
    status: u16,
    lines: tokio::io::Lines<BufReader<UnixStream>>,
}

impl Listener {
    async fn start(served: &Served, after: Option<u64>) -> Self {
        let after = after.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        Self::start_with(served, &after).await
    }

    async fn start_with(served: &Served, after: &str) -> Self {
        let mut stream = UnixStream::connect(&served.socket).await.unwrap();
        let head = format!("GET /api/v1/events HTTP/1.0\r\n{after}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let status = next_line(&mut lines).await.unwrap();
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        while !next_line(&mut lines).await.unwrap().is_empty() {}
        Self { status, lines }
    }

    /// The next event, and that its message says the same outside and inside; none at the end.
    async fn next(&mut self) -> Option<Occurrence> {
        let mut fields = Vec::new();
        loop {
            let line = next_line(&mut self.lines).await?;
            match line.split_once(": ") {
                Some((field, value)) => fields.push((field.to_owned(), value.to_owned())),
                None if fields.is_empty() => {}
                None => break,
            }
        }
        let field = |name: &str| &fields.iter().find(|(it, _)| it == name).unwrap().1;
        let occurrence: Occurrence = serde_json::from_str(field("data")).unwrap();
        assert_eq!(field("event"), occurrence.event.name());
        assert_eq!(*field("id"), occurrence.sequence.to_string());
        Some(occurrence)
    }
}

async fn next_line(lines: &mut tokio::io::Lines<BufReader<UnixStream>>) -> Option<String> {
    let line = tokio::time::timeout(DEADLINE, lines.next_line()).await;
    line.expect("a line in time").unwrap()
}

fn warning(message: &str) -> Event {
    let message = message.to_owned();
    Event::Warning { message }
}

#[tokio::test]
async fn events_reach_all_who_listen_until_the_node_stops() {
    let mut served = Served::start();
    let mut first = Listener::start(&served, None).await;
    served.bus.publish(warning("one"));
    served.bus.publish(warning("two"));
    // As a client that comes back.
    let mut second = Listener::start(&served, Some(1)).await;
    assert_eq!(first.next().await.unwrap().event, warning("one"));
    for listener in [&mut first, &mut second] {
        assert_eq!(listener.next().await.unwrap().event, warning("two"));
    }
    let (status, _) = served.post("stop", Value::Null).await;
    assert_eq!(status, 200);
    for mut listener in [first, second] {
        assert_eq!(listener.next().await.unwrap().event, Event::NodeStopping);
        assert!(listener.next().await.is_none());
    }
    tokio::time::timeout(DEADLINE, &mut served.server)
        .await
        .expect("it ends")
        .unwrap();
}

#[tokio::test]
async fn what_was_seen_last_is_a_number_or_refused() {
    let served = Served::start();
    let check = async |id: &str, expected: u16| {
        let header = format!("last-event-id: {id}\r\n");
        let listener = Listener::start_with(&served, &header).await;
        assert_eq!(listener.status, expected, "{id:?}");
    };
    for id in ["0", "7", "18446744073709551616"] {
        check(id, 200).await;
    }
    for id in ["", "x", "-1", "1.5", "0x1", "\u{e4}"] {
        check(id, 400).await;
    }
}

#[tokio::test]
async fn listeners_have_a_cap_that_is_counted() {
    let served = Served::start();
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS_MAX {
        listeners.push(Listener::start(&served, None).await);
    }
    assert!(listeners.iter().all(|it| it.status == 200));
    assert_eq!(Listener::start(&served, None).await.status, 503);

    let (_, lines) = served.ask("GET /metrics", "", "").await;
    for expected in [
        "shoal_things_total 7",
        "shoal_api_operations 0",
        "shoal_api_refused_total{limit=\"operations\"} 0",
        "shoal_api_refused_total{limit=\"listeners\"} 1",
        "# EOF",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}");
    }
    // The listeners, who asks for this, and who was refused until that has gone.
    let open = lines
        .iter()
        .find_map(|line| line.strip_prefix("shoal_api_connections "));
    assert!(matches!(open, Some("33" | "34")), "{open:?}");
}
