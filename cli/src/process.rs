//! The process of a node, as its command tells others of it and as they show it.

use std::{ffi::OsString, path::Path};

use shoal_api::types::{NodeProcess, ProcessKind};

use crate::human;

/// The longest command line that others are shown, in characters.
const COMMAND_CHARS_MAX: usize = 200;

/// ``process 12 (`shoal share photos`)``
pub(crate) fn named(process: &NodeProcess) -> String {
    let command = human::escape_message(&process.command).replace('\n', " ");
    match command.as_str() {
        "" => format!("process {}", process.pid),
        command => format!("process {} (`{command}`)", process.pid),
    }
}

/// This process, as others are told of it.
pub(crate) fn own_process(kind: ProcessKind) -> NodeProcess {
    NodeProcess {
        pid: std::process::id(),
        kind,
        command: command_line(std::env::args_os()),
    }
}

/// A command line on one line, as it can be typed but for what a terminal would obey.
fn command_line(words: impl Iterator<Item = OsString>) -> String {
    let words = words.enumerate().map(|(place, word)| {
        let word = match Path::new(&word).file_name() {
            Some(name) if place == 0 => name.to_owned(),
            _ => word,
        };
        human::escape(&human::shell_quote(&word.to_string_lossy()))
    });
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(COMMAND_CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_one_line_that_no_terminal_obeys() {
        let check = |words: &[&str], expected: &str| {
            let words = words.iter().map(OsString::from);
            assert_eq!(command_line(words), expected);
        };
        check(&["/usr/bin/shoal", "share", "a b"], "shoal share 'a b'");
        check(
            &["shoal", "share", "a\nb\x1b[2J"],
            "shoal share 'a\\nb\\u{1b}[2J'",
        );
        let long = "ü".repeat(900);
        let line = command_line(["shoal", long.as_str()].iter().map(OsString::from));
        assert_eq!(line.chars().count(), COMMAND_CHARS_MAX + 1);
    }
}
