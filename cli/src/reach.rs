//! What commands about shares and transfers work on: the node that serves the home, or, where none does,
//! what lies in the home.
//!
//! Without a node this process opens the home by itself, for as long as the command takes: it speaks to
//! no other machine, and nobody connects to it. Another command that wants the home meanwhile waits for
//! the moment that takes.

use std::time::Duration;

use shoal_api::{
    ApiError, ErrorCode, Service as _,
    client::Client,
    types::{LinkedShare, ShareChange, Shares, Transfer, UnshareRequest, Unshared},
};
use shoal_node::{
    Node, NodeHandle,
    config::{Config, Overrides},
};
use tokio::time::{Instant, sleep};

use crate::{app::App, daemon, human, limits, session::environment};

/// A node that has just been started on this home answers in this time, or never.
const OTHERS_START_DEADLINE: Duration = Duration::from_secs(30);
const OTHERS_START_POLL: Duration = Duration::from_millis(50);

/// What a command works on.
pub(crate) enum Reach {
    /// The node that serves the home.
    Node(Client),
    /// The home alone.
    Home(NodeHandle),
    /// There is no home yet.
    Nothing,
}

impl Reach {
    /// Connects to the node of the home, or opens the home.
    ///
    /// # Errors
    /// When neither can be done; a home that is not there is none.
    pub(crate) async fn open(app: &App) -> Result<Self, ApiError> {
        let deadline = Instant::now() + OTHERS_START_DEADLINE;
        loop {
            match daemon::connect(app).await {
                Ok(client) => return Ok(Self::Node(client)),
                Err(error) if error.code == ErrorCode::NoDaemon => {}
                Err(error) => return Err(error),
            }
            if !app.home.join("db").exists() {
                return Ok(Self::Nothing);
            }
            match Self::open_home(app).await {
                Err(error)
                    if error.code == ErrorCode::AlreadyRunning && Instant::now() < deadline =>
                {
                    sleep(OTHERS_START_POLL).await;
                }
                opened => return opened,
            }
        }
    }

    async fn open_home(app: &App) -> Result<Self, ApiError> {
        limits::check_node()?;
        let config = Config::load(&app.home, environment(), Overrides::default())?;
        let node = Node::spawn_alone(config, &app.home).await?;
        Ok(Self::Home(node))
    }

    /// Whether a node serves the home.
    pub(crate) fn is_served(&self) -> bool {
        matches!(self, Self::Node(_))
    }

    /// All shares.
    pub(crate) async fn shares(&self) -> Result<Vec<LinkedShare>, ApiError> {
        let shares = match self {
            Self::Node(client) => client.shares().await,
            Self::Home(node) => node.shares().await,
            Self::Nothing => return Ok(Vec::new()),
        };
        shares.map(|it| it.shares)
    }

    /// Takes a share back.
    pub(crate) async fn unshare(&self, request: &UnshareRequest) -> Result<Unshared, ApiError> {
        match self {
            Self::Node(client) => client.unshare(request).await,
            Self::Home(node) => node.unshare(request.clone()).await,
            Self::Nothing => Err(not_shared(&match request {
                UnshareRequest::Cid(cid) => cid.clone(),
                UnshareRequest::Path(path) => human::path(path.as_path()),
            })),
        }
    }

    /// Changes the shares of a root, or the one at a path.
    pub(crate) async fn change_share(
        &self,
        cid: &str,
        change: &ShareChange,
    ) -> Result<Shares, ApiError> {
        match self {
            Self::Node(client) => client.change_share(cid, change).await,
            Self::Home(node) => node.change_share(cid.to_owned(), change.clone()).await,
            Self::Nothing => Err(not_shared(cid)),
        }
    }

    /// All transfers.
    pub(crate) async fn transfers(&self) -> Result<Vec<Transfer>, ApiError> {
        let transfers = match self {
            Self::Node(client) => client.transfers().await,
            Self::Home(node) => node.transfers().await,
            Self::Nothing => return Ok(Vec::new()),
        };
        transfers.map(|it| it.transfers)
    }

    /// Has the transfer with this number do something.
    pub(crate) async fn tell(&self, id: u64, what: Tell) -> Result<Transfer, ApiError> {
        let id = id.to_string();
        match (self, what) {
            (Self::Node(client), what) => client.tell_transfer(&id, what.word()).await,
            (Self::Home(node), Tell::Pause) => node.pause(id).await,
            (Self::Home(node), Tell::Resume) => node.resume(id).await,
            (Self::Home(node), Tell::Cancel) => node.cancel(id).await,
            (Self::Nothing, _) => {
                let message = format!("there is no transfer {id}");
                Err(ApiError::new(ErrorCode::NoTransfer, message))
            }
        }
    }

    /// Closes the home, if this process opened it.
    pub(crate) async fn close(self) {
        if let Self::Home(node) = self {
            node.shutdown().await;
            let released = tokio::task::spawn_blocking(move || node.release());
            // A panic there is in the log.
            let _ = released.await;
        }
    }
}

fn not_shared(named: &str) -> ApiError {
    ApiError::new(ErrorCode::NotShared, format!("{named} is not shared"))
        .hint("`shoal ls` lists what is shared")
}

/// What a transfer is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    Pause,
    Resume,
    Cancel,
}

impl Tell {
    /// The word for it, on the command line and in the API.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}
