//! A part that moves into a folder that is there, with `--overwrite`; and removing one.
//!
//! What lies in the folder and not in the part is not touched. A folder that is merged into may be
//! read-only, as one that was fetched with its mode: it is made writable for as long as the merge
//! takes, and gets its mode back whatever comes of that; if the process ends before, from the next run.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode},
    io::Errno,
};
use shoal_ground::said;
use shoal_protocol::unixfs::Attributes;

use super::{
    attributes::{self, Folder, Unkept},
    exists,
    noted::NotedModes,
    own::{FOLDER_MODE, open_directory, open_own_below, open_own_directory},
};

/// A folder that a part moves into.
pub(super) struct Merge {
    into: OwnedFd,
    /// Where it is, for errors.
    at: PathBuf,
    /// The folders that were there, and how wide they were.
    was: BTreeMap<PathBuf, Mode>,
    noted: NotedModes,
}

impl Merge {
    /// Opens the folder `name` to merge into it.
    pub(super) fn into(
        parent: &OwnedFd,
        name: &OsStr,
        at: &Path,
        mut noted: NotedModes,
    ) -> io::Result<Self> {
        let mut was = BTreeMap::new();
        let into = open_there(parent, name, Path::new(""), &mut was, &mut noted)?;
        // What an earlier run has merged already is not in the part any more.
        let there = noted
            .all()
            .filter(|(path, _)| open_own_below(&into, path).is_ok());
        was.extend(there.map(|(path, mode)| (path.to_owned(), mode)));
        let at = at.to_owned();
        Ok(Self {
            into,
            at,
            was,
            noted,
        })
    }

    /// Moves what is in `part` over what is there, and gives the folders what they are to have. A merge
    /// in which a folder would meet something else replaces nothing.
    pub(super) fn take(mut self, part: &OwnedFd, folders: &[Folder]) -> io::Result<Unkept> {
        let merged = self.into.try_clone().and_then(|into| {
            self.check(part, &into, Path::new(""))?;
            self.merge(part, &into, Path::new(""))
        });
        let folders = match &merged {
            Ok(()) => folders,
            Err(_) => &[],
        };
        let finished = self.finish(folders);
        if finished.is_ok() {
            self.noted.forget()?;
        }
        merged.and(finished)
    }

    /// All of it but its end, as a process does that is killed.
    #[cfg(test)]
    pub(super) fn cut_off(&mut self, part: &OwnedFd) -> io::Result<()> {
        let into = self.into.try_clone()?;
        self.check(part, &into, Path::new(""))?;
        self.merge(part, &into, Path::new(""))
    }

    fn check(&mut self, from: &OwnedFd, into: &OwnedFd, path: &Path) -> io::Result<()> {
        for (name, kind) in self.list(from)? {
            let below = path.join(&name);
            let there = match rustix::fs::statat(into, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(self.about(&below, error)),
            };
            match (kind == FileType::Directory, there == FileType::Directory) {
                (true, true) => {
                    let from = open_own_directory(from, &name)?;
                    let into = self.open(into, &name, &below)?;
                    self.check(&from, &into, &below)?;
                }
                (false, false) => {}
                (true, false) => return Err(Errno::NOTDIR.into()),
                (false, true) => return Err(Errno::ISDIR.into()),
            }
        }
        Ok(())
    }

    fn merge(&mut self, from: &OwnedFd, into: &OwnedFd, path: &Path) -> io::Result<()> {
        for (name, kind) in self.list(from)? {
            let below = path.join(&name);
            if kind != FileType::Directory || !exists(into, &name)? {
                move_entry(from, into, &name).map_err(|error| self.about(&below, error))?;
                continue;
            }
            let here = open_own_directory(from, &name)?;
            let there = self.open(into, &name, &below)?;
            self.merge(&here, &there, &below)?;
            rustix::fs::unlinkat(from, &name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    fn open(&mut self, into: &OwnedFd, name: &OsStr, path: &Path) -> io::Result<OwnedFd> {
        let (was, noted) = (&mut self.was, &mut self.noted);
        open_there(into, name, path, was, noted)
            .map_err(|error| said::about(&self.at.join(path), &error))
    }

    /// What is to be moved of a folder of the part: all but the notes.
    fn list(&self, from: &OwnedFd) -> io::Result<Vec<(OsString, FileType)>> {
        let mut found = list(from)?;
        found.retain(|(name, _)| name != self.noted.name());
        Ok(found)
    }

    /// Gives every folder its mode and its times, each after all that is in it.
    fn finish(&self, folders: &[Folder]) -> io::Result<Unkept> {
        let there = self.was.keys().map(|path| (path.as_path(), None));
        let meant = folders
            .iter()
            .map(|it| (it.path.as_path(), Some(&it.attributes)));
        // What is below a folder comes after it.
        let all: BTreeMap<&Path, Option<&Attributes>> = there.chain(meant).collect();
        let mut unkept = Unkept::default();
        let mut result = Ok(());
        for (path, wanted) in all.into_iter().rev() {
            match self.finish_one(path, wanted) {
                Ok(more) => unkept.add(more),
                // The others get theirs all the same.
                Err(error) => result = Err(said::about(&self.at.join(path), &error)),
            }
        }
        result.map(|()| unkept)
    }

    fn finish_one(&self, path: &Path, wanted: Option<&Attributes>) -> io::Result<Unkept> {
        let opened = open_own_below(&self.into, path)?;
        let given = wanted.copied().unwrap_or_default();
        let Some(was) = self.was.get(path) else {
            return attributes::give(&opened, &given);
        };
        let mode = attributes::merged_mode(*was, wanted);
        if Mode::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode) != mode {
            attributes::unless_refused(rustix::fs::fchmod(&opened, mode))?;
        }
        attributes::give(
            &opened,
            &Attributes {
                mode: None,
                ..given
            },
        )
    }

    fn about(&self, path: &Path, error: Errno) -> io::Error {
        said::about(&self.at.join(path), &error.into())
    }
}

/// Opens a folder that was there, and notes how wide it is, or was before an earlier run.
fn open_there(
    parent: &OwnedFd,
    name: &OsStr,
    path: &Path,
    was: &mut BTreeMap<PathBuf, Mode>,
    noted: &mut NotedModes,
) -> io::Result<OwnedFd> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is = Mode::from_raw_mode(stat.st_mode);
    let mode = noted.of(path).unwrap_or(is);
    was.entry(path.to_owned()).or_insert(mode);
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && !is.contains(FOLDER_MODE) {
        noted.note(path, mode)?;
    }
    Ok(open_own_directory(parent, name)?)
}

/// Gives the folders below `name` their modes back that a merge has noted and not finished.
pub(super) fn give_back(parent: &OwnedFd, name: &OsStr, noted: NotedModes) -> io::Result<()> {
    for (path, mode) in noted.all().rev() {
        let opened = open_directory(parent, name).map_err(io::Error::from);
        // What is not there any more, or is no folder, has nothing to get.
        let opened = opened.and_then(|root| open_own_below(&root, path));
        if let Ok(opened) = opened {
            attributes::unless_refused(rustix::fs::fchmod(&opened, mode))?;
        }
    }
    noted.forget()
}

/// Moves an entry; a folder has to be writable for that, as it gets another parent.
fn move_entry(from: &OwnedFd, into: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::renameat(from, name, into, name) {
        Err(Errno::ACCESS) => {
            open_own_directory(from, name)?;
            rustix::fs::renameat(from, name, into, name)
        }
        other => other,
    }
}

/// Removes all that is in a folder of a part.
pub(super) fn empty(directory: &OwnedFd) -> io::Result<()> {
    for (name, kind) in list(directory)? {
        if kind == FileType::Directory {
            empty(&open_own_directory(directory, &name)?)?;
            rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR)?;
        } else {
            rustix::fs::unlinkat(directory, &name, AtFlags::empty())?;
        }
    }
    Ok(())
}

fn list(directory: &OwnedFd) -> io::Result<Vec<(OsString, FileType)>> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        found.push((name, kind));
    }
    Ok(found)
}
