//! What the operating system said, in plain words.

use std::{fmt, io, path::Path};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};

/// An error of the system in words that a person knows; the number is left out where the words say
/// all.
pub fn said(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    if error.get_ref().is_some() {
        // Words of our own.
        return error.to_string();
    }
    if let Some(limit) = limit_of(error)
        && let Some(number) = getrlimit(limit.resource).current
    {
        return format!(
            "{}: the limit is {number} (`{}`)",
            limit.words, limit.shown_by
        );
    }
    let words = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::IO) => Some("the disk reports an error"),
        Some(Errno::NODEV | Errno::NXIO | Errno::NOTCONN | Errno::STALE | Errno::SHUTDOWN) => {
            Some("the disk is gone: unplugged, unmounted, or its server does not know it any more")
        }
        Some(Errno::MFILE | Errno::NFILE) => Some("too many files are open"),
        _ => None,
    };
    let words = words.or(match error.kind() {
        Kind::StorageFull => Some("no space is left on the disk"),
        Kind::QuotaExceeded => Some("the quota on the disk is used up"),
        Kind::PermissionDenied => Some("permission denied"),
        Kind::ReadOnlyFilesystem => Some("the disk is read-only"),
        Kind::NotFound => Some("there is no such file or folder"),
        Kind::AlreadyExists => Some("there is something of that name"),
        Kind::NotADirectory => Some("it is not a folder"),
        Kind::IsADirectory => Some("it is a folder"),
        Kind::FileTooLarge => Some("the file is too large for this file system"),
        Kind::InvalidFilename => Some("the name is too long for this file system"),
        Kind::UnexpectedEof => Some("it ends too early"),
        _ => None,
    });
    words.map_or_else(|| error.to_string(), str::to_owned)
}

/// A limit of this process that the system may refer to.
struct Limit {
    resource: Resource,
    words: &'static str,
    shown_by: &'static str,
}

/// The limit of this process that may be behind an error.
fn limit_of(error: &io::Error) -> Option<Limit> {
    let limit = |resource, words, shown_by| Limit {
        resource,
        words,
        shown_by,
    };
    match Errno::from_raw_os_error(error.raw_os_error()?) {
        Errno::MFILE => Some(limit(
            Resource::Nofile,
            "too many files are open",
            "ulimit -n",
        )),
        Errno::FBIG => Some(limit(
            Resource::Fsize,
            "the file is too large for this process, in bytes",
            "ulimit -f",
        )),
        Errno::NOMEM => Some(limit(
            Resource::As,
            "there is no more memory for this process, in bytes",
            "ulimit -v",
        )),
        _ => None,
    }
}

/// Whether an error says that a limit of this process or of the machine is reached, and no disk and no
/// file is to blame.
pub fn is_limit(error: &io::Error) -> bool {
    if let Some(about) = error.get_ref().and_then(|it| it.downcast_ref::<About>()) {
        return about.is_limit;
    }
    if error.raw_os_error() == Some(Errno::NFILE.raw_os_error()) {
        return true;
    }
    limit_of(error).is_some_and(|limit| getrlimit(limit.resource).current.is_some())
}

/// The same error, which says what it is about, unless it does already.
pub fn about(path: &Path, error: &io::Error) -> io::Error {
    let text = match error.get_ref().is_some_and(|inner| inner.is::<About>()) {
        true => error.to_string(),
        false => format!("{}: {}", path.display(), said(error)),
    };
    let is_limit = is_limit(error);
    io::Error::new(error.kind(), About { text, is_limit })
}

#[derive(Debug)]
struct About {
    text: String,
    is_limit: bool,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for About {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_this_process_is_named_with_its_number() {
        let open = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        let (limit, there) = (said(&open), getrlimit(Resource::Nofile).current);
        assert!(limit.starts_with("too many files are open"), "{limit}");
        if let Some(number) = there {
            assert!(
                limit.ends_with(&format!("{number} (`ulimit -n`)")),
                "{limit}"
            );
            assert!(is_limit(&open) && is_limit(&about(Path::new("/a"), &open)));
        }
        let full = io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
        assert!(!is_limit(&full) && !is_limit(&about(Path::new("/a"), &full)));
        let large = io::Error::from_raw_os_error(Errno::FBIG.raw_os_error());
        let is_limited = getrlimit(Resource::Fsize).current.is_some();
        assert_eq!(
            is_limit(&large),
            is_limited,
            "else the file system is to blame"
        );
    }

    #[test]
    fn the_system_is_quoted_in_plain_words() {
        let check = |errno: Errno, expected: &str| {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(said(&error), expected);
            let about = about(Path::new("/a/b"), &error);
            assert_eq!(about.kind(), error.kind());
            assert_eq!(said(&about), format!("/a/b: {expected}"));
            let again = super::about(Path::new("/a"), &about);
            assert_eq!(said(&again), format!("/a/b: {expected}"));
        };
        check(Errno::NOSPC, "no space is left on the disk");
        check(Errno::ACCESS, "permission denied");
        check(Errno::ROFS, "the disk is read-only");
        check(Errno::IO, "the disk reports an error");
        check(Errno::NOENT, "there is no such file or folder");
        let unknown = io::Error::from_raw_os_error(Errno::PROTO.raw_os_error());
        assert_eq!(said(&unknown), unknown.to_string());
    }
}
