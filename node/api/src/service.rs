//! What the API needs from a node: the seam between HTTP and everything behind it.
//!
//! The node implements [`Service`]; the tests of the API and of its client implement it with a
//! scripted one.

use shoal_ground::metrics::Numbers;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{ApiError, types::*};
use crate::{events::EventReader, table::operations};

/// The methods of all operations that `table.rs` defines.
macro_rules! service_methods {
    (
        plain { $(
            $(#[doc = $plain_doc:tt])*
            $plain_method:ident $plain_path:tt $plain:ident -> $plain_answer:ident, $plain_says:tt;
        )* }
        named { $(
            $(#[doc = $named_doc:tt])*
            $named_method:ident $named_path:tt $named:ident($param:tt, $param_says:tt)
                -> $named_answer:ident, $named_says:tt;
        )* }
        sent { $(
            $(#[doc = $sent_doc:tt])*
            $sent_method:ident $sent_path:tt $sent:ident($sent_request:ident)
                -> $sent_answer:ident, $sent_says:tt;
        )* }
        streamed { $(
            $(#[doc = $streamed_doc:tt])*
            $streamed_method:ident $streamed_path:tt
                $streamed:ident($streamed_request:ident, $streamed_progress:ident)
                -> $streamed_answer:ident, $streamed_says:tt;
        )* }
    ) => {
        $(
            $(#[doc = $plain_doc])*
            fn $plain(&self) -> impl Future<Output = Result<$plain_answer, ApiError>> + Send;
        )*
        $(
            $(#[doc = $named_doc])*
            fn $named(
                &self,
                target: String,
            ) -> impl Future<Output = Result<$named_answer, ApiError>> + Send;
        )*
        $(
            $(#[doc = $sent_doc])*
            fn $sent(
                &self,
                request: $sent_request,
            ) -> impl Future<Output = Result<$sent_answer, ApiError>> + Send;
        )*
        $(
            $(#[doc = $streamed_doc])*
            fn $streamed(
                &self,
                request: $streamed_request,
                progress: Progress<$streamed_progress>,
                cancel: CancellationToken,
            ) -> impl Future<Output = Result<$streamed_answer, ApiError>> + Send;
        )*
    };
}

/// The operations of a node that people and programs can ask for.
///
/// Methods with a [`CancellationToken`] run until they return: when it fires (the client went away,
/// the node shuts down) they end soon, with what they have kept on disk for the next try. The
/// others may be dropped at any await point.
pub trait Service: Send + Sync + 'static {
    operations!(service_methods);

    /// What happens from now on, or after the event with the number `after`.
    fn events(&self, after: Option<u64>) -> EventReader;

    /// All its numbers.
    fn metrics(&self) -> impl Future<Output = Result<Numbers, ApiError>> + Send;

    /// The API has ended its operations and is going to end: tells those who listen to events.
    fn stopping(&self);

    /// Dials a peer and says who it is; succeeds at once when already connected.
    fn connect(
        &self,
        request: ConnectRequest,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Connected, ApiError>> + Send;

    /// Hashes files in place and serves them; cancelled, nothing of the share remains.
    fn share(
        &self,
        request: ShareRequest,
        progress: Progress<ShareProgress>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<ShareResult, ApiError>> + Send;

    /// Stops serving a root and withdraws it; the files stay. Runs to its end.
    fn unshare(
        &self,
        request: UnshareRequest,
    ) -> impl Future<Output = Result<Unshared, ApiError>> + Send;

    /// Changes every share of a root, or the one at a path; `target` is the root, or a link to it.
    fn change_share(
        &self,
        target: String,
        change: ShareChange,
    ) -> impl Future<Output = Result<Shares, ApiError>> + Send;

    /// Sends the bytes of one file to `out`, in order and verified; lands and keeps nothing. It ends
    /// soon when nobody takes them any more.
    fn cat(
        &self,
        request: CatRequest,
        out: mpsc::Sender<Vec<u8>>,
        progress: Progress<FetchProgress>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<CatResult, ApiError>> + Send;

    /// Has a transfer rest, its progress kept; runs until it does. `target` is its number, or the
    /// beginning of its root.
    fn pause(&self, target: String) -> impl Future<Output = Result<Transfer, ApiError>> + Send;

    /// Changes what a transfer may receive, at once and for the times it goes on.
    fn change_transfer(
        &self,
        target: String,
        change: TransferChange,
    ) -> impl Future<Output = Result<Transfer, ApiError>> + Send;

    /// Has a transfer that rests go on, whether anybody waits for it or not.
    fn resume(&self, target: String) -> impl Future<Output = Result<Transfer, ApiError>> + Send;

    /// Ends a transfer and takes away what it left; answers with what it was. Runs to its end.
    fn cancel(&self, target: String) -> impl Future<Output = Result<Transfer, ApiError>> + Send;
}

/// Where an operation says how far it is; cheap, never waits, keeps only the latest.
#[derive(Clone, Debug)]
pub struct Progress<T>(watch::Sender<Option<T>>);

impl<T> Progress<T> {
    /// A sender, and the receiver that sees its latest value.
    pub fn channel() -> (Self, watch::Receiver<Option<T>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    /// Replaces what was reported before; also from blocking threads.
    pub fn report(&self, progress: T) {
        self.0.send_replace(Some(progress));
    }
}
