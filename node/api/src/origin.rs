//! Who a request says that it is for, and from where.
//!
//! Only the owner of the home can connect to the socket. What a browser can be talked into is
//! another matter: a web page reaches whatever program relays TCP to the socket, under the name of
//! the page's own host. Such a request carries that name as `Host`, or the page's as `Origin`, and
//! is refused before any route sees it.

use std::path::Path;

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use percent_encoding::percent_decode_str;

use super::{ApiError, ErrorCode};

/// The names under which a client on this machine speaks to the node.
#[derive(Clone, Debug)]
pub(super) struct OwnNames {
    /// Some clients put the socket's path, escaped, where others have a host.
    socket: String,
}

impl OwnNames {
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_string_lossy().into_owned(),
        }
    }

    /// Whether all that a request says of its host and origin is this node.
    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let uri = request.uri().authority();
        let in_uri = uri.is_none_or(|authority| self.is_own(authority.as_str()));
        if !in_uri || !Self::all(request, &header::HOST, |host| self.is_own(host)) {
            return Err(foreign("the request is for another host"));
        }
        let origins = Self::all(request, &header::ORIGIN, |origin| {
            origin.is_empty() || self.is_own_origin(origin)
        });
        match origins {
            true => Ok(()),
            false => Err(foreign("the request comes from a page of another host")),
        }
    }

    fn all(request: &Request, name: &HeaderName, holds: impl Fn(&str) -> bool) -> bool {
        let mut values = request.headers().get_all(name).iter();
        values.all(|value: &HeaderValue| value.to_str().is_ok_and(&holds))
    }

    /// `localhost` with any port, nothing, or the socket.
    fn is_own(&self, authority: &str) -> bool {
        if authority.is_empty() || percent_decode_str(authority).eq(self.socket.bytes()) {
            return true;
        }
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        host.eq_ignore_ascii_case("localhost") && port.bytes().all(|byte| byte.is_ascii_digit())
    }

    fn is_own_origin(&self, origin: &str) -> bool {
        let uri = origin.parse::<Uri>();
        uri.is_ok_and(|uri| uri.authority().is_some_and(|it| self.is_own(it.as_str())))
    }
}

fn foreign(message: &str) -> ApiError {
    ApiError::new(ErrorCode::ForeignOrigin, message)
        .hint("call the API over its socket, with `Host: localhost` and no `Origin`")
}

/// Lets through what is for this node and not from a page of another; a layer of the router.
pub(super) async fn refuse_foreign(
    State(names): State<OwnNames>,
    request: Request,
    next: Next,
) -> Response {
    match names.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::body::Body;

    use super::*;

    /// Whether a request to `uri` with these headers passes.
    fn check(uri: &str, headers: &[(&str, &str)], passes: bool) {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let names = OwnNames::new(Path::new("/home/a b/api.sock"));
        let checked = names.check(&request);
        assert_eq!(checked.is_ok(), passes, "{uri} {headers:?}: {checked:?}");
    }

    #[test]
    fn what_is_for_another_host_or_from_a_page_of_one_does_not_pass() {
        check("/", &[], true);
        for host in [
            "",
            "localhost",
            "LOCALHOST:8080",
            "%2Fhome%2Fa%20b%2Fapi.sock",
        ] {
            check("/", &[("host", host)], true);
        }
        let foreign = [
            "example.org",
            "localhost.example.org",
            "localhost:80:evil",
            "localhost@example.org",
            "127.0.0.1",
            "%2Fhome%2Fb%2Fapi.sock",
        ];
        for host in foreign {
            check("/", &[("host", host)], false);
        }
        check(
            "/",
            &[("host", "localhost"), ("host", "example.org")],
            false,
        );
        check("http://localhost/api", &[], true);
        check("http://example.org/api", &[("host", "localhost")], false);
        for origin in ["", "http://localhost", "http://localhost:3000"] {
            check("/", &[("host", "localhost"), ("origin", origin)], true);
        }
        for origin in ["null", "http://example.org", "file://", "localhost.evil"] {
            check("/", &[("host", "localhost"), ("origin", origin)], false);
        }
    }
}
