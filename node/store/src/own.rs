//! What is Shoal's own among a person's files: homes, and the parts of fetches.
//!
//! Nobody else has a use for either. A share leaves them out, and no fetch lands in a home; that
//! goes for those of other nodes too, for two may work for one person. A home is known by what lies
//! in it. A part is known by its name, which holds a random number and a check of that number: a
//! user's own file that is merely named alike is shared like any other.

use std::path::{Path, PathBuf};

/// The end of a part's name, behind its random id.
const PART_END: &str = ".part";

/// Hexadecimal digits of a part's id: 32 random bits, then 32 bits that check them.
const PART_ID_DIGITS: usize = 16;

/// What the check of a part's id is derived with.
const PART_CHECK_CONTEXT: &str = "shoal part name v1";

/// Bytes that a name may have on every file system in use: eCryptfs, which encrypts names, takes 143;
/// most take 255.
pub const NAME_BYTES_ANYWHERE: usize = 143;

/// Files that lie together only in a node's home: its lock, and its key.
const HOME_FILES: [&str; 2] = ["daemon.lock", "identity.key"];

/// The name of the part of a fetch to `name`: `.name.<id>.part`, the name cut so that every file system
/// takes it.
///
/// Fetches to one place need different `random` numbers.
pub fn part_name(name: &str, random: u32) -> String {
    let suffix = format!(".{random:08x}{:08x}{PART_END}", check(random));
    let room = NAME_BYTES_ANYWHERE.saturating_sub(suffix.len() + 1);
    let mut end = name.len().min(room);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!(".{}{suffix}", &name[..end])
}

/// Whether an entry of this name is the part of a fetch, which comes and goes with that.
pub fn is_part(name: &str) -> bool {
    let id = name
        .strip_prefix('.')
        .and_then(|rest| rest.strip_suffix(PART_END))
        .and_then(|rest| rest.rsplit_once('.'));
    id.is_some_and(|(_, id)| {
        let is_digit = |it: u8| matches!(it, b'0'..=b'9' | b'a'..=b'f');
        let is_id = id.len() == PART_ID_DIGITS && id.bytes().all(is_digit);
        let id = u64::from_str_radix(id, 16).ok().filter(|_| is_id);
        id.is_some_and(|id| {
            let [a, b, c, d, sum @ ..] = id.to_be_bytes();
            check(u32::from_be_bytes([a, b, c, d])) == u32::from_be_bytes(sum)
        })
    })
}

/// 32 bits that nobody writes behind a random number by chance.
fn check(random: u32) -> u32 {
    let [a, b, c, d, ..] = blake3::derive_key(PART_CHECK_CONTEXT, &random.to_be_bytes());
    u32::from_be_bytes([a, b, c, d])
}

/// Whether a folder is the home of a node, of this one or of another. Blocking.
pub(crate) fn is_home(folder: &Path) -> bool {
    HOME_FILES.iter().all(|file| {
        let found = folder.join(file).symlink_metadata();
        found.is_ok_and(|found| found.is_file())
    })
}

/// The home that `path` lies in, or is. Blocking.
pub fn home_around(path: &Path) -> Option<PathBuf> {
    let home = path.ancestors().find(|folder| is_home(folder));
    home.map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn the_parts_that_are_made_are_known_as_parts() {
        for name in ["x", "a.part", "", &"é".repeat(200), "..x"] {
            let part = part_name(name, 0x0123_4567);
            assert!(
                is_part(&part) && part.len() <= NAME_BYTES_ANYWHERE,
                "{part}"
            );
        }
        for other in [
            "x",
            ".x.0123456789abcdef.part",
            ".x.part",
            "x.0123456789abcdef.part",
            ".x.0123456789abcdeg.part",
            ".x.0123456789ABCDEF.part",
            ".x.123456789abcdef.part",
            ".x.0123456789abcdef.partial",
        ] {
            assert!(!is_part(other), "{other}");
        }
    }

    #[test]
    fn a_home_is_known_by_what_lies_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir_all(home.join("db")).unwrap();
        fs::write(home.join("daemon.lock"), "1").unwrap();
        assert!(!is_home(&home));
        fs::write(home.join("identity.key"), "k").unwrap();
        assert!(is_home(&home) && !is_home(dir.path()));
        assert_eq!(home_around(&home.join("db/x")), Some(home.clone()));
        assert_eq!(home_around(dir.path()), None);
    }
}
