//! Finding the disk that a path leads to, step by step.
//!
//! A person's path may go through symlinks and mounts, and looking at any part of it may hang. So
//! each part is looked at on a thread of the disk that it lies on, and the first one that does not
//! answer ends it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Disk, Disks, NoAnswer};

/// Symlinks that are followed, as the kernel does.
const LINKS_MAX: usize = 40;

/// One part of a path that is still to be followed.
enum Part {
    Up,
    Name(OsString),
}

impl Disks {
    /// The absolute `path` without symlinks, and the disk that it lies on, which has answered. What
    /// is not there, or cannot be looked at, is taken as it is written.
    ///
    /// # Errors
    /// [`NoAnswer`] when a disk on the way does not answer for `patience`.
    pub async fn resolve(
        &self,
        path: &Path,
        patience: Duration,
    ) -> Result<(PathBuf, Arc<Disk>), NoAnswer> {
        let mut rest: VecDeque<Part> = parts(path).collect();
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            let name = match part {
                Part::Up => {
                    real.pop();
                    continue;
                }
                Part::Name(name) => name,
            };
            real.push(&name);
            let (disk, looked) = (self.of(&real), real.clone());
            let link = disk.run(patience, move || link_target(&looked)).await?;
            match link {
                Ok(Some(target)) if links < LINKS_MAX => {
                    links += 1;
                    real.pop();
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    let ahead: Vec<_> = parts(&target).collect();
                    ahead.into_iter().rev().for_each(|it| rest.push_front(it));
                }
                Ok(_) => {}
                // Nothing below it can be looked at, either.
                Err(_) => {
                    for part in rest.drain(..) {
                        match part {
                            Part::Up => drop(real.pop()),
                            Part::Name(name) => real.push(name),
                        }
                    }
                }
            }
        }
        let disk = self.of(&real);
        Ok((real, disk))
    }
}

fn link_target(path: &Path) -> io::Result<Option<PathBuf>> {
    match path.symlink_metadata()?.is_symlink() {
        true => path.read_link().map(Some),
        false => Ok(None),
    }
}

fn parts(path: &Path) -> impl Iterator<Item = Part> {
    path.components().filter_map(|component| match component {
        Component::ParentDir => Some(Part::Up),
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::disks::SILENT_AFTER;

    #[tokio::test]
    async fn a_path_is_resolved_as_the_system_does() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        symlink("a/b", root.join("relative")).unwrap();
        symlink(root.join("a"), root.join("absolute")).unwrap();
        symlink("../relative/../b/file", root.join("a/chain")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let disks = Disks::default();
        for path in [
            "a/b/file",
            "relative/file",
            "absolute/b",
            "absolute/chain",
            "relative/..",
        ] {
            let path = root.join(path);
            let (real, disk) = disks.resolve(&path, SILENT_AFTER).await.unwrap();
            assert_eq!(real, path.canonicalize().unwrap(), "{}", path.display());
            assert!(Arc::ptr_eq(&disk, &disks.of(&real)));
        }
        for (path, expected) in [
            ("a/gone/file", "a/gone/file"),
            ("absolute/gone", "a/gone"),
            ("a/gone/../x", "a/x"),
            ("loop", "loop"),
        ] {
            let (real, _) = disks.resolve(&root.join(path), SILENT_AFTER).await.unwrap();
            assert_eq!(real, root.join(expected), "{path}");
        }
    }
}
