//! Opening the database, or saying precisely why not.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rocksdb::{DB, ErrorKind, Options};
use rustix::fs::CWD;
use shoal_ground::space::flush;

use super::layout::{self, Family, Layout, SCHEMA, SCHEMA_OLDEST};
use super::prefix::Prefix;
use super::{StoreError, keys};

/// The folder of the home that holds the database.
pub(super) const DB_DIR: &str = "db";

/// How RocksDB names blob files.
const BLOB_SUFFIX: &str = "blob";

/// RocksDB writes this file when it has created a database; without it there is none.
const CURRENT_FILE: &str = "CURRENT";

impl Layout {
    /// The row that says which schema the database has. Two names, so that neither layout is taken
    /// for the other.
    pub(super) fn schema_key(self) -> &'static [u8] {
        match self {
            Self::Own => b"schema",
            Self::Shared => b"shared_schema",
        }
    }
}

/// The file by which RocksDB locks the database of `home`.
pub(super) fn lock_file(home: &Path) -> std::path::PathBuf {
    home.join(DB_DIR).join("LOCK")
}

/// Where the end of the reserved ids is kept.
pub(super) const NEXT_ID: &[u8] = b"next_id";

/// Makes the home, for its owner only, when it is missing.
pub(super) fn make_home(home: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(home)
        .map_err(|error| StoreError::io(home, error))
}

/// Opens or creates the database below `home` and checks its schema.
pub(super) fn database(home: &Path, layout: Layout) -> Result<DB, StoreError> {
    database_in(home, DB_DIR, layout)
}

/// As [`database`], in the folder `name` of the home.
pub(super) fn database_in(home: &Path, name: &str, layout: Layout) -> Result<DB, StoreError> {
    let path = home.join(name);
    let (options, families) = layout::descriptors(layout);
    let exists = path.join(CURRENT_FILE).exists();
    if exists {
        refuse_foreign_families(&options, &path, layout)?;
    }
    let opened = DB::open_cf_descriptors(&options, &path, families);
    let db = opened.map_err(|error| match is_locked(&error) {
        true => StoreError::InUse {
            home: home.to_owned(),
        },
        false => opening(error, exists),
    })?;
    check_schema(&db, layout)?;
    check_blob_files(&db, &path)?;
    if !exists {
        // A synced row is not durable while the folders above it may vanish.
        sync_folder(home)?;
        sync_around(home)?;
    }
    Ok(db)
}

/// RocksDB looks at its table files when it opens, and at blob files only when they are read: one
/// that is missing or cut short would be found by whoever asks for what was in it. Files that are
/// about to be deleted may make up for what is missing; reading everything finds that, too.
fn check_blob_files(db: &DB, path: &Path) -> Result<(), StoreError> {
    let family = db.cf_handle(Family::Blocks.name());
    let family = family.ok_or_else(|| StoreError::damaged("it has no family of blocks"))?;
    let expected = |name| db.property_int_value_cf(&family, name);
    let files = expected("rocksdb.num-blob-files")?.unwrap_or_default();
    let bytes = expected("rocksdb.live-blob-file-size")?.unwrap_or_default();
    let (mut files_there, mut bytes_there) = (0, 0);
    for entry in std::fs::read_dir(path).map_err(|error| StoreError::io(path, error))? {
        let entry = entry.map_err(|error| StoreError::io(path, error))?;
        if Path::new(&entry.file_name()).extension() == Some(BLOB_SUFFIX.as_ref()) {
            let metadata = entry
                .metadata()
                .map_err(|error| StoreError::io(path, error))?;
            files_there += 1;
            bytes_there += metadata.len();
        }
    }
    if files_there < files || bytes_there < bytes {
        return Err(StoreError::damaged(format!(
            "{files_there} of {files} blob files are there, with {bytes_there} of {bytes} bytes"
        )));
    }
    Ok(())
}

pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| StoreError::io(path, error))
}

/// Makes the name of the home durable in the folder that it is in. A folder that may be entered and
/// not listed cannot be opened for that: then everything on the home's file system is flushed.
fn sync_around(home: &Path) -> Result<(), StoreError> {
    match home.parent().map_or(Ok(()), sync_folder) {
        Err(StoreError::NoPermission { .. }) => {
            flush(CWD, &[home]).map_err(|error| StoreError::io(home, error))
        }
        other => other,
    }
}

/// The end of the ids that may be in use.
pub(super) fn reserved_ids(db: &DB, prefix: Prefix) -> Result<u64, StoreError> {
    match meta(db, &prefix.key(NEXT_ID))? {
        Some(value) => Ok(keys::take_u64(&value)?.0),
        None => Ok(0),
    }
}

/// A newer schema may have families that this build cannot open; its number can still be read.
fn refuse_foreign_families(
    options: &Options,
    path: &Path,
    layout: Layout,
) -> Result<(), StoreError> {
    let present = DB::list_cf(options, path).map_err(|error| opening(error, true))?;
    let known = |name: &String| {
        name == rocksdb::DEFAULT_COLUMN_FAMILY_NAME
            || Family::ALL.iter().any(|family| family.name() == name)
    };
    let Some(foreign) = present.iter().find(|name| !known(name)) else {
        return Ok(());
    };
    let only_meta = [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, Family::Meta.name()];
    let db = DB::open_cf_for_read_only(&Options::default(), path, only_meta, false)
        .map_err(|error| opening(error, true))?;
    check_schema_found(meta(&db, layout.schema_key())?)?;
    Err(StoreError::damaged(format!(
        "it holds a column family {foreign:?} that schema {SCHEMA} lacks"
    )))
}

fn check_schema(db: &DB, layout: Layout) -> Result<(), StoreError> {
    let key = layout.schema_key();
    let found = meta(db, key)?;
    // The schema is the first row ever written, so a database without it is new, or lost its first
    // row.
    if found.is_none() && db.latest_sequence_number() == 0 {
        let family = db.cf_handle(Family::Meta.name());
        let family = family.ok_or_else(|| StoreError::damaged("it has no meta family"))?;
        return Ok(db.put_cf(&family, key, SCHEMA.to_be_bytes())?);
    }
    check_schema_found(found)
}

fn check_schema_found(found: Option<Vec<u8>>) -> Result<(), StoreError> {
    let found = found.ok_or_else(|| StoreError::damaged("it does not say which schema it has"))?;
    match keys::take_u32(&found)?.0 {
        SCHEMA_OLDEST..=SCHEMA => Ok(()),
        found if found > SCHEMA => Err(StoreError::NewerSchema {
            found,
            supported: SCHEMA,
        }),
        found => Err(StoreError::damaged(format!("schema {found} never existed"))),
    }
}

/// Whether the rows of an open database are of a schema before this build's.
pub(super) fn is_earlier(db: &DB, layout: Layout) -> Result<bool, StoreError> {
    let found = meta(db, layout.schema_key())?;
    let found = found.map(|found| keys::take_u32(&found).map(|it| it.0));
    Ok(found.transpose()?.is_some_and(|found| found < SCHEMA))
}

fn meta(db: &DB, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let family = db.cf_handle(Family::Meta.name());
    let family = family.ok_or_else(|| StoreError::damaged("it has no meta family"))?;
    Ok(db.get_cf(&family, key)?)
}

/// RocksDB locks a database for one process, and says so in two ways: for another process and for
/// this one.
fn is_locked(error: &rocksdb::Error) -> bool {
    let text: &str = error.as_ref();
    text.contains("While lock file") || text.contains("lock hold by current process")
}

/// A database that exists but cannot be opened for want of one of its files, or for a reason that
/// has nothing to do with the disk, is damaged: the arguments always worked.
fn opening(error: rocksdb::Error, exists: bool) -> StoreError {
    let missing_file = error.as_ref().contains("No such file or directory");
    let is_of_the_disk = matches!(
        error.kind(),
        ErrorKind::IOError | ErrorKind::Busy | ErrorKind::TimedOut | ErrorKind::TryAgain
    );
    if exists && (missing_file || !is_of_the_disk) {
        return StoreError::Damaged {
            detail: error.into_string(),
        };
    }
    error.into()
}
