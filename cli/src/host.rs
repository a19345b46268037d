//! A node and its API in this process: what the daemon is, and what `share` and `fetch` start when
//! there is none.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use shoal_api::{ApiError, Service as _, events::Event, types::ProcessKind};
use shoal_net::emulation::Emulation;
#[cfg(feature = "scenarios")]
use shoal_net::emulation::LinksFile;
use shoal_node::{Node, NodeHandle, config::Config};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{limits, process::own_process};

/// What giving up the home may take, where a disk hangs: one flush of the database.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);

/// A node that serves, and whose API answers.
pub(crate) struct Host {
    node: NodeHandle,
    server: JoinHandle<()>,
    shutdown: CancellationToken,
    socket: PathBuf,
}

impl Host {
    /// Starts on a home that no other node uses; in a testnet its links may be emulated.
    ///
    /// # Errors
    /// [`shoal_api::ErrorCode::AlreadyRunning`] when one does, [`shoal_api::ErrorCode::SystemLimit`]
    /// when the system gives too little, and whatever else keeps the node from starting.
    pub(crate) async fn start(
        home: &Path,
        config: Config,
        emulation: Option<Emulation>,
    ) -> Result<Self, ApiError> {
        limits::check_node()?;
        let node = Node::spawn_emulated(config, home, emulation).await?;
        Self::with(node, ProcessKind::Daemon).await
    }

    /// The same, for a node that ends with the command that shares.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub(crate) async fn start_for_share(home: &Path, config: Config) -> Result<Self, ApiError> {
        limits::check_node()?;
        Self::with(Node::spawn(config, home).await?, ProcessKind::Command).await
    }

    /// The same, for a node that ends with the fetch that it is started for.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub(crate) async fn start_for_fetch(home: &Path, config: Config) -> Result<Self, ApiError> {
        limits::check_node()?;
        let node = Node::spawn_for_fetch(config, home).await?;
        Self::with(node, ProcessKind::Command).await
    }

    async fn with(node: NodeHandle, kind: ProcessKind) -> Result<Self, ApiError> {
        node.runs_in(own_process(kind));
        let listener = match shoal_api::bind(node.home_lock()) {
            Ok(listener) => listener,
            Err(error) => {
                node.shutdown().await;
                return Err(error.into());
            }
        };
        let socket = listener.path().to_owned();
        let shutdown = node.stopping_token();
        let server = node.serve_api(listener);
        Ok(Self {
            node,
            server,
            shutdown,
            socket,
        })
    }

    /// Does what only a daemon lasts long enough for: goes on with what an earlier one on this home
    /// did not finish, re-hashes what is shared, and runs the program for what is done.
    pub(crate) fn start_upkeep(&self) {
        self.node.resume_transfers();
        self.node.start_scrub();
        self.node.start_check();
        self.node.start_on_done();
    }

    /// Ends the shares that were to end with this command, which the caller has ended.
    pub(crate) async fn end_over(&self) {
        self.node.end_over().await;
    }

    /// What the person is to hear at the first start of a daemon on this home.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn first_words(&self) -> Result<Option<String>, ApiError> {
        self.node.first_words().await
    }

    /// Has the node follow the file that says what its links are like.
    #[cfg(feature = "scenarios")]
    pub(crate) fn follow_links(&self, file: LinksFile) {
        self.node.follow_links(file);
    }

    /// Has `tell` hear what a person should look after, until the node ends.
    pub(crate) fn on_warning(&self, tell: impl Fn(&str) + Send + 'static) {
        let (mut events, ended) = (self.node.events(None), self.node.shutdown_token());
        tokio::spawn(async move {
            while let Some(next) = ended.run_until_cancelled(events.next()).await {
                if let Event::Warning { message } = &next.event {
                    tell(message);
                }
            }
        });
    }

    /// Where its API is.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends when somebody asked it to stop by the API, or when a part of it has ended by itself.
    pub(crate) async fn stop_requested(&self) {
        let node = self.node.shutdown_token();
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = node.cancelled() => {}
        }
    }

    /// Stops in order: requests, API, node. The home stays locked as long as what is returned
    /// lives.
    pub(crate) async fn stop(self) -> NodeHandle {
        self.shutdown.cancel();
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the API ended badly");
        }
        self.node.shutdown().await;
        let node = self.node.clone();
        let releasing = tokio::task::spawn_blocking(move || node.release());
        if tokio::time::timeout(RELEASE_DEADLINE, releasing)
            .await
            .is_err()
        {
            tracing::warn!("the home's own disk does not answer; its lock goes with the process");
        }
        self.node
    }
}
