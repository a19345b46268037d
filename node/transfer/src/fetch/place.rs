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
    fs::{File, Metadata},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use parking_lot::{Mutex, MutexGuard};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use shoal_ground::{said, space};
use shoal_protocol::{name::SafeName, unixfs::Attributes};
use shoal_store::own as ours;

pub use self::attributes::Unkept;
pub(crate) use self::attributes::{Folder, Found, give};

use self::{merge::Merge, noted::NotedModes};

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
        if let Some(home) = there.and_then(|there| ours::home_around(&there)) {
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
        ours::part_name(&self.name.to_string_lossy(), rand::random()).into()
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
    /// The folder of a tree. It is opened when it is needed: until then its mode stays as it is.
    tree: Option<OnceLock<OwnedFd>>,
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
    /// anybody is asked for content. A tree's folder has been made by then.
    pub(crate) fn probe(&self, attributes: &Attributes) -> io::Result<()> {
        match &self.tree {
            Some(_) => self.forget_scratch(),
            None => self.open_file(Path::new(""), attributes).map(drop),
        }
    }

    /// The part of a tree whose root is to have `attributes`, making its folder when it is not there.
    pub(crate) fn tree(
        destination: &Destination,
        part_name: OsString,
        attributes: &Attributes,
    ) -> io::Result<Self> {
        let part = Self::existing_tree(destination, part_name)?;
        make_directory(
            &part.parent,
            &part.name,
            attributes::folder_mode(attributes),
        )?;
        part.root()?;
        Ok(part)
    }

    /// The part of a tree whose folder is there. Nothing is opened but what it lies in.
    pub(crate) fn existing_tree(
        destination: &Destination,
        part_name: OsString,
    ) -> io::Result<Self> {
        let parent = open_parent(destination)?;
        let tree = Some(OnceLock::new());
        Ok(Self::new(parent, destination, part_name, tree))
    }

    fn new(
        parent: OwnedFd,
        destination: &Destination,
        name: OsString,
        tree: Option<OnceLock<OwnedFd>>,
    ) -> Self {
        Self {
            parent: Arc::new(parent),
            goes_to: destination.path(),
            name,
            tree,
            directories: Mutex::default(),
        }
    }

    /// The folder of a tree.
    fn root(&self) -> io::Result<&OwnedFd> {
        let tree = self.tree.as_ref().ok_or(Errno::NOTDIR)?;
        if let Some(root) = tree.get() {
            return Ok(root);
        }
        let opened = own::open_own_directory(&self.parent, &self.name)?;
        Ok(tree.get_or_init(|| opened))
    }

    /// An error about the file or folder `path`, by the name under which it lands.
    pub(crate) fn about(&self, path: &str, error: &io::Error) -> io::Error {
        match path {
            "" => said::about(&self.goes_to, error),
            path => said::about(&self.goes_to.join(path), error),
        }
    }

    /// Makes the directory `path` (relative to the tree's root), which is to have `attributes` once it
    /// is filled; its parents must have been made.
    pub(crate) fn make_directory(&self, path: &Path, attributes: &Attributes) -> io::Result<()> {
        let (directory, name) = self.split(path)?;
        make_directory(&directory, name, attributes::folder_mode(attributes))
    }

    /// Opens the file `path` for reading and positional writing, making it when it is not there: no
    /// wider then than its `attributes` are to be. The empty path is the part itself.
    pub(crate) fn open_file(&self, path: &Path, attributes: &Attributes) -> io::Result<File> {
        let (directory, name) = self.split(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE;
        let mode = attributes::file_mode(attributes);
        Ok(own::open_own_file(&directory, name, flags, mode)?)
    }

    /// Opens the file `path` for reading, if it is there.
    pub(crate) fn open_existing(&self, path: &Path) -> io::Result<File> {
        let (directory, name) = self.split(path)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        Ok(own::open_own_file(&directory, name, flags, Mode::empty())?)
    }

    /// What the system says of the file `path`, which need not be readable.
    pub(crate) fn look(&self, path: &Path) -> io::Result<Metadata> {
        let (directory, name) = self.split(path)?;
        own::look(&directory, name)
    }

    /// Makes the symlink `path` with `target`; one that is there already is replaced.
    pub(crate) fn make_symlink(
        &self,
        path: &Path,
        target: &str,
        attributes: &Attributes,
    ) -> io::Result<Unkept> {
        let (directory, name) = self.split(path)?;
        match rustix::fs::symlinkat(target, &directory, name) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
                rustix::fs::symlinkat(target, &directory, name)?;
            }
            other => other?,
        }
        attributes::give_symlink(&directory, name, attributes)
    }

    /// Gives the folders of a tree what they are to have, once nothing more is made in them; `folders`
    /// has each before what is in it. Says what the file system has not kept.
    pub(crate) fn seal(&self, folders: &[Folder]) -> io::Result<Unkept> {
        let mut unkept = Unkept::default();
        for folder in folders.iter().rev() {
            let opened = self.directory(&folder.path);
            let given = opened.and_then(|opened| give(&opened, &folder.attributes));
            let about = |error| self.about(&folder.path.to_string_lossy(), &error);
            unkept.add(given.map_err(about)?);
        }
        Ok(unkept)
    }

    /// Opens the directory `path` below the tree's root.
    pub(crate) fn directory(&self, path: &Path) -> io::Result<Arc<OwnedFd>> {
        let root = self.root()?;
        if let Some(found) = self.lock_directories().get(path) {
            return Ok(Arc::clone(found));
        }
        let opened = match path.parent() {
            Some(parent) if parent != Path::new("") => {
                let parent = self.directory(parent)?;
                own::open_own_directory(&parent, path.file_name().ok_or(Errno::INVAL)?)?
            }
            _ if path == Path::new("") => root.try_clone()?,
            _ => own::open_own_directory(root, path.as_os_str())?,
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
    /// an error of kind `AlreadyExists`; with it a file is replaced, and a directory merged into, whose
    /// `folders` get anew what they are to have: then it says what the file system has not kept.
    pub(crate) fn publish(
        &self,
        destination: &Destination,
        overwrite: bool,
        folders: &[Folder],
    ) -> io::Result<Option<Unkept>> {
        let target = destination.name.as_os_str();
        match rename_new(&self.parent, &self.name, target) {
            Err(Errno::EXIST) if overwrite => self.replace(target, folders),
            other => Ok(other.map(|()| None)?),
        }
    }

    fn replace(&self, target: &OsStr, folders: &[Folder]) -> io::Result<Option<Unkept>> {
        let parent = &self.parent;
        if self.tree.is_none() {
            rustix::fs::renameat(parent, &self.name, parent, target)?;
            return Ok(None);
        }
        // Anew, as it has been sealed.
        let part = own::open_own_directory(parent, &self.name)?;
        let noted = NotedModes::open(&part, self.notes_name())?;
        let merge = Merge::into(parent, target, &self.goes_to, noted)?;
        let unkept = merge.take(&part, folders)?;
        rustix::fs::unlinkat(parent, &self.name, AtFlags::REMOVEDIR)?;
        Ok(Some(unkept))
    }

    /// Removes the part and everything in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.lock_directories().clear();
        match &self.tree {
            None => match rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                other => Ok(other?),
            },
            Some(_) => {
                let part = own::open_own_directory(&self.parent, &self.name)?;
                if let Some(target) = self.goes_to.file_name() {
                    let noted = NotedModes::open(&part, self.notes_name())?;
                    merge::give_back(&self.parent, target, noted)?;
                }
                merge::empty(&part)?;
                Ok(rustix::fs::unlinkat(
                    &self.parent,
                    &self.name,
                    AtFlags::REMOVEDIR,
                )?)
            }
        }
    }

    /// Flushes everything that was written to the destination's file system.
    pub(crate) fn flush(&self) -> io::Result<()> {
        flush(&self.parent, &self.name)
    }

    /// The random id in the part's name. What is made for a moment has it in its name: nobody can have
    /// given that to an entry of a tree, and the next run takes away what a crash has left of it.
    fn id(&self) -> String {
        let stem = Path::new(&self.name).file_stem().unwrap_or(&self.name);
        let id = Path::new(stem).extension().unwrap_or(stem);
        id.to_string_lossy().into_owned()
    }

    /// The file in which a merge notes the modes of the folders that it makes writable.
    fn notes_name(&self) -> String {
        format!(".modes-{}", self.id())
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

/// Flushes the file system that `name` in `parent` is on.
fn flush(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    space::flush(parent, &[Path::new("."), Path::new(name)])
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

/// Makes a folder, unless it is there.
fn make_directory(parent: &OwnedFd, name: &OsStr, mode: Mode) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, mode) {
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

mod attributes;
mod merge;
mod noted;
mod own;
mod room;
mod rules;
#[cfg(test)]
mod tests;
