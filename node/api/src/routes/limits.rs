//! Budgets: read and changed while the node runs.

use axum::{extract::State, response::IntoResponse};

use super::{Answer, Api};
use crate::{
    ErrorBody, Service,
    body::JsonBody,
    types::{Limits, LimitsChange},
};

/// The limits in force, and what is used of them.
#[utoipa::path(get, path = "/limits", responses(
    (status = 200, description = "The limits and their use", body = Limits),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn limits<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    Answer(api.service.limits().await)
}

/// Changes limits at once; they hold over restarts.
#[utoipa::path(
    patch,
    path = "/limits",
    request_body = LimitsChange,
    responses(
        (status = 200, description = "The limits as they are now", body = Limits),
        (status = "default", description = "The failure", body = ErrorBody),
    ),
)]
pub(super) async fn change_limits<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(change): JsonBody<LimitsChange>,
) -> impl IntoResponse {
    Answer(api.service.change_limits(change).await)
}
