//! Something to share, for those who have nothing at hand.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// Pictures that no compression makes smaller, so that what is shown is what is moved.
const PICTURES: [(&str, u64); 3] = [
    ("summer/beach.raw", 48_000_000),
    ("summer/sea.raw", 12_000_000),
    ("winter/snow.raw", 3_000_000),
];

/// Small files take another way through a node than large ones.
const NOTES: u32 = 200;

/// Writes a folder of pictures and notes into `dir`, and says where it is. Blocking.
pub(super) fn write(dir: &Path) -> io::Result<PathBuf> {
    let folder = dir.join("photos");
    for (name, bytes) in PICTURES {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(name.as_bytes());
        let mut picture = hasher.finalize_xof().take(bytes);
        io::copy(&mut picture, &mut File::create(path)?)?;
    }
    for number in 1..=NOTES {
        let path = folder.join(format!("note-{number}.txt"));
        fs::write(path, format!("note {number}\n"))?;
    }
    symlink(PICTURES[0].0, folder.join("best"))?;
    Ok(folder)
}
