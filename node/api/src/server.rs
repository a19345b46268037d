//! The HTTP server of a node: its caps and the order in which it ends.
//!
//! Owns the socket while it serves. Refuses what is too large, too slow, too much at once, or not
//! understood, each with `{"error":{"code","message","hint"}}` and the HTTP status that belongs to
//! the code. It begins every request that was written whole, also when the client is gone by then: a
//! person who gave up waiting for a daemon that hung has asked all the same. On shutdown it takes no
//! more connections, cancels the operations in progress and awaits them, and removes the socket.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use futures::{
    FutureExt as _,
    future::{Either, Ready, ready},
};
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Service,
    listener::{ApiListener, Connection, Head},
    operations::Operations,
    origin::OwnNames,
    routes,
};

/// What a connection may take to end after the last operation did: its client reads one line.
const CONNECTIONS_GRACE: Duration = Duration::from_secs(2);

/// The head of a request comes within this, or the connection is closed; so is one on which nothing
/// is asked for as long. A local client writes it at once, and connects anew when it has to.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// The longest head: a path of 4 KiB, each byte of it escaped by three, and as much again for
/// everything else. It is also what a connection buffers: 160 of them take 5 MiB.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Serves `service` on `listener` until `shutdown` fires, which a request to stop also does.
///
/// Returns when no operation runs any more, at most 22 s after `shutdown`; then the socket is gone.
pub async fn serve<S: Service>(
    listener: ApiListener,
    service: Arc<S>,
    shutdown: CancellationToken,
) {
    serve_with(listener, service, shutdown, HEAD_DEADLINE).await;
}

/// The same for heads that come within `head_deadline`.
pub(super) async fn serve_with<S: Service>(
    mut listener: ApiListener,
    service: Arc<S>,
    shutdown: CancellationToken,
    head_deadline: Duration,
) {
    let operations = Operations::new(shutdown.clone(), listener.connections());
    let names = OwnNames::new(listener.path());
    let router = routes::router(Arc::clone(&service), operations.clone(), names);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head_deadline)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            connection = listener.accept() => {
                let head = connection.head();
                let service = Asked {
                    routes: TowerToHyperService::new(router.clone()),
                    head: head.clone(),
                };
                let serving = http.serve_connection(TokioIo::new(connection), service);
                connections.spawn(until_done(serving, head, shutdown.clone()));
            }
        }
    }
    drop(listener);
    operations.end().await;
    service.stopping();
    let ending = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(CONNECTIONS_GRACE, ending)
        .await
        .is_err()
    {
        tracing::debug!("clients of the API are not waited for any longer");
    }
}

type ServedConnection = http1::Connection<TokioIo<Connection>, Asked>;

/// The routes as hyper calls them.
type Routes = TowerToHyperService<Router>;

/// The routes, which note that something is asked for, and begin to answer at once.
struct Asked {
    routes: Routes,
    head: Head,
}

type RoutesFuture = <Routes as hyper::service::Service<Request<Incoming>>>::Future;
type Answered = <RoutesFuture as Future>::Output;

impl hyper::service::Service<Request<Incoming>> for Asked {
    type Response = <Routes as hyper::service::Service<Request<Incoming>>>::Response;
    type Error = <Routes as hyper::service::Service<Request<Incoming>>>::Error;
    type Future = Either<Ready<Answered>, Pin<Box<RoutesFuture>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.head.has_come();
        let mut answer = Box::pin(self.routes.call(request));
        // hyper looks for the end of the connection before it asks for the answer the first time, and
        // drops a request that nobody waits for, unseen. Afterwards it polls with its own waker.
        match answer.as_mut().now_or_never() {
            Some(answered) => Either::Left(ready(answered)),
            None => Either::Right(answer),
        }
    }
}

/// Serves one connection until its client has had enough, or, on shutdown, its last answer; or until
/// another needs its place while nothing was asked for.
async fn until_done(connection: ServedConnection, head: Head, shutdown: CancellationToken) {
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = head.gives_way() => return,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the API broke off");
    }
}
