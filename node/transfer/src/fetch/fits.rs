//! Whether a tree can be written where it is to land, found out before its content is asked for.
//!
//! Only content that cannot be written refuses a fetch, and it is named: a name that is too long there,
//! a file that is too large. What a file system does not keep beside that (symlinks, modes, times) is
//! left out and counted.

use std::{cmp::Reverse, path::Path};

use bytesize::ByteSize;
use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};
use shoal_ground::said;
use shoal_protocol::{
    address::BLOCK_BYTES_MAX,
    name::escaped,
    walk::{EntryKind, Tree, joined},
};

use super::{FetchError, place::Part};

/// Names and files that a message tells of.
const NAMED_MAX: usize = 5;

/// Refuses a tree with names that are longer than the file system takes.
///
/// # Errors
/// [`FetchError::LongNames`], and what goes wrong at trying.
pub(super) fn check_names(tree: &Tree, part: &Part, destination: &Path) -> Result<(), FetchError> {
    let lengths = tree.entries.iter().map(|entry| entry.name.len());
    let Some(longest) = lengths.max() else {
        return Ok(());
    };
    let limit = part.name_limit(longest);
    let Some(limit) = limit.map_err(FetchError::at(destination))? else {
        return Ok(());
    };
    let entries = (0..).zip(&tree.entries);
    let longer = entries.filter(|(_, entry)| entry.name.len() > limit);
    let names = longer.map(|(index, _)| escaped(&joined(&tree.path(index))).to_string());
    let names = names.take(NAMED_MAX).collect();
    Err(FetchError::LongNames { limit, names })
}

/// Refuses a tree with files that are larger than the file system or this process may write. Only the
/// largest are tried, as many as a message names.
///
/// # Errors
/// [`FetchError::LargeFiles`], the system's own words for a limit of this process, and what goes wrong
/// at trying.
pub(super) fn check_sizes(tree: &Tree, part: &Part, destination: &Path) -> Result<(), FetchError> {
    let mut files = large_files(tree);
    files.sort_by_key(|(size, _)| Reverse(*size));
    let mut refused = Vec::new();
    for (size, index) in files.into_iter().take(NAMED_MAX) {
        let below = index.map(|index| joined(&tree.path(index)));
        if getrlimit(Resource::Fsize)
            .current
            .is_some_and(|limit| size > limit)
        {
            // What the system would say, without the signal that it sends with that.
            let path = below.map_or_else(|| destination.to_owned(), |it| destination.join(it));
            return Err(FetchError::at(&path)(said::of_length(
                Errno::FBIG.into(),
                size,
            )));
        }
        let is_taken = part.takes_file_of(size);
        if is_taken.map_err(FetchError::at(destination))? {
            break;
        }
        let path = below.unwrap_or_else(|| destination.to_string_lossy().into_owned());
        let size = ByteSize(size).display().iec();
        refused.push(format!("{} ({size})", escaped(&path)));
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(FetchError::LargeFiles(refused)),
    }
}

/// The files of more than a block: their sizes, which are exact, and their indices; none for the root.
fn large_files(tree: &Tree) -> Vec<(u64, Option<u32>)> {
    let below = (0..).zip(&tree.entries);
    let below = below.map(|(index, entry)| (Some(index), &entry.kind));
    let all = below.chain([(None, &tree.root)]);
    let sized = all.filter_map(|(index, kind)| match kind {
        EntryKind::File {
            size: Some(size), ..
        } => Some((*size, index)),
        _ => None,
    });
    sized
        .filter(|(size, _)| *size > BLOCK_BYTES_MAX as u64)
        .collect()
}
