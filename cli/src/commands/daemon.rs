//! `shoal daemon`: a node in the foreground, or detached from the terminal.

use serde::Serialize;
use shoal_api::{ApiError, client::Client};
#[cfg(feature = "scenarios")]
use shoal_net::emulation::{Emulation, LinksFile};
use shoal_node::config::{Config, Overrides};

use super::detach;
use crate::{
    app::App,
    args::{DaemonArgs, Global},
    host::Host,
    human,
    logging::{self, LogFile},
    session::environment,
};

/// A line of `shoal daemon --json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    /// It serves.
    Ready {
        peer_id: String,
        listen: Vec<String>,
        api: String,
        /// Something that the person is to hear once.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// It has ended in order.
    Stopped,
}

pub(crate) async fn run(app: &App, global: &Global, args: DaemonArgs) -> Result<(), ApiError> {
    if args.detach {
        return detach::run(app).await;
    }
    if args.detached {
        detach::leave_session()?;
    }
    let config = Config::load(&app.home, environment(), overrides(global, &args))?;
    let to_file = args.detached || logging::is_terminal();
    let file = to_file.then(|| LogFile::open(&app.home)).transpose();
    let file = file.map_err(|error| logging::unwritable(&LogFile::path(&app.home), &error))?;
    logging::for_daemon(global, config.log.format, file);

    let host = start(app, config, &args).await?;
    host.start_upkeep();
    if let Err(error) = announce(app, &host).await {
        host.stop().await;
        return Err(error);
    }
    tokio::select! {
        () = app.interrupt.cancelled() => tracing::info!("interrupted; stopping in order"),
        () = host.stop_requested() => {}
    }
    let node = host.stop().await;
    app.output
        .result(&Event::Stopped, |text| text.line("stopped"));
    // `shoal stop` waits for the lock that the node holds: the system takes it back when the
    // process is gone.
    std::mem::forget(node);
    Ok(())
}

/// Starts the node, in a testnet that emulates its links with those.
#[cfg(feature = "scenarios")]
async fn start(app: &App, config: Config, args: &DaemonArgs) -> Result<Host, ApiError> {
    let (Some(file), Some(node)) = (&args.links, args.links_node) else {
        return Host::start(&app.home, config, None).await;
    };
    let file =
        LinksFile::open(file).map_err(|error| ApiError::from_io(&error, error.to_string()))?;
    let emulator = file.emulator();
    let emulation = Emulation::Sockets { emulator, node };
    let host = Host::start(&app.home, config, Some(emulation)).await?;
    host.follow_links(file);
    Ok(host)
}

/// Starts the node, whose links are those of this machine.
#[cfg(not(feature = "scenarios"))]
async fn start(app: &App, config: Config, _args: &DaemonArgs) -> Result<Host, ApiError> {
    Host::start(&app.home, config, None).await
}

fn overrides(global: &Global, args: &DaemonArgs) -> Overrides {
    Overrides {
        listen: args.addresses.listen.clone(),
        external: args.addresses.external.clone(),
        bootstrap: args.bootstrap.clone(),
        no_mdns: args.no_mdns,
        limits: args.rates.into(),
        log_format: global.log_format.map(Into::into),
    }
}

/// Prints the line that says that it serves; what it says has come through the API, as for every
/// other client.
async fn announce(app: &App, host: &Host) -> Result<(), ApiError> {
    let id = Client::connect(&app.home).await?.id().await?;
    let peer_id = id.peer_id.to_string();
    let listen: Vec<_> = id.addresses.iter().map(ToString::to_string).collect();
    let text = format!("ready: {peer_id} listens on {}", listen.join(" "));
    tracing::info!(%peer_id, ?listen, home = %human::path(&id.home), "ready");
    let note = host.first_words().await?;
    if let Some(note) = &note {
        tracing::info!("{note}");
    }
    let ready = Event::Ready {
        peer_id,
        listen,
        api: host.socket().display().to_string(),
        note,
    };
    app.output.result(&ready, |lines| lines.line(text));
    // Whoever waits for this line would wait for ever.
    app.output.written()
}
