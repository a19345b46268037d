//! Which files a request means, and what the share is called.

use std::io;
use std::path::{Component, Path, PathBuf};

use shoal_protocol::name::{SafeName, escaped_bytes};

use super::ShareError;
use crate::own;

/// The name of a share of several paths whose common folder has none.
const NAMELESS: &str = "shared";

/// What is to be shared: a base, and what is meant of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SharePlace {
    /// The file or folder itself, or the deepest folder that holds all selected paths. Absolute and
    /// without symlinks.
    pub(super) base: PathBuf,
    /// Paths below `base`, sorted by their last names; empty when the whole base is meant.
    pub(super) selection: Vec<String>,
    /// What the share is called unless asked otherwise.
    pub(super) name: String,
    /// The one path that was given, as it was written, when that is not `base`.
    pub(super) written: Option<PathBuf>,
}

impl SharePlace {
    /// Finds what `paths` mean. Given symlinks are followed; `home` is the node's own folder.
    pub(super) fn of(paths: &[PathBuf], home: &Path) -> Result<Self, ShareError> {
        let (mut found, mut missing) = (Vec::with_capacity(paths.len()), Vec::new());
        for path in paths {
            match Given::resolve(path, home) {
                Ok(given) => found.push(given),
                // Whoever mends one of them would be told of the next one.
                Err(ShareError::NotFound(path)) => missing.extend(path),
                Err(error) => return Err(error),
            }
        }
        if !missing.is_empty() {
            return Err(ShareError::NotFound(missing));
        }
        match found.as_mut_slice() {
            [] => Err(ShareError::NoPath),
            [one] => Ok(Self {
                base: std::mem::take(&mut one.path),
                selection: Vec::new(),
                name: std::mem::take(&mut one.name),
                written: one.written.take(),
            }),
            several => Self::of_several(several),
        }
    }

    /// Whether there may be anything below what is meant.
    pub(super) fn is_tree(&self) -> bool {
        !self.selection.is_empty() || self.base.is_dir()
    }

    /// Where what lies `below` the base is; the base itself for an empty path.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        // Joining an empty path would add a slash, which a file cannot be opened with.
        if below.is_empty() {
            self.base.clone()
        } else {
            self.base.join(below)
        }
    }

    fn of_several(given: &mut [Given]) -> Result<Self, ShareError> {
        given.sort_by(|one, other| one.name.cmp(&other.name));
        if let Some([one, _]) = given
            .array_windows()
            .find(|[one, other]| one.name == other.name)
        {
            return Err(ShareError::DuplicateName(one.name.clone()));
        }
        let parents = given.iter().filter_map(|given| given.path.parent());
        let base = parents
            .map(Path::to_owned)
            .reduce(|one, other| common(&one, &other));
        let base = base.ok_or(ShareError::NoPath)?;
        let mut selection = Vec::with_capacity(given.len());
        for Given { path, .. } in given.iter() {
            // Where the path goes through a folder whose name is not UTF-8, the record cannot hold
            // it.
            let below = path.strip_prefix(&base).ok().and_then(Path::to_str);
            let below = below.ok_or_else(|| unnameable(path, "a name is not UTF-8"))?;
            selection.push(below.to_owned());
        }
        let name = base
            .file_name()
            .and_then(|name| SafeName::parse(name.to_str()?).ok());
        let name = name.map_or_else(|| NAMELESS.to_owned(), |name| name.to_string());
        Ok(Self {
            base,
            selection,
            name,
            written: None,
        })
    }
}

/// One given path.
struct Given {
    /// Absolute and without symlinks.
    path: PathBuf,
    /// Its last name as it was given, which for a symlink is the link's.
    name: String,
    /// As it was given, when that is another path.
    written: Option<PathBuf>,
}

impl Given {
    fn resolve(path: &Path, home: &Path) -> Result<Self, ShareError> {
        let real = path
            .canonicalize()
            .map_err(|error| given_failure(path, error))?;
        let metadata = real
            .metadata()
            .map_err(|error| given_failure(path, error))?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(ShareError::NotShareable(path.to_owned()));
        }
        // A home in a folder that is shared is left out of it; what is in one cannot be shared.
        let home = home.canonicalize().unwrap_or_else(|_| home.to_owned());
        let around = real.starts_with(&home).then_some(home);
        if let Some(home) = around.or_else(|| own::home_around(&real)) {
            return Err(ShareError::OwnHome {
                path: path.to_owned(),
                home,
            });
        }
        // `.`, `..` and `dir/..` have no name of their own.
        let name = path
            .file_name()
            .or_else(|| real.file_name())
            .unwrap_or_default();
        let name = SafeName::from_bytes(name.as_encoded_bytes())
            .map_err(|reason| unnameable(path, &reason.to_string()))?;
        Ok(Self {
            written: as_written(path).filter(|written| *written != real),
            path: real,
            name: name.to_string(),
        })
    }
}

/// A path as somebody wrote it, without what says nothing; none where `..` makes it depend on what
/// the symlinks on it are.
fn as_written(path: &Path) -> Option<PathBuf> {
    let goes_up = path.components().any(|it| it == Component::ParentDir);
    (path.is_absolute() && !goes_up).then(|| path.components().collect())
}

/// The last name of a path below a base.
pub(super) fn last_name(below: &str) -> &str {
    below.rsplit('/').next().unwrap_or(below)
}

/// A failure on a path that the person named, where "not found" means just that.
fn given_failure(path: &Path, error: io::Error) -> ShareError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ShareError::NotFound(vec![path.to_owned()])
        }
        _ => ShareError::io(path, error),
    }
}

/// Says that `path` cannot be in a share, for `reason`.
pub(super) fn described(path: &Path, reason: &str) -> String {
    format!(
        "{} ({reason})",
        escaped_bytes(path.as_os_str().as_encoded_bytes())
    )
}

pub(super) fn unnameable(path: &Path, reason: &str) -> ShareError {
    ShareError::Names {
        names: vec![described(path, reason)],
        total: 1,
    }
}

fn common(one: &Path, other: &Path) -> PathBuf {
    let pairs = one.components().zip(other.components());
    pairs
        .take_while(|(one, other)| one == other)
        .map(|(one, _)| one)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_mean_a_base_a_selection_and_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["home", "docs/sub", "other"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["docs/a.txt", "docs/sub/b.txt", "other/a.txt"] {
            fs::write(root.join(file), "x").unwrap();
        }
        symlink("docs/a.txt", root.join("link")).unwrap();

        let check = |given: &[&str], base: &str, selection: &[&str], name: &str| {
            let paths: Vec<_> = given.iter().map(|path| root.join(path)).collect();
            let place = SharePlace::of(&paths, &root.join("home")).unwrap();
            assert_eq!(place.base, root.join(base), "{given:?}");
            assert_eq!(place.selection, selection, "{given:?}");
            assert_eq!(place.name, name, "{given:?}");
            let written = given.len() == 1 && given[0] == "link";
            assert_eq!(place.written.is_some(), written, "{given:?}");
        };
        check(&["docs/a.txt"], "docs/a.txt", &[], "a.txt");
        check(&["docs"], "docs", &[], "docs");
        check(&["docs/sub/.."], "docs", &[], "docs");
        check(&["link"], "docs/a.txt", &[], "link");
        check(
            &["docs/sub/b.txt", "docs/a.txt"],
            "docs",
            &["a.txt", "sub/b.txt"],
            "docs",
        );
        check(
            &["docs/sub", "docs/a.txt"],
            "docs",
            &["a.txt", "sub"],
            "docs",
        );
    }

    #[test]
    fn paths_that_cannot_be_shared_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("tree/home/db")).unwrap();
        fs::create_dir(root.join("other")).unwrap();
        fs::write(root.join("tree/a"), "x").unwrap();
        fs::write(root.join("other/a"), "x").unwrap();
        let home = root.join("tree/home");
        let refused = |given: &[&str]| {
            let paths: Vec<_> = given.iter().map(|path| root.join(path)).collect();
            SharePlace::of(&paths, &home).unwrap_err()
        };
        assert!(matches!(refused(&[]), ShareError::NoPath));
        assert!(matches!(refused(&["none"]), ShareError::NotFound(_)));
        let several = refused(&["none", "tree/a", "gone"]).to_string();
        assert!(several.ends_with("/gone do not exist"), "{several}");
        assert!(several.contains("/none, "), "{several}");
        assert!(matches!(refused(&["tree/a/none"]), ShareError::NotFound(_)));
        for own in ["tree/home", "tree/home/db"] {
            assert!(matches!(refused(&[own]), ShareError::OwnHome { .. }));
        }
        let around = SharePlace::of(&[root.join("tree")], &home).unwrap();
        assert_eq!(around.name, "tree", "the walk leaves the home out");
        assert!(matches!(
            refused(&["tree/a", "other/a"]),
            ShareError::DuplicateName(_)
        ));
        let device = SharePlace::of(&["/dev/null".into()], &home).unwrap_err();
        assert!(matches!(device, ShareError::NotShareable(_)));
    }
}
