//! Which file system a path lies on, told without touching any.
//!
//! The kernel's list of mounts is read from memory, so a file system that hangs cannot keep this
//! waiting. A path is taken as it is written; callers pass paths without symlinks.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where Linux lists the mounts that this process sees.
const MOUNTS_FILE: &str = "/proc/self/mountinfo";

/// A device number as the kernel prints it, like `8:1`; each FUSE or network mount has its own.
pub(super) type Device = String;

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: Device,
    /// Where it is mounted.
    pub(super) at: PathBuf,
    /// Whether its kind keeps a change time of its own, which nobody can set: without one, a file
    /// may get other bytes under the same stat.
    pub(super) keeps_ctime: bool,
}

/// Kinds of file systems that make up the change time, or take it from the modification time.
const WITHOUT_CTIME: [&[u8]; 7] = [
    b"9p",
    b"cifs",
    b"exfat",
    b"msdos",
    b"smb3",
    b"vfat",
    b"virtiofs",
];

/// All mounts, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Mount>);

impl Mounts {
    /// The mounts of now; none where the system has no such list.
    pub(super) fn read() -> Self {
        std::fs::read(MOUNTS_FILE).map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    /// Reads lines like `36 35 98:0 /root /mnt rw - ext4 /dev/sda rw`; others are left out.
    fn parse(text: &[u8]) -> Self {
        let lines = text.split(|byte| *byte == b'\n');
        Self(lines.filter_map(mount).collect())
    }

    /// The mount that `path` lies on: the one with the longest mount point, and of several at one
    /// point the last, which hides the others.
    pub(super) fn of(&self, path: &Path) -> Option<&Mount> {
        let holding = self.0.iter().filter(|mount| is_below(path, &mount.at));
        holding.max_by_key(|mount| mount.at.as_os_str().len())
    }

    /// Whether a file system with this device is mounted.
    pub(super) fn has(&self, device: &str) -> bool {
        self.0.iter().any(|mount| mount.device == device)
    }
}

/// As `Path::starts_with` for two paths without repeated slashes, byte by byte: this is asked for
/// every block that is served, with as many mounts as there are.
fn is_below(path: &Path, at: &Path) -> bool {
    let (path, at) = (path.as_os_str().as_bytes(), at.as_os_str().as_bytes());
    let at = at.strip_suffix(b"/").unwrap_or(at);
    path.strip_prefix(at)
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = fields.nth(2)?;
    let at = fields.nth(1)?;
    // Optional fields end with a dash.
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount {
        keeps_ctime: !kind.starts_with(b"fuse") && !WITHOUT_CTIME.contains(&kind),
        device: String::from_utf8(device.to_vec()).ok()?,
        at: PathBuf::from(unescaped(at)),
    })
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// Whether a path can be looked up at all.
pub(super) fn is_absolute(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        25 22 0:5 / /proc rw - proc proc rw\n\
        40 22 0:50 / /mnt/a\\040b rw - fuse.x x rw\n\
        41 22 0:51 / /mnt rw - tmpfs t rw\n\
        42 22 0:52 / /mnt rw - tmpfs t rw\n\
        broken\n";

    #[test]
    fn a_path_lies_on_the_innermost_and_last_mount() {
        let mounts = Mounts::parse(LIST);
        let check = |path: &str, device: &str| {
            let found = mounts.of(Path::new(path)).map(|it| it.device.as_str());
            assert_eq!(found, Some(device), "{path}");
        };
        check("/", "8:1");
        check("/home/x", "8:1");
        check("/procfs", "8:1");
        check("/proc/self", "0:5");
        check("/mnt/a b/c", "0:50");
        check("/mnt/a", "0:52");
        let keeps = |path: &str| mounts.of(Path::new(path)).map(|it| it.keeps_ctime);
        assert_eq!((keeps("/x"), keeps("/mnt/a b")), (Some(true), Some(false)));
        assert!(mounts.has("0:51") && !mounts.has("0:99"));
        assert_eq!(mounts.of(Path::new("relative")), None);
    }

    #[test]
    fn escapes_are_undone_and_what_is_none_stays() {
        let check = |field: &[u8], expected: &[u8]| {
            assert_eq!(unescaped(field).as_bytes(), expected);
        };
        check(b"a\\011b", b"a\tb");
        check(b"\\134", b"\\");
        check(b"a\\9", b"a\\9");
        check(b"end\\", b"end\\");
    }
}
