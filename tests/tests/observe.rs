//! What a node says of itself: one transfer has one set of numbers wherever it is told, one span
//! wherever it is logged, a warning is told when it begins, and no log holds a secret.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use serde_json::{Value, json};
use shoal_testnet::{LogLines, log_path};
use shoal_tests::{
    Daemon,
    http::{self, Listener},
    scratch, text, wait_for, write_content,
};
use tempfile::TempDir;

const SMALL_FILES: u64 = 400;
/// Files among them that have the same content.
const EQUAL_FILES: u64 = 5;
const LARGE_BYTES: u64 = 20 << 20;

/// A node that shares, and one that fetches; both log all they can as JSON.
struct World {
    dir: TempDir,
    sharer: Daemon,
    fetcher: Daemon,
}

impl World {
    fn new() -> Self {
        let dir = scratch();
        let start = |name: &str, bootstrap: Option<&Daemon>| {
            let words = "-vv --log-format json --no-mdns --listen /ip4/127.0.0.1/tcp/0";
            let mut options: Vec<String> = words.split(' ').map(str::to_owned).collect();
            if let Some(daemon) = bootstrap {
                options.extend(["--bootstrap".to_owned(), daemon.address.clone()]);
            }
            Daemon::start_with(&dir.path().join(name), options)
        };
        let sharer = start("sharer", None);
        let fetcher = start("fetcher", Some(&sharer));
        Self {
            dir,
            sharer,
            fetcher,
        }
    }

    /// A folder of many small files, some of them equal, an empty one and a large one.
    fn share_tree(&self) -> Value {
        let tree = self.dir.path().join("tree");
        for index in 0..SMALL_FILES {
            let (path, len) = (tree.join(format!("small/{index}")), 100 + 7 * index);
            let len = usize::try_from(len).unwrap();
            write_content(&path, &format!("small {index}"), len);
        }
        for index in 0..EQUAL_FILES {
            write_content(&tree.join(format!("equal/{index}")), "equal", 5000);
        }
        write_content(&tree.join("empty"), "", 0);
        let large = usize::try_from(LARGE_BYTES).unwrap();
        write_content(&tree.join("large"), "large", large);
        self.sharer.share(&tree)
    }

    fn fetch(&self, shared: &Value) -> Value {
        let link = shared["link"].as_str().unwrap();
        self.fetcher.fetch(link, &self.dir.path().join("fetched"))
    }
}

/// The value of a metric, by its name with labels.
fn metric(daemon: &Daemon, name: &str) -> u64 {
    http::metric(daemon.home(), name).unwrap_or_else(|| panic!("no {name}"))
}

fn payload(daemon: &Daemon, class: &str) -> u64 {
    metric(
        daemon,
        &format!("shoal_payload_bytes_total{{class=\"{class}\"}}"),
    )
}

fn dag(daemon: &Daemon, class: &str) -> u64 {
    metric(
        daemon,
        &format!("shoal_dag_bytes_total{{class=\"{class}\"}}"),
    )
}

/// All lines of a node's log.
fn log(daemon: &Daemon) -> Vec<Value> {
    let mut lines = LogLines::open(daemon.home()).unwrap();
    let lines = std::iter::from_fn(|| lines.next_line().unwrap());
    lines
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect()
}

/// The line of a node's log for this event.
fn event_line(daemon: &Daemon, event: &str) -> Value {
    let line = log(daemon)
        .into_iter()
        .find(|line| line["fields"]["event"] == event);
    line.unwrap_or_else(|| panic!("no {event} in the log"))
}

fn number(document: &Value, field: &str) -> u64 {
    document[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no {field} in {document}"))
}

#[test]
fn one_transfer_has_one_set_of_numbers() {
    let world = World::new();
    let World {
        sharer, fetcher, ..
    } = &world;
    let shared = world.share_tree();
    let result = world.fetch(&shared);

    let small = (0..SMALL_FILES).map(|index| 100 + 7 * index).sum::<u64>();
    let bytes = small + 5000 * EQUAL_FILES + LARGE_BYTES;
    for document in [&shared, &result] {
        assert_eq!(number(document, "size"), bytes);
        assert_eq!(number(document, "files"), SMALL_FILES + EQUAL_FILES + 2);
    }
    let [downloaded, resumed, local] =
        ["downloaded_bytes", "resumed_bytes", "local_bytes"].map(|it| number(&result, it));
    assert_eq!(downloaded + resumed + local, bytes, "{result}");
    assert_eq!(
        result["from"],
        json!([{ "peer": sharer.peer_id, "bytes": downloaded }])
    );

    let mut event = Listener::start(fetcher.home()).wait_for("transfer_finished");
    let line = event_line(fetcher, "transfer_finished");
    for (field, value) in result.as_object().unwrap() {
        assert_eq!(event[field], *value, "{event}");
        // The log has numbers of lists, and no lists; nor does it have counts of counts.
        if !value.is_array() && !value.is_object() {
            assert_eq!(line["fields"][field], *value, "{line}");
        }
    }
    assert_eq!(line["fields"]["sources"], 1);
    let listed = fetcher.run(&["transfers"]).ok()["transfers"][0].take();
    assert_eq!(listed["id"], event["id"].take(), "{listed}");
    assert_eq!(listed["state"], "done");
    for (field, of) in [
        ("bytes", "size"),
        ("bytes_total", "size"),
        ("files", "files"),
    ] {
        assert_eq!(listed[field], result[of], "{field}: {listed}");
    }

    // The stream ends behind its last byte, which is when all of it is counted.
    wait_for("the end of the stream", || {
        (metric(sharer, "shoal_serve_streams") == 0).then_some(())
    });
    let check = |daemon: &Daemon, uploaded: u64, downloaded: u64| {
        let status = daemon.run(&["status"]).ok();
        assert_eq!(number(&status, "uploaded_bytes"), uploaded);
        assert_eq!(number(&status, "downloaded_bytes"), downloaded);
        assert_eq!(payload(daemon, "uploaded"), uploaded);
        assert_eq!(payload(daemon, "downloaded"), downloaded);
    };
    check(sharer, downloaded, 0);
    check(fetcher, 0, downloaded);
    assert_eq!(payload(fetcher, "local"), local);
    assert_eq!(payload(fetcher, "resumed"), resumed);
    let nodes = dag(fetcher, "downloaded");
    assert_eq!(dag(sharer, "uploaded"), nodes);
    assert!(nodes > 0, "a tree has nodes");
    let sent = metric(sharer, "shoal_socket_bytes_total{direction=\"up\"}");
    assert!(sent > downloaded + nodes, "{sent}");
}

#[test]
fn a_transfer_has_one_span_through_all_that_works_for_it() {
    let world = World::new();
    let first = world.dir.path().join("first");
    write_content(&first, "first", 3 << 20);
    let shares = [world.share_tree(), world.sharer.share(&first)];
    for (id, shared) in (1..).zip(&shares) {
        let fetched = world.dir.path().join(format!("fetched {id}"));
        world
            .fetcher
            .fetch(shared["link"].as_str().unwrap(), &fetched);
    }
    let lines = log(&world.fetcher);
    for (id, shared) in (1_u64..).zip(&shares) {
        for message in [
            "discovery: a peer is named",
            "exchange opened",
            "the provider has answered",
            "landing begins",
            "landing blocks",
            "landed: all is in its place",
            "transfer finished",
        ] {
            let is_it = |line: &&Value| {
                let fields = &line["span"];
                line["fields"]["message"] == message
                    && fields["name"] == "transfer"
                    && fields["id"] == id
                    && fields["cid"] == shared["cid"]
            };
            assert!(
                lines.iter().any(|line| is_it(&line)),
                "no {message:?} of {id}"
            );
        }
    }
    // What belongs to a transfer is never told outside of one.
    for line in lines {
        let message = line["fields"]["message"].as_str().unwrap_or_default();
        if message.starts_with("landing") || message.starts_with("exchange") {
            assert_eq!(line["span"]["name"], "transfer", "{line}");
        }
    }
}

#[test]
fn a_warning_is_told_when_it_begins_and_once() {
    let world = World::new();
    let file = world.dir.path().join("file");
    fs::write(&file, "as it was shared").unwrap();
    world.sharer.share(&file);
    let mut listener = Listener::start(world.sharer.home());
    // Being alone would be another warning.
    listener.wait_for("peer_connected");
    fs::write(&file, "as it is").unwrap();
    let status = world.sharer.run(&["status"]).ok();
    let warnings = status["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{status}");
    let told = listener.wait_for("warning");
    assert_eq!(told["message"], warnings[0], "{told}");

    // Another one that begins later is told next, and the first is not told again.
    fs::write(&file, "gone").unwrap();
    let other = world.dir.path().join("other");
    fs::write(&other, "as it was shared").unwrap();
    world.sharer.share(&other);
    fs::remove_file(&other).unwrap();
    world.sharer.run(&["status"]).ok();
    let told = listener.wait_for("warning");
    assert!(
        told["message"].as_str().unwrap().contains(text(&other)),
        "{told}"
    );
}

#[test]
fn no_log_holds_the_key() {
    let world = World::new();
    world.fetch(&world.share_tree());
    for daemon in [&world.sharer, &world.fetcher] {
        // A protobuf message: the type, then 64 bytes, the first half of which is the secret.
        let key = fs::read(daemon.home().join("identity.key")).unwrap();
        let secret = &key[key.len() - 64..key.len() - 32];
        let log = fs::read(log_path(daemon.home())).unwrap();
        let log = String::from_utf8(log).unwrap();
        for written in [hex(secret), base64(secret), base64(&key), list(secret)] {
            // Without what padding and alignment may change.
            let middle = &written[4..written.len() - 4];
            assert!(!log.contains(middle), "{middle} is in the log");
        }
        assert!(log.contains(&daemon.peer_id), "it is the log of this node");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `Debug` has bytes.
fn list(bytes: &[u8]) -> String {
    format!("{bytes:?}")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).flat_map(|group| {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift & 63) as usize]))
    });
    groups.collect()
}

#[test]
fn secrets_are_searched_for_as_they_would_be_written() {
    assert_eq!(base64(b"light work."), "bGlnaHQgd29yay4A");
    assert_eq!(hex(&[0, 255]), "00ff");
}
