//! What the API needs from a node: the seam between HTTP and everything behind it.
//!
//! The node implements [`Service`]; the tests of the API and of its client implement it with a
//! scripted one.

use shoal_ground::metrics::Numbers;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    ApiError,
    types::{
        CatRequest, CatResult, Collected, ConnectRequest, Connected, FetchProgress, FetchRequest,
        FetchResult, FetchUpdate, FindProgress, FindRequest, Found, GcProgress, GcRequest,
        Identity, Limits, LimitsChange, ListProgress, ListRequest, Listing, Peers, ShareProgress,
        ShareRequest, ShareResult, Shares, Status, Transfer, TransferChange, Transfers,
        UnshareRequest, Unshared, Verified, VerifyProgress, VerifyRequest,
    },
};
use crate::events::EventReader;

/// The operations of a node that people and programs can ask for.
///
/// Methods with a [`CancellationToken`] run until they return: when it fires (the client went away,
/// the node shuts down) they end soon, with what they have kept on disk for the next try. The
/// others may be dropped at any await point.
pub trait Service: Send + Sync + 'static {
    /// Who this node is.
    fn id(&self) -> impl Future<Output = Result<Identity, ApiError>> + Send;

    /// How it is doing.
    fn status(&self) -> impl Future<Output = Result<Status, ApiError>> + Send;

    /// What happens from now on, or after the event with the number `after`.
    fn events(&self, after: Option<u64>) -> EventReader;

    /// All its numbers.
    fn metrics(&self) -> impl Future<Output = Result<Numbers, ApiError>> + Send;

    /// The API has ended its operations and is going to end: tells those who listen to events.
    fn stopping(&self);

    /// Whom it is connected to.
    fn peers(&self) -> impl Future<Output = Result<Peers, ApiError>> + Send;

    /// What it offers.
    fn shares(&self) -> impl Future<Output = Result<Shares, ApiError>> + Send;

    /// The budgets and their use.
    fn limits(&self) -> impl Future<Output = Result<Limits, ApiError>> + Send;

    /// Changes the budgets, now and for later runs; says what holds then.
    fn change_limits(
        &self,
        change: LimitsChange,
    ) -> impl Future<Output = Result<Limits, ApiError>> + Send;

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

    /// Fetches, verifies and lands; cancelled, it is paused and the same request resumes it.
    fn fetch(
        &self,
        request: FetchRequest,
        progress: Progress<FetchUpdate>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<FetchResult, ApiError>> + Send;

    /// Sends the bytes of one file to `out`, in order and verified; lands and keeps nothing. It ends
    /// soon when nobody takes them any more.
    fn cat(
        &self,
        request: CatRequest,
        out: mpsc::Sender<Vec<u8>>,
        progress: Progress<FetchProgress>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<CatResult, ApiError>> + Send;

    /// The fetches that are not over, and the last of those that are.
    fn transfers(&self) -> impl Future<Output = Result<Transfers, ApiError>> + Send;

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

    /// Reads the tree behind a link, without the bytes of its files.
    fn list(
        &self,
        request: ListRequest,
        progress: Progress<ListProgress>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Listing, ApiError>> + Send;

    /// Looks for providers of a root; [`super::ErrorCode::NotFound`] when there is none.
    fn find(
        &self,
        request: FindRequest,
        progress: Progress<FindProgress>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Found, ApiError>> + Send;

    /// Reads and hashes what is shared; cancelled, what was found until then counts.
    fn verify(
        &self,
        request: VerifyRequest,
        progress: Progress<VerifyProgress>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Verified, ApiError>> + Send;

    /// Takes out what nothing needs; cancelled, what was taken out until then stays out.
    fn gc(
        &self,
        request: GcRequest,
        progress: Progress<GcProgress>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Collected, ApiError>> + Send;
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
