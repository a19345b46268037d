//! Every route, and how it is called well and badly.

use serde_json::{Value, json};
use shoal_tests::http::ask;

use crate::{ABSENT, World};

const FOREIGN_HOST: &str = "host: example.org\r\n";
pub(crate) const FOREIGN_PAGE: &str = "host: localhost\r\norigin: http://example.org\r\n";

/// A request to a route.
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: &'static str,
    pub(crate) body: Option<Value>,
}

impl Call {
    fn get(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            headers: "",
            body: None,
        }
    }

    fn with(path: &str, body: Value) -> Self {
        Self {
            body: Some(body),
            ..Self::get(path)
        }
    }

    pub(crate) fn from(path: &str, headers: &'static str) -> Self {
        Self {
            headers,
            ..Self::get(path)
        }
    }
}

/// How a route is called: well, and badly, with the code of the failure.
pub(crate) struct Case {
    pub(crate) route: &'static str,
    pub(crate) good: fn(&mut World) -> Call,
    pub(crate) bad: fn(&World) -> Call,
    pub(crate) code: &'static str,
}

macro_rules! case {
    ($route:literal, $good:expr, $bad:expr, $code:literal) => {
        Case {
            route: $route,
            good: $good,
            bad: $bad,
            code: $code,
        }
    };
    // What takes nothing can only be asked by the wrong client.
    ($route:literal, $path:literal) => {
        case!(
            $route,
            |_| Call::get($path),
            |_| Call::from($path, FOREIGN_HOST),
            "foreign_origin"
        )
    };
}

/// Every route of the API, in an order in which each finds what it needs.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case!("GET /api/v1/id", "/api/v1/id"),
        case!("GET /api/v1/openapi.json", "/api/v1/openapi.json"),
        case!("GET /healthz", "/healthz"),
        case!("GET /readyz", "/readyz"),
        case!(
            "POST /api/v1/peers",
            |it| Call::with("/api/v1/peers", json!({ "address": it.sharer.address })),
            |_| Call::with("/api/v1/peers", json!({ "address": "localhost:1" })),
            "usage"
        ),
        case!("GET /api/v1/peers", "/api/v1/peers"),
    ];
    cases.extend(cases_of_shares());
    cases.extend(cases_of_fetches());
    cases.extend(cases_of_upkeep());
    cases.extend(cases_of_replicas());
    cases.extend([
        case!("GET /api/v1/status", "/api/v1/status"),
        case!("GET /metrics", "/metrics"),
        case!(
            "POST /api/v1/stop",
            |_| Call::get("/api/v1/stop"),
            |_| Call::from("/api/v1/stop", FOREIGN_PAGE),
            "foreign_origin"
        ),
    ]);
    cases
}

fn cases_of_shares() -> [Case; 6] {
    [
        case!(
            "POST /api/v1/shares",
            |it| {
                for name in ["first", "third"] {
                    it.node.share(&it.dir.path().join(name));
                }
                let body = json!({ "paths": [it.path("second")], "exclude": ["*.o"] });
                Call::with("/api/v1/shares", body)
            },
            |_| Call::with("/api/v1/shares", json!({ "paths": ["relative"] })),
            "usage"
        ),
        case!("GET /api/v1/shares", "/api/v1/shares"),
        case!(
            "GET /api/v1/shares/{cid}",
            |it| {
                let shares = ask(it.node.home(), "GET", "/api/v1/shares", None).json();
                let cid = shares["shares"][0]["cid"].as_str().unwrap().to_owned();
                Call::get(format!("/api/v1/shares/{cid}"))
            },
            |_| Call::get(format!("/api/v1/shares/{ABSENT}")),
            "not_shared"
        ),
        case!(
            "PATCH /api/v1/shares/{cid}",
            |it| {
                let shares = ask(it.node.home(), "GET", "/api/v1/shares", None).json();
                let cid = shares["shares"][0]["cid"].as_str().unwrap();
                Call::with(
                    &format!("/api/v1/shares/{cid}"),
                    json!({ "name": "another" }),
                )
            },
            |_| Call::with(
                &format!("/api/v1/shares/{ABSENT}"),
                json!({ "name": "a/b" })
            ),
            "bad_name"
        ),
        case!(
            "DELETE /api/v1/shares",
            |it| Call::get(format!("/api/v1/shares?path={}", it.path("first"))),
            |_| Call::get("/api/v1/shares?path=relative"),
            "usage"
        ),
        case!(
            "DELETE /api/v1/shares/{cid}",
            |it| {
                let shares = ask(it.node.home(), "GET", "/api/v1/shares", None).json();
                let cid = shares["shares"][0]["cid"].as_str().unwrap().to_owned();
                Call::get(format!("/api/v1/shares/{cid}"))
            },
            |_| Call::get("/api/v1/shares/%FF"),
            "usage"
        ),
    ]
}

fn cases_of_fetches() -> Vec<Case> {
    let mut cases = vec![
        case!(
            "POST /api/v1/ls",
            |it| Call::with("/api/v1/ls", json!({ "link": it.link, "peers": [] })),
            |it| Call::with("/api/v1/ls", json!({ "link": it.link, "lnk": 1 })),
            "usage"
        ),
        case!(
            "POST /api/v1/find",
            |it| Call::with("/api/v1/find", json!({ "link": it.link })),
            |_| Call::with("/api/v1/find", json!({ "link": ABSENT, "timeout_ms": 200 })),
            "not_found"
        ),
        case!(
            "POST /api/v1/cat",
            |it| {
                let large = format!("{}/large", it.link);
                Call::with("/api/v1/cat", json!({ "link": large }))
            },
            |it| Call::with("/api/v1/cat", json!({ "link": it.link })),
            "not_a_file"
        ),
        case!(
            "POST /api/v1/fetches",
            |it| {
                let into = json!({ "into": it.path("into") });
                let body = json!({ "link": it.link, "destination": into, "sync": true });
                Call::with("/api/v1/fetches", body)
            },
            |it| {
                let body = json!({ "link": it.link, "destination": { "at": "relative" } });
                Call::with("/api/v1/fetches", body)
            },
            "usage"
        ),
        case!(
            "POST /api/v1/transfers/{id}/pause",
            |it| {
                let id = it.start_waiting();
                Call::get(format!("/api/v1/transfers/{id}/pause"))
            },
            |_| Call::get("/api/v1/transfers/999/pause"),
            "no_transfer"
        ),
        case!(
            "PATCH /api/v1/transfers/{id}",
            |it| {
                let paused = it.transfer("paused").unwrap();
                Call::with(
                    &format!("/api/v1/transfers/{paused}"),
                    json!({ "limit": "5MB/s" }),
                )
            },
            |_| Call::with("/api/v1/transfers/999", json!({ "limit": "off" })),
            "no_transfer"
        ),
        case!("GET /api/v1/transfers", "/api/v1/transfers"),
    ];
    cases.extend([
        case!(
            "POST /api/v1/transfers/{id}/resume",
            |it| {
                let paused = it.transfer("paused").unwrap();
                Call::get(format!("/api/v1/transfers/{paused}/resume"))
            },
            |_| Call::get("/api/v1/transfers/999/resume"),
            "no_transfer"
        ),
        case!(
            "POST /api/v1/transfers/{id}/cancel",
            |_| Call::get(format!("/api/v1/transfers/{ABSENT}/cancel")),
            |_| Call::get("/api/v1/transfers/%C3%28/cancel"),
            "usage"
        ),
    ]);
    cases
}

fn cases_of_replicas() -> [Case; 4] {
    [
        case!("GET /api/v1/replicas", "/api/v1/replicas"),
        case!("GET /api/v1/replicas/stats", "/api/v1/replicas/stats"),
        case!(
            "PATCH /api/v1/replicas",
            |_| Call::with("/api/v1/replicas", json!({ "on": true })),
            |_| Call::with("/api/v1/replicas", json!({ "on": "yes" })),
            "usage"
        ),
        case!(
            "POST /api/v1/replicas/drop",
            |_| Call::with("/api/v1/replicas/drop", json!({})),
            |_| Call::with(
                "/api/v1/replicas/drop",
                json!({ "key": "0123456789abcdef" })
            ),
            "not_shared"
        ),
    ]
}

fn cases_of_upkeep() -> [Case; 4] {
    [
        case!(
            "POST /api/v1/verify",
            |_| Call::with("/api/v1/verify", json!({ "list_intact": true })),
            |_| Call::with("/api/v1/verify", json!({ "link": "bafy" })),
            "usage"
        ),
        case!(
            "POST /api/v1/gc",
            |_| Call::with("/api/v1/gc", json!({ "dry_run": false })),
            |_| Call::with("/api/v1/gc", json!({ "dry": true })),
            "usage"
        ),
        case!(
            "PATCH /api/v1/limits",
            |_| Call::with("/api/v1/limits", json!({ "up": "200MB/s", "down": null })),
            |_| Call::with("/api/v1/limits", json!({ "up": "fast" })),
            "usage"
        ),
        case!("GET /api/v1/limits", "/api/v1/limits"),
    ]
}
