//! The unit of `shoal service`: what it says, and the one file that holds it.
//!
//! The unit is made here and nowhere else, and says so in its first line: a unit without that line
//! is somebody else's, and is neither replaced nor removed. It is replaced by a rename, so that
//! systemd never reads half of one.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy as _;
use shoal_api::{ApiError, ErrorCode};

/// The unit's name.
pub(super) const NAME: &str = "shoal.service";

/// The first line of a unit that is ours.
const MARK: &str = "# Written by `shoal service install`; `shoal service uninstall` removes it.";

/// Ours have 1 KiB and two paths of at most 4 KiB, each byte of which takes four at worst.
const BYTES_MAX: u64 = 64 << 10;

/// Why there is no `ProtectSystem`, `PrivateTmp`, `UMask` or the like: what is shared, and where a
/// fetch goes, is anywhere that its user may read and write.
///
/// `AF_NETLINK` is how a daemon learns that the machine has new addresses. A command line or a
/// configuration that makes no sense (exit code 2) makes no more of it the next time. An ordered
/// end takes less than `TimeoutStopSec`.
const SERVICE: &str = "\
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
TimeoutStopSec=60
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
";

/// Where this user's units are.
pub(super) fn folder() -> Result<PathBuf, ApiError> {
    let dirs = etcetera::choose_base_strategy().map_err(|_| {
        ApiError::new(ErrorCode::Usage, "there is no home directory for this user")
            .hint("set HOME or XDG_CONFIG_HOME")
    })?;
    Ok(dirs.config_dir().join("systemd/user"))
}

/// The unit that runs `program` on `home`.
///
/// # Errors
/// When systemd could not run it.
pub(super) fn text(program: &Path, home: &Path) -> Result<String, ApiError> {
    let command = [
        &format!(":{}", runnable(program)?),
        "--home",
        utf8(home)?,
        "daemon",
    ];
    let command = command.map(quote).join(" ");
    Ok(format!(
        "{MARK}\n\
         [Unit]\n\
         Description=Shoal, files shared between machines\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStart={command}\n\
         {SERVICE}\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    ))
}

/// The unit that is there, if it is ours.
///
/// # Errors
/// [`ErrorCode::DestinationExists`] when it is somebody else's.
pub(super) fn read(path: &Path) -> Result<Option<String>, ApiError> {
    let failed = |error| failed("read", path, &error);
    match path.symlink_metadata() {
        Ok(entry) if !entry.is_file() => return Err(foreign(path)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match text.lines().next() {
        Some(MARK) => Ok(Some(text)),
        _ => Err(foreign(path)),
    }
}

/// Replaces the unit.
pub(super) fn write(path: &Path, text: &str) -> Result<(), ApiError> {
    // systemd takes no file of this suffix for a unit.
    let staged = path.with_extension("service.new");
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut file = File::create(&staged)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&staged, path)
    };
    write().map_err(|error| failed("write", path, &error))
}

/// Removes the unit, and the link that has it started; says whether there was any of them.
pub(super) fn remove(path: &Path) -> Result<bool, ApiError> {
    let link = path.with_file_name("default.target.wants").join(NAME);
    // A file in the link's place is not what enabling makes.
    let enabled = fs::read_link(&link).is_ok() && remove_file(&link)?;
    Ok(remove_file(path)? || enabled)
}

fn remove_file(path: &Path) -> Result<bool, ApiError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path, &error)),
    }
}

/// A program's path, of which systemd takes no quotes, backslashes and control characters.
fn runnable(program: &Path) -> Result<&str, ApiError> {
    let text = utf8(program)?;
    if text.contains(|c: char| c.is_ascii_control() || "\"'\\".contains(c)) {
        let message = format!("systemd runs no program at {}", program.display());
        return Err(ApiError::new(ErrorCode::BadName, message)
            .hint("put it where the path has no quotes, backslashes or control characters"));
    }
    Ok(text)
}

fn utf8(path: &Path) -> Result<&str, ApiError> {
    path.to_str().ok_or_else(|| {
        let message = format!(
            "systemd takes no path that is not UTF-8: {}",
            path.display()
        );
        ApiError::new(ErrorCode::BadName, message).hint("rename it, or choose another with --home")
    })
}

/// One word of `ExecStart`, in which the `:` before the program turns `$` into an ordinary
/// character.
fn quote(word: &str) -> String {
    let mut out = String::from('"');
    for c in word.chars() {
        match c {
            '%' => out.push_str("%%"),
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn foreign(path: &Path) -> ApiError {
    let message = format!("{} is not a unit that shoal wrote", path.display());
    ApiError::new(ErrorCode::DestinationExists, message)
        .hint("move it away, or go on using it instead")
}

fn failed(action: &str, path: &Path, error: &io::Error) -> ApiError {
    ApiError::of_io(error, format!("cannot {action} {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn check(program: &str, home: &str, line: &str) {
        let unit = text(Path::new(program), Path::new(home)).unwrap();
        let found = unit.lines().find(|it| it.starts_with("ExecStart="));
        assert_eq!(found, Some(line), "{unit}");
    }

    #[test]
    fn every_path_is_one_word_that_systemd_takes_literally() {
        check(
            "/bin/shoal",
            "/home/me/.local/share/shoal",
            r#"ExecStart=":/bin/shoal" "--home" "/home/me/.local/share/shoal" "daemon""#,
        );
        check(
            "/a b/100%/$HOME/shoal",
            "/q\"'\\/%h/$x\n",
            r#"ExecStart=":/a b/100%%/$HOME/shoal" "--home" "/q\"'\\/%%h/$x\x0a" "daemon""#,
        );
    }

    #[test]
    fn a_program_that_systemd_would_not_run_is_refused() {
        for program in ["/a\"b", "/a'b", "/a\\b", "/a\nb"] {
            let error = text(Path::new(program), Path::new("/home")).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadName, "{program:?}");
        }
    }
}
