//! Where a fetch lands: a hidden part beside the destination, reached through directory handles
//! only.
//!
//! [`Destination`] decides the final path before anything is written. [`Part`] is the hidden
//! sibling that is filled, and moves into place by one rename. Every name that came from the
//! network arrives as a [`SafeName`] and is opened relative to a directory handle without following
//! symlinks, so no part of a path can be swapped underneath. What this module never does: overwrite
//! without being told, remove anything but its own part, or follow a link inside the part.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use rustix::{
    fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use shoal_ground::{said, space::Space};
use shoal_protocol::name::SafeName;
use shoal_store::own;

/// Directory handles kept open while landing a tree; a file tree is landed directory by directory,
/// so a few dozen would do. 128 stays far below the usual limit of 1024 descriptors.
const DIRECTORY_HANDLES_MAX: usize = 128;

/// The folders that a fetch has to make to land where it was asked to, innermost first.
#[derive(Debug, Default)]
pub(crate) struct MissingFolders(Vec<PathBuf>);

impl MissingFolders {
    /// Those of a path that are not there.
    pub(crate) fn of(path: &Path) -> Self {
        let missing = path.ancestors().take_while(|it| !it.exists());
        Self(missing.map(Path::to_owned).collect())
    }

    /// Removes them again, up to the first that holds anything.
    pub(crate) fn remove_empty(&self) {
        let mut folders = self.0.iter();
        // One that cannot be removed is in use, or was never made.
        let _ = folders.try_for_each(std::fs::remove_dir);
    }
}

/// The final place of a fetch: an existing parent directory and a name in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Destination {
    /// The directory, which exists.
    pub(crate) parent: PathBuf,
    /// The name in it.
    pub(crate) name: OsString,
}

impl Destination {
    /// Decides where `name` goes: an existing directory, or a path that ends in `/`, means "into
    /// it"; any other path is the final name. A missing directory is made only in the second case.
    pub(crate) fn resolve(output: &Path, into: bool, name: &SafeName) -> io::Result<Self> {
        // Before a folder is made.
        let there = output.ancestors().find_map(|it| it.canonicalize().ok());
        if let Some(home) = there.and_then(|there| own::home_around(&there)) {
            let text = format!("shoal keeps its own data in {}", home.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if into {
            std::fs::create_dir_all(output)?;
        }
        if into || output.is_dir() {
            let parent = output.canonicalize()?;
            return Ok(Self {
                parent,
                name: name.as_str().into(),
            });
        }
        let Some(file_name) = output.file_name() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path has no file name",
            ));
        };
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(Self {
            parent: parent.canonicalize()?,
            name: file_name.to_owned(),
        })
    }

    /// The final path.
    pub(crate) fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Whether anything, a dangling symlink too, is at the final path.
    pub(crate) fn is_taken(&self) -> bool {
        self.path().symlink_metadata().is_ok()
    }

    /// A new hidden sibling. Its id is random: another home may fetch to the same place, and nobody
    /// shall be able to put something there first.
    pub(crate) fn part_name(&self) -> OsString {
        own::part_name(&self.name.to_string_lossy(), rand::random()).into()
    }

    /// Moves what is at the final path back to the hidden `part`, unless something is there.
    pub(crate) fn take_back(&self, part: &OsStr) -> io::Result<()> {
        let parent = open_parent(self)?;
        Ok(rename_new(&parent, &self.name, part)?)
    }

    /// Flushes everything that was written to the destination's file system.
    pub(crate) fn flush(&self) -> io::Result<()> {
        flush(&open_parent(self)?, &self.name)
    }
}

/// The hidden file or directory that a transfer fills.
pub(crate) struct Part {
    parent: Arc<OwnedFd>,
    name: OsString,
    /// Where it goes, which is what people know it by.
    goes_to: PathBuf,
    tree: Option<OwnedFd>,
    directories: Mutex<HashMap<PathBuf, Arc<OwnedFd>>>,
}

impl Part {
    /// Opens the part of a single file, which is made on the first write.
    pub(crate) fn file(destination: &Destination, part_name: OsString) -> io::Result<Self> {
        Ok(Self::new(
            open_parent(destination)?,
            destination,
            part_name,
            None,
        ))
    }

    /// Whether the part can be made and written: a destination that refuses is found out before
    /// anybody is asked for content.
    pub(crate) fn probe(&self) -> io::Result<()> {
        match &self.tree {
            Some(_) => Ok(()),
            None => self.open_file(Path::new("")).map(drop),
        }
    }

    /// Opens the part of a tree, making its directory when it is not there.
    pub(crate) fn tree(destination: &Destination, part_name: OsString) -> io::Result<Self> {
        let parent = open_parent(destination)?;
        make_directory(&parent, &part_name)?;
        let tree = open_directory(&parent, &part_name)?;
        Ok(Self::new(parent, destination, part_name, Some(tree)))
    }

    fn new(
        parent: OwnedFd,
        destination: &Destination,
        name: OsString,
        tree: Option<OwnedFd>,
    ) -> Self {
        Self {
            parent: Arc::new(parent),
            goes_to: destination.path(),
            name,
            tree,
            directories: Mutex::default(),
        }
    }

    /// An error about the file or folder `path`, by the name under which it lands.
    pub(crate) fn about(&self, path: &str, error: &io::Error) -> io::Error {
        match path {
            "" => said::about(&self.goes_to, error),
            path => said::about(&self.goes_to.join(path), error),
        }
    }

    /// Makes the directory `path` (relative to the tree's root); its parents must have been made.
    pub(crate) fn make_directory(&self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.split(path)?;
        make_directory(&directory, name)
    }

    /// Opens the file `path` for reading and positional writing, making it when it is not there.
    /// The empty path is the part itself.
    pub(crate) fn open_file(&self, path: &Path) -> io::Result<File> {
        let (directory, name) = self.split(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory.as_fd(), name, flags, Mode::from(0o666))?;
        Ok(File::from(file))
    }

    /// Opens the file `path` for reading, if it is there.
    pub(crate) fn open_existing(&self, path: &Path) -> io::Result<File> {
        let (directory, name) = self.split(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(
            directory.as_fd(),
            name,
            flags,
            Mode::empty(),
        )?))
    }

    /// Makes the symlink `path` with `target`; one that is there already is replaced.
    pub(crate) fn make_symlink(&self, path: &Path, target: &str) -> io::Result<()> {
        let (directory, name) = self.split(path)?;
        match rustix::fs::symlinkat(target, directory.as_fd(), name) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(directory.as_fd(), name, AtFlags::empty())?;
                Ok(rustix::fs::symlinkat(target, directory.as_fd(), name)?)
            }
            other => Ok(other?),
        }
    }

    /// Opens the directory `path` below the tree's root.
    pub(crate) fn directory(&self, path: &Path) -> io::Result<Arc<OwnedFd>> {
        let root = self.tree.as_ref().ok_or(Errno::NOTDIR)?;
        if let Some(found) = self.lock_directories().get(path) {
            return Ok(Arc::clone(found));
        }
        let opened = match path.parent() {
            Some(parent) if parent != Path::new("") => {
                let parent = self.directory(parent)?;
                open_directory(&parent, path.file_name().ok_or(Errno::INVAL)?)?
            }
            _ if path == Path::new("") => root.try_clone()?,
            _ => open_directory(root, path.as_os_str())?,
        };
        let opened = Arc::new(opened);
        let mut directories = self.lock_directories();
        if directories.len() >= DIRECTORY_HANDLES_MAX {
            directories.clear();
        }
        directories.insert(path.to_owned(), Arc::clone(&opened));
        Ok(opened)
    }

    /// Moves the part to its final name in one step. Without `overwrite` an existing destination is
    /// an error of kind `AlreadyExists`; with it a file is replaced and a directory merged into.
    pub(crate) fn publish(&self, destination: &Destination, overwrite: bool) -> io::Result<()> {
        let target = destination.name.as_os_str();
        match rename_new(&self.parent, &self.name, target) {
            Err(Errno::EXIST) if overwrite => self.replace(target),
            other => Ok(other?),
        }
    }

    fn replace(&self, target: &OsStr) -> io::Result<()> {
        match &self.tree {
            None => Ok(rustix::fs::renameat(
                &self.parent,
                &self.name,
                &self.parent,
                target,
            )?),
            Some(tree) => {
                let into = open_directory(&self.parent, target)?;
                check_merge(tree, &into)?;
                merge(tree, &into)?;
                Ok(rustix::fs::unlinkat(
                    &self.parent,
                    &self.name,
                    AtFlags::REMOVEDIR,
                )?)
            }
        }
    }

    /// Removes the part and everything in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.lock_directories().clear();
        match &self.tree {
            None => match rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                other => Ok(other?),
            },
            Some(tree) => {
                empty(tree)?;
                Ok(rustix::fs::unlinkat(
                    &self.parent,
                    &self.name,
                    AtFlags::REMOVEDIR,
                )?)
            }
        }
    }

    /// Free bytes for this user on the destination's file system, as it says; none when it says
    /// that it has no blocks at all, as those do that do not know.
    pub(crate) fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(Space::of(&self.parent)?.map(|space| space.free))
    }

    /// Whether the file system refuses so many bytes for want of room, found out by taking them for
    /// a moment. One that cannot tell does not refuse.
    pub(crate) fn is_too_large(&self, bytes: u64) -> bool {
        let scratch = match &self.tree {
            None => self.open_file(Path::new("")),
            Some(_) => self.scratch(),
        };
        // What is wrong beside that is found when the first byte is written.
        let Ok(scratch) = scratch else { return false };
        let taken = rustix::fs::fallocate(&scratch, FallocateFlags::empty(), 0, bytes);
        let _ = scratch.set_len(0);
        matches!(taken, Err(Errno::NOSPC | Errno::DQUOT))
    }

    /// A file without a name in the part of a tree.
    fn scratch(&self) -> io::Result<File> {
        let root = self.directory(Path::new(""))?;
        let stem = Path::new(&self.name).file_stem().unwrap_or(&self.name);
        let id = Path::new(stem).extension().unwrap_or(stem);
        let name = format!(".room-{}", id.to_string_lossy());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&root, &name, flags, Mode::from(0o600))?;
        rustix::fs::unlinkat(&root, &name, AtFlags::empty())?;
        Ok(file.into())
    }

    /// Flushes everything that was written to the destination's file system.
    pub(crate) fn flush(&self) -> io::Result<()> {
        flush(&self.parent, &self.name)
    }

    /// The directory that `path` is in, and its name there.
    fn split<'p>(&'p self, path: &'p Path) -> io::Result<(Arc<OwnedFd>, &'p OsStr)> {
        if self.tree.is_none() {
            return Ok((Arc::clone(&self.parent), &self.name));
        }
        let name = path.file_name().ok_or(Errno::INVAL)?;
        Ok((
            self.directory(path.parent().unwrap_or(Path::new("")))?,
            name,
        ))
    }

    fn lock_directories(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<OwnedFd>>> {
        self.directories.lock()
    }
}

/// Renames `from` to `to` in `parent`, unless there is something.
fn rename_new(parent: &OwnedFd, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(parent, from, parent, to, RenameFlags::NOREPLACE) {
        // A file system without RENAME_NOREPLACE: look, then rename. The window between the two
        // is the best that such a system offers.
        Err(Errno::INVAL | Errno::NOSYS) => match exists(parent, to)? {
            true => Err(Errno::EXIST),
            false => rustix::fs::renameat(parent, from, parent, to),
        },
        other => other,
    }
}

/// Flushes the file system that `name` in `parent` is on, by whichever of the two may be read; all of
/// them where neither may.
fn flush(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |name: &OsStr| rustix::fs::openat(parent, name, read, Mode::empty());
        if let Ok(readable) = open(OsStr::new(".")).or_else(|_| open(name)) {
            return Ok(rustix::fs::syncfs(readable)?);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (parent, name);
    rustix::fs::sync();
    Ok(())
}

/// Opens the folder that a fetch lands in. Things are made in it and moved, and it is never listed: one
/// that may be entered and written but not read will do.
fn open_parent(destination: &Destination) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(
        CWD,
        &destination.parent,
        flags,
        Mode::empty(),
    )?)
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn make_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::from(0o777)) {
        Err(Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

fn exists(parent: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses a merge in which a directory would meet something else, before anything was replaced.
fn check_merge(from: &OwnedFd, into: &OwnedFd) -> io::Result<()> {
    for (name, kind) in list(from)? {
        let there = match rustix::fs::statat(into, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        match (kind == FileType::Directory, there == FileType::Directory) {
            (true, true) => {
                check_merge(&open_directory(from, &name)?, &open_directory(into, &name)?)?;
            }
            (false, false) => {}
            (true, false) => return Err(Errno::NOTDIR.into()),
            (false, true) => return Err(Errno::ISDIR.into()),
        }
    }
    Ok(())
}

/// Moves what is in `from` over what is in `into`, directory by directory; nothing else in `into`
/// is touched. A directory never replaces a file, nor a file a directory.
fn merge(from: &OwnedFd, into: &OwnedFd) -> io::Result<()> {
    for (name, kind) in list(from)? {
        if kind == FileType::Directory {
            make_directory(into, &name)?;
            merge(&open_directory(from, &name)?, &open_directory(into, &name)?)?;
            rustix::fs::unlinkat(from, &name, AtFlags::REMOVEDIR)?;
        } else {
            rustix::fs::renameat(from, &name, into, &name)?;
        }
    }
    Ok(())
}

fn empty(directory: &OwnedFd) -> io::Result<()> {
    for (name, kind) in list(directory)? {
        if kind == FileType::Directory {
            empty(&open_directory(directory, &name)?)?;
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

mod rules;
#[cfg(test)]
mod tests;
