//! What is known of the database: whether it can be read, and what damage took.
//!
//! A daemon reads the whole database once after its start, on a thread of its own, and tells what
//! it finds. Shares that the register has and the database has not are known from the start.
//! [`check_home`] does the same for a home that no node runs on, and repairs it when told.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use shoal_api::{HomeLock, types as api};
use shoal_protocol::name::escaped;
use shoal_store::{Checked, Library, Lost, Registered, Repaired, Store, StoreError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::NodeError;

/// What a person can do about damage.
const REPAIR: &str = "stop the daemon and run `shoal db check --repair`";

/// The check of a running node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Integrity {
    library: Library,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
enum Known {
    #[default]
    Unchecked,
    Checking,
    Checked(Checked),
    /// It could not be brought to its end, and why.
    Failed(String),
}

impl Integrity {
    pub(super) fn new(library: Library) -> Self {
        Self {
            library,
            known: Arc::default(),
        }
    }

    /// Reads the database whole, until `shutdown`.
    pub(super) fn start(&self, tasks: &TaskTracker, shutdown: CancellationToken) {
        self.set(Known::Checking);
        let this = self.clone();
        tasks.spawn_blocking(move || {
            let checked = this.library.check(&shutdown);
            this.set(match checked {
                Ok(checked) if checked.complete => Known::Checked(checked),
                Ok(_) => Known::Unchecked,
                Err(error) => Known::Failed(error.to_string()),
            });
        });
    }

    /// What is known now.
    pub(super) async fn status(&self) -> api::Database {
        let library = self.library.clone();
        // RocksDB answers under a lock that it may hold while it writes.
        let asking = tokio::task::spawn_blocking(move || library.store().background_errors());
        let errors = asking.await.unwrap_or_default();
        let lost = self.library.lost();
        let damage = self.damage(&lost, errors);
        let known = self.known.lock();
        let state = match &*known {
            _ if !damage.is_empty() || !lost.shares.is_empty() => api::DatabaseState::Damaged,
            Known::Checked(checked) if checked.is_sound() => api::DatabaseState::Sound,
            Known::Checked(_) | Known::Failed(_) => api::DatabaseState::Damaged,
            Known::Checking => api::DatabaseState::Checking,
            Known::Unchecked => api::DatabaseState::Unchecked,
        };
        api::Database {
            state,
            lost: lost.shares.iter().map(lost_share).collect(),
            damage,
        }
    }

    /// What cannot be read, one sentence each.
    fn damage(&self, lost: &Lost, errors: u64) -> Vec<String> {
        let known = self.known.lock();
        let mut damage = match &*known {
            Known::Checked(checked) => sentences(checked),
            Known::Failed(error) => vec![format!("it could not be checked: {error}")],
            Known::Unchecked | Known::Checking => Vec::new(),
        };
        damage.extend(unreadable_lines(lost));
        if errors > 0 {
            damage.push(format!("RocksDB met {errors} errors while it wrote"));
        }
        damage
    }

    fn set(&self, known: Known) {
        *self.known.lock() = known;
    }
}

/// What a person should look after, one sentence each.
pub(super) fn warnings(database: &api::Database) -> impl Iterator<Item = String> {
    let damage = database
        .damage
        .iter()
        .map(|damage| format!("the database is damaged: {damage}; {REPAIR}"));
    damage.chain(database.lost.iter().map(lost_warning))
}

fn lost_warning(share: &api::LostShare) -> String {
    let name = escaped(&share.name).to_string();
    let quoted =
        |path: &PathBuf| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let paths = share.paths.iter().map(quoted).collect::<Vec<_>>().join(" ");
    format!(
        "{name:?} is not served any more: damage to the database took it; share it again with: \
         shoal share {paths}, or forget it with: shoal unshare {cid}",
        cid = share.cid,
    )
}

pub(super) fn lost_share(share: &Registered) -> api::LostShare {
    api::LostShare {
        name: share.name.clone(),
        cid: share.root.clone(),
        paths: share.place.paths(),
    }
}

fn sentences(checked: &Checked) -> Vec<String> {
    let tables = checked.damaged_tables.iter();
    tables
        .map(|(table, error)| format!("not all of the table {table:?} can be read: {error}"))
        .collect()
}

fn unreadable_lines(lost: &Lost) -> Option<String> {
    (lost.unreadable_lines > 0).then(|| {
        let lines = lost.unreadable_lines;
        format!("{lines} lines of the register of shares cannot be read, so a share may be missing")
    })
}

/// What [`check_home`] found and did.
#[derive(Debug)]
pub struct HomeChecked {
    /// What is known of the database now.
    pub database: api::Database,
    /// Shares of which every row was read.
    pub shares: u64,
    /// Shares whose index is damaged, by name.
    pub damaged_shares: Vec<String>,
    /// What a repair did, when there was one.
    pub repaired: Option<Repaired>,
}

/// Reads the whole database of a home that no node runs on; with `repair`, damage is repaired
/// before. Blocks on the disk.
///
/// # Errors
/// [`NodeError::Home`] while a node runs on it; [`NodeError::Store`] when the database cannot be
/// opened, and it is not to be repaired.
pub fn check_home(home: &Path, repair: bool) -> Result<HomeChecked, NodeError> {
    let lock = HomeLock::acquire(home)?;
    let home = lock.home();
    let found = look(home);
    let is_damaged = match &found {
        Ok(found) => !found.damaged_shares.is_empty() || !found.database.damage.is_empty(),
        Err(error) => matches!(error, StoreError::Damaged { .. }),
    };
    if !repair || !is_damaged {
        return Ok(found?);
    }
    drop(found);
    let repaired = Store::repair(home)?;
    let mut found = look(home)?;
    found.repaired = Some(repaired);
    Ok(found)
}

fn look(home: &Path) -> Result<HomeChecked, StoreError> {
    let library = Library::open(Store::open(home)?, |_| {})?;
    let checked = library.check(&CancellationToken::new())?;
    let lost = library.lost();
    let mut damage = sentences(&checked);
    damage.extend(unreadable_lines(&lost));
    let is_sound = damage.is_empty() && lost.shares.is_empty() && checked.is_sound();
    Ok(HomeChecked {
        database: api::Database {
            state: match is_sound {
                true => api::DatabaseState::Sound,
                false => api::DatabaseState::Damaged,
            },
            lost: lost.shares.iter().map(lost_share).collect(),
            damage,
        },
        shares: checked.shares,
        damaged_shares: checked.damaged_shares,
        repaired: None,
    })
}
