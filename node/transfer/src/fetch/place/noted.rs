//! The modes of folders that a merge makes writable, noted in the part before that is done.
//!
//! A process that is killed in the middle of a merge leaves users' folders wider for their owner than they
//! were. The next run would take that for their mode; it finds here what to give back. The note is of
//! the part, and goes with it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use super::own;

/// The notes of one part, one line for a folder: its mode in octal digits, and its path. No name that comes
/// from the network has a line break.
pub(super) struct NotedModes {
    part: OwnedFd,
    name: String,
    modes: BTreeMap<PathBuf, Mode>,
}

impl NotedModes {
    /// Reads what earlier runs have noted in the file `name` of a part.
    pub(super) fn open(part: &OwnedFd, name: String) -> io::Result<Self> {
        let mut text = Vec::new();
        match own::open_own_file(part, name.as_ref(), OFlags::RDONLY, Mode::empty()) {
            Ok(mut file) => _ = file.read_to_end(&mut text)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        // A line without an end was not noted, and its folder was left alone.
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let modes = lines.filter_map(parse).collect();
        let part = part.try_clone()?;
        Ok(Self { part, name, modes })
    }

    /// The name of their file in the part.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The mode that a folder had before it was made writable, if it was.
    pub(super) fn of(&self, path: &Path) -> Option<Mode> {
        self.modes.get(path).copied()
    }

    /// All of them, each folder before what is in it.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = (&Path, Mode)> {
        self.modes
            .iter()
            .map(|(path, mode)| (path.as_path(), *mode))
    }

    /// Notes the mode of a folder, durably.
    pub(super) fn note(&mut self, path: &Path, mode: Mode) -> io::Result<()> {
        if self.modes.contains_key(path) {
            return Ok(());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
        let mut file: File =
            own::open_own_file(&self.part, self.name.as_ref(), flags, own::FILE_MODE)?;
        let mut line = format!("{:o} ", mode.as_raw_mode()).into_bytes();
        line.extend(path.as_os_str().as_bytes());
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_all()?;
        if self.modes.is_empty() {
            rustix::fs::fsync(&self.part)?;
        }
        self.modes.insert(path.to_owned(), mode);
        Ok(())
    }

    /// Takes the notes away, once each folder has its mode.
    pub(super) fn forget(self) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.part, &self.name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    }
}

fn parse(line: &[u8]) -> Option<(PathBuf, Mode)> {
    let line = line.strip_suffix(b"\n")?;
    let space = line.iter().position(|byte| *byte == b' ')?;
    let mode = str::from_utf8(line.get(..space)?).ok()?;
    let mode = Mode::from_raw_mode(u32::from_str_radix(mode, 8).ok()?);
    let path = std::ffi::OsStr::from_bytes(line.get(space + 1..)?);
    Some((path.into(), mode))
}
