//! What of the budgets outlives a run: what was set while a node ran, what the month has used, and what
//! of the day copies have.

use jiff::civil::Date;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shoal_ground::units::{Rate, Size};
use shoal_store::{StoreError, Table, TableChange};

use super::{Flags, copies::CopiesDay};

const LIVE_KEY: &[u8] = b"limits.live";
const MONTH_KEY: &[u8] = b"limits.month";
const COPIES_KEY: &[u8] = b"limits.copies";

/// What was set while a node ran; none where the configuration counts. The rows are JSON, so that
/// later versions may add fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Live {
    pub(super) up: Option<Rate>,
    pub(super) down: Option<Rate>,
    pub(super) monthly: Option<Size>,
}

/// What a month has used so far, in bytes on the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Month {
    /// The day on which it began.
    pub(super) since: Date,
    pub(super) up: u64,
    pub(super) down: u64,
}

impl Month {
    /// A month of which nothing is used.
    pub(super) fn new(since: Date) -> Self {
        let (up, down) = (0, 0);
        Self { since, up, down }
    }

    /// Both directions.
    pub(super) fn used(&self) -> u64 {
        self.up.saturating_add(self.down)
    }
}

/// The rows of the budgets, and what they held at the start. Calls block on disk.
#[derive(Clone)]
pub struct Kept {
    table: Table,
    pub(super) live: Live,
    pub(super) month: Option<Month>,
    pub(super) copies: Option<CopiesDay>,
}

impl Kept {
    /// Reads what earlier runs left. Of what was set, this start's flags take the place: the newest
    /// word counts.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn open(table: Table, flags: Flags) -> Result<Self, StoreError> {
        let set: Live = load(&table, LIVE_KEY)?.unwrap_or_default();
        let live = Live {
            up: set.up.filter(|_| flags.up.is_none()),
            down: set.down.filter(|_| flags.down.is_none()),
            ..set
        };
        let month = load(&table, MONTH_KEY)?;
        let copies = load(&table, COPIES_KEY)?;
        let kept = Self {
            table,
            live,
            month,
            copies,
        };
        if live != set {
            kept.save_live(&live)?;
        }
        Ok(kept)
    }

    /// Keeps what was set; it survives a power loss.
    pub(super) fn save_live(&self, live: &Live) -> Result<(), StoreError> {
        self.save(LIVE_KEY, live)
    }

    pub(super) fn save_month(&self, month: &Month) -> Result<(), StoreError> {
        self.save(MONTH_KEY, month)
    }

    pub(super) fn save_copies(&self, day: &CopiesDay) -> Result<(), StoreError> {
        self.save(COPIES_KEY, day)
    }

    fn save<T: Serialize>(&self, key: &[u8], row: &T) -> Result<(), StoreError> {
        let value = serde_json::to_vec(row).map_err(|error| StoreError::Database {
            detail: error.to_string(),
        })?;
        let key = key.to_vec();
        self.table.write(&[TableChange::Put { key, value }], true)
    }
}

fn load<T: DeserializeOwned>(table: &Table, key: &[u8]) -> Result<Option<T>, StoreError> {
    let Some(row) = table.get(key)? else {
        return Ok(None);
    };
    let row = serde_json::from_slice(&row);
    row.map(Some).map_err(|error| StoreError::Damaged {
        detail: format!("the row {} is not readable: {error}", key.escape_ascii()),
    })
}
