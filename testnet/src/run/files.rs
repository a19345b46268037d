//! What a run shares, and whether copies are the same: by the hash of everything in them.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::script::{Item, Script};
use crate::Error;

/// Where the originals are, in the folder of a run's files.
const ORIGINALS: &str = "originals";

/// The names and bytes of a file or folder in one hash.
pub(crate) type Digest = blake3::Hash;

/// An item as it lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Original {
    /// Where.
    pub(crate) path: PathBuf,
    /// What every copy has to be.
    pub(crate) digest: Digest,
}

/// How much is written between two looks at whether it is still wanted.
const PIECE_BYTES: u64 = 4 << 20;

/// Makes every item of a script in `dir`, of bytes that no compression makes smaller. When it is
/// over, or `interrupted`, nothing writes to `dir` any more, so that it can be removed.
///
/// # Errors
/// When the disk refuses, and [`Error::Interrupted`].
pub(crate) async fn make(
    script: &Script,
    dir: &Path,
    interrupted: impl Future<Output = ()>,
) -> Result<Vec<Original>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    let writer = Writer {
        seed: script.seed,
        stop: Arc::clone(&stop),
    };
    let (items, into) = (script.items.clone(), dir.to_owned());
    let mut making = tokio::task::spawn_blocking(move || writer.make_all(&items, &into));
    let made = tokio::select! {
        biased;
        () = interrupted => {
            stop.store(true, Ordering::Relaxed);
            // What it says is that it was stopped.
            let _ = making.await;
            return Err(Error::Interrupted);
        }
        made = &mut making => made,
    };
    made.map_err(|error| Error::io("write to", dir)(error.into()))?
}

/// Writes originals until it is stopped. Blocking.
struct Writer {
    seed: u64,
    stop: Arc<AtomicBool>,
}

impl Writer {
    fn make_all(&self, items: &[Item], dir: &Path) -> Result<Vec<Original>, Error> {
        let originals = dir.join(ORIGINALS);
        fs::create_dir(&originals).map_err(Error::io("make the folder", &originals))?;
        let make = |item: &Item| {
            let path = originals.join(&item.name);
            let written = self.write(item, &path).and_then(|()| digest(&path));
            let digest = written.map_err(Error::io("write", &path))?;
            Ok(Original { path, digest })
        };
        items.iter().map(make).collect()
    }

    fn write(&self, item: &Item, path: &Path) -> io::Result<()> {
        if item.files == 1 {
            return self.write_file(&item.name, item.bytes, path);
        }
        fs::create_dir(path)?;
        let files = item.files as u64;
        for number in 0..files {
            // The last ones are a byte shorter where it does not divide.
            let bytes = item.bytes / files + u64::from(number < item.bytes % files);
            let name = format!("{}/{number}", item.name);
            self.write_file(&name, bytes, &path.join(format!("part-{number:04}")))?;
        }
        Ok(())
    }

    fn write_file(&self, name: &str, bytes: u64, path: &Path) -> io::Result<()> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_be_bytes());
        hasher.update(name.as_bytes());
        let mut content = hasher.finalize_xof().take(bytes);
        let mut file = File::create(path)?;
        while io::copy(&mut content.by_ref().take(PIECE_BYTES), &mut file)? > 0 {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("it is not wanted any more"));
            }
        }
        Ok(())
    }
}

/// The hash of a file, or of a folder with all the names and files in it. Blocking.
pub(crate) fn digest(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    if !path.is_dir() {
        hasher.update_reader(File::open(path)?)?;
        return Ok(hasher.finalize());
    }
    let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name()));
    let mut names = entries.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    for name in names {
        let bytes = name.as_encoded_bytes();
        hasher
            .update(&(bytes.len() as u64).to_be_bytes())
            .update(bytes);
        hasher.update(digest(&path.join(&name))?.as_bytes());
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_byte_and_name_is_in_the_digest() {
        let dir = tempfile::tempdir().unwrap();
        let item = Item {
            name: "film".to_owned(),
            content: 0,
            owner: 0,
            bytes: 1001,
            files: 3,
        };
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let write = |seed, path: &Path| {
            let stop = Arc::default();
            Writer { seed, stop }.write(&item, path).unwrap();
        };
        write(1, &one);
        write(1, &other);
        let same = || digest(&one).unwrap() == digest(&other).unwrap();
        assert!(same(), "the same seed makes the same bytes");
        let part = other.join("part-0002");
        let bytes = fs::read(&part).unwrap();
        assert_eq!(bytes.len(), 333);
        let mut wrong = bytes.clone();
        wrong[332] ^= 1;
        fs::write(&part, wrong).unwrap();
        assert!(!same(), "a bit");
        fs::write(&part, bytes).unwrap();
        fs::rename(&part, other.join("part-0003")).unwrap();
        assert!(!same(), "a name");
        fs::rename(other.join("part-0003"), &part).unwrap();
        assert!(same());
        write(2, &dir.path().join("third"));
        assert_ne!(
            digest(&one).unwrap(),
            digest(&dir.path().join("third")).unwrap()
        );
    }
}
