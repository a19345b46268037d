//! Ends the shares that are over: with their commands, after so many copies, at a time.
//!
//! What each share's terms are is in its record; what counts as over is decided here. The first look
//! comes before the node serves anybody, so that what ended while no node ran is not served again.
//! Then it looks when a peer has got all of a share, and twice a second while there are shares that do
//! not stay for good. It ends with the node.

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use shoal_api::{CommandId, RunningCommand};
use shoal_protocol::{address::Cid, name::escaped};
use shoal_store::{Library, Moment, ShareRecord};
use shoal_transfer::serve::Audience;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Between two looks; one costs a lock for each command that a share ends with.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Shares that have ended of which it is known why.
const ENDED_MAX: usize = 64;

/// Ends what is over; see the module's head.
pub(super) struct Terms {
    library: Library,
    audience: Arc<Audience>,
    home: PathBuf,
    /// Why the last shares have ended; newest last.
    ended: Mutex<VecDeque<(Cid, String)>>,
}

impl Terms {
    pub(super) fn new(library: Library, audience: Arc<Audience>) -> Arc<Self> {
        let home = library.store().home().to_owned();
        RunningCommand::clear(&home);
        Arc::new(Self {
            library,
            audience,
            home,
            ended: Mutex::default(),
        })
    }

    /// Who gets what, which is what copies are counted by.
    pub(super) fn audience(&self) -> &Arc<Audience> {
        &self.audience
    }

    /// Looks again and again until `shutdown`, and writes down what goes out to whom.
    pub(super) fn start(self: &Arc<Self>, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let library = self.library.clone();
        let known = move |root: &Cid| !library.shares_of(root).is_empty();
        tasks.spawn(Arc::clone(&self.audience).run(known, shutdown.clone()));
        let (terms, until) = (Arc::clone(self), shutdown.clone());
        tasks.spawn(async move { until.run_until_cancelled(terms.run()).await });
    }

    async fn run(self: Arc<Self>) {
        let mut completed = self.audience.completed();
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = completed.changed() => if changed.is_err() {
                    return;
                },
            }
            self.look_now().await;
        }
    }

    /// Looks once, on a thread that may block.
    pub(super) async fn look_now(self: &Arc<Self>) {
        if self.library.passing().is_empty() {
            return;
        }
        let terms = Arc::clone(self);
        if let Err(panic) = tokio::task::spawn_blocking(move || terms.look()).await {
            tracing::error!(%panic, "shares that are over were not ended");
        }
    }

    /// Ends what is over. Blocking.
    pub(super) fn look(&self) {
        let now = Moment::now(self.library.boot());
        for share in self.library.passing() {
            let result = match self.over(&share, &now) {
                Some(why) => self.end(&share, why),
                None => self.forget_ended(&share),
            };
            if let Err(error) = result {
                let name = escaped(&share.name).to_string();
                tracing::warn!(%error, %name, "a share that is over could not be ended");
            }
        }
    }

    /// Why a root is not shared any more, if it has ended by itself lately.
    pub(super) fn ended(&self, root: &Cid) -> Option<String> {
        let ended = self.ended.lock();
        let last = ended.iter().rev().find(|(ended, _)| ended == root);
        last.map(|(_, why)| why.clone())
    }

    /// Why a share is over, if it is.
    fn over(&self, share: &ShareRecord, now: &Moment) -> Option<String> {
        let terms = &share.terms;
        if let Some(copies) = terms.until
            && self.audience.counted(&share.root) >= u64::from(copies.get())
        {
            return Some(match copies.get() {
                1 => "a peer has all of it, and it was shared for one".to_owned(),
                copies => format!("{copies} peers have all of it, as was asked for"),
            });
        }
        if terms.expires.is_some_and(|it| it.is_over(now)) {
            return Some("its time is over".to_owned());
        }
        let commands = &terms.commands;
        let has_ended = |command: &u64| !CommandId(*command).runs(&self.home);
        let are_over = !commands.is_empty() && commands.iter().all(has_ended);
        are_over.then(|| "the command that shared it has ended".to_owned())
    }

    fn end(&self, share: &ShareRecord, why: String) -> Result<(), shoal_store::StoreError> {
        if !self.library.end(share.id)? {
            return Ok(());
        }
        let (name, cid) = (escaped(&share.name).to_string(), &share.root);
        tracing::info!(%name, %cid, "a share has ended: {why}");
        let mut ended = self.ended.lock();
        if ended.len() >= ENDED_MAX {
            ended.pop_front();
        }
        ended.push_back((share.root.clone(), why));
        Ok(())
    }

    fn forget_ended(&self, share: &ShareRecord) -> Result<(), shoal_store::StoreError> {
        let commands = share.terms.commands.iter().copied();
        let ended: Vec<_> = commands
            .filter(|command| !CommandId(*command).runs(&self.home))
            .collect();
        match ended.is_empty() {
            true => Ok(()),
            false => self.library.forget_commands(share.id, &ended),
        }
    }
}
