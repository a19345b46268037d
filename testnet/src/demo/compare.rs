//! Whether a copy is what the original is: names, kinds, bytes, targets of links.
//!
//! Sockets, fifos and devices in the original do not count: they are not shared.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File, FileType},
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

/// Large enough that reading both files in turn costs nothing.
const BUFFER_BYTES: usize = 256 << 10;

/// The first path, relative to the original, at which the two differ; none when they do not. Of the
/// links, `links_left_out` may be missing in the copy. Blocking.
pub(super) fn difference(
    original: &Path,
    copy: &Path,
    mut links_left_out: u64,
) -> io::Result<Option<PathBuf>> {
    let original = original.canonicalize()?;
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        // Joined with nothing, a path would end in a slash, which no file may.
        let at = |root: &Path| match path.as_os_str().is_empty() {
            true => root.to_owned(),
            false => root.join(&path),
        };
        let pair = (at(&original), at(copy));
        match compare(&pair.0, &pair.1)? {
            Compared::Same => {}
            Compared::Folders(names) => {
                pending.extend(names.iter().map(|name| path.join(name)));
            }
            Compared::NoLink if links_left_out > 0 => links_left_out -= 1,
            Compared::NoLink | Compared::Different => return Ok(Some(path)),
        }
    }
    Ok(None)
}

/// What is found of two entries by themselves.
enum Compared {
    Same,
    /// The names in either.
    Folders(BTreeSet<OsString>),
    /// A link is missing in the copy.
    NoLink,
    Different,
}

fn compare(original: &Path, copy: &Path) -> io::Result<Compared> {
    let (one, other) = match (kind(original)?, kind(copy)?) {
        (Some(one), Some(other)) => (one, other),
        (Some(one), None) if one.is_symlink() => return Ok(Compared::NoLink),
        _ => return Ok(Compared::Different),
    };
    let same = if one.is_dir() && other.is_dir() {
        let mut names = names(original, is_shared)?;
        names.append(&mut self::names(copy, |_| true)?);
        return Ok(Compared::Folders(names));
    } else if one.is_symlink() && other.is_symlink() {
        fs::read_link(original)? == fs::read_link(copy)?
    } else {
        one.is_file() && other.is_file() && same_bytes(original, copy)?
    };
    Ok(match same {
        true => Compared::Same,
        false => Compared::Different,
    })
}

fn kind(path: &Path) -> io::Result<Option<FileType>> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a folder of what has the right kind.
fn names(folder: &Path, is_right: impl Fn(FileType) -> bool) -> io::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_right(entry.file_type()?) {
            names.insert(entry.file_name());
        }
    }
    Ok(names)
}

fn is_shared(kind: FileType) -> bool {
    kind.is_file() || kind.is_dir() || kind.is_symlink()
}

fn same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let open = |path| File::open(path).map(|it| BufReader::with_capacity(BUFFER_BYTES, it));
    let (mut one, mut other) = (open(one)?, open(other)?);
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let len = left.len().min(right.len());
        if left[..len] != right[..len] {
            return Ok(false);
        }
        if len == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        one.consume(len);
        other.consume(len);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    /// A tree with something of each kind.
    fn tree(dir: &Path, name: &str) -> PathBuf {
        let root = dir.join(name);
        fs::create_dir_all(root.join("sub/empty")).unwrap();
        fs::write(root.join("file"), vec![7; BUFFER_BYTES + 1]).unwrap();
        fs::write(root.join("sub/file"), "text").unwrap();
        symlink("sub/file", root.join("link")).unwrap();
        root
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let original = tree(dir.path(), "original");
        let check = |change: &dyn Fn(&Path), expected: Option<&str>| {
            let copy = tree(dir.path(), "copy");
            change(&copy);
            let found = difference(&original, &copy, 0).unwrap();
            assert_eq!(found.as_deref(), expected.map(Path::new));
            fs::remove_dir_all(copy).unwrap();
        };
        check(&|_| {}, None);
        check(
            &|copy| {
                let mut bytes = vec![7; BUFFER_BYTES + 1];
                bytes[BUFFER_BYTES] = 8;
                fs::write(copy.join("file"), bytes).unwrap();
            },
            Some("file"),
        );
        check(
            &|copy| fs::write(copy.join("file"), vec![7; BUFFER_BYTES]).unwrap(),
            Some("file"),
        );
        check(
            &|copy| fs::write(copy.join("sub/file"), "").unwrap(),
            Some("sub/file"),
        );
        check(
            &|copy| fs::write(copy.join("more"), "").unwrap(),
            Some("more"),
        );
        check(
            &|copy| fs::remove_dir(copy.join("sub/empty")).unwrap(),
            Some("sub/empty"),
        );
        check(
            &|copy| fs::remove_file(copy.join("link")).unwrap(),
            Some("link"),
        );
        check(
            &|copy| {
                fs::remove_file(copy.join("link")).unwrap();
                fs::write(copy.join("link"), "text").unwrap();
            },
            Some("link"),
        );
        check(
            &|copy| {
                fs::remove_file(copy.join("link")).unwrap();
                symlink("file", copy.join("link")).unwrap();
            },
            Some("link"),
        );
    }

    #[test]
    fn what_is_known_to_be_left_out_is_no_difference() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) = (tree(dir.path(), "original"), tree(dir.path(), "copy"));
        let socket = UnixListener::bind(original.join("sub/socket")).unwrap();
        fs::remove_file(copy.join("link")).unwrap();
        assert_eq!(difference(&original, &copy, 1).unwrap(), None);
        let link = Some(PathBuf::from("link"));
        assert_eq!(difference(&original, &copy, 0).unwrap(), link);
        drop(socket);
    }

    #[test]
    fn single_files_are_compared_too() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) = (dir.path().join("original"), dir.path().join("copy"));
        fs::write(&original, "text").unwrap();
        fs::write(&copy, "text").unwrap();
        let compare = || difference(&original, &copy, 0).unwrap();
        assert_eq!(compare(), None);
        fs::write(&copy, "test").unwrap();
        assert_eq!(compare(), Some(PathBuf::new()));
    }
}
