//! What a tree walk ends in: every entry of the tree, in an order to create it by.

use std::collections::BTreeMap;

use crate::{
    address::Cid,
    name::{SafeName, fold},
    unixfs::Attributes,
};

/// Everything below a root but the content of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// What the root itself is. A file or symlink root has no entries.
    pub root: EntryKind,
    /// All entries: each directory before what is in it, siblings by the bytes of their names.
    /// The order and everything else depend on the root's address alone.
    pub entries: Vec<Entry>,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Index of the directory that it is in; `None` for the root.
    pub parent: Option<u32>,
    /// Its name, unique in its directory.
    pub name: SafeName,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Dir {
        /// What was kept of it.
        attributes: Attributes,
    },
    /// A file.
    File {
        /// The root of its own DAG.
        cid: Cid,
        /// Its length in bytes: exact for a dag-pb root. For a raw leaf it is what the link
        /// claims, to be used for totals only, or `None` if there is no possible claim.
        size: Option<u64>,
        /// What was kept of it.
        attributes: Attributes,
    },
    /// A symlink.
    Symlink {
        /// Where it points, unchecked: see [`symlink_stays_inside`].
        target: String,
        /// What was kept of it.
        attributes: Attributes,
    },
}

impl Tree {
    /// Names from the root down to an entry; empty for an index that does not exist.
    pub fn path(&self, index: u32) -> Vec<&SafeName> {
        let mut path = Vec::new();
        let mut next = Some(index);
        while let Some(entry) = next.and_then(|index| self.entries.get(index as usize)) {
            path.push(&entry.name);
            next = entry.parent;
        }
        path.reverse();
        path
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.file_sizes().count()
    }

    /// Bytes of content, as far as they are known: see [`EntryKind::File`].
    pub fn bytes(&self) -> u64 {
        self.file_sizes().flatten().fold(0, u64::saturating_add)
    }

    fn file_sizes(&self) -> impl Iterator<Item = Option<u64>> {
        let kinds = self.entries.iter().map(|entry| &entry.kind);
        kinds.chain([&self.root]).filter_map(|kind| match kind {
            EntryKind::File { size, .. } => Some(*size),
            _ => None,
        })
    }

    /// Groups of siblings whose names a case-folding or normalising file system cannot keep apart,
    /// as indexes of entries.
    pub fn collisions(&self) -> Vec<Vec<u32>> {
        let mut groups: BTreeMap<(Option<u32>, String), Vec<u32>> = BTreeMap::new();
        for (index, entry) in (0..).zip(&self.entries) {
            groups
                .entry((entry.parent, fold(&entry.name)))
                .or_default()
                .push(index);
        }
        groups
            .into_values()
            .filter(|group| group.len() > 1)
            .collect()
    }
}

/// Whether a symlink, wherever other symlinks of the same tree point, resolves inside the tree.
///
/// `path` are the names from the root down to the symlink itself. The target must be relative, may
/// climb no higher than the root, and may climb only at its start: there `..` leaves directories
/// that were created as such. After a name it could leave one that a symlink led into. If all
/// symlinks of a tree keep to this, no chain of them leads out.
pub fn symlink_stays_inside(path: &[&SafeName], target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') {
        return false;
    }
    let Some((_link, above)) = path.split_last() else {
        return false;
    };
    let is_climb = |part: &&str| *part == "..";
    let mut parts = target
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    let climbs = parts.by_ref().take_while(is_climb).count();
    climbs <= above.len() && !parts.any(|part| is_climb(&part))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn name(name: &str) -> SafeName {
        SafeName::parse(name).unwrap()
    }

    #[test]
    fn symlinks_that_stay_and_that_leave() {
        let check = |path: &str, target: &str, expected: bool| {
            let names: Vec<SafeName> = path.split_terminator('/').map(name).collect();
            let path: Vec<&SafeName> = names.iter().collect();
            assert_eq!(
                symlink_stays_inside(&path, target),
                expected,
                "{path:?} -> {target}"
            );
        };
        check("link", "file", true);
        check("link", "./a/b/", true);
        check("link", ".", true);
        check("link", "a..b/...", true);
        check("a/link", "..", true);
        check("a/b/link", "../../c", true);
        check("a/b/link", ".././../c", true);
        // Out of the tree.
        check("link", "..", false);
        check("a/link", "../../x", false);
        check("link", "/etc/passwd", false);
        check("link", "//x", false);
        check("link", "", false);
        // `a` may be a symlink to `.`, and then this is one too high.
        check("link", "a/..", false);
        check("a/link", "../b/../c", false);
        // A root that is itself a symlink has nothing inside.
        check("", "x", false);
    }

    #[test]
    fn finds_names_that_cannot_be_kept_apart() {
        let entry = |parent, text| Entry {
            parent,
            name: name(text),
            kind: EntryKind::Dir {
                attributes: Attributes::default(),
            },
        };
        let tree = Tree {
            root: EntryKind::Dir {
                attributes: Attributes::default(),
            },
            entries: vec![
                entry(None, "README"),
                entry(Some(0), "readme"),
                entry(None, "e\u{301}"),
                entry(None, "readme"),
                entry(None, "É"),
            ],
        };
        assert_eq!(tree.collisions(), [[0, 3], [2, 4]]);
        assert_eq!(tree.path(1), [&name("README"), &name("readme")]);
        assert!(tree.path(5).is_empty());
    }
}
