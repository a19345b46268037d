//! What the file system of a part makes of names and symlinks, found out by trying. Only an error that says
//! that it does not take such a thing is an answer; any other is passed on.

use std::{ffi::OsStr, io};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};
use shoal_protocol::name::NameRules;
use shoal_store::own::NAME_BYTES_ANYWHERE;

use super::{Part, exists};

/// The target of a symlink that is made to see whether there are any.
const TARGET: &str = "x";

impl Part {
    /// The rules for names below a tree's root. Makes a few files there for a moment.
    pub(crate) fn name_rules(&self) -> io::Result<NameRules> {
        let probe = self.probe_name();
        let with = |end: &str| format!("{probe}{end}");
        Ok(NameRules {
            folds: self.is_same(&with("-a"), &with("-A"))?
                || self.is_same(&with("-\u{e9}"), &with("-e\u{301}"))?,
            windows: !self.takes(&with(":"))? || self.is_same(&with("."), &probe)?,
        })
    }

    /// How long a name may be, in bytes, if one of `longest` is too long. Nothing is tried for names
    /// that every file system takes.
    pub(crate) fn name_limit(&self, longest: usize) -> io::Result<Option<usize>> {
        let stem = self.probe_name();
        let padded = |bytes: usize| format!("{stem:x<bytes$}");
        if longest <= NAME_BYTES_ANYWHERE || self.takes(&padded(longest))? {
            return Ok(None);
        }
        let (mut taken, mut refused) = (stem.len(), longest);
        while refused - taken > 1 {
            let between = usize::midpoint(taken, refused);
            match self.takes(&padded(between))? {
                true => taken = between,
                false => refused = between,
            }
        }
        Ok(Some(taken))
    }

    /// Whether there are symlinks.
    pub(crate) fn keeps_symlinks(&self) -> io::Result<bool> {
        let (root, name) = (self.root()?, self.probe_name());
        let _ = rustix::fs::unlinkat(root, &name, AtFlags::empty());
        match rustix::fs::symlinkat(TARGET, root, &name) {
            Ok(()) => {}
            Err(error) if is_refusal(error) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        rustix::fs::unlinkat(root, &name, AtFlags::empty())?;
        Ok(true)
    }

    /// What every name begins with that is made for a moment.
    fn probe_name(&self) -> String {
        format!(".probe-{}", self.id())
    }

    /// Whether a file of this name can be made.
    fn takes(&self, name: &str) -> io::Result<bool> {
        self.with_file(name, || Ok(())).map(|made| made.is_some())
    }

    /// Whether a file of one name is there under another name too.
    fn is_same(&self, name: &str, other: &str) -> io::Result<bool> {
        let root = self.root()?;
        let found = self.with_file(name, || Ok(exists(root, OsStr::new(other))?))?;
        Ok(found.unwrap_or_default())
    }

    /// Looks at something while there is a file of this name; none if the system does not take it.
    fn with_file<T>(
        &self,
        name: &str,
        look: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let root = self.root()?;
        // What else could be wrong with it is found when it is made.
        let _ = rustix::fs::unlinkat(root, name, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::openat(root, name, flags, Mode::from(0o600)) {
            Ok(made) => drop(made),
            Err(error) if is_refusal(error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let seen = look();
        rustix::fs::unlinkat(root, name, AtFlags::empty())?;
        seen.map(Some)
    }
}

/// Whether an error says that the file system does not take such a name or such an entry: no other error
/// does. A name that it does not take is invalid, too long, in no text of its own, or nowhere to be found.
fn is_refusal(error: Errno) -> bool {
    matches!(
        error,
        Errno::INVAL
            | Errno::NAMETOOLONG
            | Errno::ILSEQ
            | Errno::NOENT
            | Errno::EXIST
            | Errno::PERM
            | Errno::ACCESS
            | Errno::NOSYS
            | Errno::OPNOTSUPP
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_in_trouble_says_nothing_of_what_it_keeps() {
        for refusal in [
            Errno::INVAL,
            Errno::PERM,
            Errno::NAMETOOLONG,
            Errno::OPNOTSUPP,
        ] {
            assert!(is_refusal(refusal), "{refusal}");
        }
        for trouble in [
            Errno::IO,
            Errno::ROFS,
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::STALE,
            Errno::NODEV,
            Errno::NOTCONN,
        ] {
            assert!(!is_refusal(trouble), "{trouble}");
        }
    }
}
