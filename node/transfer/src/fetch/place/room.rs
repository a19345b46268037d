//! How much a part may take: the room on its file system, the largest file there, and holes.
//!
//! What a file system says of itself is an estimate, and some say nothing: only trying decides. What is
//! tried is tried before anything has landed, with a file that is empty again or gone afterwards.

use std::{
    fs::File,
    io,
    ops::Deref,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FallocateFlags, OFlags, SeekFrom},
    io::Errno,
};
use shoal_ground::space::Space;
use shoal_protocol::unixfs::Attributes;

use super::{Part, own};

/// The length of a file without data, to see whether it takes room: more than a block of any file
/// system.
const HOLE_BYTES: u64 = 1 << 20;

/// The unit of the blocks that a system counts for a file, whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

impl Part {
    /// Free bytes for this user on the destination's file system, as it says; none when it says
    /// that it has no blocks at all, as those do that do not know.
    pub(crate) fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(Space::of(&self.parent)?.map(|space| space.free))
    }

    /// Whether the file system refuses so many bytes for want of room, found out by taking them for
    /// a moment. One that cannot tell does not refuse.
    pub(crate) fn is_too_large(&self, bytes: u64) -> bool {
        // What is wrong beside that is found when the first byte is written.
        let Ok(scratch) = self.scratch() else {
            return false;
        };
        let taken = rustix::fs::fallocate(&scratch.file, FallocateFlags::empty(), 0, bytes);
        let _ = scratch.set_len(0);
        matches!(taken, Err(Errno::NOSPC | Errno::DQUOT))
    }

    /// Whether zeros that nobody writes take no room.
    pub(crate) fn keeps_holes(&self) -> io::Result<bool> {
        let scratch = self.scratch()?;
        let is_free = extends_for_free(&scratch)?;
        let data = rustix::fs::seek(scratch.as_fd(), SeekFrom::Data(0));
        scratch.set_len(0)?;
        Ok(is_free && data == Err(Errno::NXIO))
    }

    /// Whether the file system takes a file of so many bytes, whatever room there is. One that cannot
    /// tell does.
    pub(crate) fn takes_file_of(&self, bytes: u64) -> io::Result<bool> {
        let scratch = self.scratch()?;
        // The system knows the largest file of its own file systems, FAT for instance.
        if let Err(error) = rustix::fs::seek(scratch.as_fd(), SeekFrom::Start(bytes)) {
            return refuses_length(error.into());
        }
        // What a server or another program takes shows only when it is asked. Where a longer file takes
        // room at once, that would write all of it: there, the system's word has to do.
        let extended = extends_for_free(&scratch).and_then(|is_free| match is_free {
            true => scratch.set_len(bytes),
            false => Ok(()),
        });
        scratch.set_len(0)?;
        extended.map_or_else(refuses_length, |()| Ok(true))
    }

    /// An empty file to try things with: the part itself where that is a file, else one in it.
    fn scratch(&self) -> io::Result<Scratch<'_>> {
        if self.tree.is_none() {
            let file = self.open_file(Path::new(""), &Attributes::default())?;
            return match file.metadata()?.len() {
                0 => Ok(Scratch { file, entry: None }),
                _ => Err(Errno::EXIST.into()),
            };
        }
        let (root, name) = (self.root()?, self.scratch_name());
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = own::open_own_file(root, name.as_ref(), flags, own::FILE_MODE)?;
        let entry = Some((root, name));
        Ok(Scratch { file, entry })
    }

    /// Takes away what a crash left of trying.
    pub(super) fn forget_scratch(&self) -> io::Result<()> {
        // It is hardly ever there.
        let _ = rustix::fs::unlinkat(self.root()?, self.scratch_name(), AtFlags::empty());
        // Of a merge too, where there is nothing to merge into any more.
        if !self.goes_to.is_dir() {
            let _ = rustix::fs::unlinkat(self.root()?, self.notes_name(), AtFlags::empty());
        }
        Ok(())
    }

    fn scratch_name(&self) -> String {
        format!(".room-{}", self.id())
    }
}

/// Whether a file of such a length is taken, by the error that the system had for it: no other error says
/// so, and any other is passed on.
fn refuses_length(error: io::Error) -> io::Result<bool> {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::FBIG | Errno::INVAL | Errno::OVERFLOW) => Ok(false),
        // It has no call for it.
        Some(Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => Ok(true),
        _ => Err(error),
    }
}

/// A file that is gone when this is dropped. It keeps its name until then: some file systems lose a
/// file with its name, although it is open.
struct Scratch<'a> {
    file: File,
    entry: Option<(&'a OwnedFd, String)>,
}

impl Deref for Scratch<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Some((root, name)) = &self.entry {
            // What stays is taken away by the next run.
            let _ = rustix::fs::unlinkat(root, name, AtFlags::empty());
        }
    }
}

/// Makes a new file longer; says whether that takes no room.
fn extends_for_free(scratch: &File) -> io::Result<bool> {
    scratch.set_len(HOLE_BYTES)?;
    Ok(scratch.metadata()?.blocks() * BLOCK_BYTES < HOLE_BYTES)
}
