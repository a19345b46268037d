//! What the parts know, in the words of the API.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use libp2p::{Multiaddr, PeerId};
use shoal_api::types as api;
use shoal_ground::{said::and_more, space::Space};
use shoal_net::{PeerInfo, Reachability, Verdict, emulation::Emulation};
use shoal_protocol::{
    chunker::Chunker,
    exchange::Availability,
    link::{Link, PEERS_PRINTED_MAX},
    name::{SafeName, escaped},
    near::Nearness,
    walk::{EntryKind as TreeEntry, Tree, joined},
};
use shoal_store::{
    Recipe, SharePlace, ShareRecord, ShareState,
    replicas::Cause,
    share::{self, Shared},
};
use shoal_transfer::fetch::{
    Deadlines, Estimate, Fetched, FoundProvider, Snapshot, Streamed, TransferInfo, TransferState,
    Unkept,
};
use shoal_transfer::serve::AudienceOf;

/// Symlinks named in the warning that a file system has none.
const UNMADE_NAMED_MAX: usize = 5;

/// A share that is told of; whether its files are in doubt matters while it is listed.
pub(super) fn share_info(share: &ShareRecord, in_doubt: bool) -> api::ShareInfo {
    let created = i64::try_from(share.created_ms).unwrap_or(i64::MAX);
    api::ShareInfo {
        cid: share.root.to_string(),
        name: share.name.clone(),
        path: share.source.clone(),
        paths: match share.selection.is_empty() {
            true => Vec::new(),
            false => SharePlace::of(share).paths(),
        },
        size: share.size,
        files: share.files,
        created: Timestamp::from_millisecond(created).unwrap_or(Timestamp::MAX),
        announce: share.announce,
        replicate: share.replicate,
        state: match &share.state {
            ShareState::Changed(change) => api::ShareState::Changed {
                changed: changed(&change.path, &change.kind),
            },
            _ if in_doubt => api::ShareState::Checking,
            _ => api::ShareState::Ok,
        },
        audience: api::Audience::default(),
        until: share.terms.until.map(|copies| api::Until {
            copies: copies.get(),
            made: 0,
        }),
        expires: expires(share),
        processes: Vec::new(),
    }
}

/// When a share ends, if a time was set.
fn expires(share: &ShareRecord) -> Option<Timestamp> {
    let at_ms = i64::try_from(share.terms.expires?.at_ms).ok()?;
    Timestamp::from_millisecond(at_ms).ok()
}

/// Who has got what of a share of so many bytes.
pub(super) fn audience(of: &AudienceOf, size: u64) -> api::Audience {
    let peers = of.peers.iter().map(|peer| api::Recipient {
        peer_id: peer.peer,
        fetching: peer.fetching,
        complete: peer.complete,
        sent_bytes: peer.sent,
        percent: match (
            peer.complete,
            peer.current.saturating_mul(100).checked_div(size),
        ) {
            (true, _) => 100,
            (false, percent) => u8::try_from(percent.unwrap_or(0).min(99)).unwrap_or(99),
        },
        rate: peer.rate,
        last: i64::try_from(peer.last_ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
    });
    api::Audience {
        sent_bytes: of.sent,
        copies: of.copies,
        fetching: of.fetching,
        rate: of.rate,
        peers: peers.collect(),
    }
}

/// A share with the links to it, for a node that is at `addresses`.
pub(super) fn linked_share(
    share: &ShareRecord,
    info: api::ShareInfo,
    addresses: &[Multiaddr],
) -> api::LinkedShare {
    let link = link(share, addresses);
    api::LinkedShare {
        share: info,
        link: link.passed_on(),
        link_long: link.to_string(),
    }
}

/// The warning that belongs to a changed share, with the command that shares it again.
pub(super) fn changed_warning(share: &ShareRecord) -> Option<String> {
    let ShareState::Changed(change) = &share.state else {
        return None;
    };
    let name = escaped(&share.name);
    let what = changed(&change.path, &change.kind);
    let paths = SharePlace::of(share).paths();
    let paths = paths.iter().map(|path| {
        let path = path.display().to_string();
        format!("'{}'", path.replace('\'', r"'\''"))
    });
    let paths = paths.collect::<Vec<_>>().join(" ");
    Some(format!(
        "{name:?} is not served any more: {what}; share it again with: shoal share {paths}",
        name = name.to_string(),
    ))
}

fn changed(path: &str, kind: &dyn std::fmt::Display) -> String {
    if path.is_empty() {
        format!("it {kind}")
    } else {
        format!("{} {kind}", escaped(path))
    }
}

/// How far a share is that is being made, at `rate` bytes per second.
pub(super) fn sharing(at: &share::Progress, rate: u64) -> api::ShareProgress {
    api::ShareProgress {
        phase: match at.phase {
            _ if (at.files, at.bytes, at.totals) == (0, 0, None) => api::SharePhase::Walking,
            share::Phase::Copying => api::SharePhase::Copying,
            share::Phase::Hashing => api::SharePhase::Hashing,
            share::Phase::Committing => api::SharePhase::Committing,
        },
        files: at.files,
        files_total: at.totals.map(|totals| totals.files),
        bytes: at.bytes,
        bytes_total: at.totals.map(|totals| totals.bytes),
        rate,
    }
}

/// A share that is made and waits for somebody to be told of it.
pub(super) fn announcing(share: &ShareRecord) -> api::ShareProgress {
    api::ShareProgress {
        phase: api::SharePhase::Announcing,
        files: share.files,
        files_total: Some(share.files),
        bytes: share.size,
        bytes_total: Some(share.size),
        rate: 0,
    }
}

pub(super) fn shared(shared: &Shared, link: &Link, elapsed_ms: u64) -> api::ShareResult {
    let listed = shared.skipped.len() as u64;
    let mut warnings = Vec::new();
    if shared.skipped_total > listed {
        let more = shared.skipped_total - listed;
        warnings.push(format!("{more} more entries were left out than are listed"));
    }
    let skipped = shared.skipped.iter().map(|it| api::Skipped {
        path: it.path.clone(),
        reason: it.reason.to_string(),
    });
    api::ShareResult {
        cid: shared.record.root.to_string(),
        link: link.passed_on(),
        link_long: link.to_string(),
        name: shared.record.name.clone(),
        size: shared.record.size,
        files: shared.record.files,
        chunks: shared.record.chunks,
        elapsed_ms,
        keep: shared.record.terms.commands.is_empty(),
        expires: expires(&shared.record),
        skipped: skipped.collect(),
        warnings,
    }
}

/// The link to a share: its root, its name, and the first of the addresses that lead to this node.
pub(super) fn link(share: &ShareRecord, addresses: &[Multiaddr]) -> Link {
    Link {
        name: SafeName::parse(&share.name).ok(),
        peers: addresses
            .iter()
            .take(PEERS_PRINTED_MAX)
            .map(|address| address.to_string())
            .collect(),
        marks: share.marks(),
        ..Link::new(share.root.clone())
    }
}

pub(super) fn recipe(request: &api::ShareRequest) -> Recipe {
    Recipe {
        hash: match request.hash {
            api::Hash::Blake3 => shoal_protocol::address::HashFn::Blake3,
            api::Hash::Sha2_256 => shoal_protocol::address::HashFn::Sha2_256,
        },
        chunker: match request.chunker {
            api::Chunker::Fixed => Chunker::Fixed,
            api::Chunker::Cdc => Chunker::Cdc,
        },
        preserve_mode: request.preserve.mode,
        preserve_mtime: request.preserve.mtime,
        exclude: request.exclude.clone(),
    }
}

pub(super) fn fetched(fetched: &Fetched) -> api::FetchResult {
    let outside = &fetched.skipped;
    let skipped = outside.listed.iter().map(|path| {
        let path = escaped(&path.to_string_lossy()).to_string();
        format!("the link {path} leads outside of what was fetched and was not made")
    });
    let more = outside.total.saturating_sub(outside.listed.len() as u64);
    let more = (more > 0).then(|| format!("{more} more links lead outside and were not made"));
    let renamed = &fetched.renamed;
    let unlisted = renamed.total.saturating_sub(renamed.listed.len() as u64);
    let unlisted = (unlisted > 0).then(|| format!("{unlisted} more entries were renamed"));
    api::FetchResult {
        cid: fetched.cid.to_string(),
        path: fetched.path.clone(),
        size: fetched.size,
        files: fetched.files,
        elapsed_ms: millis(fetched.elapsed),
        downloaded_bytes: fetched.downloaded_bytes,
        resumed_bytes: fetched.resumed_bytes,
        local_bytes: fetched.local_bytes,
        skipped: fetched.left_out + outside.total + fetched.unmade.total,
        unkept: api::Unkept {
            symlinks: fetched.unmade.total,
            modes: fetched.unkept.modes,
            times: fetched.unkept.times,
        },
        renamed: renamed.listed.iter().map(new_name).collect(),
        from: sources(&fetched.from),
        warnings: skipped
            .chain(more)
            .chain(unlisted)
            .chain(unkept(fetched))
            .collect(),
    }
}

/// One sentence for each kind of thing that the file system did not keep.
fn unkept(fetched: &Fetched) -> impl Iterator<Item = String> {
    let Unkept { modes, times } = fetched.unkept;
    let unmade = &fetched.unmade;
    let named = unmade.listed.iter().take(UNMADE_NAMED_MAX);
    let named: Vec<_> = named
        .map(|path| escaped(&path.to_string_lossy()).to_string())
        .collect();
    let more = and_more(unmade.total, named.len());
    let links = format!(
        "the file system there has no symbolic links; not made: {}{more}",
        named.join(", ")
    );
    let modes_said =
        format!("the file system there does not keep the permissions of {modes} files and folders");
    let times_said = format!(
        "the file system there does not keep the exact times of {times} files, folders and links"
    );
    let said = [
        (unmade.total, links),
        (modes, modes_said),
        (times, times_said),
    ];
    said.into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(_, said)| said)
}

fn new_name((from, to): &(String, String)) -> api::Renamed {
    api::Renamed {
        from: from.clone(),
        to: to.clone(),
    }
}

pub(super) fn streamed(streamed: &Streamed) -> api::CatResult {
    api::CatResult {
        cid: streamed.cid.to_string(),
        size: streamed.size,
        elapsed_ms: millis(streamed.elapsed),
        downloaded_bytes: streamed.downloaded_bytes,
        local_bytes: streamed.local_bytes,
        from: sources(&streamed.from),
    }
}

/// Who sent how much, the most first.
fn sources(from: &[(PeerId, u64)]) -> Vec<api::Source> {
    let sources = from
        .iter()
        .map(|&(peer, bytes)| api::Source { peer, bytes });
    let mut sources: Vec<_> = sources.collect();
    sources.sort_by_key(|source| std::cmp::Reverse(source.bytes));
    sources
}

pub(super) fn transfer(info: &TransferInfo) -> api::Transfer {
    let name = info.path.file_name();
    let created = i64::try_from(info.created_ms).unwrap_or(i64::MAX);
    api::Transfer {
        id: info.id,
        cid: info.root.to_string(),
        name: name.map_or_else(String::new, |it| it.to_string_lossy().into()),
        path: info.path.clone(),
        created: Timestamp::from_millisecond(created).unwrap_or(Timestamp::MAX),
        state: match &info.state {
            TransferState::Queued => api::TransferState::Queued,
            TransferState::Running => api::TransferState::Running,
            TransferState::Done => api::TransferState::Done,
            TransferState::Paused(why) => api::TransferState::Paused {
                reason: why.to_string(),
            },
            TransferState::Failed(reason) => api::TransferState::Failed {
                reason: reason.clone(),
            },
        },
        progress: progress(&info.progress, info.estimate),
        limit: info.limit,
        waits_for: info.waits_for.clone(),
        on_done: None,
    }
}

pub(super) fn progress(at: &Snapshot, estimate: Estimate) -> api::FetchProgress {
    api::FetchProgress {
        phase: match at.phase {
            shoal_transfer::fetch::Phase::Finding => api::FetchPhase::Finding,
            shoal_transfer::fetch::Phase::Listing => api::FetchPhase::Listing,
            shoal_transfer::fetch::Phase::Fetching => api::FetchPhase::Fetching,
            shoal_transfer::fetch::Phase::Landing => api::FetchPhase::Landing,
        },
        bytes: at.bytes(),
        verified_bytes: at.verified(),
        bytes_total: at.bytes_total,
        files: at.files,
        files_total: at.is_tree_known().then_some(at.files_total),
        rate: estimate.rate,
        eta_ms: estimate.eta.map(millis),
        sources: at.sources,
        asked: at.asked,
        waiting_ms: at.waits.map(millis),
    }
}

/// How long a fetch does without bytes, as it was asked for.
pub(super) fn deadlines(timeout_ms: u64, patience_ms: u64) -> Deadlines {
    Deadlines {
        timeout: Duration::from_millis(timeout_ms),
        patience: Duration::from_millis(patience_ms),
    }
}

/// A provider that was found; `near` is how near it is, where that was measured.
pub(super) fn found(provider: &FoundProvider, near: Option<Nearness>) -> api::Provider {
    let (complete, ranges) = match &provider.answer {
        Ok(Availability::Complete) => (Some(true), Vec::new()),
        Ok(Availability::Held { ranges }) if ranges.is_all() => (Some(true), Vec::new()),
        Ok(Availability::Partial { ranges, .. } | Availability::Held { ranges }) => (
            Some(false),
            ranges.iter().map(|it| (it.start, it.end)).collect(),
        ),
        Ok(_) => (Some(false), Vec::new()),
        Err(_) => (None, Vec::new()),
    };
    api::Provider {
        peer: provider.peer,
        addresses: provider.addresses.clone(),
        complete,
        ranges,
        rtt_ms: provider.rtt.map(millis),
        nearness: near.map(nearness),
    }
}

pub(super) fn listing(
    link: &Link,
    root: &shoal_protocol::address::Cid,
    tree: &Tree,
) -> api::Listing {
    let bare = (!matches!(tree.root, TreeEntry::Dir { .. })).then(|| entry("", &tree.root));
    let below = (0..)
        .zip(&tree.entries)
        .map(|(index, it)| entry(&joined(&tree.path(index)), &it.kind));
    api::Listing {
        cid: root.to_string(),
        name: link.name.as_ref().map(|name| name.as_str().to_owned()),
        size: tree.bytes_if_known(),
        files: tree.files() as u64,
        entries: bare.into_iter().chain(below).collect(),
    }
}

fn entry(path: &str, kind: &TreeEntry) -> api::ListEntry {
    let (size, cid, kind) = match kind {
        TreeEntry::Dir { .. } => (None, None, api::EntryKind::Dir),
        TreeEntry::File { cid, size, .. } => (*size, Some(cid.to_string()), api::EntryKind::File),
        TreeEntry::Symlink { target, .. } => (
            None,
            None,
            api::EntryKind::Symlink {
                target: target.clone(),
            },
        ),
    };
    api::ListEntry {
        path: path.to_owned(),
        size,
        cid,
        kind,
    }
}

pub(super) fn peer(info: PeerInfo) -> api::Peer {
    let connected = SystemTime::now()
        .duration_since(info.connected_since)
        .unwrap_or_default();
    api::Peer {
        peer_id: info.peer_id,
        addresses: info.addresses,
        agent: info.agent,
        rtt_ms: info.rtt.map(millis),
        nearness: info.nearness.map(nearness),
        direction: match info.direction {
            shoal_net::Direction::Inbound => api::Direction::Inbound,
            shoal_net::Direction::Outbound => api::Direction::Outbound,
        },
        connected_ms: millis(connected),
    }
}

fn nearness(nearness: Nearness) -> api::Nearness {
    match nearness {
        Nearness::Lan => api::Nearness::Lan,
        Nearness::Near => api::Nearness::Near,
        Nearness::Far => api::Nearness::Far,
    }
}

/// Space on the disk that a path is on; zero when the system does not tell. Blocking.
pub(super) fn disk(path: &Path) -> api::Disk {
    let Space { free, total } = Space::at(path).ok().flatten().unwrap_or_default();
    api::Disk { free, total }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Who can connect to this node.
pub(super) fn reachability(judged: Reachability) -> api::Reachability {
    api::Reachability {
        verdict: match judged.verdict {
            Verdict::Public => api::Verdict::Public,
            Verdict::Punchable => api::Verdict::Punchable,
            Verdict::Hard => api::Verdict::Hard,
            Verdict::LanOnly => api::Verdict::LanOnly,
            Verdict::NobodyToAsk => api::Verdict::NobodyToAsk,
        },
        sure: judged.is_sure,
        reason: judged.reason,
        seen: judged.seen,
    }
}

/// The line of this node, as the plan in force has it.
#[cfg(feature = "emulation")]
pub(super) fn emulated_line(emulation: &Emulation) -> api::EmulatedLine {
    let (plan, node) = (emulation.emulator().plan(), emulation.node());
    let line = plan.line(node);
    api::EmulatedLine {
        version: plan.version,
        node: node as u64,
        up: line.up,
        down: line.down,
        latency_ms: line.latency.as_secs_f64() * 1e3,
    }
}

/// No node is emulated in this build.
#[cfg(not(feature = "emulation"))]
pub(super) fn emulated_line(emulation: &Emulation) -> api::EmulatedLine {
    match *emulation {}
}

/// Which kind of neighbour caused a copy.
pub(super) fn replica_cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Lan => "lan",
        Cause::Near => "near",
        Cause::Offer => "offer",
    }
}
