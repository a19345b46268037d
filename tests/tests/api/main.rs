//! The daemon's API against the document that describes it: every route of the document answers as
//! it says, to good requests and to bad ones, and nothing else is served.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};
use shoal_tests::{
    Daemon,
    http::{Answer, Listener, ask, send},
    schema::{Schemas, api_type},
    scratch, text, wait_for, write_content,
};
use tempfile::TempDir;

use self::cases::{Call, FOREIGN_PAGE, cases};

/// Of content that nobody has.
const ABSENT: &str = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
const JSON: &str = "content-type: application/json\r\n";

/// A node with something to do, and one that gives it that.
struct World {
    dir: TempDir,
    node: Daemon,
    sharer: Daemon,
    /// Of a folder that the other node shares.
    link: String,
    /// A fetch of what nobody has, and who waits for it.
    waiting: Option<JoinHandle<Answer>>,
    document: Value,
    schemas: Schemas,
}

impl World {
    fn new() -> Self {
        let dir = scratch();
        let sharer = Daemon::start(&dir.path().join("sharer"), &[]);
        let node = Daemon::start(&dir.path().join("node"), &[&sharer]);
        let tree = dir.path().join("tree");
        write_content(&tree.join("large"), "large", 5 << 20);
        write_content(&tree.join("sub/small"), "small", 100);
        symlink("sub/small", tree.join("link")).unwrap();
        let link = sharer.share(&tree)["link"].as_str().unwrap().to_owned();
        for name in ["first", "second", "third"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let document = ask(node.home(), "GET", "/api/v1/openapi.json", None).json();
        let schemas = Schemas::of(&document);
        Self {
            dir,
            node,
            sharer,
            link,
            waiting: None,
            document,
            schemas,
        }
    }

    fn path(&self, name: &str) -> String {
        text(&self.dir.path().join(name)).to_owned()
    }

    /// Has a fetch run that does not end by itself, and returns its number.
    fn start_waiting(&mut self) -> u64 {
        let home = self.node.home().to_owned();
        let body = json!({
            "link": ABSENT,
            "destination": { "at": self.path("absent") },
            "timeout_ms": 600_000,
        });
        let request = move || ask(&home, "POST", "/api/v1/fetches", Some(&body));
        self.waiting = Some(thread::spawn(request));
        wait_for("a fetch that waits", || self.transfer("running"))
    }

    /// The number of the transfer in this state.
    fn transfer(&self, state: &str) -> Option<u64> {
        let listed = ask(self.node.home(), "GET", "/api/v1/transfers", None).json();
        let listed = listed["transfers"].as_array().unwrap();
        listed.iter().find(|it| it["state"] == state)?["id"].as_u64()
    }

    fn operation(&self, route: &str) -> &Value {
        let (method, path) = route.split_once(' ').unwrap();
        let operation = &self.document["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{route} is not in the document");
        operation
    }

    /// Sends a request to a route, whose path has to be of the route's form.
    fn call(&self, route: &str, call: &Call) -> Answer {
        let (method, template) = route.split_once(' ').unwrap();
        let (path, _) = call.path.split_once('?').unwrap_or((&call.path, ""));
        assert!(is_of(template, path), "{} is no {route}", call.path);
        let home = self.node.home();
        match &call.body {
            Some(_) => ask(home, method, &call.path, call.body.as_ref()),
            None => send(home, method, &call.path, call.headers, b""),
        }
    }

    /// Checks that an answer is what the document says of its route, and that it went well.
    fn check_good(&self, route: &str, answer: &Answer) {
        let (kind, content) = self.content(route, answer);
        assert_eq!(answer.status, 200, "{route}: {answer:?}");
        if let Some(schema) = content.get("itemSchema") {
            let items = answer.items();
            for item in &items {
                self.schemas.check(schema, item, route);
            }
            assert_eq!(items.last().unwrap()["event"], "done", "{route}: {items:?}");
        } else if kind == "application/json" {
            self.schemas
                .check(&content["schema"], &answer.json(), route);
        } else {
            assert_eq!(content["schema"]["type"], "string", "{route}");
            let text = std::str::from_utf8(&answer.body).unwrap();
            assert!(text.ends_with('\n'), "{route}: {text}");
        }
    }

    /// Checks that an answer is a failure with this code, and is what the document says of those.
    fn check_bad(&self, route: &str, answer: &Answer, code: &str) {
        let (_, content) = self.content(route, answer);
        let error = if let Some(schema) = content.get("itemSchema") {
            let last = answer.items().pop().unwrap();
            self.schemas.check(schema, &last, route);
            assert_eq!(last["event"], "error", "{route}");
            last["error"].clone()
        } else {
            let body = answer.json();
            self.schemas.check(&content["schema"], &body, route);
            assert!(answer.status >= 400, "{route}: {answer:?}");
            body["error"].clone()
        };
        assert_eq!(error["code"], code, "{route}: {error}");
        assert_ne!(error["message"], "", "{route}");
    }

    /// What the document says of an answer with this status and type.
    fn content(&self, route: &str, answer: &Answer) -> (String, Value) {
        let responses = &self.operation(route)["responses"];
        let response = match responses.get(answer.status.to_string()) {
            Some(response) => response,
            None => &responses["default"],
        };
        let said = response["content"].as_object();
        let said = said.unwrap_or_else(|| panic!("{route} does not say {answer:?}"));
        let (kind, content) = said.iter().next().unwrap();
        let (got, _) = answer.kind.split_once(';').unwrap_or((&answer.kind, ""));
        assert!(*kind == answer.kind || kind == got, "{route}: {answer:?}");
        (kind.clone(), content.clone())
    }
}

/// Whether a path is one of those that a template stands for.
fn is_of(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    let parts: Vec<_> = template.zip(path.clone()).collect();
    let fit = |(wanted, part): &(&str, &str)| {
        wanted == part || (wanted.starts_with('{') && !part.is_empty())
    };
    parts.iter().all(fit) && parts.len() == path.count()
}

/// Where events are, which have no end and are therefore listened to beside all else.
const EVENTS: &str = "GET /api/v1/events";

#[test]
fn every_route_answers_as_the_document_says() {
    let mut world = World::new();
    let mut listener = Listener::start(world.node.home());
    let refused = Call::from("/api/v1/events", FOREIGN_PAGE);
    let refused = world.call(EVENTS, &refused);
    world.check_bad(EVENTS, &refused, "foreign_origin");

    let mut called = BTreeSet::from([EVENTS.to_owned()]);
    for case in cases() {
        let bad = (case.bad)(&world);
        let refused = world.call(case.route, &bad);
        world.check_bad(case.route, &refused, case.code);

        let good = (case.good)(&mut world);
        let asks = &world.operation(case.route)["requestBody"]["content"]["application/json"];
        assert_eq!(asks.is_object(), good.body.is_some(), "{}", case.route);
        if let Some(body) = &good.body {
            world.schemas.check(&asks["schema"], body, case.route);
        }
        let answer = world.call(case.route, &good);
        world.check_good(case.route, &answer);
        assert!(called.insert(case.route.to_owned()), "{}", case.route);
    }
    assert_eq!(called, routes(&world.document), "the document's, each once");

    let ended = world.waiting.take().unwrap().join().unwrap();
    world.check_bad("POST /api/v1/fetches", &ended, "interrupted");
    let names = check_events(&world, &mut listener);
    for name in [
        "node_ready",
        "peer_connected",
        "share_added",
        "share_removed",
        "transfer_queued",
        "transfer_started",
        "transfer_finished",
        "transfer_paused",
        "transfer_removed",
        "node_stopping",
    ] {
        assert!(names.contains_key(name), "no {name} among {names:?}");
    }
}

/// All routes of the document.
fn routes(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap().iter();
    let routes = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    routes.collect()
}

/// Checks all events up to the node's end; how many there were of each name.
fn check_events(world: &World, listener: &mut Listener) -> BTreeMap<String, u64> {
    let content = &world.operation(EVENTS)["responses"]["200"]["content"];
    let schema = &content[&listener.kind]["itemSchema"];
    assert!(schema.is_object(), "{content} {}", listener.kind);
    let mut names = BTreeMap::new();
    while let Some(event) = listener.next_event() {
        world.schemas.check(schema, &event, "an event");
        let name = event["event"].as_str().unwrap().to_owned();
        *names.entry(name).or_default() += 1;
    }
    names
}

#[test]
fn what_the_document_does_not_have_is_not_served() {
    let world = World::new();
    let check = |method: &str, path: &str, status: u16| {
        let answer = ask(world.node.home(), method, path, None);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.kind, "application/json", "{method} {path}");
        let body = answer.json();
        world.schemas.check(&api_type("ErrorBody"), &body, path);
        assert_eq!(body["error"]["code"], "no_route", "{method} {path}");
    };
    let paths = world.document["paths"].as_object().unwrap();
    let mut others = BTreeSet::from(["/".to_owned(), "/index.html".to_owned()]);
    for (template, methods) in paths {
        let path = template.replace("{id}", "7").replace("{cid}", ABSENT);
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            if methods.get(method.to_lowercase()).is_none() {
                check(method, &path, 405);
            }
        }
        let (parent, _) = path.rsplit_once('/').unwrap();
        others.extend([
            format!("{path}/more"),
            format!("{path}/"),
            parent.to_owned(),
        ]);
    }
    others.retain(|path| !path.is_empty() && !paths.keys().any(|it| is_of(it, path)));
    assert!(others.len() > 20, "{others:?}");
    for path in others {
        check("GET", &path, 404);
        check("POST", &path, 404);
    }
}

#[test]
fn bodies_that_cannot_be_meant_are_refused_by_every_route_that_takes_one() {
    let world = World::new();
    let large = format!("{{\"link\":\"{}\"}}", "x".repeat(5 << 20));
    let mut taking = 0;
    for route in routes(&world.document) {
        if world.operation(&route)["requestBody"].is_null() {
            continue;
        }
        taking += 1;
        let (method, path) = route.split_once(' ').unwrap();
        let check = |headers: &str, body: &str, status: u16, code: &str| {
            let answer = send(world.node.home(), method, path, headers, body.as_bytes());
            assert_eq!(answer.status, status, "{route}: {answer:?}");
            world.check_bad(&route, &answer, code);
        };
        check("", "{}", 400, "usage");
        check("content-type: text/plain\r\n", "{}", 400, "usage");
        for body in ["", "{", "[]", "7", "{\"no such field\":1}", "{}}"] {
            check(JSON, body, 400, "usage");
        }
        check(JSON, &large, 413, "too_large");
    }
    assert_eq!(taking, 13, "as many as the document says");
}
