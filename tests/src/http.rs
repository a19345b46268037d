//! The daemon's API as a program of somebody else would call it: bytes over the socket.
//!
//! Requests are HTTP/1.0, so that an answer comes unchunked and ends with its connection.

use std::{
    fmt,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::Value;
use shoal_api::{FRAME_HEAD_BYTES, FrameKind, read_head};

use crate::DEADLINE;

/// A whole answer.
#[derive(Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The content type; empty when it has none.
    pub kind: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Asks the node on `home`, with a body of JSON when there is one.
///
/// # Panics
/// When there is no answer within [`DEADLINE`].
pub fn ask(home: &Path, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let (kind, body) = match body {
        Some(body) => ("content-type: application/json\r\n", body.to_string()),
        None => ("", String::new()),
    };
    send(home, method, path, kind, body.as_bytes())
}

/// A number among the metrics of the node on `home`, by its name with labels, if there is one.
///
/// # Panics
/// When there is no answer within [`DEADLINE`], or it is no metrics.
pub fn metric(home: &Path, name: &str) -> Option<u64> {
    let metrics = ask(home, "GET", "/metrics", None).body;
    let metrics = String::from_utf8(metrics).expect("text");
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().expect("a number"))
}

/// Asks with these header lines, each with its line end, and this body.
///
/// # Panics
/// When there is no answer within [`DEADLINE`].
pub fn send(home: &Path, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut reader = start(home, method, path, headers, body);
    let (status, kind) = head(&mut reader);
    let mut body = Vec::new();
    if let Err(error) = reader.read_to_end(&mut body) {
        // Who is refused before its body was read has the rest of that thrown back, behind the
        // answer.
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the answer ends");
    }
    Answer { status, kind, body }
}

fn start(
    home: &Path,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(home.join("api.sock")).expect("a daemon");
    let deadline = stream.set_read_timeout(Some(DEADLINE));
    deadline.expect("sockets have deadlines");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\n{headers}content-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it takes a head");
    // A body that is refused may be cut off while it is sent.
    let _ = stream.write_all(body);
    BufReader::new(stream)
}

/// The status and the content type.
fn head(reader: &mut BufReader<UnixStream>) -> (u16, String) {
    let mut lines = std::iter::from_fn(|| {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        let line = line.trim_end().to_owned();
        (!line.is_empty()).then_some(line)
    });
    let status = lines.next().expect("a status line");
    let status = status.split(' ').nth(1).and_then(|it| it.parse().ok());
    let kind = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        (name == "content-type").then(|| value.to_owned())
    });
    (status.expect("a status"), kind.last().unwrap_or_default())
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{} {:?} {body}", self.status, self.kind)
    }
}

impl Answer {
    /// The body, which is one JSON document.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            let body = String::from_utf8_lossy(&self.body);
            panic!("{error}: {body}")
        })
    }

    /// The items of a body that is a sequence, whichever way it is written.
    ///
    /// # Panics
    /// When it is none.
    pub fn items(&self) -> Vec<Value> {
        match self.kind.as_str() {
            "application/x-ndjson" => lines(&self.body),
            "application/vnd.shoal.frames" => frames(&self.body).1,
            kind => panic!("{kind:?} is no sequence"),
        }
    }

    /// The content of a body that is frames.
    pub fn content(&self) -> Vec<u8> {
        frames(&self.body).0
    }
}

fn lines(body: &[u8]) -> Vec<Value> {
    let parsed = serde_json::Deserializer::from_slice(body).into_iter();
    parsed.collect::<Result<_, _>>().expect("lines of JSON")
}

/// The content, and the events.
fn frames(mut rest: &[u8]) -> (Vec<u8>, Vec<Value>) {
    let (mut content, mut events) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (head, behind) = rest.split_at(FRAME_HEAD_BYTES);
        let head = head.try_into().expect("as long as a head");
        let (kind, len) = read_head(head).expect("a frame");
        let (bytes, behind) = behind.split_at(len);
        match kind {
            FrameKind::Data => content.extend_from_slice(bytes),
            FrameKind::Event => events.extend(lines(bytes)),
        }
        rest = behind;
    }
    (content, events)
}

/// One who listens to what happens in a node.
pub struct Listener {
    reader: BufReader<UnixStream>,
    /// The content type of the answer.
    pub kind: String,
}

impl Listener {
    /// Listens to the node on `home`, from its start on as far as it remembers.
    ///
    /// # Panics
    /// When the node lets nobody listen.
    pub fn start(home: &Path) -> Self {
        let headers = "last-event-id: 0\r\n";
        let mut reader = start(home, "GET", "/api/v1/events", headers, b"");
        let (status, kind) = head(&mut reader);
        assert_eq!(status, 200, "nobody may listen");
        Self { reader, kind }
    }

    /// The next event, whose message says the same outside and inside; none at the end.
    ///
    /// # Panics
    /// When nothing happens within [`DEADLINE`], or a message is malformed.
    pub fn next_event(&mut self) -> Option<Value> {
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).expect("an event") == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some((field, value)) => fields.push((field.to_owned(), value.to_owned())),
                None if fields.is_empty() => {}
                None => break,
            }
        }
        let field = |name: &str| {
            let found = fields.iter().find(|(it, _)| it == name);
            &found.unwrap_or_else(|| panic!("no {name} in {fields:?}")).1
        };
        let event: Value = serde_json::from_str(field("data")).expect("data is JSON");
        assert_eq!(event["event"], field("event").as_str());
        assert_eq!(event["sequence"].to_string(), *field("id"));
        Some(event)
    }

    /// The next event of this name.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait_for(&mut self, name: &str) -> Value {
        loop {
            let event = self.next_event().expect("the node runs");
            if event["event"] == name {
                return event;
            }
        }
    }
}
