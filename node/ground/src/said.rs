//! What the operating system said, in plain words.

use std::{fmt, io, path::Path};

use rustix::io::Errno;

/// An error of the system in words that a person knows; the number is left out where the words say
/// all.
pub fn said(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    if error.get_ref().is_some() {
        // Words of our own.
        return error.to_string();
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

/// The same error, which says what it is about, unless it does already.
pub fn about(path: &Path, error: &io::Error) -> io::Error {
    let text = match error.get_ref().is_some_and(|inner| inner.is::<About>()) {
        true => error.to_string(),
        false => format!("{}: {}", path.display(), said(error)),
    };
    io::Error::new(error.kind(), About(text))
}

#[derive(Debug)]
struct About(String);

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for About {}

#[cfg(test)]
mod tests {
    use super::*;

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
