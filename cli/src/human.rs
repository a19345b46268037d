//! Numbers and names as people read them; names of other peers' making as no terminal obeys them.

use std::{path::Path, time::Duration};

use bytesize::ByteSize;
use shoal_api::types::Nearness;
use shoal_protocol::name::{escaped, escaped_bytes};

/// `1.2 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// `12.5/64.0 MiB`, or `900 KiB/1.2 GiB`.
pub(crate) fn amounts(done: u64, total: u64) -> String {
    let (done, total) = (size(done), size(total));
    match (done.split_once(' '), total.split_once(' ')) {
        (Some((number, unit)), Some((_, whole))) if unit == whole => format!("{number}/{total}"),
        _ => format!("{done}/{total}"),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// `0.4 s`, `12 s`, `3m 5s`.
pub(crate) fn duration(millis: u64) -> String {
    if millis < 10_000 {
        return format!("{}.{} s", millis / 1000, millis % 1000 / 100);
    }
    let seconds = millis / 1000;
    if seconds < 60 {
        return format!("{seconds} s");
    }
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// A length of time that is an estimate: `2h 5m`, and no seconds then.
pub(crate) fn roughly(millis: u64) -> String {
    let exact = duration(millis);
    match exact.match_indices(' ').nth(1) {
        Some((end, _)) => exact[..end].to_owned(),
        None => exact,
    }
}

/// How far away a peer is, behind what else is said of it: `, 12 ms away, near`.
pub(crate) fn distance(rtt_ms: Option<u64>, nearness: Option<Nearness>) -> String {
    let far = rtt_ms.map_or(String::new(), |rtt| format!(", {rtt} ms away"));
    let near = match nearness {
        Some(Nearness::Lan) => ", on the local network",
        Some(Nearness::Near) => ", near",
        Some(Nearness::Far) | None => "",
    };
    far + near
}

/// A name or any other text of unknown origin, on one line.
pub(crate) fn escape(text: &str) -> String {
    escaped(text).to_string()
}

/// A message: it may have several lines, and names in it may have been escaped before.
pub(crate) fn escape_message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\\' => out.push(c),
            _ => out.push_str(&escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

/// A path, escaped.
pub(crate) fn path(path: &Path) -> String {
    escaped_bytes(path.as_os_str().as_encoded_bytes()).to_string()
}

/// `word` as a shell takes it literally.
pub(crate) fn shell_quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1_258_291), "1.2 MiB");
        assert_eq!(amounts(13_107_200, 67_108_864), "12.5/64.0 MiB");
        assert_eq!(amounts(921_600, 1_288_490_189), "900.0 KiB/1.2 GiB");
        assert_eq!(amounts(0, 0), "0/0 B");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(2, "file"), "2 files");
        assert_eq!(duration(432), "0.4 s");
        assert_eq!(duration(12_700), "12 s");
        assert_eq!(duration(185_000), "3m 5s");
        assert_eq!(roughly(12_700), "12 s");
        assert_eq!(roughly(185_000), "3m 5s");
        assert_eq!(roughly(7_505_000), "2h 5m");
        assert_eq!(roughly(187_505_000), "2days 4h");
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(escape("plain ünï 漢"), "plain ünï 漢");
        assert_eq!(escape("\x1b[31mred"), "\\u{1b}[31mred");
        assert_eq!(escape("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
        assert_eq!(escape("\u{9b}2J"), "\\u{9b}2J");
        assert_eq!(escape("a\nb\\"), "a\\nb\\\\");
        assert_eq!(escape_message("a\nb\x07 \\u{1b}"), "a\nb\\u{7} \\u{1b}");
    }

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(shell_quote("/a/b.txt"), "/a/b.txt");
        assert_eq!(shell_quote("a b"), "'a b'");
        assert_eq!(shell_quote("it's"), r"'it'\''s'");
        assert_eq!(
            shell_quote("shoal:x?name=y&peer=z"),
            "'shoal:x?name=y&peer=z'"
        );
        assert_eq!(shell_quote(""), "''");
    }
}
