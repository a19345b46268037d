//! Fetching to a reader.

use axum::{extract::State, response::Response};

use super::Api;
use crate::{
    ApiError, ErrorBody, Service,
    body::JsonBody,
    stream,
    types::{CatRequest, CatResult, FetchProgress, StreamEvent},
};

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
