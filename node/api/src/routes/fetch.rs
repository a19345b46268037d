//! Fetching, and looking at what could be fetched.

use axum::{extract::State, response::Response};

use super::Api;
use crate::{
    ApiError, ErrorBody, Service,
    body::JsonBody,
    stream,
    types::{
        CatRequest, CatResult, FetchProgress, FetchRequest, FetchResult, FetchUpdate, FindProgress,
        FindRequest, Found, ListProgress, ListRequest, Listing, StreamEvent,
    },
};

/// Fetches, verifies and lands.
///
/// Ended early, by its client or by the node, it keeps what was verified; the same request goes on
/// from there.
#[utoipa::path(post, path = "/fetches", request_body = FetchRequest, responses(
    (
        status = 200,
        description = "Its progress, then what came of it",
        content_type = "application/x-ndjson",
        item_schema = StreamEvent<FetchUpdate, FetchResult>,
    ),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn fetch<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<FetchRequest>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |progress, cancel| async move {
        api.service.fetch(request, progress, cancel).await
    })
}

/// Sends the bytes of one file, in order and verified; lands and keeps nothing.
///
/// The answer is a sequence of frames: a byte that is `d` or `e`, a length (32 bits, the highest
/// byte first), and that many bytes, which are content (`d`) or one event as JSON (`e`). Only an
/// answer whose last event is `done` or `error` is whole; what came before an error is right.
#[utoipa::path(post, path = "/cat", request_body = CatRequest, responses(
    (
        status = 200,
        description = "The bytes, and between them its progress, then what came of it",
        content_type = "application/vnd.shoal.frames",
        item_schema = StreamEvent<FetchProgress, CatResult>,
    ),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn cat<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<CatRequest>,
) -> Result<Response, ApiError> {
    stream::respond_bytes(&api.operations, |out, progress, cancel| async move {
        api.service.cat(request, out, progress, cancel).await
    })
}

/// Reads the tree behind a link, without the bytes of its files.
#[utoipa::path(post, path = "/ls", request_body = ListRequest, responses(
    (
        status = 200,
        description = "Its progress, then the tree",
        content_type = "application/x-ndjson",
        item_schema = StreamEvent<ListProgress, Listing>,
    ),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn list<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<ListRequest>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |progress, cancel| async move {
        api.service.list(request, progress, cancel).await
    })
}

/// Looks for providers of a root.
#[utoipa::path(post, path = "/find", request_body = FindRequest, responses(
    (
        status = 200,
        description = "Its progress, then the providers",
        content_type = "application/x-ndjson",
        item_schema = StreamEvent<FindProgress, Found>,
    ),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn find<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<FindRequest>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |progress, cancel| async move {
        api.service.find(request, progress, cancel).await
    })
}
