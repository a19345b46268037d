//! The HTTP server of a node: routes, caps and the order in which it ends.
//!
//! Owns the socket while it serves. Refuses what is too large, too slow, too much at once, or not
//! understood, each with `{"error":{"code","message","hint"}}` and the HTTP status that belongs to
//! the code. On shutdown it takes no more connections, cancels the operations in progress and
//! awaits them, and removes the socket.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ApiError, ErrorBody, ErrorCode, Service,
    body::{self, JsonBody},
    listener::ApiListener,
    stream,
    types::{
        AbsolutePath, ConnectRequest, FetchRequest, FindRequest, LimitsChange, ListRequest,
        ShareRequest, Stopping, UnshareRequest,
    },
};

/// Operations at once. Each holds a transfer or a hashing run, of which a few saturate a machine;
/// 64 leave room for those that merely wait.
pub(super) const OPERATIONS_MAX: usize = 64;

/// What a connection may take to end after the last operation did: its client reads one line.
const CONNECTIONS_GRACE: Duration = Duration::from_secs(2);

/// What cancelled operations may take: the last batch of chunks to disk and one synced commit on a
/// slow disk.
const OPERATIONS_GRACE: Duration = Duration::from_secs(20);

/// Serves `service` on `listener` until `shutdown` fires, which a request to stop also does.
///
/// Returns when no operation runs any more, at most 22 s after `shutdown`; then the socket is gone.
pub async fn serve<S: Service>(
    listener: ApiListener,
    service: Arc<S>,
    shutdown: CancellationToken,
) {
    let api = Api {
        service,
        operations: Operations::new(shutdown.clone()),
    };
    let operations = api.operations.clone();
    let server = axum::serve(listener, router(api))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let ending = async {
        shutdown.cancelled().await;
        operations.end().await;
        tokio::time::sleep(CONNECTIONS_GRACE).await;
    };
    tokio::select! {
        _ = server => operations.end().await,
        () = ending => tracing::debug!("clients of the API are not waited for any longer"),
    }
}

fn router<S: Service>(api: Api<S>) -> Router {
    let v1 = Router::new()
        .route("/id", get(id))
        .route("/status", get(status))
        .route("/peers", get(peers).post(connect))
        .route("/shares", get(shares).post(share).delete(unshare_path))
        .route("/shares/{cid}", delete(unshare_cid))
        .route("/fetches", post(fetch))
        .route("/transfers", get(transfers))
        .route("/transfers/{id}/pause", post(pause))
        .route("/transfers/{id}/resume", post(resume))
        .route("/transfers/{id}/cancel", post(cancel))
        .route("/ls", post(list))
        .route("/find", post(find))
        .route("/limits", get(limits).patch(change_limits))
        .route("/stop", post(stop));
    Router::new()
        .nest("/api/v1", v1)
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(body::limit())
        .with_state(api)
}

/// What every handler works on.
struct Api<S> {
    service: Arc<S>,
    operations: Operations,
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            operations: self.operations.clone(),
        }
    }
}

/// The operations in progress.
#[derive(Clone)]
pub(super) struct Operations {
    tracker: TaskTracker,
    room: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Operations {
    fn new(shutdown: CancellationToken) -> Self {
        Self {
            tracker: TaskTracker::new(),
            room: Arc::new(Semaphore::new(OPERATIONS_MAX)),
            shutdown,
        }
    }

    /// Fires when the node shuts down.
    pub(super) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Room for one more operation, taken as long as what is returned lives.
    pub(super) fn room(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.shutdown.is_cancelled() {
            return Err(stopping());
        }
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            ApiError::new(
                ErrorCode::Busy,
                format!("the daemon is busy with {OPERATIONS_MAX} requests"),
            )
            .hint("try again when some of them are done")
        })
    }

    /// Runs an operation whose end is awaited on shutdown.
    pub(super) fn spawn<F>(&self, operation: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn(operation)
    }

    async fn end(&self) {
        self.tracker.close();
        if tokio::time::timeout(OPERATIONS_GRACE, self.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(left = self.tracker.len(), "operations did not end in time");
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

async fn id<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    Answer(api.service.id().await)
}

async fn status<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    Answer(api.service.status().await)
}

async fn peers<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    Answer(api.service.peers().await)
}

async fn shares<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    Answer(api.service.shares().await)
}

async fn connect<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<ConnectRequest>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |_: Quiet, cancel| async move {
        api.service.connect(request, cancel).await
    })
}

async fn share<S: Service>(
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

async fn unshare_cid<S: Service>(
    State(api): State<Api<S>>,
    Path(cid): Path<String>,
) -> Result<Response, ApiError> {
    unshare(&api, UnshareRequest::Cid(cid))
}

/// The query of a request to unshare a path.
#[derive(Deserialize)]
struct ByPath {
    path: AbsolutePath,
}

async fn unshare_path<S: Service>(
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

async fn fetch<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<FetchRequest>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |progress, cancel| async move {
        api.service.fetch(request, progress, cancel).await
    })
}

async fn transfers<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    Answer(api.service.transfers().await)
}

async fn pause<S: Service>(
    State(api): State<Api<S>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |_: Quiet, _| async move {
        api.service.pause(id).await
    })
}

async fn resume<S: Service>(
    State(api): State<Api<S>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |_: Quiet, _| async move {
        api.service.resume(id).await
    })
}

async fn cancel<S: Service>(
    State(api): State<Api<S>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |_: Quiet, _| async move {
        api.service.cancel(id).await
    })
}

async fn list<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<ListRequest>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |progress, cancel| async move {
        api.service.list(request, progress, cancel).await
    })
}

async fn find<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<FindRequest>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |progress, cancel| async move {
        api.service.find(request, progress, cancel).await
    })
}

async fn limits<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    Answer(api.service.limits().await)
}

async fn change_limits<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(change): JsonBody<LimitsChange>,
) -> impl IntoResponse {
    Answer(api.service.change_limits(change).await)
}

async fn stop<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    tracing::info!("asked to stop");
    api.operations.shutdown.cancel();
    Answer(Ok(Stopping {
        pid: std::process::id(),
    }))
}

/// The process is alive and its node answers.
async fn healthz<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    match api.service.id().await {
        Ok(_) => (StatusCode::OK, "ok\n").into_response(),
        Err(error) => error.into_response(),
    }
}

/// The node takes requests.
async fn readyz<S: Service>(State(api): State<Api<S>>) -> impl IntoResponse {
    if api.operations.shutdown.is_cancelled() {
        return stopping().into_response();
    }
    (StatusCode::OK, "ok\n").into_response()
}

fn stopping() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "the daemon is stopping").hint("start it again")
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

/// Progress of an operation that has none to tell.
type Quiet = super::service::Progress<()>;
