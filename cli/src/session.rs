//! Whom a command talks to: the daemon of its home, or, for `share` and `fetch`, a node that it
//! starts itself.
//!
//! Both are driven through the same [`Client`], so that the two look the same to the person.

use std::time::Duration;

use shoal_api::{ApiError, ErrorCode, client::Client};
use shoal_node::config::Config;
use tokio::time::{Instant, sleep};

use crate::{app::App, args::WithoutDaemon, daemon, host::Host};

/// A node that another command has just started on this home opens its database in this time, or
/// never.
const OTHERS_START_DEADLINE: Duration = Duration::from_secs(10);
const OTHERS_START_POLL: Duration = Duration::from_millis(50);

/// What a node is for that a command starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// It serves until the person ends it.
    Serving,
    /// It ends with the fetch.
    Fetching,
}

/// A client, and the node behind it if it runs in this process.
pub(crate) struct Session {
    pub(crate) client: Client,
    host: Option<Host>,
}

impl Session {
    /// Connects to the daemon of the home, or, unless only a daemon may do the work, starts a node at
    /// these addresses that lasts as long as the session.
    pub(crate) async fn open(
        app: &App,
        purpose: Purpose,
        without: &WithoutDaemon,
    ) -> Result<Self, ApiError> {
        let deadline = Instant::now() + OTHERS_START_DEADLINE;
        loop {
            match daemon::connect(app).await {
                Ok(client) => {
                    if !without.is_empty() {
                        app.output.warning(
                            "the daemon of this home does the work, where it is: --listen and \
                             --external are for a command without one",
                        );
                    }
                    return Ok(Self { client, host: None });
                }
                Err(error) if error.code == ErrorCode::NoDaemon && !without.daemon_only() => {}
                Err(error) => return Err(error),
            }
            match Self::start(app, purpose, without).await {
                Err(error)
                    if error.code == ErrorCode::AlreadyRunning && Instant::now() < deadline =>
                {
                    sleep(OTHERS_START_POLL).await;
                }
                started => return started,
            }
        }
    }

    async fn start(app: &App, purpose: Purpose, without: &WithoutDaemon) -> Result<Self, ApiError> {
        let mut config = Config::load(&app.home, environment(), without.overrides())?;
        if !without.chooses_ports() {
            config.network = config.network.for_one_command();
        }
        let host = match purpose {
            Purpose::Serving => Host::start(&app.home, config, None).await?,
            Purpose::Fetching => Host::start_for_fetch(&app.home, config).await?,
        };
        match Client::connect(&app.home).await {
            Ok(client) => Ok(Self {
                client,
                host: Some(host),
            }),
            Err(error) => {
                host.stop().await;
                Err(error)
            }
        }
    }

    /// Serves until Ctrl-C or a request to stop; ends at once when a daemon does the serving.
    pub(crate) async fn serve(&self, app: &App) {
        if let Some(host) = &self.host {
            tokio::select! {
                () = app.interrupt.cancelled() => {}
                () = host.stop_requested() => {}
            }
        }
    }

    /// Whether the node runs in this process.
    pub(crate) fn is_foreground(&self) -> bool {
        self.host.is_some()
    }

    /// Stops the node if it runs in this process.
    pub(crate) async fn close(self) {
        if let Some(host) = self.host {
            host.stop().await;
        }
    }
}

/// The environment's variables that are text; others cannot be configuration.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}
