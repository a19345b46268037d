//! The node's identity: one Ed25519 key in a file of its own.
//!
//! The file is created whole or not at all, with mode 0600, and never replaced: of two processes
//! that start at once on a fresh home, the second reads the key of the first. The secret is never
//! printed; what errors show is a path.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libp2p::identity::Keypair;
use shoal_ground::said::said;
use thiserror::Error;

/// The file's name inside the home.
pub const FILE_NAME: &str = "identity.key";

/// Permission bits of the key file: its owner may read and write it, nobody else anything.
const MODE: u32 = 0o600;

/// The most that is read of a key file: an encoded Ed25519 key has 68 bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// Why the identity could not be loaded or made.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file cannot be read, written or given its mode.
    #[error("cannot use the identity key {}: {}", path.display(), said(source))]
    Io {
        /// The key file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file does not hold an Ed25519 key. It is left as it is.
    #[error(
        "{} does not hold an Ed25519 identity key; restore it from a backup, or move it away to \
         start with a new identity",
        path.display()
    )]
    Damaged {
        /// The key file.
        path: PathBuf,
    },
}

/// Loads the key of this home, or makes one if there is none.
///
/// Blocking. A file that others may read is given mode 0600, with a warning, for its secret may be
/// known to them.
///
/// # Errors
/// [`IdentityError`]; a damaged file is never overwritten.
pub fn load_or_create(home: &Path) -> Result<Keypair, IdentityError> {
    let path = home.join(FILE_NAME);
    match load(&path) {
        Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        loaded => return loaded,
    }
    create(home, &path).map_err(|source| IdentityError::Io {
        path: path.clone(),
        source,
    })?;
    load(&path)
}

fn load(path: &Path) -> Result<Keypair, IdentityError> {
    let io = |source| IdentityError::Io {
        path: path.to_owned(),
        source,
    };
    let damaged = || IdentityError::Damaged {
        path: path.to_owned(),
    };
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(damaged());
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let path = path.display();
        tracing::warn!(%path, "the identity key was readable by others, its mode is now 0600");
        file.set_permissions(Permissions::from_mode(MODE))
            .map_err(io)?;
    }
    let mut encoded = Vec::new();
    io::Read::read_to_end(&mut file, &mut encoded).map_err(io)?;
    let keypair = Keypair::from_protobuf_encoding(&encoded).map_err(|_| damaged())?;
    // Only Ed25519 ids are promised elsewhere: short enough to be inlined into the peer id.
    keypair.clone().try_into_ed25519().map_err(|_| damaged())?;
    Ok(keypair)
}

/// Writes a new key beside `path`, syncs it and links it into place; an existing file wins.
fn create(home: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(home)?;
    let encoded = Keypair::generate_ed25519()
        .to_protobuf_encoding()
        .map_err(|error| io::Error::other(error.to_string()))?;
    let temporary = home.join(format!(".{FILE_NAME}.{}", std::process::id()));
    let written =
        write_new(&temporary, &encoded).and_then(|()| match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    fs::remove_file(&temporary)?;
    written?;
    File::open(home)?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a killed process of the same id left behind; its mode and content are not to be trusted.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn key_is_private_and_stays_the_same() {
        let home = tempfile::tempdir().unwrap();
        let first = load_or_create(home.path()).unwrap();
        let again = load_or_create(home.path()).unwrap();
        assert_eq!(first.public(), again.public());
        let path = home.path().join(FILE_NAME);
        assert_eq!(mode(&path), 0o600);
        let entries: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
        assert_eq!(entries.len(), 1, "the temporary file is gone");

        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(
            load_or_create(home.path()).unwrap().public(),
            first.public()
        );
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn an_existing_key_is_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let key = load_or_create(home.path()).unwrap();
        create(home.path(), &home.path().join(FILE_NAME)).unwrap();
        assert_eq!(load_or_create(home.path()).unwrap().public(), key.public());
    }

    #[test]
    fn a_damaged_key_is_refused_and_kept() {
        for bytes in [&b""[..], b"not a key", &[0u8; 8192]] {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join(FILE_NAME);
            fs::write(&path, bytes).unwrap();
            let error = load_or_create(home.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }
}
