//! Everything below a place that may not be read, so that a person is told of all of it at once.
//!
//! A share ends at the first file or folder that this user may not read. Then [`list`] goes over all
//! entries that the share would have, opens each and reads none. It names a folder that cannot be
//! listed or entered once, and not what lies in it. It decides nothing: whatever else is wrong with an
//! entry is for the next attempt to say. It ends early on cancellation.

use std::fs::{self, DirEntry, FileType};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use shoal_protocol::name::escaped_bytes;
use shoal_protocol::unixfs::ENTRIES_MAX;
use tokio_util::sync::CancellationToken;

use super::error::{PATHS_LISTED_MAX, Unreadable};
use super::hash;
use super::place::{SharePlace, last_name};
use super::walk::Excludes;

/// Lists what below `place` may not be read.
pub(super) fn list(
    place: &SharePlace,
    excludes: &Excludes,
    cancel: &CancellationToken,
) -> Unreadable {
    let mut search = Search {
        excludes,
        cancel,
        entries: 0,
        folders: Vec::new(),
        found: Vec::new(),
        total: 0,
    };
    search.place(place);
    search.found.sort();
    let (listed, patterns): (Vec<_>, Vec<_>) = search
        .found
        .into_iter()
        .map(|(path, in_tree)| (shown(&path), globset::escape(&in_tree.to_string_lossy())))
        .unzip();
    Unreadable {
        listed,
        patterns: patterns.into_iter().filter(|it| !it.is_empty()).collect(),
        total: search.total,
    }
}

fn shown(path: &Path) -> String {
    escaped_bytes(path.as_os_str().as_encoded_bytes()).to_string()
}

/// A search in progress.
struct Search<'a> {
    excludes: &'a Excludes,
    cancel: &'a CancellationToken,
    entries: usize,
    /// Folders still to be looked into, each with its path in the tree that is shared.
    folders: Vec<(PathBuf, PathBuf)>,
    /// The first that were found, with their paths in the tree.
    found: Vec<(PathBuf, PathBuf)>,
    total: u64,
}

impl Search<'_> {
    fn place(&mut self, place: &SharePlace) {
        if place.selection.is_empty() {
            self.given(place.base.clone(), PathBuf::new());
        }
        for below in &place.selection {
            self.given(place.base.join(below), PathBuf::from(last_name(below)));
        }
        while let Some((path, in_tree)) = self.folders.pop() {
            match entries(&path) {
                Ok(entries) => entries.for_each(|entry| self.entry(&entry, &in_tree)),
                Err(error) => self.note(path, in_tree, &error),
            }
        }
    }

    /// One of the paths that were asked for.
    fn given(&mut self, path: PathBuf, in_tree: PathBuf) {
        match fs::symlink_metadata(&path) {
            Ok(metadata) => self.look(path, in_tree, metadata.file_type()),
            Err(error) => self.note(path, in_tree, &error),
        }
    }

    fn entry(&mut self, entry: &DirEntry, folder: &Path) {
        self.entries += 1;
        if self.entries > ENTRIES_MAX || self.cancel.is_cancelled() {
            return;
        }
        let name = entry.file_name();
        let place = (folder, Path::new(&name));
        let left_out = self
            .excludes
            .reason(&entry.path(), place, entry.file_type());
        if left_out.is_some() {
            return;
        }
        let (path, in_tree) = (entry.path(), folder.join(&name));
        match entry.file_type() {
            Ok(kind) => self.look(path, in_tree, kind),
            Err(error) => self.note(path, in_tree, &error),
        }
    }

    fn look(&mut self, path: PathBuf, in_tree: PathBuf, kind: FileType) {
        if kind.is_dir() {
            self.folders.push((path, in_tree));
        } else if kind.is_file()
            && let Err(error) = hash::open_to_read(&path)
        {
            self.note(path, in_tree, &error);
        }
    }

    fn note(&mut self, path: PathBuf, in_tree: PathBuf, error: &io::Error) {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return;
        }
        self.total += 1;
        if self.found.len() < PATHS_LISTED_MAX {
            self.found.push((path, in_tree));
        }
    }
}

/// The entries of a folder that may be listed and, unless it is empty, entered.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = DirEntry> + use<>> {
    let mut entries = fs::read_dir(folder)?.flatten().peekable();
    if entries.peek().is_some() {
        accessat(CWD, folder, Access::EXEC_OK, AtFlags::EACCESS)?;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn all_that_may_not_be_read_is_named_at_once() {
        if rustix::process::geteuid().is_root() {
            // Permissions mean nothing to root; the test over the binary runs as nobody.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        let closed = ["closed", "no-entry", "left-out"];
        for folder in closed.iter().chain(&["open"]) {
            fs::create_dir_all(base.join(folder)).unwrap();
            fs::write(base.join(folder).join("file"), "x").unwrap();
        }
        let set_mode = |name: &str, mode| {
            fs::set_permissions(base.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        set_mode("open/file", 0);
        set_mode("closed", 0);
        set_mode("left-out", 0);
        set_mode("no-entry", 0o600);
        let place = SharePlace {
            base: base.clone(),
            selection: Vec::new(),
            name: "base".to_owned(),
            written: None,
        };
        let excludes = Excludes::new(&["left-out".to_owned()], Path::new("/no/home")).unwrap();
        let found = list(&place, &excludes, &CancellationToken::new());
        closed.iter().for_each(|folder| set_mode(folder, 0o700));
        assert_eq!(found.patterns, ["closed", "no-entry", "open/file"]);
        assert_eq!(found.total, 3);
        assert_eq!(found.listed[2], shown(&base.join("open/file")));
    }

    #[test]
    fn few_are_named_however_many_there_are() {
        let excludes = Excludes::none();
        let cancel = CancellationToken::new();
        let mut search = Search {
            excludes: &excludes,
            cancel: &cancel,
            entries: 0,
            folders: Vec::new(),
            found: Vec::new(),
            total: 0,
        };
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        for number in 0..1000 {
            let name = PathBuf::from(number.to_string());
            search.note(name.clone(), name, &denied);
        }
        search.note(
            PathBuf::new(),
            PathBuf::new(),
            &io::ErrorKind::NotFound.into(),
        );
        assert_eq!((search.found.len(), search.total), (PATHS_LISTED_MAX, 1000));
    }
}
