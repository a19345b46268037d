//! Commands that a node does something for as long as they run: how it knows that they do.
//!
//! Each holds a lock on a file of its own in the folder `commands` of the home, which the system takes
//! back when the process ends, however that is. The file says which process it is, for people; what
//! counts is the lock. The node that serves a home looks at it, and so does the next one. A file whose
//! lock nobody holds is of no use to anybody, and whoever sees it may remove it.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// The folder of the home that has the files.
const DIR: &str = "commands";
/// What a file is called until its lock is held.
const NEW_SUFFIX: &str = ".new";

/// A command, among all of a home: 16 hexadecimal digits, drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandId(pub u64);

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for CommandId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_hex);
        let number = number.ok_or("a command is named by 16 hexadecimal digits")?;
        Ok(Self(number))
    }
}

impl TryFrom<String> for CommandId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CommandId> for String {
    fn from(id: CommandId) -> Self {
        id.to_string()
    }
}

impl CommandId {
    /// Whether the command runs, as far as this process can tell: one whose lock cannot be looked at
    /// may.
    #[must_use]
    pub fn runs(self, home: &Path) -> bool {
        match File::open(self.file(home)) {
            Ok(file) => !matches!(file.try_lock_shared(), Ok(())),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// The process of the command, as its file says.
    #[must_use]
    pub fn process(self, home: &Path) -> Option<u32> {
        let text = fs::read_to_string(self.file(home)).ok()?;
        text.trim().parse().ok()
    }

    fn file(self, home: &Path) -> PathBuf {
        home.join(DIR).join(self.to_string())
    }
}

/// The running command that a node may do something for. It ends when this is dropped.
#[derive(Debug)]
pub struct RunningCommand {
    id: CommandId,
    path: PathBuf,
    file: File,
}

impl RunningCommand {
    /// Says that this process runs a command on `home`.
    ///
    /// # Errors
    /// When the home cannot be written to, or its file system has no locks.
    pub fn begin(home: &Path) -> io::Result<Self> {
        let dir = home.join(DIR);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&dir)?;
        let id = CommandId(random()?);
        let path = id.file(home);
        let new = path.with_extension(NEW_SUFFIX.trim_start_matches('.'));
        let mut options = OpenOptions::new();
        let mut file = options
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&new)?;
        // It gets its name with the lock held, so that nobody takes it for one that has ended.
        let named = file
            .try_lock()
            .map_err(|error| match error {
                TryLockError::WouldBlock => io::ErrorKind::ResourceBusy.into(),
                TryLockError::Error(error) => error,
            })
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .and_then(|()| fs::rename(&new, &path));
        if let Err(error) = named {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        Ok(Self { id, path, file })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> CommandId {
        self.id
    }

    /// Removes the files of commands on `home` that have ended.
    pub fn clear(home: &Path) {
        for entry in fs::read_dir(home.join(DIR)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name
                .to_str()
                .and_then(|name| name.parse::<CommandId>().ok());
            if id.is_some_and(|id| !id.runs(home)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// 64 bits that the system drew.
fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_command_runs_as_long_as_its_lock_is_held() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let (one, other) = (
            RunningCommand::begin(home).unwrap(),
            RunningCommand::begin(home).unwrap(),
        );
        let (first, second) = (one.id(), other.id());
        assert!(first.runs(home) && second.runs(home) && first != second);
        assert_eq!(first.process(home), Some(std::process::id()));
        drop(one);
        assert!(!first.runs(home) && second.runs(home));
        // What `kill -9` leaves is a file without a lock.
        let killed = CommandId(7);
        fs::write(killed.file(home), "1\n").unwrap();
        assert!(!killed.runs(home));
        RunningCommand::clear(home);
        assert!(!killed.file(home).exists() && second.runs(home));
    }

    #[test]
    fn commands_are_named_by_digits_alone() {
        let id = CommandId(0xab);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "ab",
            "../../../../etc/",
            "+0000000000000ab",
            "00000000000000abc",
        ] {
            bad.parse::<CommandId>().unwrap_err();
        }
    }
}
