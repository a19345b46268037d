//! Reading a DAG from its root down, without doing any reading.
//!
//! A walk says which blocks it wants and is fed their bytes; fetching, storing and verifying them
//! against their addresses is its caller's. A fetch takes two steps. A [`TreeWalk`] reads every
//! directory, symlink and file root, and ends in a [`Tree`] or in the reason why the DAG is
//! refused, before any content is asked for. Then a [`FileWalk`] for each file names its leaves in
//! order. A [`PathWalk`] finds one entry in a tree without reading the rest.
//!
//! Memory is bounded by the limits here and in [`crate::unixfs`], whatever is fed. After an error
//! a walk is of no more use.

mod assemble;
mod file;
mod path;
mod summary;
mod tree;
mod tree_walk;

pub use file::{FileStep, FileWalk};
pub use path::{PathError, PathStep, PathWalk};
pub use summary::TREE_TEXT_BYTES_MAX;
pub use tree::{Entry, EntryKind, Tree, joined, symlink_stays_inside};
pub use tree_walk::{TREE_NODES_MAX, Totals, TreeWalk};
