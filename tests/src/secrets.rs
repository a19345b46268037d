//! Looking for what must not lie on a disk.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
};

/// What is looked for on a disk by its first bytes: enough that they lie nowhere by chance.
#[derive(Default)]
pub struct Secrets(HashMap<[u8; 16], &'static str>);

impl Secrets {
    /// Adds bytes, of which the first 16 count.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn add(&mut self, what: &'static str, bytes: &[u8]) {
        self.0.insert(*bytes.first_chunk().expect("16 bytes"), what);
    }

    /// A hash as it is stored, and as people read it.
    pub fn add_hash(&mut self, what: &'static str, hash: &[u8]) {
        self.add(what, hash);
        let hex: String = hash.iter().map(|it| format!("{it:02x}")).collect();
        self.add(what, hex.as_bytes());
    }

    /// Which of them lie anywhere in the files below a folder, and how many bytes were searched.
    ///
    /// # Panics
    /// When something cannot be read.
    #[must_use]
    pub fn found_below(&self, folder: &Path) -> (BTreeSet<&'static str>, usize) {
        let (mut found, mut searched) = (BTreeSet::new(), 0);
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let kind = path.symlink_metadata().expect("an entry").file_type();
            if kind.is_dir() {
                let (more, bytes) = self.found_below(&path);
                found.extend(more);
                searched += bytes;
            } else if kind.is_file() {
                let bytes = fs::read(&path).expect("a file");
                searched += bytes.len();
                let windows = bytes.array_windows();
                found.extend(windows.filter_map(|it| self.0.get(it)));
            }
        }
        (found, searched)
    }
}
