//! `shoal status`: how the daemon is doing, and what needs a look.

use std::time::Duration;

use jiff::Timestamp;
use shoal_api::{
    ApiError,
    client::Client,
    types::{Nearness, Scope, Scrub, ScrubState, Status},
};

use super::{interruptible, ls::share_lines, show_warnings, transfers::transfer_lines};
use crate::{app::App, args::StatusArgs, daemon, human, output::Text};

/// Warnings that are shown with each look; `shoal status` shows more.
const WARNINGS_WATCHED_MAX: usize = 5;

/// Between two looks of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn run(app: &App, args: &StatusArgs) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    if args.watch {
        return watch(app, &client).await;
    }
    let status = interruptible(app, client.status()).await?;
    app.output.result(&status, |text| lines(text, &status));
    show_warnings(&app.output, status.warnings.iter().cloned());
    Ok(())
}

/// Shows it again and again, until Ctrl-C or until nobody reads it any more; on a terminal in place of
/// what was there, as much as fits.
async fn watch(app: &App, client: &Client) -> Result<(), ApiError> {
    let output = &app.output;
    let _screen = output.screen();
    while !app.interrupt.is_cancelled() && !output.is_closed() {
        let status = tokio::select! {
            biased;
            () = app.interrupt.cancelled() => return Ok(()),
            status = client.status() => status?,
        };
        output.frame(&status, |text| {
            text.line(text.dim("every second, until Ctrl-C"));
            lines(text, &status);
            for warning in status.warnings.iter().take(WARNINGS_WATCHED_MAX) {
                let warning = human::escape_message(warning);
                text.line(text.alert(format_args!("warning: {warning}")));
            }
        });
        tokio::select! {
            () = app.interrupt.cancelled() => {}
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
    }
    Ok(())
}

fn lines(text: &mut Text, status: &Status) {
    text.line(text.bold(status.peer_id));
    let scope = match status.scope {
        Scope::Loopback => "this machine",
        Scope::Lan => "the local network",
        Scope::Public => "everywhere",
    };
    let up = human::duration(status.uptime_ms);
    text.line(format_args!(
        "network    {}, reachable from {scope}, up {up}",
        status.network
    ));
    for address in &status.addresses {
        text.line(format_args!("address    {address}"));
    }
    text.line(format_args!("peers      {}", peers(status)));
    text.line(format_args!(
        "sent       {} ({}/s)",
        human::size(status.uploaded_bytes),
        human::size(status.rates.up)
    ));
    text.line(format_args!(
        "received   {} ({}/s)",
        human::size(status.downloaded_bytes),
        human::size(status.rates.down)
    ));
    let replicas = match status.replicas.quota {
        0 => "none".to_owned(),
        quota => human::amounts(status.replicas.bytes, quota),
    };
    text.line(format_args!("replicas   {replicas}"));
    text.line(format_args!(
        "disk       {} free of {}",
        human::size(status.disk.free),
        human::size(status.disk.total)
    ));
    text.line(format_args!("scrub      {}", scrub(&status.scrub)));
    if let Some(line) = &status.emulation {
        text.line(format_args!(
            "links      emulated: {} up, {} down, {} ms",
            line.up, line.down, line.latency_ms
        ));
    }
    text.line(format_args!("transfers  {}", status.transfers.len()));
    for transfer in &status.transfers {
        transfer_lines(text, transfer);
    }
    text.line(format_args!("shares     {}", status.shares.len()));
    for share in &status.shares {
        share_lines(text, share, "  ");
    }
}

/// How many peers there are, and how many of them are near.
fn peers(status: &Status) -> String {
    let count = |is: fn(Nearness) -> bool| {
        let peers = status.peers.iter();
        peers.filter(|peer| peer.nearness.is_some_and(is)).count()
    };
    let near = count(|it| matches!(it, Nearness::Near | Nearness::Lan));
    match (near, count(|it| it == Nearness::Lan)) {
        (0, _) => status.peers.len().to_string(),
        (near, 0) => format!("{}, {near} near", status.peers.len()),
        (near, lan) => {
            let all = status.peers.len();
            format!("{all}, {near} near, {lan} on the local network")
        }
    }
}

/// What the scrub does, and what it has found.
fn scrub(scrub: &Scrub) -> String {
    let now = match scrub.state {
        ScrubState::Off => "off".to_owned(),
        ScrubState::Running => format!(
            "read {} of {} so far",
            human::size(scrub.checked_bytes),
            human::size(scrub.total_bytes)
        ),
        ScrubState::Waiting => match scrub.next {
            Some(next) if next > Timestamp::now() => {
                format!("waits until {}", next.strftime("%Y-%m-%d %H:%M UTC"))
            }
            Some(_) => "begins soon".to_owned(),
            None => "has not begun yet".to_owned(),
        },
    };
    match scrub.damaged.len() {
        0 => now,
        damaged => format!("{now}, damage found: {damaged}"),
    }
}
