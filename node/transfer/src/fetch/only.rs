//! `fetch --only`: which files of a tree are fetched.
//!
//! A pattern is compared with the whole path of an entry below what the link leads to; a folder
//! that matches takes all below it. What is chosen is a tree of its own from then on, with the
//! folders on the way: it is fetched, counted and landed like any other. It is not what its root
//! says, so it is never served, and has no part in the swarm of that root.

use shoal_protocol::{
    address::Cid,
    name::escaped,
    walk::{Entry, EntryKind, Tree, joined},
};
use shoal_store::patterns::Patterns;

use super::FetchError;

/// Patterns of one fetch; of at most 1 KiB each, so that those of all unfinished transfers take
/// 64 MiB at the very worst.
const PATTERNS_MAX: usize = 64;

/// Paths named to the person when the patterns choose none, or too many, of them.
const PATHS_NAMED_MAX: usize = 5;

/// What of a tree is wanted: what one of these patterns matches, or everything without any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// Sorted, each once: their order means nothing.
    patterns: Vec<String>,
}

/// A tree that was cut down to what is wanted.
pub(super) struct Chosen {
    pub(super) tree: Tree,
    /// Files and links of the whole that are not in it.
    pub(super) left_out: u64,
}

impl Only {
    /// # Errors
    /// [`FetchError::Pattern`] and [`FetchError::Patterns`].
    pub fn new(mut patterns: Vec<String>) -> Result<Self, FetchError> {
        patterns.sort_unstable();
        patterns.dedup();
        if patterns.len() > PATTERNS_MAX {
            return Err(FetchError::Patterns(PATTERNS_MAX));
        }
        Patterns::new(&patterns)?;
        Ok(Self { patterns })
    }

    /// Whether everything is wanted.
    pub(super) fn is_all(&self) -> bool {
        self.patterns.is_empty()
    }

    pub(super) fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Cuts a tree down to what is wanted.
    ///
    /// # Errors
    /// [`FetchError::NothingMatches`], and [`FetchError::OneFile`] where there is nothing to choose
    /// from.
    pub(super) fn choose(&self, tree: Tree) -> Result<Chosen, FetchError> {
        if self.is_all() {
            return Ok(Chosen { tree, left_out: 0 });
        }
        match tree.root {
            EntryKind::Dir { .. } => {}
            EntryKind::File { .. } => return Err(FetchError::OneFile),
            EntryKind::Symlink { .. } => return Err(FetchError::BareSymlink),
        }
        let patterns = Patterns::new(&self.patterns)?;
        let there = paths(&tree, |_| true);
        let count = |tree: &Tree| (tree.files() + tree.symlinks()) as u64;
        let whole = count(&tree);
        let tree = tree.choose(|path| patterns.matches(path));
        if tree.entries.is_empty() {
            return Err(FetchError::NothingMatches {
                patterns: self.patterns.clone(),
                there,
            });
        }
        let left_out = whole - count(&tree);
        Ok(Chosen { tree, left_out })
    }

    /// The one file that is wanted of a tree.
    ///
    /// # Errors
    /// As [`Only::choose`], and [`FetchError::SeveralFiles`].
    pub(super) fn choose_file(&self, tree: Tree) -> Result<Cid, FetchError> {
        let there = paths(&tree, |_| true);
        let tree = self.choose(tree)?.tree;
        let kinds = tree.entries.iter().map(|entry| &entry.kind);
        let mut files = kinds.filter_map(|kind| match kind {
            EntryKind::File { cid, .. } => Some(cid),
            EntryKind::Dir { .. } | EntryKind::Symlink { .. } => None,
        });
        match (files.next(), files.next()) {
            (Some(cid), None) => Ok(cid.clone()),
            (None, _) => Err(FetchError::NothingMatches {
                patterns: self.patterns.clone(),
                there,
            }),
            (Some(_), Some(_)) => Err(FetchError::SeveralFiles {
                total: tree.files(),
                first: paths(&tree, |entry| matches!(entry.kind, EntryKind::File { .. })),
            }),
        }
    }
}

/// The paths of the first [`PATHS_NAMED_MAX`] entries that are to be named, escaped for printing,
/// and `…` where there are more.
fn paths(tree: &Tree, is_named: impl Fn(&Entry) -> bool) -> Vec<String> {
    let entries = (0..).zip(&tree.entries);
    let mut named = entries.filter(|(_, entry)| is_named(entry));
    let path = |(index, _)| escaped(&joined(&tree.path(index))).to_string();
    let first = named.by_ref().take(PATHS_NAMED_MAX).map(path);
    let mut paths: Vec<_> = first.collect();
    if named.next().is_some() {
        paths.push("…".to_owned());
    }
    paths
}
