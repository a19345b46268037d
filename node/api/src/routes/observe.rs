//! Looking at a node from outside: events as they happen, numbers, health, and this API's document.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{self, KeepAlive},
    },
};
use futures::{Stream, stream};
use shoal_protocol::name::escaped;
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use crate::{
    ApiError, ErrorBody, ErrorCode, Service,
    events::EventReader,
    operations::stopping,
    types::{Event, Occurrence},
};

/// Those who listen to events at a time: a connection, a task and one buffered event each. A
/// machine has a handful of dashboards and scripts.
pub(crate) const LISTENERS_MAX: usize = 32;

/// Between two signs of life to a listener while nothing happens.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How a client that reconnects says what it has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// What happens, as it happens.
///
/// Server-sent events: `event` is the name, `data` an [`Occurrence`], `id` its `sequence`. They end
/// with `node_stopping`. One who reads slowly is told how many events it missed (`lagged`); one who
/// comes back with `Last-Event-ID` gets what it missed, as far as that is kept.
#[utoipa::path(
    get,
    path = "/events",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The `id` that was seen last")),
    responses(
        (
            status = 200,
            description = "The events from now on; each schema is that of `data`",
            content_type = "text/event-stream",
            item_schema = Occurrence,
        ),
        (status = "default", description = "The failure", body = ErrorBody),
    ),
)]
pub(super) async fn events<S: Service>(
    State(api): State<Api<S>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if api.operations.shutdown().is_cancelled() {
        return Err(stopping());
    }
    let room = api.listeners.take().ok_or_else(|| {
        ApiError::new(
            ErrorCode::Busy,
            format!("{LISTENERS_MAX} clients listen to events already"),
        )
        .hint("end one of them")
    })?;
    let after = last_event(&headers)?;
    let reader = api.service.events(after);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_INTERVAL);
    let events = Sse::new(messages(reader, room)).keep_alive(keep_alive);
    Ok(events.into_response())
}

/// The event that a client says it has seen last.
fn last_event(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(id) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let text = id.to_str().unwrap_or_default().trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("the header Last-Event-ID is no number: {}", escaped(text));
        return Err(ApiError::new(ErrorCode::Usage, message)
            .hint("send the `id` of the last event that was seen, or leave the header out"));
    }
    // A number beyond all is that of an event that is yet to come.
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

/// The messages of one listener, up to the event that ends them all.
fn messages(
    reader: EventReader,
    room: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    stream::unfold(Some((reader, room)), |listening| async move {
        let (mut reader, room) = listening?;
        let occurrence = reader.next().await;
        let last = matches!(occurrence.event, Event::NodeStopping);
        Some((Ok(message(&occurrence)), (!last).then_some((reader, room))))
    })
}

fn message(occurrence: &Occurrence) -> sse::Event {
    let message = sse::Event::default()
        .id(occurrence.sequence.to_string())
        .event(occurrence.event.name());
    // A path that is not UTF-8 has no JSON: a comment takes the event's place.
    message
        .json_data(occurrence)
        .unwrap_or_else(|_| sse::Event::default().comment("an event that has no JSON"))
}

/// The document of this API: OpenAPI 3.2.
#[utoipa::path(get, path = "/openapi.json", responses(
    (status = 200, description = "The document", body = serde_json::Value),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn document<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], api.document)
}

/// The numbers of the node, for collectors.
#[utoipa::path(get, path = "/metrics", responses(
    (
        status = 200,
        description = "OpenMetrics text, which Prometheus reads",
        body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8",
    ),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn metrics<S: Service>(State(api): State<Api<S>>) -> Result<Response, ApiError> {
    let mut numbers = api.service.metrics().await?;
    numbers.gauge(
        "shoal_api_operations",
        "Requests that take time and are being worked on.",
        api.operations.room().taken(),
    );
    numbers.gauge(
        "shoal_api_connections",
        "Connections of the API; more than its cap wait until one ends.",
        api.operations.connections().open(),
    );
    numbers.counters(
        "shoal_api_refused",
        "Requests refused because as many as may were served.",
        "limit",
        [
            ("operations", api.operations.room().refused()),
            ("listeners", api.listeners.refused()),
        ],
    );
    let text = numbers.encode().map_err(|error| {
        ApiError::new(
            ErrorCode::Internal,
            format!("no text for the numbers: {error}"),
        )
    })?;
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}

/// The type of the answer to [`metrics`].
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The process is alive and its node answers.
#[utoipa::path(get, path = "/healthz", responses(
    (status = 200, description = "`ok`", body = String),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn healthz<S: Service>(State(api): State<Api<S>>) -> Result<Response, ApiError> {
    api.service.id().await?;
    Ok((StatusCode::OK, "ok\n").into_response())
}

/// The node takes requests.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "`ok`", body = String),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn readyz<S: Service>(State(api): State<Api<S>>) -> Result<Response, ApiError> {
    if api.operations.shutdown().is_cancelled() {
        return Err(stopping());
    }
    Ok((StatusCode::OK, "ok\n").into_response())
}
