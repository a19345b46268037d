//! `shoal peers`, `shoal connect` and `shoal id`: who is connected, and who this node is.

use shoal_api::{
    ApiError,
    types::{ConnectRequest, Direction, Peer},
};

use super::interruptible;
use crate::{app::App, args::ConnectArgs, daemon, human, output::Text};

pub(crate) async fn list(app: &App) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    let peers = interruptible(app, client.peers()).await?;
    app.output.result(&peers, |text| {
        for peer in &peers.peers {
            lines(text, peer);
        }
    });
    if peers.peers.is_empty() {
        app.output
            .note("No peers yet: `shoal connect MULTIADDR` connects to one.");
    } else {
        app.output
            .note(human::count(peers.peers.len() as u64, "peer"));
    }
    Ok(())
}

pub(crate) async fn connect(app: &App, args: ConnectArgs) -> Result<(), ApiError> {
    let request = ConnectRequest {
        address: args.address,
    };
    let client = daemon::connect(app).await?;
    let connected = interruptible(app, client.connect_to(&request)).await?;
    app.output.result(&connected, |text| {
        text.line(format_args!("connected to {}", connected.peer_id));
    });
    Ok(())
}

pub(crate) async fn id(app: &App) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    let id = interruptible(app, client.id()).await?;
    app.output.result(&id, |text| {
        text.line(text.bold(id.peer_id));
        for address in &id.addresses {
            text.line(address);
        }
    });
    Ok(())
}

fn lines(text: &mut Text, peer: &Peer) {
    text.line(text.bold(peer.peer_id));
    let dialled = match peer.direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    };
    let since = human::duration(peer.connected_ms);
    let agent = peer
        .agent
        .as_deref()
        .map_or(String::new(), |a| format!(", {}", human::escape(a)));
    let far = human::distance(peer.rtt_ms, peer.nearness);
    text.line(format_args!("  {dialled} for {since}{far}{agent}"));
    for address in &peer.addresses {
        text.line(format_args!("  {}", text.dim(address)));
    }
}
