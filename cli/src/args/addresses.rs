//! The flags of where a node is.

use clap::Args;
use shoal_node::config::{Multiaddr, Overrides};

/// Where a daemon is.
#[derive(Debug, Args)]
pub(crate) struct DaemonAddresses {
    /// Listen here instead of where the configuration says; port 0 is any free one
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) listen: Vec<Multiaddr>,
    /// Tell others this address first, like that of a router that forwards the port; may be given
    /// several times
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) external: Vec<Multiaddr>,
}

/// How a command works without a daemon: whether at all, and where its node is then.
#[derive(Debug, Default, Args)]
pub(crate) struct WithoutDaemon {
    /// Fail if no daemon runs, instead of doing the work without one
    #[arg(long, conflicts_with_all = ["listen", "external"])]
    daemon_only: bool,
    /// Without a daemon, listen here instead of where the configuration says [default: free ports]
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<Multiaddr>,
    /// Without a daemon, tell others this address first, like that of a router that forwards the
    /// port; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    external: Vec<Multiaddr>,
}

impl WithoutDaemon {
    /// Only a daemon may do the work.
    pub(crate) fn never() -> Self {
        Self {
            daemon_only: true,
            ..Self::default()
        }
    }

    /// Whether only a daemon may do the work.
    pub(crate) fn daemon_only(&self) -> bool {
        self.daemon_only
    }

    /// Whether nobody said where.
    pub(crate) fn is_empty(&self) -> bool {
        self.listen.is_empty() && self.external.is_empty()
    }

    /// Whether somebody said where to listen.
    pub(crate) fn chooses_ports(&self) -> bool {
        !self.listen.is_empty()
    }

    /// As a layer of the configuration.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen.clone(),
            external: self.external.clone(),
            ..Overrides::default()
        }
    }
}
