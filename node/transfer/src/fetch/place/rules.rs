//! What the file system of a part makes of names, found out by trying.

use std::{ffi::OsStr, io, path::Path};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};
use shoal_protocol::name::NameRules;

use super::{Part, exists};

impl Part {
    /// The rules for names below a tree's root. Makes a few files there for a moment, by names that
    /// hold the part's own random id: nobody can have given them to an entry of the tree, and the
    /// next run takes away what a crash in this very moment left.
    pub(crate) fn name_rules(&self) -> io::Result<NameRules> {
        let stem = Path::new(&self.name).file_stem().unwrap_or(&self.name);
        let id = Path::new(stem).extension().unwrap_or(stem);
        let probe = format!(".probe-{}", id.to_string_lossy());
        let with = |end: &str| format!("{probe}{end}");
        Ok(NameRules {
            folds: self.is_same(&with("-a"), &with("-A"))?
                || self.is_same(&with("-\u{e9}"), &with("-e\u{301}"))?,
            windows: !self.takes(&with(":"))? || self.is_same(&with("."), &probe)?,
        })
    }

    /// Whether a file of this name can be made.
    fn takes(&self, name: &str) -> io::Result<bool> {
        self.with_file(name, || Ok(())).map(|made| made.is_some())
    }

    /// Whether a file of one name is there under another name too.
    fn is_same(&self, name: &str, other: &str) -> io::Result<bool> {
        let root = self.directory(Path::new(""))?;
        let found = self.with_file(name, || Ok(exists(&root, OsStr::new(other))?))?;
        Ok(found.unwrap_or_default())
    }

    /// Looks at something while there is a file of this name; none if the system does not take it.
    fn with_file<T>(
        &self,
        name: &str,
        look: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let root = self.directory(Path::new(""))?;
        // What else could be wrong with it is found when it is made.
        let _ = rustix::fs::unlinkat(&root, name, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::openat(&root, name, flags, Mode::from(0o600)) {
            Ok(made) => drop(made),
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS | Errno::MFILE)) => {
                return Err(error.into());
            }
            Err(_) => return Ok(None),
        }
        let seen = look();
        rustix::fs::unlinkat(&root, name, AtFlags::empty())?;
        seen.map(Some)
    }
}
