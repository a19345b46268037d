//! The node itself: connecting it with a peer, and its end.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};

use super::{Answer, Api, Quiet};
use crate::{
    ApiError, ErrorBody, Service,
    body::JsonBody,
    stream,
    types::{ConnectRequest, Connected, NoProgress, Stopping, StreamEvent},
};

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
