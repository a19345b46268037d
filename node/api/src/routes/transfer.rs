//! Fetches as things: changed, paused, resumed, cancelled.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};

use super::{Answer, Api, Quiet, Target};
use crate::{
    ApiError, ErrorBody, Service,
    body::JsonBody,
    stream,
    types::{NoProgress, StreamEvent, Transfer, TransferChange},
};

/// Changes what a transfer may receive, at once and for the times it goes on.
#[utoipa::path(
    patch,
    path = "/transfers/{id}",
    params(("id" = String, Path, description = "Its number, or the beginning of its root")),
    request_body = TransferChange,
    responses(
        (status = 200, description = "The transfer as it is now", body = Transfer),
        (status = "default", description = "The failure", body = ErrorBody),
    ),
)]
pub(super) async fn change<S: Service>(
    State(api): State<Api<S>>,
    Target(id): Target,
    JsonBody(change): JsonBody<TransferChange>,
) -> impl IntoResponse {
    Answer(api.service.change_transfer(id, change).await)
}

/// Has a transfer rest, its progress kept.
#[utoipa::path(
    post,
    path = "/transfers/{id}/pause",
    params(("id" = String, Path, description = "Its number, or the beginning of its root")),
    responses(
        (
            status = 200,
            description = "The transfer as it rests",
            content_type = "application/x-ndjson",
            item_schema = StreamEvent<NoProgress, Transfer>,
        ),
        (status = "default", description = "The failure", body = ErrorBody),
    ),
)]
pub(super) async fn pause<S: Service>(
    State(api): State<Api<S>>,
    Target(id): Target,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |_: Quiet, _| async move {
        api.service.pause(id).await
    })
}

/// Has a transfer that rests go on.
#[utoipa::path(
    post,
    path = "/transfers/{id}/resume",
    params(("id" = String, Path, description = "Its number, or the beginning of its root")),
    responses(
        (
            status = 200,
            description = "The transfer as it goes on",
            content_type = "application/x-ndjson",
            item_schema = StreamEvent<NoProgress, Transfer>,
        ),
        (status = "default", description = "The failure", body = ErrorBody),
    ),
)]
pub(super) async fn resume<S: Service>(
    State(api): State<Api<S>>,
    Target(id): Target,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |_: Quiet, _| async move {
        api.service.resume(id).await
    })
}

/// Ends a transfer and takes away what it left.
#[utoipa::path(
    post,
    path = "/transfers/{id}/cancel",
    params(("id" = String, Path, description = "Its number, or the beginning of its root")),
    responses(
        (
            status = 200,
            description = "The transfer as it was",
            content_type = "application/x-ndjson",
            item_schema = StreamEvent<NoProgress, Transfer>,
        ),
        (status = "default", description = "The failure", body = ErrorBody),
    ),
)]
pub(super) async fn cancel<S: Service>(
    State(api): State<Api<S>>,
    Target(id): Target,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |_: Quiet, _| async move {
        api.service.cancel(id).await
    })
}
