//! Sharing files and folders where they lie.
//!
//! [`share`] walks what is to be shared, reads every file once, hashes its chunks on all cores,
//! builds the DAG and records both in the store. Nothing of that is visible before the last step,
//! one synced commit; a crash before it leaves rows that the next start collects, a crash after it
//! leaves the share. Files are only read, and a file that changes meanwhile makes the whole attempt
//! fail.
//!
//! Everything blocks: callers use a blocking thread. The hashing threads live as long as the call.

mod build;
mod copy;
mod error;
mod hash;
mod meter;
mod place;
mod survey;
#[cfg(test)]
mod tests;
mod unreadable;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use shoal_protocol::address::{Cid, Digest};
use shoal_protocol::name::SafeName;
use tokio_util::sync::CancellationToken;

use crate::{Library, Origin, Recipe, ShareId, ShareRecord, ShareState, Terms};
use build::Target;
use meter::Meter;
use place::SharePlace;
use survey::Survey;
use walk::{Excludes, LeftOut, Walk};

pub use crate::patterns::PatternError;
pub use error::{ShareError, Unreadable};
pub use meter::{Phase, Progress};
pub use survey::Totals;

/// What to share and how.
#[derive(Debug, Clone, Default)]
pub struct ShareRequest {
    /// Files and folders; several become one folder that holds them.
    pub paths: Vec<PathBuf>,
    /// What the share is called; by default as its path.
    pub name: Option<String>,
    /// Whether to share a copy that is taken into the home, so that the originals may change.
    pub copy: bool,
    /// Whether the root may go into the DHT.
    pub announce: bool,
    /// Whether others may keep copies of it for others.
    pub replicate: bool,
    /// Until when it is offered.
    pub terms: Terms,
    /// The choices that decide the address.
    pub recipe: Recipe,
}

/// What was shared.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The share as it is recorded.
    pub record: Arc<ShareRecord>,
    /// What was left out, at most the first 1,000.
    pub skipped: Vec<Skipped>,
    /// How much was left out in all.
    pub skipped_total: u64,
}

/// Something that was left out of a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path below what was shared.
    pub path: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why something was left out of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// It matches a pattern of what to leave out.
    Excluded,
    /// It is the part of a fetch that is not done.
    Part,
    /// It is the home of a node.
    Home,
    /// It is a socket.
    Socket,
    /// It is a fifo.
    Fifo,
    /// It is a device.
    Device,
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Excluded => "excluded",
            Self::Part => "the part of a fetch that is not done",
            Self::Home => "Shoal's own data",
            Self::Socket => "a socket",
            Self::Fifo => "a fifo",
            Self::Device => "a device",
        })
    }
}

/// Shares `request` and returns when the share is recorded durably and can be served.
///
/// Sharing the same place again replaces the earlier share. `on_progress` is called about ten times
/// a second on this thread. Soon after `cancel` fires this fails with [`ShareError::Cancelled`];
/// after any failure nothing is left behind.
pub fn share(
    library: &Library,
    request: &ShareRequest,
    on_progress: &dyn Fn(Progress),
    cancel: &CancellationToken,
) -> Result<Shared, ShareError> {
    let excludes = Excludes::new(&request.recipe.exclude, library.store().home())?;
    let mut source = SharePlace::of(&request.paths, library.store().home())?;
    if let Some(name) = &request.name {
        source.name = checked_name(name)?;
    }
    let staged = Staged::begin(library, &source, request)?;
    let shared = std::thread::scope(|scope| {
        let survey = Survey::start(scope, &source, &excludes, cancel).unwrap_or_else(|error| {
            tracing::warn!(%error, "how much there is to share stays unknown: there is no thread");
            Survey::default()
        });
        let mut meter = Meter::new(on_progress, survey);
        if request.copy {
            copied(staged, &source, &excludes, &mut meter, cancel)
        } else {
            staged.finish(&source, &excludes, &mut meter, cancel)
        }
    });
    match shared {
        // Who mends one of them would be told of the next one.
        Err(ShareError::PermissionDenied(_)) if source.is_tree() => {
            match unreadable::list(&source, &excludes, cancel) {
                found if found.total > 1 => Err(ShareError::Unreadable(found)),
                _ => shared,
            }
        }
        shared => shared,
    }
}

/// Takes a copy of `source` and shares that.
fn copied(
    staged: Staged<'_>,
    source: &SharePlace,
    excludes: &Excludes,
    meter: &mut Meter<'_>,
    cancel: &CancellationToken,
) -> Result<Shared, ShareError> {
    let to = staged.library.store().copy_dir(staged.record.id);
    let mut walk = Walk::new(source, excludes);
    meter.begin(Phase::Copying);
    let copy = copy::take(source, &mut walk, &to, meter, cancel)?;
    let mut shared = staged.finish(&copy, &Excludes::none(), meter, cancel)?;
    let LeftOut { listed, total } = walk.left_out();
    shared.skipped = listed;
    shared.skipped_total = total;
    Ok(shared)
}

/// A share whose rows are being written; dropping it takes them out again.
struct Staged<'a> {
    library: &'a Library,
    record: ShareRecord,
    finished: bool,
}

impl<'a> Staged<'a> {
    /// Writes the record first, so that whatever follows is found and collected after a crash.
    fn begin(
        library: &'a Library,
        source: &SharePlace,
        request: &ShareRequest,
    ) -> Result<Self, ShareError> {
        let store = library.store();
        let record = ShareRecord {
            id: store.new_share_id()?,
            // Not known yet, and nobody looks at it before it is.
            root: Cid::raw(Digest::of(request.recipe.hash, &[])),
            name: source.name.clone(),
            source: source.base.clone(),
            base: source.base.clone(),
            selection: source.selection.clone(),
            origin: if request.copy {
                Origin::Copied
            } else {
                Origin::Shared
            },
            announce: request.announce,
            recipe: request.recipe.clone(),
            size: 0,
            files: 0,
            chunks: 0,
            created_ms: now_ms(),
            unflushed_boot: None,
            state: ShareState::Staging,
            written: source.written.clone(),
            replicate: request.replicate,
            terms: request.terms.clone(),
        };
        let mut batch = store.batch();
        batch.put_share(&record)?;
        batch.commit(false)?;
        Ok(Self {
            library,
            record,
            finished: false,
        })
    }

    /// Builds the tree at `place` and makes the share live.
    fn finish(
        mut self,
        place: &SharePlace,
        excludes: &Excludes,
        meter: &mut Meter<'_>,
        cancel: &CancellationToken,
    ) -> Result<Shared, ShareError> {
        let store = self.library.store();
        let share: ShareId = self.record.id;
        meter.begin(Phase::Hashing);
        let mut walk = Walk::new(place, excludes);
        let mut target = Target {
            store: store.clone(),
            share,
            disk: self.library.disks().of(&place.base),
            batch: store.batch(),
        };
        let recipe = &self.record.recipe;
        let tree = build::build(place, &mut walk, recipe, &mut target, meter, cancel)?;
        let record = ShareRecord {
            root: tree.root.cid,
            base: place.base.clone(),
            size: tree.root.size,
            files: tree.files,
            chunks: tree.chunks,
            // A copy was flushed. The user's files are not ours to flush: when a power loss takes
            // what was written a moment ago, the boot id has it found.
            unflushed_boot: (tree.unflushed && self.record.origin == Origin::Shared)
                .then(|| self.library.boot()),
            state: ShareState::Live,
            ..self.record.clone()
        };
        meter.end(Phase::Committing, tree_totals(&record));
        let record = self.library.publish(target.batch, record)?;
        self.finished = true;
        let LeftOut {
            listed: skipped,
            total: skipped_total,
        } = walk.left_out();
        Ok(Shared {
            record,
            skipped,
            skipped_total,
        })
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if let Err(error) = self.library.discard(self.record.id) {
            // The next start finds the record in the same state.
            tracing::warn!(%error, "the rows of a failed share could not be discarded yet");
        }
    }
}

/// What a built tree holds: whatever the survey made of it, this is what was read.
fn tree_totals(record: &ShareRecord) -> Totals {
    Totals {
        files: record.files,
        bytes: record.size,
    }
}

/// A name that was asked for; fetchers land the share under it.
fn checked_name(name: &str) -> Result<String, ShareError> {
    match SafeName::parse(name) {
        Ok(name) => Ok(name.to_string()),
        Err(reason) => Err(ShareError::ShareName {
            name: name.to_owned(),
            reason,
        }),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
