//! What the operating system said, in plain words.

use std::{fmt, io, path::Path};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};

use crate::{memory, space};

/// Said of a disk that has room for bytes and for no more files.
pub const NO_INODES: &str =
    "the disk has no free inodes, for it holds as many files as it can (`df -i` shows them)";

/// An error of the system in words that a person knows; the number is left out where the words say
/// all.
pub fn said(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    if error.get_ref().is_some() {
        // Words of our own.
        return error.to_string();
    }
    if let Some(words) = limit_of(error) {
        return words;
    }
    if let (io::ErrorKind::FileTooLarge, Some(limit)) = (error.kind(), file_limit()) {
        return format!(
            "the file is too large for this file system, or for this process, which may write \
             {limit} bytes (`ulimit -f`)"
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

/// What follows those that are listed of `total`; nothing where all are.
pub fn and_more(total: u64, listed: usize) -> String {
    match total.saturating_sub(listed as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

/// The limit of this process that is behind an error, in words.
fn limit_of(error: &io::Error) -> Option<String> {
    match Errno::from_raw_os_error(error.raw_os_error()?) {
        Errno::MFILE => {
            let limit = getrlimit(Resource::Nofile).current?;
            let words = "too many files are open";
            Some(format!("{words}: the limit is {limit} (`ulimit -n`)"))
        }
        Errno::NOMEM => {
            let limit = memory::reached()?;
            let (bytes, shown_by) = (limit.bytes, limit.shown_by);
            let words = "there is no more memory for this process, in bytes";
            Some(format!("{words}: the limit is {bytes} (`{shown_by}`)"))
        }
        _ => None,
    }
}

/// The longest file that this process may write, where that is limited.
fn file_limit() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// Whether an error says that a limit of this process or of the machine is reached, and no disk and no
/// file is to blame.
pub fn is_limit(error: &io::Error) -> bool {
    if let Some(told) = told(error) {
        return told.is_limit;
    }
    if error.raw_os_error() == Some(Errno::NFILE.raw_os_error()) {
        return true;
    }
    limit_of(error).is_some()
}

/// Whether an error says that a disk takes no more files, although it has room for bytes.
pub fn is_of_inodes(error: &io::Error) -> bool {
    told(error).is_some_and(|told| told.is_of_inodes)
}

/// The same error, which says what it is about, unless it does already.
pub fn about(path: &Path, error: &io::Error) -> io::Error {
    if told(error).is_some_and(|told| told.has_path) {
        return Told::of(error, error.to_string(), true);
    }
    let known = of_disk(path, error);
    Told::of(
        &known,
        format!("{}: {}", path.display(), said(&known)),
        true,
    )
}

/// The same error of the disk where `path` is: one that is full may be full of files.
pub fn of_disk(path: &Path, error: &io::Error) -> io::Error {
    let is_raw = error.get_ref().is_none();
    if is_raw && error.kind() == io::ErrorKind::StorageFull && space::has_no_inodes(path) {
        let told = Told {
            text: NO_INODES.to_owned(),
            is_limit: false,
            is_of_inodes: true,
            has_path: false,
        };
        return io::Error::new(error.kind(), told);
    }
    Told::of(
        error,
        said(error),
        told(error).is_some_and(|it| it.has_path),
    )
}

/// The same error of a write that makes a file `end` bytes long: if that is too long, it is for this
/// process or for the file system.
pub fn of_length(error: io::Error, end: u64) -> io::Error {
    if error.kind() != io::ErrorKind::FileTooLarge || error.get_ref().is_some() {
        return error;
    }
    let limit = file_limit().filter(|limit| end > *limit);
    let text = match limit {
        Some(limit) => format!(
            "the file is too large for this process, in bytes: the limit is {limit} (`ulimit -f`)"
        ),
        None => "the file is too large for this file system".to_owned(),
    };
    let told = Told {
        text,
        is_limit: limit.is_some(),
        is_of_inodes: false,
        has_path: false,
    };
    io::Error::new(error.kind(), told)
}

fn told(error: &io::Error) -> Option<&Told> {
    error.get_ref()?.downcast_ref::<Told>()
}

/// What was made out of an error.
#[derive(Debug)]
struct Told {
    text: String,
    is_limit: bool,
    is_of_inodes: bool,
    /// Whether the text says what it is about.
    has_path: bool,
}

impl Told {
    fn of(error: &io::Error, text: String, has_path: bool) -> io::Error {
        let told = Self {
            text,
            is_limit: is_limit(error),
            is_of_inodes: is_of_inodes(error),
            has_path,
        };
        io::Error::new(error.kind(), told)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Told {}

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
    }

    #[test]
    fn a_file_is_too_large_for_this_process_or_for_the_file_system() {
        let error = || io::Error::from_raw_os_error(Errno::FBIG.raw_os_error());
        let limit = getrlimit(Resource::Fsize).current;
        for end in [1, u64::MAX] {
            let of_process = limit.is_some_and(|limit| end > limit);
            let known = about(Path::new("/a"), &of_length(error(), end));
            assert_eq!(is_limit(&known), of_process, "{known}");
            let words = match of_process {
                true => "for this process",
                false => "for this file system",
            };
            assert!(
                said(&known).starts_with("/a: the file is too large"),
                "{known}"
            );
            assert!(said(&known).contains(words), "{known}");
        }
        assert!(!is_limit(&error()), "nobody knows how long it is");
        let full = || io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
        assert_eq!(said(&of_length(full(), 1)), said(&full()));
    }

    #[test]
    fn memory_is_put_down_to_a_limit_only_where_one_is_reached() {
        let error = io::Error::from_raw_os_error(Errno::NOMEM.raw_os_error());
        assert_eq!(is_limit(&error), memory::reached().is_some());
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        assert_eq!(and_more(3, 3), "");
        assert_eq!(and_more(2, 3), "");
        assert_eq!(and_more(30, 3), " and 27 more");
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
