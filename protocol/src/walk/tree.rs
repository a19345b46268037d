//! What a tree walk ends in: every entry of the tree, in an order to create it by.

use std::collections::BTreeMap;

use crate::{
    address::Cid,
    name::{NameRules, SafeName, escaped, landing_names},
    unixfs::{Attributes, DagError},
};

/// Everything below a root but the content of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// What the root itself is. A file or symlink root has no entries.
    pub root: EntryKind,
    /// All entries: each directory before what is in it, siblings by the bytes of the names that
    /// they have in the DAG. The order depends on the root's address alone.
    pub entries: Vec<Entry>,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Index of the directory that it is in; `None` for the root.
    pub parent: Option<u32>,
    /// The name that it lands under, unique in its directory.
    pub name: SafeName,
    /// Its name in the DAG where that is another one, escaped for printing.
    pub renamed_from: Option<Box<str>>,
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

    /// The path of an entry in the DAG, escaped for printing.
    pub fn path_in_dag(&self, index: u32) -> String {
        let mut path = Vec::new();
        let mut next = Some(index);
        while let Some(entry) = next.and_then(|index| self.entries.get(index as usize)) {
            path.push(match &entry.renamed_from {
                Some(own) => own.to_string(),
                None => shown(&entry.name),
            });
            next = entry.parent;
        }
        path.reverse();
        path.join("/")
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.file_sizes().count()
    }

    /// Bytes of content, as far as they are known: see [`EntryKind::File`].
    pub fn bytes(&self) -> u64 {
        self.file_sizes().flatten().fold(0, u64::saturating_add)
    }

    /// Bytes of content, if those of each file are known.
    pub fn bytes_if_known(&self) -> Option<u64> {
        self.file_sizes()
            .try_fold(0_u64, |sum, size| Some(sum.saturating_add(size?)))
    }

    fn file_sizes(&self) -> impl Iterator<Item = Option<u64>> {
        let kinds = self.entries.iter().map(|entry| &entry.kind);
        kinds.chain([&self.root]).filter_map(|kind| match kind {
            EntryKind::File { size, .. } => Some(*size),
            _ => None,
        })
    }

    /// Number of symlinks.
    pub fn symlinks(&self) -> usize {
        let kinds = self.entries.iter().map(|entry| &entry.kind);
        let links = kinds.filter(|kind| matches!(kind, EntryKind::Symlink { .. }));
        links.count()
    }

    /// What `is_chosen` says yes to, with everything below it and the directories on its way; the
    /// rest is left out. It is asked about names joined by `/`, from below the root down, and not
    /// about what is below a directory that was chosen.
    #[must_use]
    pub fn choose(self, mut is_chosen: impl FnMut(&str) -> bool) -> Tree {
        let mut chosen: Vec<bool> = Vec::with_capacity(self.entries.len());
        for (index, entry) in (0..).zip(&self.entries) {
            let below = entry.parent.and_then(|parent| chosen.get(parent as usize));
            let below = below == Some(&true);
            chosen.push(below || is_chosen(&joined(&self.path(index))));
        }
        let mut kept = chosen;
        // Every directory comes before what is in it, so from the end each is asked once.
        for (index, entry) in self.entries.iter().enumerate().rev() {
            if kept.get(index) == Some(&true)
                && let Some(parent) = entry.parent
                && let Some(parent) = kept.get_mut(parent as usize)
            {
                *parent = true;
            }
        }
        self.keep(&kept)
    }

    /// The entries that are marked; with each its directory has to be.
    fn keep(self, kept: &[bool]) -> Tree {
        let mut moved: Vec<u32> = Vec::with_capacity(kept.len());
        let mut entries = Vec::new();
        for (entry, kept) in self.entries.into_iter().zip(kept) {
            moved.push(u32::try_from(entries.len()).unwrap_or(u32::MAX));
            if *kept {
                let parent = entry.parent;
                let parent = parent.and_then(|parent| moved.get(parent as usize).copied());
                entries.push(Entry { parent, ..entry });
            }
        }
        Tree {
            root: self.root,
            entries,
        }
    }

    /// The tree with names that a system takes and keeps apart: see [`landing_names`].
    ///
    /// # Errors
    /// [`DagError::Name`] for a name that would get too long.
    pub fn renamed(mut self, rules: NameRules) -> Result<Tree, DagError> {
        let mut folders: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
        for (index, entry) in self.entries.iter().enumerate() {
            folders.entry(entry.parent).or_default().push(index);
        }
        for siblings in folders.into_values() {
            let entries = siblings.iter().filter_map(|index| self.entries.get(*index));
            let names: Vec<_> = entries.map(|entry| entry.name.clone()).collect();
            let own: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
            let landing = landing_names(&own, rules).map_err(|(index, reason)| DagError::Name {
                name: names.get(index).map_or_else(String::new, shown),
                reason,
            })?;
            for (index, name) in siblings.into_iter().zip(landing) {
                if let Some(entry) = self.entries.get_mut(index)
                    && entry.name != name
                {
                    let own = shown(&std::mem::replace(&mut entry.name, name));
                    entry.renamed_from.get_or_insert(own.into());
                }
            }
        }
        Ok(self)
    }
}

fn shown(name: &SafeName) -> String {
    escaped(name).to_string()
}

/// A path below the root as one text.
pub fn joined(path: &[&SafeName]) -> String {
    let names: Vec<&str> = path.iter().map(|name| name.as_str()).collect();
    names.join("/")
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
    use crate::name::NameError;

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
    fn what_is_chosen_keeps_its_way() {
        let entry = |parent, text, kind: fn() -> EntryKind| Entry {
            parent,
            name: name(text),
            renamed_from: None,
            kind: kind(),
        };
        let dir = || EntryKind::Dir {
            attributes: Attributes::default(),
        };
        let link = || EntryKind::Symlink {
            target: "x".to_owned(),
            attributes: Attributes::default(),
        };
        let tree = Tree {
            root: dir(),
            entries: vec![
                entry(None, "a", dir),
                entry(Some(0), "b", dir),
                entry(Some(1), "x", link),
                entry(Some(1), "y", link),
                entry(None, "c", dir),
                entry(Some(4), "d", dir),
                entry(Some(5), "x", link),
                entry(None, "x", link),
            ],
        };
        let check = |chosen: &[&str], expected: &[&str]| {
            let left = tree.clone().choose(|path| chosen.contains(&path));
            let paths = (0..).zip(&left.entries);
            let paths: Vec<_> = paths.map(|(at, _)| joined(&left.path(at))).collect();
            assert_eq!(paths, expected, "{chosen:?}");
            let links = left.entries.iter().filter(|it| it.kind == link());
            assert_eq!(left.symlinks(), links.count());
        };
        check(&[], &[]);
        check(&["x"], &["x"]);
        check(&["a/b/y"], &["a", "a/b", "a/b/y"]);
        check(&["a"], &["a", "a/b", "a/b/x", "a/b/y"]);
        check(
            &["c/d", "a/b/x"],
            &["a", "a/b", "a/b/x", "c", "c/d", "c/d/x"],
        );
    }

    #[test]
    fn names_that_cannot_be_kept_apart_are_changed() {
        let dir = || EntryKind::Dir {
            attributes: Attributes::default(),
        };
        let entry = |parent, text| Entry {
            parent,
            name: name(text),
            renamed_from: None,
            kind: dir(),
        };
        let mut tree = Tree {
            root: dir(),
            entries: vec![
                entry(None, "README"),
                entry(Some(0), "readme"),
                entry(None, "a:b"),
                entry(None, "readme"),
            ],
        };
        assert_eq!(tree.path(1), [&name("README"), &name("readme")]);
        assert!(tree.path(4).is_empty());
        let rules = |folds, windows| NameRules { folds, windows };
        let names = |tree: &Tree| {
            let names = tree.entries.iter().map(|it| it.name.as_str().to_owned());
            names.collect::<Vec<_>>()
        };
        let folding = tree.clone().renamed(rules(true, false)).unwrap();
        assert_eq!(names(&folding), ["README", "readme", "a:b", "readme (2)"]);
        let windows = folding.renamed(rules(true, true)).unwrap();
        assert_eq!(names(&windows), ["README", "readme", "a%3Ab", "readme (2)"]);
        assert_eq!(windows.path_in_dag(1), "README/readme");
        assert_eq!(windows.path_in_dag(2), "a:b");
        let own = windows.entries.iter().map(|it| it.renamed_from.as_deref());
        assert_eq!(
            own.collect::<Vec<_>>(),
            [None, None, Some("a:b"), Some("readme")]
        );
        assert_eq!(tree.clone().renamed(NameRules::default()).unwrap(), tree);

        tree.entries[0].name = name(&"x".repeat(255));
        tree.entries[3].name = name(&"X".repeat(255));
        let refused = tree.renamed(rules(true, false));
        let reason = NameError::TooLong(259);
        assert!(matches!(refused, Err(DagError::Name { reason: it, .. }) if it == reason));
    }
}
