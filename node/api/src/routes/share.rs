//! Sharing and unsharing.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, Api, Quiet, Target};
use crate::{
    ApiError, ErrorBody, ErrorCode, Service,
    body::JsonBody,
    stream,
    types::{
        AbsolutePath, NoProgress, ShareChange, ShareProgress, ShareRequest, ShareResult, Shares,
        StreamEvent, UnshareRequest, Unshared,
    },
};

/// Hashes files in place and serves them.
#[utoipa::path(post, path = "/shares", request_body = ShareRequest, responses(
    (
        status = 200,
        description = "Its progress, then the share",
        content_type = "application/x-ndjson",
        item_schema = StreamEvent<ShareProgress, ShareResult>,
    ),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn share<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<ShareRequest>,
) -> Result<Response, ApiError> {
    if request.paths.is_empty() {
        return Err(ApiError::new(ErrorCode::Usage, "there is no path to share"));
    }
    stream::respond(&api.operations, |progress, cancel| async move {
        api.service.share(request, progress, cancel).await
    })
}

/// Gives every share of a root, or the one at a path, another name.
///
/// Links to it that were passed on before stay good: they name it by its root.
#[utoipa::path(
    patch,
    path = "/shares/{cid}",
    params(("cid" = String, Path, format = "link", description = "The root, or a link to it")),
    request_body = ShareChange,
    responses(
        (status = 200, description = "The shares as they are now", body = Shares),
        (status = "default", description = "The failure", body = ErrorBody),
    ),
)]
pub(super) async fn change<S: Service>(
    State(api): State<Api<S>>,
    Target(cid): Target,
    JsonBody(change): JsonBody<ShareChange>,
) -> impl IntoResponse {
    Answer(api.service.change_share(cid, change).await)
}

/// Stops serving every share of a root; the files stay.
#[utoipa::path(
    delete,
    path = "/shares/{cid}",
    params(("cid" = String, Path, format = "link", description = "The root, or a link to it")),
    responses(
        (
            status = 200,
            description = "The shares as they were",
            content_type = "application/x-ndjson",
            item_schema = StreamEvent<NoProgress, Unshared>,
        ),
        (status = "default", description = "The failure", body = ErrorBody),
    ),
)]
pub(super) async fn unshare_cid<S: Service>(
    State(api): State<Api<S>>,
    Target(cid): Target,
) -> Result<Response, ApiError> {
    unshare(&api, UnshareRequest::Cid(cid))
}

/// The query of a request to unshare a path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ByPath {
    /// Where the shared file or folder is, absolute.
    #[param(value_type = String, pattern = "^/")]
    path: AbsolutePath,
}

/// Stops serving the share of a path; the files stay.
#[utoipa::path(delete, path = "/shares", params(ByPath), responses(
    (
        status = 200,
        description = "The share as it was",
        content_type = "application/x-ndjson",
        item_schema = StreamEvent<NoProgress, Unshared>,
    ),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn unshare_path<S: Service>(
    State(api): State<Api<S>>,
    query: Result<Query<ByPath>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(ByPath { path }) =
        query.map_err(|error| ApiError::new(ErrorCode::Usage, error.body_text()))?;
    unshare(&api, UnshareRequest::Path(path))
}

fn unshare<S: Service>(api: &Api<S>, request: UnshareRequest) -> Result<Response, ApiError> {
    let service = Arc::clone(&api.service);
    stream::respond(&api.operations, |_: Quiet, _| async move {
        service.unshare(request).await
    })
}
