//! The node itself: who it is, how it is doing, whom it knows, and its end.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};

use super::{Answer, Api, Quiet};
use crate::{
    ApiError, ErrorBody, Service,
    body::JsonBody,
    stream,
    types::{
        ConnectRequest, Connected, Identity, NoProgress, Peers, Status, Stopping, StreamEvent,
    },
};

/// Who this node is.
#[utoipa::path(get, path = "/id", responses(
    (status = 200, description = "Its identity", body = Identity),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn id<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    Answer(api.service.id().await)
}

/// How it is doing.
///
/// Looks at shared files first, for two seconds at the most.
#[utoipa::path(get, path = "/status", responses(
    (status = 200, description = "Its state", body = Status),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn status<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    Answer(api.service.status().await)
}

/// Whom it is connected to.
#[utoipa::path(get, path = "/peers", responses(
    (status = 200, description = "The peers, nearest first", body = Peers),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn peers<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    Answer(api.service.peers().await)
}

/// Connects with a peer.
#[utoipa::path(post, path = "/peers", request_body = ConnectRequest, responses(
    (
        status = 200,
        description = "Its progress, then who the peer is",
        content_type = "application/x-ndjson",
        item_schema = StreamEvent<NoProgress, Connected>,
    ),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn connect<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<ConnectRequest>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |_: Quiet, cancel| async move {
        api.service.connect(request, cancel).await
    })
}

/// Ends the node in order.
///
/// The answer comes at once; the process has ended when the lock of its home is free.
#[utoipa::path(post, path = "/stop", responses(
    (status = 200, description = "The process that is going to end", body = Stopping),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn stop<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    tracing::info!("asked to stop");
    api.operations.shutdown().cancel();
    Answer(Ok(Stopping {
        pid: std::process::id(),
    }))
}
