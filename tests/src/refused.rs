//! Checking that bad input is refused well: with the right exit code, in words that help, in JSON,
//! and without a trace on disk.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::hash_file;

/// Where commands run, and whose node they talk to.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The binary.
    pub program: PathBuf,
    /// The working directory; nothing in it may change.
    pub dir: PathBuf,
    /// The node's home. A database in it may be opened; that is not looked at.
    pub home: PathBuf,
}

/// One command that has to fail, and how.
#[derive(Clone, Debug)]
pub struct Refusal<'a> {
    /// The command line.
    pub args: Vec<OsString>,
    /// Its exit code.
    pub exit: i32,
    /// The code in JSON.
    pub code: &'a str,
    /// What the message contains, each of them.
    pub says: &'a [&'a str],
    /// What the hint contains, each of them.
    pub advises: &'a [&'a str],
}

impl Ground {
    /// The same place with another home.
    pub fn on(&self, home: PathBuf) -> Self {
        Self {
            home,
            ..self.clone()
        }
    }

    /// The same with a copy of the binary, for users who may not reach the original.
    pub fn with_program(&self, program: PathBuf) -> Self {
        Self {
            program,
            ..self.clone()
        }
    }

    /// A command that runs here, with a node that would be alone on loopback.
    pub fn command(&self, args: &[OsString]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(&self.dir)
            .env("SHOAL_HOME", &self.home)
            .env("SHOAL_NETWORK_MDNS", "false")
            .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
            .env_remove("SHOAL_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command twice, with `--json` and without, and checks how it is refused.
    ///
    /// # Panics
    /// When it is not, or badly, or when something in the working directory is not as before.
    pub fn check(&self, refusal: &Refusal<'_>) {
        self.check_with(refusal, |_| {});
    }

    /// The same with something about the commands changed by `prepare`.
    ///
    /// # Panics
    /// As [`Ground::check`].
    pub fn check_with(&self, refusal: &Refusal<'_>, prepare: impl Fn(&mut Command)) {
        let before = snapshot(&self.dir);
        let run = |args: &[OsString]| {
            let mut command = self.command(args);
            prepare(&mut command);
            command.output().expect("the binary runs")
        };
        let plain = run(&refusal.args);
        check_text(refusal, &plain);
        let mut args = refusal.args.clone();
        args.insert(0, "--json".into());
        check_json(refusal, &run(&args));
        assert_eq!(before, snapshot(&self.dir), "{refusal:?} left a trace");
    }
}

/// The message starts with `error: `, advice follows as `hint: `, and stdout stays empty.
fn check_text(refusal: &Refusal<'_>, output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(refusal.exit),
        "{refusal:?}: {stderr}"
    );
    assert!(output.stdout.is_empty(), "{refusal:?}: {output:?}");
    let at = stderr.find("error: ").expect("an error is printed");
    let (message, hint) = match stderr[at..].split_once("\nhint: ") {
        Some((message, hint)) => (message, hint),
        None => (&stderr[at..], ""),
    };
    check_words(refusal, message, refusal.says);
    // The parser's own advice comes as usage and tips.
    let hint = if refusal.code == "usage" {
        &stderr
    } else {
        hint
    };
    check_words(refusal, hint, refusal.advises);
    let obeyed = |c: char| c.is_control() && c != '\n';
    assert!(!stderr.contains(obeyed), "{refusal:?}: {stderr:?}");
}

/// The whole of stdout is `{"error":{"code","message","hint"}}`.
fn check_json(refusal: &Refusal<'_>, output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(refusal.exit),
        "{refusal:?}: {stdout}"
    );
    assert_eq!(stdout.lines().count(), 1, "{refusal:?}: {stdout}");
    let document: Value = serde_json::from_str(&stdout).expect("stdout is JSON");
    let error = &document["error"];
    assert_eq!(error["code"], refusal.code, "{refusal:?}: {document}");
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    check_words(refusal, &text("message"), refusal.says);
    if refusal.code != "usage" {
        check_words(refusal, &text("hint"), refusal.advises);
    }
    assert!(!text("hint").is_empty(), "{refusal:?} gives no advice");
}

fn check_words(refusal: &Refusal<'_>, text: &str, words: &[&str]) {
    for word in words {
        assert!(
            text.contains(word),
            "{refusal:?} does not say {word:?}: {text}"
        );
    }
}

/// Everything below a directory: kind, mode and content, and of what is no directory size and time.
/// A directory's own time changes when a part came and went.
///
/// # Panics
/// When it cannot be read.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = path.symlink_metadata().expect("an entry");
        let kind = metadata.file_type();
        let what = if kind.is_dir() {
            let entries = fs::read_dir(&path).expect("a readable directory");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link to {:?}", fs::read_link(&path).expect("a link"))
        } else if kind.is_fifo() || kind.is_socket() || kind.is_char_device() {
            format!("{kind:?}")
        } else {
            hash_file(&path).to_hex().to_string()
        };
        let mut facts = format!("{what}, mode {:o}", metadata.mode());
        if !kind.is_dir() {
            let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
            facts += &format!(", {} bytes, {seconds}.{nanos:09}", metadata.len());
        }
        seen.insert(path, facts);
    }
    seen
}
