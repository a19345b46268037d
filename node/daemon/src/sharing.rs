//! What people can ask of a node about its shares.

use std::{
    cell::Cell,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use shoal_api::{ApiError, CommandId, ErrorCode, Progress, types as api};
use shoal_ground::{meter::Meter, wall_clock};
use shoal_net::NetEvent;
use shoal_protocol::{
    address::Cid,
    link::Link,
    name::{SafeName, escaped},
};
use shoal_store::{
    Expiry, Moment, ShareRecord, Terms, UnshareTarget,
    disks::{SILENT_AFTER, SLOW_AFTER},
    share,
};
use shoal_transfer::serve::PEERS_MAX;
use tokio_util::sync::CancellationToken;

use super::{
    NodeHandle, answers,
    errors::IntoApi,
    integrity,
    service::{internal, interrupted},
};

/// How long `share --wait` waits for somebody to take the announcement.
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(60);
/// Peers of a share that are named where it is one of several.
const STATUS_PEERS_MAX: usize = 16;

impl NodeHandle {
    /// Hashes files in place and serves them.
    pub(super) async fn share_paths(
        &self,
        request: api::ShareRequest,
        progress: Progress<api::ShareProgress>,
        cancel: CancellationToken,
    ) -> Result<api::ShareResult, ApiError> {
        let started = Instant::now();
        let terms = self.terms(&request)?;
        let library = self.inner.library.clone();
        for path in &request.paths {
            let answering = library.disks().resolve(path.as_path(), SILENT_AFTER);
            let answering = cancel.run_until_cancelled(answering).await;
            answering
                .ok_or_else(interrupted)?
                .map_err(IntoApi::into_api)?;
        }
        let wanted = share::ShareRequest {
            recipe: answers::recipe(&request),
            paths: request
                .paths
                .into_iter()
                .map(api::AbsolutePath::into_path_buf)
                .collect(),
            name: request.name,
            copy: request.copy,
            announce: !request.no_announce,
            replicate: !request.no_replicate,
            terms,
        };
        let (report, stop) = (progress.clone(), cancel.clone());
        let sharing = tokio::task::spawn_blocking(move || {
            let meter = Cell::new(Meter::default());
            let on_progress = |at: share::Progress| {
                let mut measured = meter.take();
                let rate = measured.rate(at.bytes, Instant::now());
                meter.set(measured);
                report.report(answers::sharing(&at, rate));
            };
            share::share(&library, &wanted, &on_progress, &stop)
        });
        let shared = self
            .unless_stuck(&cancel, sharing)
            .await?
            .map_err(IntoApi::into_api)?;
        if shared.record.terms.until.is_some() {
            self.inner.terms.audience().count_anew(&shared.record.root);
        }
        let elapsed_ms = answers::millis(started.elapsed());
        let link = answers::link(&shared.record, &self.inner.net.link_addresses());
        let mut result = answers::shared(&shared, &link, elapsed_ms);
        if request.wait && shared.record.announce {
            progress.report(answers::announcing(&shared.record));
            let announced = self.announced(&shared.record.root);
            if cancel
                .run_until_cancelled(announced)
                .await
                .ok_or_else(interrupted)?
                .is_err()
            {
                result
                    .warnings
                    .push("no peer has taken the announcement yet".to_owned());
            }
        }
        Ok(result)
    }

    /// Stops serving what a person names.
    pub(super) async fn end_shares(
        &self,
        request: api::UnshareRequest,
    ) -> Result<api::Unshared, ApiError> {
        let target = match request {
            api::UnshareRequest::Cid(text) => UnshareTarget::Root(text.parse::<Link>()?.root),
            api::UnshareRequest::Path(path) => self.unshared_place(path.into_path_buf()).await,
        };
        let library = self.inner.library.clone();
        let unsharing = tokio::task::spawn_blocking(move || library.unshare(&target));
        let removed = unsharing
            .await
            .map_err(|panic| internal(&panic))?
            .map_err(IntoApi::into_api)?;
        Ok(api::Unshared {
            removed: removed
                .shares
                .iter()
                .map(|it| self.share_info(it, STATUS_PEERS_MAX))
                .collect(),
            forgotten: removed
                .forgotten
                .iter()
                .map(integrity::lost_share)
                .collect(),
        })
    }

    /// Gives the shares that are meant another name.
    pub(super) async fn rename_shares(
        &self,
        root: &str,
        change: api::ShareChange,
    ) -> Result<api::Shares, ApiError> {
        let root = root.parse::<Link>()?.root;
        let name = SafeName::parse(&change.name).map_err(|reason| {
            let message = format!("`{}` cannot be a name: {reason}", escaped(&change.name));
            ApiError::new(ErrorCode::BadName, message).hint("choose a name that a file may have")
        })?;
        let target = match change.path {
            None => UnshareTarget::Root(root.clone()),
            Some(path) => self.unshared_place(path.into_path_buf()).await,
        };
        let library = self.inner.library.clone();
        let renaming = tokio::task::spawn_blocking(move || library.rename(&target, &root, &name));
        let renamed = renaming
            .await
            .map_err(|panic| internal(&panic))?
            .map_err(IntoApi::into_api)?;
        Ok(api::Shares {
            shares: self.linked(&renamed, STATUS_PEERS_MAX),
        })
    }

    /// What was asked for, as a share's record keeps it.
    fn terms(&self, request: &api::ShareRequest) -> Result<Terms, ApiError> {
        let usage = |message: &str| ApiError::new(ErrorCode::Usage, message);
        if let Some(command) = request.command.filter(|it| !it.runs(&self.inner.home)) {
            return Err(usage(&format!("no command {command} runs on this home")));
        }
        let expires = match request.expires_ms {
            None => None,
            Some(0) => return Err(usage("a share has to last for more than no time")),
            Some(ms) => {
                if let Some(clock) = wall_clock::wrong(SystemTime::now()) {
                    let message = format!("a share cannot end at a time now: {clock}");
                    return Err(ApiError::new(ErrorCode::Config, message));
                }
                let now = Moment::now(self.inner.library.boot());
                Some(Expiry::after(Duration::from_millis(ms), &now))
            }
        };
        Ok(Terms {
            commands: request.command.iter().map(|it| it.0).collect(),
            until: request.until,
            expires,
        })
    }

    /// All shares, with what to pass on.
    pub(super) fn all_shares(&self) -> api::Shares {
        let shares = self.inner.library.shares();
        api::Shares {
            shares: self.linked(&shares, STATUS_PEERS_MAX),
        }
    }

    /// The share of a link, the oldest one where there are several.
    pub(super) fn one_share(&self, target: &str) -> Result<api::LinkedShare, ApiError> {
        let root = target.parse::<Link>()?.root;
        let shares = self.inner.library.shares_of(&root);
        let linked = self.linked(shares.get(..1).unwrap_or_default(), PEERS_MAX);
        linked.into_iter().next().ok_or_else(|| {
            let message = match self.inner.terms.ended(&root) {
                Some(why) => format!("{root} is not shared any more: {why}"),
                None => format!("{root} is not shared"),
            };
            ApiError::new(ErrorCode::NotShared, message).hint("`shoal ls` lists what is shared")
        })
    }

    fn linked(
        &self,
        shares: &[std::sync::Arc<ShareRecord>],
        peers_max: usize,
    ) -> Vec<api::LinkedShare> {
        let addresses = self.inner.net.dial_addresses();
        let linked = shares.iter().map(|share| {
            let info = self.share_info(share, peers_max);
            answers::linked_share(share, info, &addresses)
        });
        linked.collect()
    }

    /// A share as people and programs are told of it, with so many peers at the most.
    pub(super) fn share_info(&self, share: &ShareRecord, peers_max: usize) -> api::ShareInfo {
        let inner = &self.inner;
        let in_doubt = inner.library.is_in_doubt(share.id);
        let of = inner.terms.audience().of(&share.root, peers_max);
        let told = answers::share_info(share, in_doubt);
        let commands = share.terms.commands.iter();
        api::ShareInfo {
            until: told.until.map(|until| api::Until {
                made: of.counted,
                ..until
            }),
            processes: commands
                .filter_map(|command| CommandId(*command).process(&inner.home))
                .collect(),
            audience: answers::audience(&of, share.size),
            ..told
        }
    }

    /// The process that this node runs in.
    pub(super) fn process(&self) -> api::NodeProcess {
        let said = self.inner.process.get().cloned();
        said.unwrap_or_else(|| api::NodeProcess {
            pid: std::process::id(),
            ..api::NodeProcess::default()
        })
    }

    /// What the path of a share means: as it is written, and where it leads. A disk that does not
    /// answer leaves the path as it is.
    async fn unshared_place(&self, written: PathBuf) -> UnshareTarget {
        let resolved = self.inner.library.disks().resolve(&written, SLOW_AFTER);
        let real = resolved.await.map_or_else(|_| written.clone(), |it| it.0);
        UnshareTarget::Path { written, real }
    }

    /// Waits until somebody was told of a root.
    async fn announced(&self, root: &Cid) -> Result<(), ApiError> {
        let Some(key) = root
            .digest()
            .map(|digest| shoal_protocol::dht::key(&digest))
        else {
            return Ok(());
        };
        let mut events = self.inner.net.events();
        let waiting = async {
            while !matches!(
                self.inner.net.announced(key).await,
                shoal_net::AnnounceState::Announced { .. }
            ) {
                while !matches!(events.recv().await, Ok(NetEvent::Announced { .. }) | Err(_)) {}
            }
        };
        let waited = tokio::time::timeout(ANNOUNCE_PATIENCE, waiting).await;
        waited.map_err(|_| ApiError::new(ErrorCode::NotFound, "nobody took the announcement"))
    }
}
