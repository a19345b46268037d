//! Answers that take time: one JSON object per line, or bytes and such objects in frames, until the
//! operation is done.
//!
//! Owns the life of an operation: it starts with the answer, its cancellation token fires when the
//! client goes away or the node shuts down, and it is awaited, never aborted. Progress is coalesced
//! to the latest, so that a slow reader costs one value of memory. A heartbeat lets the client tell
//! a busy node from a dead one.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use futures::{Stream, stream};
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, Interval, MissedTickBehavior},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    ApiError, ErrorCode,
    frames::{self, FRAMES_TYPE, FrameKind},
    operations::Operations,
    service::Progress,
    types::StreamEvent,
};

/// A client that hears nothing for several of these may take the node for dead.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Blocks between the operation and the connection, at most 2 MiB each.
const BYTES_QUEUED_MAX: usize = 2;

/// Ten lines a second are smooth to look at and cost nothing.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Starts `operation` and answers with its events.
pub(super) fn respond<P, R, F>(
    operations: &Operations,
    operation: impl FnOnce(Progress<P>, CancellationToken) -> F,
) -> Result<Response, ApiError>
where
    P: Clone + Serialize + Send + Sync + 'static,
    R: Serialize + Send + 'static,
    F: Future<Output = Result<R, ApiError>> + Send + 'static,
{
    let events = Events::start(operations, operation)?;
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(events.into_lines())).into_response())
}

/// Starts `operation` and answers with the bytes that it sends, and its events between them.
pub(super) fn respond_bytes<P, R, F>(
    operations: &Operations,
    operation: impl FnOnce(mpsc::Sender<Vec<u8>>, Progress<P>, CancellationToken) -> F,
) -> Result<Response, ApiError>
where
    P: Clone + Serialize + Send + Sync + 'static,
    R: Serialize + Send + 'static,
    F: Future<Output = Result<R, ApiError>> + Send + 'static,
{
    let (out, bytes) = mpsc::channel(BYTES_QUEUED_MAX);
    let events = Events::start(operations, |progress, cancel| {
        operation(out, progress, cancel)
    })?;
    let framed = Framed {
        events,
        bytes: Some(bytes),
    };
    let headers = [(header::CONTENT_TYPE, FRAMES_TYPE)];
    Ok((headers, Body::from_stream(framed.into_frames())).into_response())
}

fn heartbeat() -> Interval {
    let mut interval =
        tokio::time::interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// An operation that runs, seen from the answer to its request.
struct Events<P, R> {
    task: JoinHandle<Result<R, ApiError>>,
    progress: watch::Receiver<Option<P>>,
    progress_allowed: Instant,
    heartbeat: Interval,
    shutdown: CancellationToken,
    /// Dropped with the answer: a client that went away ends the operation.
    _cancel: DropGuard,
}

impl<P, R> Events<P, R>
where
    P: Clone + Serialize + Send + Sync + 'static,
    R: Serialize + Send + 'static,
{
    fn start<F>(
        operations: &Operations,
        operation: impl FnOnce(Progress<P>, CancellationToken) -> F,
    ) -> Result<Self, ApiError>
    where
        F: Future<Output = Result<R, ApiError>> + Send + 'static,
    {
        let room = operations.take_room()?;
        let cancel = operations.shutdown().child_token();
        let (sender, progress) = Progress::channel();
        let running = operation(sender, cancel.clone());
        let task = operations.spawn(async move {
            let _room = room;
            running.await
        });
        Ok(Self {
            task,
            progress,
            progress_allowed: Instant::now(),
            heartbeat: heartbeat(),
            shutdown: operations.shutdown().clone(),
            _cancel: cancel.drop_guard(),
        })
    }

    fn into_lines(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(Some(self), |events| async move {
            let mut events = events?;
            let event = events.next().await;
            let last = matches!(event, StreamEvent::Done { .. } | StreamEvent::Error { .. });
            Some((Ok(line(&event)), (!last).then_some(events)))
        })
    }

    async fn next(&mut self) -> StreamEvent<P, R> {
        let ended = tokio::select! {
            biased;
            ended = &mut self.task => ended,
            event = Self::sign(&mut self.progress, &mut self.progress_allowed, &mut self.heartbeat)
                => return event,
        };
        self.last_event(ended)
    }

    /// A sign of life before the end.
    async fn sign(
        progress: &mut watch::Receiver<Option<P>>,
        allowed: &mut Instant,
        heartbeat: &mut Interval,
    ) -> StreamEvent<P, R> {
        tokio::select! {
            biased;
            progress = next_progress(progress, *allowed) => {
                *allowed = Instant::now() + PROGRESS_INTERVAL;
                heartbeat.reset();
                StreamEvent::Progress(progress)
            }
            _ = heartbeat.tick() => StreamEvent::Heartbeat,
        }
    }

    fn last_event(
        &self,
        ended: Result<Result<R, ApiError>, tokio::task::JoinError>,
    ) -> StreamEvent<P, R> {
        let error = match ended {
            Ok(Ok(result)) => return StreamEvent::Done { result },
            Ok(Err(error)) => error,
            Err(panic) => {
                tracing::error!(error = %panic, "an operation of the API panicked");
                ApiError::new(ErrorCode::Internal, "the daemon failed at this request")
                    .hint("its log says where; please report it")
            }
        };
        if error.code == ErrorCode::Interrupted && self.shutdown.is_cancelled() {
            let error = ApiError::new(ErrorCode::ShuttingDown, "the daemon was stopped")
                .hint("start it again and repeat the command; progress is kept");
            return StreamEvent::Error { error };
        }
        StreamEvent::Error { error }
    }
}

/// An operation that sends bytes, seen from the answer to its request.
struct Framed<P, R> {
    events: Events<P, R>,
    /// None once the operation has sent the last of them: what comes then is how it ended.
    bytes: Option<mpsc::Receiver<Vec<u8>>>,
}

impl<P, R> Framed<P, R>
where
    P: Clone + Serialize + Send + Sync + 'static,
    R: Serialize + Send + 'static,
{
    fn into_frames(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(Some(self), |framed| async move {
            let mut framed = framed?;
            let (frame, last) = framed.next().await;
            Some((Ok(frame), (!last).then_some(framed)))
        })
    }

    /// The next frame, and whether it is the last.
    async fn next(&mut self) -> (Bytes, bool) {
        let Events {
            progress,
            progress_allowed,
            heartbeat,
            ..
        } = &mut self.events;
        while let Some(bytes) = &mut self.bytes {
            tokio::select! {
                biased;
                event = Events::<P, R>::sign(progress, progress_allowed, heartbeat) => {
                    return (event_frame(&event), false);
                }
                bytes = bytes.recv() => match bytes {
                    Some(bytes) => return (frame(FrameKind::Data, &bytes), false),
                    None => self.bytes = None,
                },
            }
        }
        let event = self.events.next().await;
        let last = matches!(event, StreamEvent::Done { .. } | StreamEvent::Error { .. });
        (event_frame(&event), last)
    }
}

fn event_frame<P: Serialize, R: Serialize>(event: &StreamEvent<P, R>) -> Bytes {
    frame(FrameKind::Event, &line(event))
}

fn frame(kind: FrameKind, bytes: &[u8]) -> Bytes {
    [&frames::head(kind, bytes.len())[..], bytes]
        .concat()
        .into()
}

/// The latest progress once a line is due; never when the operation reports no more.
async fn next_progress<P: Clone>(progress: &mut watch::Receiver<Option<P>>, allowed: Instant) -> P {
    tokio::time::sleep_until(allowed).await;
    loop {
        if progress.changed().await.is_err() {
            return std::future::pending().await;
        }
        if let Some(latest) = progress.borrow_and_update().clone() {
            return latest;
        }
    }
}

fn line<P: Serialize, R: Serialize>(event: &StreamEvent<P, R>) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_else(|error| {
        // A path that is not UTF-8 has no JSON; the operation itself went well.
        let error = ApiError::new(
            ErrorCode::Internal,
            format!("no JSON for the answer: {error}"),
        );
        serde_json::json!({ "event": "error", "error": error })
            .to_string()
            .into_bytes()
    });
    line.push(b'\n');
    line.into()
}
