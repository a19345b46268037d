//! One damage to one file of a home.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use shoal_tests::dice::Dice;

/// What was done to which file.
pub(crate) struct Damage {
    file: String,
    what: What,
}

enum What {
    Flip { bit: u64 },
    Cut { len: u64 },
    Zeros { from: u64, len: u64 },
    Removed,
}

impl Damage {
    /// Damages a file of the database, or the register, as `dice` say. Files that a start neither
    /// needs nor reads (RocksDB's own text log, its lock, its options) are left alone.
    pub(crate) fn choose(home: &Path, dice: &mut Dice) -> Self {
        let mut files: Vec<PathBuf> = fs::read_dir(home.join("db"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| is_data(path))
            .collect();
        files.push(home.join("shares.register"));
        files.sort();
        // Kinds first: there are many more tables than manifests.
        let mut kinds: Vec<String> = files.iter().map(|path| kind(path)).collect();
        kinds.dedup();
        kinds.sort();
        kinds.dedup();
        let chosen = &kinds[dice.index(kinds.len())];
        let of_kind: Vec<&PathBuf> = files.iter().filter(|path| kind(path) == *chosen).collect();
        let file = of_kind[dice.index(of_kind.len())];
        let what = What::choose(file, dice);
        what.happen(file);
        Self {
            file: file.file_name().unwrap().to_string_lossy().into_owned(),
            what,
        }
    }
}

fn is_data(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    let is_unread = ["LOG", "LOCK", "OPTIONS", "IDENTITY"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    !is_unread
}

/// `000012.sst` and `000013.sst` are of one kind.
fn kind(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    name.chars().filter(|c| !c.is_ascii_digit()).collect()
}

impl What {
    fn choose(file: &Path, dice: &mut Dice) -> Self {
        let len = fs::metadata(file).unwrap().len();
        match dice.below(4) {
            _ if len == 0 => Self::Removed,
            0 => Self::Flip {
                bit: dice.below(len * 8),
            },
            1 => Self::Cut {
                len: dice.below(len),
            },
            2 => {
                let from = dice.below(len);
                let len = 1 + dice.below((len - from).min(4096));
                Self::Zeros { from, len }
            }
            _ => Self::Removed,
        }
    }

    fn happen(&self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        let at = |position: u64| usize::try_from(position).unwrap();
        match self {
            Self::Flip { bit } => bytes[at(bit / 8)] ^= 1 << (bit % 8),
            Self::Cut { len } => bytes.truncate(at(*len)),
            Self::Zeros { from, len } => bytes[at(*from)..at(from + len)].fill(0),
            Self::Removed => return fs::remove_file(file).unwrap(),
        }
        fs::write(file, bytes).unwrap();
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.file;
        match self.what {
            What::Flip { bit } => write!(f, "{file}: bit {bit} flipped"),
            What::Cut { len } => write!(f, "{file}: cut to {len} bytes"),
            What::Zeros { from, len } => write!(f, "{file}: {len} zeros at {from}"),
            What::Removed => write!(f, "{file}: removed"),
        }
    }
}
