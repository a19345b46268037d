//! `fetch --rename-unsafe`: the names that a tree lands under.
//!
//! Without it a tree lands under the names that it has, or not at all. What a name has to be to be
//! safe anywhere is decided while the tree is read; what the destination's own system makes of
//! names is found out by trying, and decided here, before anything is fetched. A renamed tree is
//! served like any other: its blocks are found by the rows of its files, whatever those are called.

use shoal_protocol::{
    name::NameRules,
    walk::{EntryKind, Tree, joined, symlink_stays_inside},
};

use super::FetchError;

/// Renamed entries that are listed one by one, 64 KiB of usual paths.
const RENAMED_LISTED_MAX: usize = 256;

/// Names that are told when a system does not take them.
const MISFITS_NAMED_MAX: usize = 5;

/// Entries that land under other names than they have in their tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renamed {
    /// For the first `RENAMED_LISTED_MAX`: the path in the tree, escaped for printing, and the one
    /// below the destination.
    pub listed: Vec<(String, String)>,
    /// How many there are.
    pub total: u64,
}

/// The tree as it lands on a system with these rules.
///
/// # Errors
/// [`FetchError::Misfits`] if a name would have to be changed and `renames` does not allow it.
pub(super) fn settle(tree: Tree, rules: NameRules, renames: bool) -> Result<Tree, FetchError> {
    if rules == NameRules::default() {
        return Ok(tree);
    }
    let tree = tree.renamed(rules)?;
    let changed = tree
        .entries
        .iter()
        .filter_map(|it| it.renamed_from.as_deref());
    let changed: Vec<_> = changed.take(MISFITS_NAMED_MAX).map(str::to_owned).collect();
    match renames || changed.is_empty() {
        true => Ok(tree),
        false => Err(FetchError::Misfits(changed)),
    }
}

impl Renamed {
    /// What of a tree has new names; symlinks only where there are any.
    pub(super) fn of(tree: &Tree, has_symlinks: bool) -> Self {
        let mut renamed = Self::default();
        for (index, entry) in (0..).zip(&tree.entries) {
            if entry.renamed_from.is_none() {
                continue;
            }
            let path = tree.path(index);
            if let EntryKind::Symlink { target, .. } = &entry.kind
                && !(has_symlinks && symlink_stays_inside(&path, target))
            {
                // It does not land.
                continue;
            }
            renamed.total += 1;
            if renamed.listed.len() < RENAMED_LISTED_MAX {
                renamed
                    .listed
                    .push((tree.path_in_dag(index), joined(&path)));
            }
        }
        renamed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::{unixfs::Attributes, walk::Entry};

    use super::*;

    fn tree(names: &[&str]) -> Tree {
        let dir = || EntryKind::Dir {
            attributes: Attributes::default(),
        };
        let entry = |name: &&str| Entry {
            parent: None,
            name: name.parse().unwrap(),
            renamed_from: None,
            kind: dir(),
        };
        Tree {
            root: dir(),
            entries: names.iter().map(entry).collect(),
        }
    }

    #[test]
    fn names_that_a_system_does_not_keep_refuse_a_tree_or_are_changed() {
        let rules = |folds, windows| NameRules { folds, windows };
        let check = |names: &[&str], rules, changed: &[(&str, &str)]| {
            let settled = settle(tree(names), rules, true).unwrap();
            let renamed = Renamed::of(&settled, true);
            let changed: Vec<_> = changed
                .iter()
                .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
                .collect();
            assert_eq!(renamed.total, changed.len() as u64);
            assert_eq!(renamed.listed, changed);
            match settle(tree(names), rules, false) {
                Ok(kept) => assert!(changed.is_empty() && kept == tree(names)),
                Err(FetchError::Misfits(named)) => assert_eq!(named, [changed[0].0.as_str()]),
                Err(error) => panic!("{error}"),
            }
        };
        let names = ["README", "aux", "readme"];
        check(&names, rules(false, false), &[]);
        check(&names, rules(true, false), &[("readme", "readme (2)")]);
        check(&names, rules(false, true), &[("aux", "%61ux")]);
        check(&["a", "b"], rules(true, true), &[]);
    }

    #[test]
    fn only_the_first_are_listed() {
        let names: Vec<_> = (0..1000).map(|n| format!("{n}.")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let rules = NameRules {
            windows: true,
            ..NameRules::default()
        };
        let renamed = Renamed::of(&settle(tree(&names), rules, true).unwrap(), true);
        assert_eq!(
            (renamed.listed.len(), renamed.total),
            (RENAMED_LISTED_MAX, 1000)
        );
    }
}
