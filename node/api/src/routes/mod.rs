//! The routes of the API and the document that describes them, from one table: what is not
//! documented is not served.
//!
//! [`routes()`] is the table of what is served. A handler carries its own documentation
//! (`utoipa::path`), reads a request, calls the [`Service`] and answers; it decides nothing else. Most
//! handlers are made of `table.rs`; this folder has the others.

mod fetch;
mod node;
mod observe;
mod share;
mod table;
mod transfer;

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{FromRequestParts, Path},
    http::{Method, StatusCode, Uri, request::Parts},
    middleware,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{OpenApi, openapi::OpenApi as Document};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::observe::LISTENERS_MAX;
use super::{
    ApiError, ErrorBody, ErrorCode, Progress, Service, body,
    operations::{Operations, Room},
    origin::{self, OwnNames},
    types::{
        CatResult, Collected, Connected, FetchProgress, FetchResult, FetchUpdate, FindProgress,
        Found, GcProgress, ListProgress, Listing, NoProgress, Occurrence, ShareProgress,
        ShareResult, StreamEvent, Transfer, Unshared, Verified, VerifyProgress,
    },
};

/// What the document says of the API as a whole.
#[derive(OpenApi)]
#[openapi(
    version = "3.2.0",
    info(
        title = "Shoal node",
        description = "The local API of one node: HTTP over the Unix socket `api.sock` in its home. \
            What takes time answers with one JSON object per line, the last of which is the result \
            (`done`) or the error (`error`).",
        license(name = "MIT OR Apache-2.0"),
    ),
    // What is streamed: the handlers refer to these and do not bring them.
    components(schemas(
        Collected,
        Connected,
        Found,
        Listing,
        Occurrence,
        ShareResult,
        Unshared,
        Verified,
        StreamEvent<FetchUpdate, FetchResult>,
        StreamEvent<FetchProgress, CatResult>,
        StreamEvent<FindProgress, Found>,
        StreamEvent<GcProgress, Collected>,
        StreamEvent<ListProgress, Listing>,
        StreamEvent<NoProgress, Connected>,
        StreamEvent<NoProgress, Transfer>,
        StreamEvent<NoProgress, Unshared>,
        StreamEvent<ShareProgress, ShareResult>,
        StreamEvent<VerifyProgress, Verified>,
    )),
)]
struct Description;

fn routes<S: Service>() -> OpenApiRouter<Api<S>> {
    let v1 = table::table()
        .routes(routes!(node::connect))
        .routes(routes!(node::stop))
        .routes(routes!(share::share, share::unshare_path))
        .routes(routes!(share::unshare_cid, share::change))
        .routes(routes!(fetch::cat))
        .routes(routes!(transfer::change))
        .routes(routes!(transfer::pause))
        .routes(routes!(transfer::resume))
        .routes(routes!(transfer::cancel))
        .routes(routes!(observe::events))
        .routes(routes!(observe::document));
    OpenApiRouter::with_openapi(Description::openapi())
        .nest("/api/v1", v1)
        .routes(routes!(observe::metrics))
        .routes(routes!(observe::healthz))
        .routes(routes!(observe::readyz))
}

/// The router of all routes, with what is refused everywhere.
pub(super) fn router<S: Service>(
    service: Arc<S>,
    operations: Operations,
    names: OwnNames,
) -> Router {
    let (router, document) = routes().split_for_parts();
    let api = Api {
        service,
        operations,
        listeners: Arc::new(Room::new(LISTENERS_MAX)),
        document: json(&document),
    };
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(body::limit())
        .layer(middleware::from_fn_with_state(
            names,
            origin::refuse_foreign,
        ))
        .with_state(api)
}

/// What every handler works on.
struct Api<S> {
    service: Arc<S>,
    operations: Operations,
    /// Room for those who listen to events.
    listeners: Arc<Room>,
    document: Bytes,
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            operations: self.operations.clone(),
            listeners: Arc::clone(&self.listeners),
            document: self.document.clone(),
        }
    }
}

/// A JSON answer, or the error in its place.
struct Answer<T>(Result<T, ApiError>);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match self.0 {
            Ok(value) => axum::Json(value).into_response(),
            Err(error) => error.into_response(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.code.status(), axum::Json(ErrorBody { error: self })).into_response()
    }
}

/// The variable part of a path, as text.
struct Target(String);

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let target = Path::<String>::from_request_parts(parts, state).await;
        target.map(|Path(target)| Self(target)).map_err(|error| {
            let message = format!("the path is not understood: {}", error.body_text());
            ApiError::new(ErrorCode::Usage, message)
        })
    }
}

fn json(document: &Document) -> Bytes {
    document.to_json().unwrap_or_default().into()
}

async fn no_route(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        ErrorCode::NoRoute,
        format!("there is no {method} {}", uri.path()),
    )
    .hint("the API is under /api/v1; the daemon may be older than its client")
}

async fn no_method(method: Method, uri: Uri) -> Response {
    let error = no_route(method, uri).await;
    (
        StatusCode::METHOD_NOT_ALLOWED,
        axum::Json(ErrorBody { error }),
    )
        .into_response()
}

/// Where an operation reports that has nothing to report.
type Quiet = Progress<NoProgress>;
