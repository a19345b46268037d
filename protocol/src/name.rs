//! Names that arrive from the network: parsed, never cleaned.
//!
//! [`SafeName`] is the only way a remote name becomes a path component. What no system may be made
//! to write is refused here, with the reason. What only some systems cannot hold is asked for
//! apart, by [`SafeName::unportable`] and [`fold`]: whether it matters depends on where it lands.
//! Other names than those that were sent are made by [`landing_names`], for who asks for it.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    ops::Deref,
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

mod rename;

pub use rename::{NameRules, landing_names};

/// Longest name, in bytes of UTF-8: what ext4, XFS, Btrfs and APFS can hold.
pub const NAME_BYTES_MAX: usize = 255;

/// Why a name is refused everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("a name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("a name is `.` or `..`")]
    Dots,
    /// A `/` in it.
    #[error("a name contains `/`")]
    Slash,
    /// A NUL in it.
    #[error("a name contains NUL")]
    Nul,
    /// A control character in it.
    #[error("a name contains the control character U+{0:04X}")]
    Control(u32),
    /// A character that makes the rest display in another order.
    #[error("a name contains the bidirectional override U+{0:04X}")]
    Bidi(u32),
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("a name has {0} bytes; at most {NAME_BYTES_MAX} are accepted")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("a name is not UTF-8")]
    NotUtf8,
}

/// Why some system cannot hold a name that others can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unportable {
    /// A character that Windows reserves.
    #[error("Windows does not allow `{0}` in names")]
    Reserved(char),
    /// A device name, with or without an extension.
    #[error("Windows reserves this name for a device")]
    Device,
    /// A dot or space at the end, which Windows drops.
    #[error("Windows drops dots and spaces at the end of names")]
    Trailing,
}

impl Unportable {
    /// Whether Windows reserves a character.
    fn is_reserved(c: char) -> bool {
        matches!(c, '\\' | '<' | '>' | ':' | '"' | '|' | '?' | '*')
    }
}

/// One path component that no system can be harmed with.
///
/// It is never empty, `.` or `..`, holds no separator, control character or bidirectional
/// override, and has at most [`NAME_BYTES_MAX`] bytes. Names compare by their UTF-8 bytes.
///
/// There is no `Display`: a name is either written to disk, by [`SafeName::as_str`], or shown to a
/// person, by [`escaped`], and the two may differ.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafeName(Arc<str>);

impl SafeName {
    /// Accepts a name or says why not.
    ///
    /// # Errors
    /// The first [`NameError`] that holds.
    pub fn parse(name: &str) -> Result<SafeName, NameError> {
        match name {
            "" => return Err(NameError::Empty),
            "." | ".." => return Err(NameError::Dots),
            _ => {}
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(name.len()));
        }
        name.chars().try_for_each(refuse_char)?;
        Ok(SafeName(name.into()))
    }

    /// Accepts a name as it stands in a block or on a disk.
    ///
    /// # Errors
    /// [`NameError::NotUtf8`], or what [`SafeName::parse`] says.
    pub fn from_bytes(name: &[u8]) -> Result<SafeName, NameError> {
        SafeName::parse(str::from_utf8(name).map_err(|_| NameError::NotUtf8)?)
    }

    /// The name itself, as it is written to disk.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says what keeps a system other than Linux from holding this name.
    pub fn unportable(&self) -> Option<Unportable> {
        if let Some(reserved) = self.chars().find(|c| Unportable::is_reserved(*c)) {
            return Some(Unportable::Reserved(reserved));
        }
        if self.ends_with(['.', ' ']) {
            return Some(Unportable::Trailing);
        }
        // Windows looks at what stands before the first dot, without the spaces at its end.
        let stem = self
            .split('.')
            .next()
            .unwrap_or_default()
            .trim_end_matches(' ');
        is_device(stem).then_some(Unportable::Device)
    }
}

/// Refuses the characters that no name may hold.
fn refuse_char(c: char) -> Result<(), NameError> {
    match c {
        '/' => Err(NameError::Slash),
        '\0' => Err(NameError::Nul),
        // Embeddings, overrides and isolates: they let `exe.txt` be shown for `txt.exe`.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Err(NameError::Bidi(c.into())),
        _ if c.is_control() => Err(NameError::Control(c.into())),
        _ => Ok(()),
    }
}

/// Whether Windows takes this stem for a device. The superscript digits count as digits.
fn is_device(stem: &str) -> bool {
    let stem = stem.to_ascii_uppercase();
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => return true,
        _ => {}
    }
    let port = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"));
    let mut digits = port.unwrap_or_default().chars();
    matches!(
        (digits.next(), digits.next()),
        (Some('0'..='9' | '¹' | '²' | '³'), None)
    )
}

/// Maps names that a case-folding or normalising file system cannot keep apart to one text.
///
/// The text is for comparison only: NFC, lower case, and NFC again because lowering can decompose.
pub fn fold(name: &SafeName) -> String {
    let lower: String = name.nfc().flat_map(char::to_lowercase).collect();
    lower.nfc().collect()
}

/// Shows a name that may be unsafe, on one line and in its own order.
///
/// Backslashes and what would move the cursor, reorder the line or be invisible come out as
/// escapes.
pub fn escaped(name: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        name.chars().try_for_each(|c| match c {
            '\\' | '\n' | '\r' | '\t' => write!(f, "{}", c.escape_default()),
            _ if c.is_control() || is_invisible(c) => write!(f, "{}", c.escape_unicode()),
            _ => f.write_char(c),
        })
    })
}

/// A name that need not be UTF-8, as it may be printed: bytes that are not come out as `\xff`, so
/// that two such names differ.
pub fn escaped_bytes(name: &[u8]) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        name.utf8_chunks().try_for_each(|chunk| {
            write!(f, "{}", escaped(chunk.valid()))?;
            let mut invalid = chunk.invalid().iter();
            invalid.try_for_each(|byte| write!(f, "\\x{byte:02x}"))
        })
    })
}

/// Whether a character only steers how others are shown. Joiners are left alone: scripts and emoji
/// need them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

impl Deref for SafeName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for SafeName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SafeName({:?})", &*self.0)
    }
}

impl FromStr for SafeName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<SafeName, NameError> {
        SafeName::parse(name)
    }
}

impl Serialize for SafeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SafeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SafeName, D::Error> {
        let name = <Cow<'de, str>>::deserialize(deserializer)?;
        SafeName::parse(&name).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_what_any_system_may_be_given() {
        let longest = "ü".repeat(127) + "x";
        for name in [
            "a",
            ".hidden",
            "...",
            " lead",
            "日本語",
            "a\\b",
            "aux.c",
            "\u{200d}",
            &longest,
        ] {
            assert_eq!(SafeName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        let check = |name: &str, expected| {
            assert_eq!(SafeName::parse(name), Err(expected), "{name:?}");
            assert!(
                postcard::from_bytes::<SafeName>(&postcard::to_allocvec(name).unwrap()).is_err()
            );
        };
        check("", NameError::Empty);
        check(".", NameError::Dots);
        check("..", NameError::Dots);
        check("a/b", NameError::Slash);
        check("/", NameError::Slash);
        check("a\0", NameError::Nul);
        check("a\nb", NameError::Control(0x0a));
        check("\u{1b}[31m", NameError::Control(0x1b));
        check("a\u{7f}", NameError::Control(0x7f));
        check("a\u{85}", NameError::Control(0x85));
        check("txt\u{202e}exe", NameError::Bidi(0x202e));
        check("\u{2066}", NameError::Bidi(0x2066));
        check(&"x".repeat(256), NameError::TooLong(256));
        assert_eq!(SafeName::from_bytes(b"\xff"), Err(NameError::NotUtf8));
    }

    #[test]
    fn knows_what_windows_cannot_hold() {
        let check = |name: &str, expected| {
            assert_eq!(
                SafeName::parse(name).unwrap().unportable(),
                expected,
                "{name}"
            );
        };
        check("plain.txt", None);
        check("auxiliary.c", None);
        check("COM10", None);
        check("COMx", None);
        check("com", None);
        check("aux.c", Some(Unportable::Device));
        check("nul", Some(Unportable::Device));
        check("Con .txt", Some(Unportable::Device));
        check("com1.tar.gz", Some(Unportable::Device));
        check("LPT²", Some(Unportable::Device));
        check("a\\b", Some(Unportable::Reserved('\\')));
        check("12:30", Some(Unportable::Reserved(':')));
        check("end.", Some(Unportable::Trailing));
        check("end ", Some(Unportable::Trailing));
    }

    #[test]
    fn folds_case_and_composition() {
        let check = |one: &str, other: &str, same: bool| {
            let fold_of = |name| fold(&SafeName::parse(name).unwrap());
            assert_eq!(fold_of(one) == fold_of(other), same, "{one} {other}");
        };
        check("README", "readme", true);
        check("é", "e\u{301}", true);
        check("É", "e\u{301}", true);
        check("a", "b", false);
    }

    #[test]
    fn prints_without_side_effects() {
        let check = |name: &str, expected: &str| assert_eq!(escaped(name).to_string(), expected);
        check("é日.txt", "é日.txt");
        check("a\nb\u{1b}", "a\\nb\\u{1b}");
        check("txt\u{202e}exe", "txt\\u{202e}exe");
        check("it's \"e\u{301}\"", "it's \"e\u{301}\"");
        check("a\\b", "a\\\\b");
        let check =
            |name: &[u8], expected: &str| assert_eq!(escaped_bytes(name).to_string(), expected);
        check("é\u{1b}".as_bytes(), "é\\u{1b}");
        check(b"a\xff\xfeb\xc3", "a\\xff\\xfeb\\xc3");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(name) = SafeName::from_bytes(&bytes) {
                prop_assert_eq!(name.as_bytes(), &bytes[..]);
                prop_assert!(!name.contains(['/', '\0']) && name.len() <= NAME_BYTES_MAX);
                let _ = (name.unportable(), fold(&name), escaped(&name).to_string());
            }
        }
    }
}
