//! The tree below a place, one step at a time, in the order in which its DAG is built.
//!
//! Entries come sorted by the bytes of their names, a folder's between its `Enter` and its `Leave`.
//! Nothing is opened but folders; what is held is one list of names for each open folder. The walk
//! ends at the first error. When names cannot be shared it goes on to the end, without yielding
//! steps, to list them all.

use std::fs::{self, DirEntry, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use shoal_protocol::name::SafeName;
use shoal_protocol::unixfs::{ENTRIES_MAX, TREE_DEPTH_MAX};

use super::error::NAMES_LISTED_MAX;
use super::place::{SharePlace, described, last_name};
use super::{ShareError, SkipReason, Skipped};
use crate::own;
use crate::patterns::Patterns;

/// Most levels of folders: half of what receivers accept, as a folder may be sharded into two.
const LEVELS_MAX: usize = TREE_DEPTH_MAX / 2;

/// Left-out entries that are listed; beyond that only their number is told.
const SKIPPED_LISTED_MAX: usize = 1000;

/// One step of a walk. `below` is a path below the place's base, empty for the base itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WalkStep {
    /// Into a folder; `None` is the folder that holds several shared paths and exists nowhere else.
    Enter { name: String, below: Option<String> },
    /// Out of the innermost folder.
    Leave,
    /// A file.
    File { name: String, below: String },
    /// A symlink.
    Symlink {
        name: String,
        below: String,
        target: String,
    },
}

/// A walk in progress.
pub(super) struct Walk<'a> {
    place: &'a SharePlace,
    excludes: &'a Excludes,
    begun: bool,
    /// The open folders, outermost first.
    levels: Vec<Level>,
    entries: usize,
    names: BadNames,
    left_out: LeftOut,
}

/// What is left to do in an open folder.
struct Level {
    items: std::vec::IntoIter<Item>,
    /// The folder's path in the tree that is built, for patterns.
    tree_path: PathBuf,
}

/// An entry that was listed and not looked at.
struct Item {
    name: String,
    below: String,
    kind: FileType,
}

/// What was left out of a share.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// The first ones.
    pub(super) listed: Vec<Skipped>,
    /// How many in all.
    pub(super) total: u64,
}

#[derive(Default)]
struct BadNames {
    listed: Vec<String>,
    total: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(place: &'a SharePlace, excludes: &'a Excludes) -> Self {
        Self {
            place,
            excludes,
            begun: false,
            levels: Vec::new(),
            entries: 0,
            names: BadNames::default(),
            left_out: LeftOut::default(),
        }
    }

    /// The next step; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<WalkStep>, ShareError> {
        while let Some(advance) = self.advance()? {
            if let Advance::WalkStep(step) = advance
                && self.names.total == 0
            {
                return Ok(Some(step));
            }
        }
        if self.names.total > 0 {
            let BadNames {
                listed: names,
                total,
            } = std::mem::take(&mut self.names);
            return Err(ShareError::Names { names, total });
        }
        Ok(None)
    }

    /// What was left out.
    pub(super) fn left_out(self) -> LeftOut {
        self.left_out
    }

    /// Looks at one more entry; `None` when there is none.
    fn advance(&mut self) -> Result<Option<Advance>, ShareError> {
        if !std::mem::replace(&mut self.begun, true) {
            return self.begin().map(Some);
        }
        let Some(level) = self.levels.last_mut() else {
            return Ok(None);
        };
        match level.items.next() {
            Some(item) => self.visit(item).map(Some),
            None => {
                self.levels.pop();
                Ok(Some(Advance::WalkStep(WalkStep::Leave)))
            }
        }
    }

    fn begin(&mut self) -> Result<Advance, ShareError> {
        let name = self.place.name.clone();
        if self.place.selection.is_empty() {
            let kind = kind_of(&self.place.base)?;
            return self.visit(Item {
                name,
                below: String::new(),
                kind,
            });
        }
        let mut items = Vec::with_capacity(self.place.selection.len());
        for below in &self.place.selection {
            let kind = kind_of(&self.place.base.join(below))?;
            let name = last_name(below).to_owned();
            items.push(Item {
                name,
                below: below.clone(),
                kind,
            });
        }
        self.levels.push(Level {
            items: items.into_iter(),
            tree_path: PathBuf::new(),
        });
        Ok(Advance::WalkStep(WalkStep::Enter { name, below: None }))
    }

    fn visit(&mut self, item: Item) -> Result<Advance, ShareError> {
        let Item { name, below, kind } = item;
        if kind.is_dir() {
            self.enter(&name, &below)?;
            return Ok(Advance::WalkStep(WalkStep::Enter {
                name,
                below: Some(below),
            }));
        }
        if kind.is_file() {
            return Ok(Advance::WalkStep(WalkStep::File { name, below }));
        }
        if kind.is_symlink() {
            let path = self.place.path(&below);
            let target = fs::read_link(&path).map_err(|error| ShareError::io(&path, error))?;
            return Ok(match target.to_str() {
                Some(target) => {
                    let target = target.to_owned();
                    Advance::WalkStep(WalkStep::Symlink {
                        name,
                        below,
                        target,
                    })
                }
                None => {
                    self.names.add(&path, "its target is not UTF-8");
                    Advance::Nothing
                }
            });
        }
        self.left_out.add(below, SkipReason::of(kind));
        Ok(Advance::Nothing)
    }

    /// Lists a folder and makes it the innermost.
    fn enter(&mut self, name: &str, below: &str) -> Result<(), ShareError> {
        if self.levels.len() >= LEVELS_MAX {
            return Err(ShareError::TooLarge {
                what: "levels of folders",
                max: LEVELS_MAX,
            });
        }
        let path = self.place.path(below);
        // The shared folder's own name is not part of the paths in it.
        let tree_path = match self.levels.last() {
            Some(level) => level.tree_path.join(name),
            None => PathBuf::new(),
        };
        let mut items = Vec::new();
        for entry in fs::read_dir(&path).map_err(|error| ShareError::io(&path, error))? {
            let entry = entry.map_err(|error| ShareError::io(&path, error))?;
            if let Some(item) = self.item(&entry, below, &tree_path)? {
                items.push(item);
            }
        }
        items.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        self.levels.push(Level {
            items: items.into_iter(),
            tree_path,
        });
        Ok(())
    }

    /// What is to be done about one entry of a folder, if anything.
    fn item(
        &mut self,
        entry: &DirEntry,
        folder: &str,
        tree_path: &Path,
    ) -> Result<Option<Item>, ShareError> {
        let name = entry.file_name();
        let place = (tree_path, name.as_ref());
        if let Some(reason) = self
            .excludes
            .reason(&entry.path(), place, entry.file_type())
        {
            let below = Path::new(folder).join(&name);
            self.left_out
                .add(below.to_string_lossy().into_owned(), reason);
            return Ok(None);
        }
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(ShareError::TooLarge {
                what: "entries",
                max: ENTRIES_MAX,
            });
        }
        let parsed = SafeName::from_bytes(name.as_encoded_bytes());
        let Ok(name) = parsed.map_err(|reason| self.names.add(&entry.path(), &reason.to_string()))
        else {
            return Ok(None);
        };
        let name = name.to_string();
        let kind = entry
            .file_type()
            .map_err(|error| ShareError::io(&entry.path(), error))?;
        let below = if folder.is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        Ok(Some(Item { name, below, kind }))
    }
}

/// What one advance of a walk came to.
enum Advance {
    WalkStep(WalkStep),
    Nothing,
}

impl LeftOut {
    fn add(&mut self, path: String, reason: SkipReason) {
        self.total += 1;
        if self.listed.len() < SKIPPED_LISTED_MAX {
            self.listed.push(Skipped { path, reason });
        }
    }
}

impl BadNames {
    fn add(&mut self, path: &Path, reason: &str) {
        self.total += 1;
        if self.listed.len() < NAMES_LISTED_MAX {
            self.listed.push(described(path, reason));
        }
    }
}

impl SkipReason {
    fn of(kind: FileType) -> Self {
        if kind.is_fifo() {
            Self::Fifo
        } else if kind.is_socket() {
            Self::Socket
        } else {
            Self::Device
        }
    }
}

fn kind_of(path: &Path) -> Result<FileType, ShareError> {
    let metadata = path
        .symlink_metadata()
        .map_err(|error| ShareError::io(path, error))?;
    Ok(metadata.file_type())
}

/// Patterns of what to leave out.
///
/// A pattern is compared with an entry's name and with its path in the shared folder; `*` does not
/// cross a `/`, `**` does. A folder that matches is left out with all that is in it.
///
/// Beside those it leaves out what is Shoal's own: homes, and the parts of fetches.
pub(super) struct Excludes {
    patterns: Patterns,
    /// This node's home, which is one from before its first file is in it.
    home: Option<PathBuf>,
}

impl Excludes {
    pub(super) fn new(patterns: &[String], home: &Path) -> Result<Self, ShareError> {
        Ok(Self {
            patterns: Patterns::new(patterns)?,
            home: home.canonicalize().ok(),
        })
    }

    /// Leaves nothing out of a copy that was taken without it.
    pub(super) fn none() -> Self {
        Self {
            patterns: Patterns::none(),
            home: None,
        }
    }

    /// Why the entry at `path` is left out, which is `name` in `folder` of the tree that is shared.
    pub(super) fn reason(
        &self,
        path: &Path,
        (folder, name): (&Path, &Path),
        kind: io::Result<FileType>,
    ) -> Option<SkipReason> {
        let patterns = &self.patterns;
        if !patterns.is_empty() && (patterns.matches(name) || patterns.matches(folder.join(name))) {
            return Some(SkipReason::Excluded);
        }
        if name.to_str().is_some_and(own::is_part) {
            return Some(SkipReason::Part);
        }
        let is_dir = kind.is_ok_and(|kind| kind.is_dir());
        let is_home = is_dir && (self.home.as_deref() == Some(path) || own::is_home(path));
        is_home.then_some(SkipReason::Home)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Steps as text: `name(` in, `)` out, `name` a file, `name>target` a symlink.
    fn walk(place: &SharePlace, exclude: &[&str]) -> Result<(String, LeftOut), ShareError> {
        let exclude: Vec<_> = exclude
            .iter()
            .map(|pattern| (*pattern).to_owned())
            .collect();
        let excludes = Excludes::new(&exclude, Path::new("/no/home"))?;
        let mut walk = Walk::new(place, &excludes);
        let mut text = Vec::new();
        while let Some(step) = walk.next()? {
            text.push(match step {
                WalkStep::Enter { name, .. } => format!("{name}("),
                WalkStep::Leave => ")".to_owned(),
                WalkStep::File { name, below } => {
                    assert!(place.path(&below).is_file(), "{below}");
                    name
                }
                WalkStep::Symlink { name, target, .. } => format!("{name}>{target}"),
            });
        }
        Ok((text.join(" "), walk.left_out()))
    }

    fn place(base: &Path, selection: &[&str]) -> SharePlace {
        let selection = selection.iter().map(|path| (*path).to_owned()).collect();
        SharePlace {
            base: base.to_owned(),
            selection,
            name: "top".to_owned(),
            written: None,
        }
    }

    #[test]
    fn entries_come_in_the_order_of_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["a", "empty", "é"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for file in ["a/x", "a/.hidden", "a.txt", "a-b", "B", "é/y"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        symlink("../outside", dir.path().join("link")).unwrap();

        let check = |place: SharePlace, exclude: &[&str], expected: &str| {
            assert_eq!(
                walk(&place, exclude).unwrap().0,
                expected,
                "{place:?} {exclude:?}"
            );
        };
        let all = place(dir.path(), &[]);
        let everything =
            "top( B a( .hidden x ) a-b a.txt empty( ) link>../outside é( y ) )".to_owned();
        check(all, &[], &everything);
        check(place(&dir.path().join("a/x"), &[]), &[], "top");
        check(place(&dir.path().join("empty"), &[]), &[], "top( )");
        check(
            place(dir.path(), &["B", "a", "é/y"]),
            &[],
            "top( B a( .hidden x ) y )",
        );

        let excluding = |patterns: &[&str], expected: &str| {
            check(place(dir.path(), &[]), patterns, expected);
        };
        let rest = "a-b a.txt empty( ) link>../outside é( y ) )";
        excluding(&["x", "B"], &format!("top( a( .hidden ) {rest}"));
        excluding(&["a/*"], &format!("top( B a( ) {rest}"));
        excluding(&["a/"], &format!("top( B {rest}"));
        excluding(&["*.txt", "top/*"], &everything.replace(" a.txt", ""));
        excluding(&["**/y"], &everything.replace(" y ", " "));
    }

    #[test]
    fn what_is_left_out_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        fs::write(dir.path().join("b.o"), "").unwrap();
        let _socket = UnixListener::bind(dir.path().join("s")).unwrap();
        let (steps, left_out) = walk(&place(dir.path(), &[]), &["*.o"]).unwrap();
        assert_eq!(steps, "top( a )");
        let skipped = |path: &str, reason| Skipped {
            path: path.to_owned(),
            reason,
        };
        let expected = [
            skipped("b.o", SkipReason::Excluded),
            skipped("s", SkipReason::Socket),
        ];
        assert_eq!(
            (left_out.listed.as_slice(), left_out.total),
            (&expected[..], 2)
        );
    }

    #[test]
    fn names_that_nobody_would_accept_are_all_listed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("fine"), "").unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b"bad\xff")), "").unwrap();
        fs::write(dir.path().join("sub/bell\x07"), "").unwrap();
        symlink(OsStr::from_bytes(b"\xfe"), dir.path().join("sub/link")).unwrap();
        let error = walk(&place(dir.path(), &[]), &[]).unwrap_err();
        let ShareError::Names { names, total: 3 } = error else {
            panic!("{error:?}")
        };
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|name| !name.contains('\x07')), "{names:?}");
    }

    #[test]
    fn malformed_patterns_and_bottomless_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = walk(&place(dir.path(), &[]), &["a[b"]).unwrap_err();
        assert!(matches!(error, ShareError::Pattern(ref error) if error.pattern == "a[b"));
        let deep: PathBuf = dir.path().join(vec!["d"; LEVELS_MAX].join("/"));
        fs::create_dir_all(deep).unwrap();
        let error = walk(&place(dir.path(), &[]), &[]).unwrap_err();
        assert!(
            matches!(
                error,
                ShareError::TooLarge {
                    max: LEVELS_MAX,
                    ..
                }
            ),
            "{error}"
        );
    }
}
