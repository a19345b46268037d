//! What a command works with that may do without a daemon: the node that serves the home, be it a
//! daemon or another command, or, for `share` and `fetch`, a node that it starts itself.
//!
//! All are driven through the same [`Client`], so that they look the same to the person. A command
//! beside another one that has started a node works through that, and opens another session when that
//! node is gone: it serves the home itself from then on, at the same ports where these are free.

use std::time::Duration;

use shoal_api::{
    ApiError, ErrorCode,
    client::Client,
    types::{NodeProcess, ProcessKind},
};
use shoal_node::config::{Config, Multiaddr};
use tokio::time::{Instant, sleep};

use crate::{app::App, args::WithoutDaemon, daemon, host::Host, human, process::named};

/// A node that another command has just started on this home opens its database in this time, or one
/// that ends gives it up.
const OTHERS_START_DEADLINE: Duration = Duration::from_secs(30);
const OTHERS_START_POLL: Duration = Duration::from_millis(50);
/// A node whose operations were ended with it does not answer any more after this.
const OTHERS_END_DEADLINE: Duration = Duration::from_secs(5);

/// What a node is for that a command starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// It serves until the person ends it.
    Serving,
    /// It ends with the fetch.
    Fetching,
}

/// A client, and what it talks to.
pub(crate) struct Session {
    pub(crate) client: Client,
    server: Server,
    /// Where the node is.
    addresses: Vec<Multiaddr>,
}

/// Who serves the home.
enum Server {
    Daemon,
    /// Another command, which may end at any time.
    Other(NodeProcess),
    /// This process.
    Here(Host),
}

impl Session {
    /// Connects to the node of the home, or, unless only a daemon may do the work, starts one at
    /// these addresses that lasts as long as the session.
    pub(crate) async fn open(
        app: &App,
        purpose: Purpose,
        without: &WithoutDaemon,
    ) -> Result<Self, ApiError> {
        Self::after(app, purpose, without, &[]).await
    }

    /// The same, once the node of another session is gone.
    pub(crate) async fn again(
        self,
        app: &App,
        purpose: Purpose,
        without: &WithoutDaemon,
    ) -> Result<Self, ApiError> {
        let next = Self::after(app, purpose, without, &self.addresses).await?;
        if next.is_foreground() {
            app.output
                .note("The other command has ended; this one serves the home now.");
        }
        Ok(next)
    }

    async fn after(
        app: &App,
        purpose: Purpose,
        without: &WithoutDaemon,
        had: &[Multiaddr],
    ) -> Result<Self, ApiError> {
        let deadline = Instant::now() + OTHERS_START_DEADLINE;
        loop {
            match Self::connect(app, without).await {
                Ok(session) => return Ok(session),
                // It ends, or has ended since it was connected to.
                Err(error) if is_of_an_end(&error) && !without.daemon_only() => {}
                Err(error) => return Err(error),
            }
            match Self::start(app, purpose, without, had).await {
                Err(error)
                    if error.code == ErrorCode::AlreadyRunning && Instant::now() < deadline =>
                {
                    sleep(OTHERS_START_POLL).await;
                }
                started => return started,
            }
        }
    }

    async fn connect(app: &App, without: &WithoutDaemon) -> Result<Self, ApiError> {
        let client = daemon::connect(app).await?;
        let id = client.id().await?;
        let server = match id.process.kind {
            ProcessKind::Daemon => Server::Daemon,
            ProcessKind::Command if without.daemon_only() => {
                let message = format!(
                    "no daemon is running on {}: {} serves it",
                    human::path(&app.home),
                    named(&id.process)
                );
                return Err(ApiError::new(ErrorCode::NoDaemon, message)
                    .hint("end that command, and start a daemon with `shoal daemon --detach`"));
            }
            ProcessKind::Command => Server::Other(id.process),
        };
        if !without.is_empty() {
            app.output.warning(
                "the node of this home does the work, where it is: --listen and --external are for \
                 a command without one",
            );
        }
        if let Server::Other(process) = &server {
            app.output.note(format_args!(
                "Served by {}: this command works through it, and takes over when it ends.",
                named(process)
            ));
        }
        Ok(Self {
            client,
            server,
            addresses: id.addresses,
        })
    }

    async fn start(
        app: &App,
        purpose: Purpose,
        without: &WithoutDaemon,
        had: &[Multiaddr],
    ) -> Result<Self, ApiError> {
        let mut config = Config::load(&app.home, environment(), without.overrides())?;
        if !without.chooses_ports() {
            config.network = config.network.for_one_command().on_ports_of(had);
        }
        let host = match purpose {
            Purpose::Serving => Host::start_for_share(&app.home, config).await?,
            Purpose::Fetching => Host::start_for_fetch(&app.home, config).await?,
        };
        let output = app.output;
        host.on_warning(move |message| output.warning_beside_progress(message));
        match Client::connect(&app.home).await {
            Ok(client) => Ok(Self {
                client,
                server: Server::Here(host),
                addresses: Vec::new(),
            }),
            Err(error) => {
                host.stop().await;
                Err(error)
            }
        }
    }

    /// Ends when somebody asks the node of this process to stop; never when another process has it.
    pub(crate) async fn stop_requested(&self) {
        match &self.server {
            Server::Here(host) => host.stop_requested().await,
            Server::Daemon | Server::Other(_) => std::future::pending().await,
        }
    }

    /// Whether the node runs in this process.
    pub(crate) fn is_foreground(&self) -> bool {
        matches!(self.server, Server::Here(_))
    }

    /// Whether a daemon does the work.
    pub(crate) fn is_daemon(&self) -> bool {
        matches!(self.server, Server::Daemon)
    }

    /// The other command that has the node.
    pub(crate) fn other(&self) -> Option<&NodeProcess> {
        match &self.server {
            Server::Other(process) => Some(process),
            Server::Daemon | Server::Here(_) => None,
        }
    }

    /// Whether an operation failed because the other command, which had the node, has ended.
    pub(crate) async fn is_lost(&self, app: &App, error: &ApiError) -> bool {
        let Some(process) = self.other().filter(|_| !app.interrupt.is_cancelled()) else {
            return false;
        };
        if is_of_an_end(error) {
            return true;
        }
        // What was ended with the node says what is said where a person ends it.
        if error.code != ErrorCode::Interrupted {
            return false;
        }
        let deadline = Instant::now() + OTHERS_END_DEADLINE;
        while Instant::now() < deadline {
            match self.client.id().await {
                Ok(id) if id.process.pid == process.pid => sleep(OTHERS_START_POLL).await,
                Ok(_) | Err(_) => return true,
            }
        }
        false
    }

    /// Ends the shares of this command, which the caller has ended, if the node runs in this process.
    pub(crate) async fn end_over(&self) {
        if let Server::Here(host) = &self.server {
            host.end_over().await;
        }
    }

    /// Stops the node if it runs in this process.
    pub(crate) async fn close(self) {
        if let Server::Here(host) = self.server {
            host.stop().await;
        }
    }
}

/// Whether a node that is asked says, or shows, that it is not there any more.
fn is_of_an_end(error: &ApiError) -> bool {
    matches!(
        error.code,
        ErrorCode::NoDaemon | ErrorCode::DaemonLost | ErrorCode::ShuttingDown
    )
}

/// The environment's variables that are text; others cannot be configuration.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}
