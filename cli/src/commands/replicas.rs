//! `shoal replicas`: what the daemon keeps for others, and whether it does.

use std::collections::BTreeMap;

use shoal_api::{
    ApiError,
    types::{AskedBy, Replica, ReplicaDrop, ReplicaStats, ReplicaSwitch, ReplicasPaused},
};

use super::interruptible;
use crate::{
    app::App,
    args::{ReplicasCommand, ReplicasDropArgs},
    daemon, human,
    output::Text,
};

/// Digits of a key that a line shows: two of 65,000 roots have them in common once in 8 billion homes.
const KEY_DIGITS: usize = 16;

pub(crate) async fn run(app: &App, command: ReplicasCommand) -> Result<(), ApiError> {
    match command {
        ReplicasCommand::Ls => list(app).await,
        ReplicasCommand::Stats => stats(app).await,
        ReplicasCommand::Drop(args) => drop_some(app, args).await,
        ReplicasCommand::On => switch(app, true).await,
        ReplicasCommand::Off => switch(app, false).await,
    }
}

async fn list(app: &App) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    let listed = interruptible(app, client.replicas()).await?;
    if listed.replicas.is_empty() {
        app.output.note("This node keeps nothing for others.");
    }
    app.output.result(&listed, |text| {
        for replica in &listed.replicas {
            lines(text, replica);
        }
    });
    Ok(())
}

async fn stats(app: &App) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    let stats = interruptible(app, client.replica_stats()).await?;
    app.output.result(&stats, |text| stats_lines(text, &stats));
    Ok(())
}

async fn drop_some(app: &App, args: ReplicasDropArgs) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    let request = ReplicaDrop { key: args.key };
    let dropped = interruptible(app, client.drop_replicas(&request)).await?;
    app.output.result(&dropped, |text| {
        let roots = human::count(dropped.roots, "root");
        let freed = human::size(dropped.freed_bytes);
        text.line(format_args!(
            "deleted the copies of {roots}; {freed} are free again"
        ));
    });
    Ok(())
}

async fn switch(app: &App, on: bool) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    let stats = interruptible(app, client.switch_replicas(&ReplicaSwitch { on })).await?;
    if on && !stats.on {
        app.output.warning(
            "this node keeps no copies while `replicas.quota` is off: `shoal config unset \
             replicas.quota`, and restart the daemon",
        );
    }
    app.output.result(&stats, |text| stats_lines(text, &stats));
    Ok(())
}

/// Two lines that read well at any width.
fn lines(text: &mut Text, replica: &Replica) {
    let key = replica.key.get(..KEY_DIGITS).unwrap_or(&replica.key);
    let key = text.bold(human::escape(key));
    let size = human::amounts(replica.bytes, replica.size);
    text.line(format_args!("{key}  {size}"));
    let reads = human::count(replica.reads, "read");
    let (since, asked_by) = (replica.since.strftime("%F %R"), asked_by(replica.asked_by));
    text.line(format_args!(
        "  {}",
        text.dim(format_args!("since {since}, {reads}, {asked_by}"))
    ));
}

fn asked_by(cause: AskedBy) -> &'static str {
    match cause {
        AskedBy::Lan => "asked for on the local network",
        AskedBy::Near => "asked for nearby",
        AskedBy::Offer => "offered by a peer that has it",
    }
}

fn stats_lines(text: &mut Text, stats: &ReplicaStats) {
    let state = match stats.on {
        true => "on: this node keeps copies for peers nearby",
        false => "off: this node keeps nothing for others",
    };
    text.line(format_args!("replicas   {state}"));
    if let Some(reason) = stats.paused {
        text.line(format_args!("paused     {}", paused(reason)));
    }
    let (used, roots) = (
        human::amounts(stats.bytes, stats.quota),
        human::count(stats.roots, "root"),
    );
    text.line(format_args!("kept       {used}, {roots}"));
    let (free, floor) = (human::size(stats.disk_free), human::size(stats.floor));
    text.line(format_args!(
        "disk       {free} free, of which {floor} stay free"
    ));
    let (bytes_in, bytes_out) = (human::size(stats.bytes_in), human::size(stats.bytes_out));
    text.line(format_args!(
        "since the start: received {bytes_in}, sent {bytes_out} to others"
    ));
    let (asks, for_asks) = (human::count(stats.asks, "ask"), stats.pulls_for_asks);
    let for_offers = stats.pulls_for_offers;
    text.line(format_args!(
        "  {asks}; fetched {for_asks} roots after these, {for_offers} after offers"
    ));
    reasons(text, "declined", &stats.declined);
    reasons(text, "runs deleted", &stats.gone);
}

fn paused(reason: ReplicasPaused) -> &'static str {
    match reason {
        ReplicasPaused::Battery => "this computer runs on its battery",
        ReplicasPaused::Metered => "the system says that this connection is metered",
        ReplicasPaused::Month => "today's part of `limits.monthly` is used up",
        ReplicasPaused::Warmup => "the node started less than `replicas.warmup` ago",
    }
}

fn reasons(text: &mut Text, what: &str, counts: &BTreeMap<String, u64>) {
    if counts.is_empty() {
        return;
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {}", human::escape(reason)))
        .collect();
    text.line(format_args!("  {what}: {}", counts.join(", ")));
}
