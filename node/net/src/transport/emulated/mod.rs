//! Transports whose links are emulated, for test networks.
//!
//! The layers above are those of every node: TLS, yamux and QUIC run over what is in here. TCP is
//! shaped below security ([`tcp`]), QUIC by a relay for each connection ([`relay`]), and where
//! there are no sockets a switch is the network ([`memory`]).

pub(super) mod memory;
pub(super) mod relay;
pub(super) mod tcp;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the tasks run that carry bytes between a link and a socket.
#[derive(Clone)]
pub(crate) struct Carriers {
    /// Those that run.
    pub(in crate::transport) tasks: TaskTracker,
    /// Ends all of them at once; what is under way then is lost, as when a machine is switched off.
    pub(in crate::transport) end: CancellationToken,
}

impl Carriers {
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move {
            end.run_until_cancelled_owned(work).await;
        });
    }
}
