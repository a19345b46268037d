//! Names for the entries of a folder that cannot keep their own where they land.
//!
//! A name that can be kept is kept. In one that cannot, whatever is in the way is written byte by
//! byte as `%` and two digits, and `%` itself with it: `a/b` lands as `a%2Fb`, `..` as `%2E%2E`, a
//! name without any bytes as `%`. Where that would be another entry's name, a number follows, as in
//! `photo (2).jpg`. No two entries get one name, and which they get depends on the names of the
//! folder, in their order, and on nothing else: so a fetch goes on where it was, and everybody's
//! copy looks the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{NameError, SafeName, Unportable, fold, refuse_char};

/// What a destination's system makes of names. By default it keeps every [`SafeName`] as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NameRules {
    /// Names that differ in case or composition only are one.
    pub folds: bool,
    /// What [`SafeName::unportable`] finds is refused or changed.
    pub windows: bool,
}

/// Names to land the entries of one folder under, in the order of `names`.
///
/// # Errors
/// The index of a name that gets too long, and [`NameError::TooLong`].
pub fn landing_names(
    names: &[&[u8]],
    rules: NameRules,
) -> Result<Vec<SafeName>, (usize, NameError)> {
    let mut taken = Taken::new(rules);
    // Whoever can keep a name has it, also before those that would be written like it.
    let kept: Vec<_> = names
        .iter()
        .map(|name| rules.kept(name).filter(|name| taken.take(name)))
        .collect();
    let landing = kept.into_iter().zip(names).enumerate();
    landing
        .map(|(index, (kept, name))| match kept {
            Some(kept) => Ok(kept),
            None => taken.find(name).map_err(|error| (index, error)),
        })
        .collect()
}

impl NameRules {
    /// The name itself, if it is safe and the system takes it.
    fn kept(self, name: &[u8]) -> Option<SafeName> {
        let name = SafeName::from_bytes(name).ok()?;
        let is_taken = !self.windows || name.unportable().is_none();
        is_taken.then_some(name)
    }

    /// What two names have in common that the system does not keep apart.
    fn key(self, name: &SafeName) -> String {
        if self.folds {
            fold(name)
        } else {
            name.as_str().to_owned()
        }
    }

    /// A name with whatever is in the way written in digits.
    fn escaped(self, name: &[u8]) -> Result<SafeName, NameError> {
        let mut out = String::new();
        for chunk in name.utf8_chunks() {
            for c in chunk.valid().chars() {
                let reserved = self.windows && Unportable::is_reserved(c);
                if reserved || c == '%' || refuse_char(c).is_err() {
                    push_char(&mut out, c);
                } else {
                    out.push(c);
                }
            }
            chunk
                .invalid()
                .iter()
                .for_each(|byte| push(&mut out, *byte));
        }
        if out.is_empty() {
            out.push('%');
        }
        if out == "." || out == ".." {
            out = out.replace('.', "%2E");
        }
        let mut name = SafeName::parse(&out)?;
        // A device with a dot at its end takes both.
        while let Some(unportable) = name.unportable().filter(|_| self.windows) {
            let mut chars = name.chars();
            let mut out = String::new();
            match unportable {
                Unportable::Trailing => {
                    let last = chars.next_back();
                    out.push_str(chars.as_str());
                    last.into_iter().for_each(|c| push_char(&mut out, c));
                }
                Unportable::Device | Unportable::Reserved(_) => {
                    chars
                        .next()
                        .into_iter()
                        .for_each(|c| push_char(&mut out, c));
                    out.push_str(chars.as_str());
                }
            }
            name = SafeName::parse(&out)?;
        }
        Ok(name)
    }
}

/// The names of a folder that are given away.
struct Taken {
    rules: NameRules,
    keys: BTreeSet<String>,
    /// The number to try next for a name that is taken; so many equal names take no longer than as
    /// many others.
    next: BTreeMap<String, u32>,
}

impl Taken {
    fn new(rules: NameRules) -> Self {
        Self {
            rules,
            keys: BTreeSet::new(),
            next: BTreeMap::new(),
        }
    }

    /// Gives a name away, if it is free.
    fn take(&mut self, name: &SafeName) -> bool {
        self.keys.insert(self.rules.key(name))
    }

    /// A free name for an entry that cannot have its own.
    fn find(&mut self, name: &[u8]) -> Result<SafeName, NameError> {
        let name = match self.rules.kept(name) {
            Some(name) => name,
            None => self.rules.escaped(name)?,
        };
        if self.take(&name) {
            return Ok(name);
        }
        let key = self.rules.key(&name);
        let mut number = self.next.get(&key).copied().unwrap_or(2);
        loop {
            let numbered = numbered(&name, number)?;
            number = number.saturating_add(1);
            if self.take(&numbered) {
                self.next.insert(key, number);
                return Ok(numbered);
            }
        }
    }
}

/// A name with a number before its extension.
fn numbered(name: &SafeName, number: u32) -> Result<SafeName, NameError> {
    let (stem, extension) = match name.rfind('.') {
        None | Some(0) => (name.as_str(), ""),
        Some(dot) => name.split_at(dot),
    };
    SafeName::parse(&format!("{stem} ({number}){extension}"))
}

fn push_char(out: &mut String, c: char) {
    let mut bytes = [0; 4];
    let bytes = c.encode_utf8(&mut bytes).bytes();
    bytes.for_each(|byte| push(out, byte));
}

fn push(out: &mut String, byte: u8) {
    out.push_str(&format!("%{byte:02X}"));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const LINUX: NameRules = NameRules {
        folds: false,
        windows: false,
    };
    const WINDOWS: NameRules = NameRules {
        folds: true,
        windows: true,
    };

    fn landed(names: &[&[u8]], rules: NameRules) -> Vec<String> {
        let names = landing_names(names, rules).unwrap();
        names.iter().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn what_cannot_be_kept_is_written_in_digits() {
        let check = |name: &[u8], linux: &str, windows: &str| {
            assert_eq!(landed(&[name], LINUX), [linux]);
            assert_eq!(landed(&[name], WINDOWS), [windows]);
        };
        check(b"100%.txt", "100%.txt", "100%.txt");
        check(b"", "%", "%");
        check(b".", "%2E", "%2E");
        check(b"..", "%2E%2E", "%2E%2E");
        check(b"../../etc", "..%2F..%2Fetc", "..%2F..%2Fetc");
        check(b"50%/a", "50%25%2Fa", "50%25%2Fa");
        check(b"\x1b[2J", "%1B[2J", "%1B[2J");
        check(
            "gpj\u{202e}exe".as_bytes(),
            "gpj%E2%80%AEexe",
            "gpj%E2%80%AEexe",
        );
        check(b"latin-\xe9\xe8", "latin-%E9%E8", "latin-%E9%E8");
        check(b"aux.c", "aux.c", "%61ux.c");
        check(b"12:30?", "12:30?", "12%3A30%3F");
        check(b"end. .", "end. .", "end. %2E");
        check(b"nul.x.", "nul.x.", "%6Eul.x%2E");
        check(b"a\\b", "a\\b", "a%5Cb");
    }

    #[test]
    fn no_two_get_one_name() {
        let check = |names: &[&str], rules, expected: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
            assert_eq!(landed(&names, rules), expected, "{names:?}");
        };
        // Who is called so keeps it, whatever comes first.
        check(&["a/b", "a%2Fb"], LINUX, &["a%2Fb (2)", "a%2Fb"]);
        check(
            &["x.tar.gz"; 3],
            LINUX,
            &["x.tar.gz", "x.tar (2).gz", "x.tar (3).gz"],
        );
        check(&["a", "a", "a (2)"], LINUX, &["a", "a (3)", "a (2)"]);
        check(&[".rc", ".rc"], LINUX, &[".rc", ".rc (2)"]);
        check(
            &["README", "readme", "Readme"],
            LINUX,
            &["README", "readme", "Readme"],
        );
        check(
            &["README", "readme", "Readme", "é", "e\u{301}"],
            WINDOWS,
            &["README", "readme (2)", "Readme (3)", "é", "e\u{301} (2)"],
        );
        check(&["end.", "end%2E"], WINDOWS, &["end%2E (2)", "end%2E"]);
    }

    #[test]
    fn what_gets_too_long_is_told() {
        let (bells, long) = ("\u{7}".repeat(86), "x".repeat(253));
        for rules in [LINUX, WINDOWS] {
            let error = landing_names(&[b"fine", bells.as_bytes()], rules);
            assert_eq!(error, Err((1, NameError::TooLong(258))));
            let error = landing_names(&[long.as_bytes(); 2], rules);
            assert_eq!(error, Err((1, NameError::TooLong(257))));
        }
    }

    #[test]
    fn many_equal_names_take_no_longer_than_others() {
        let names = vec![&b"same"[..]; 100_000];
        let landed = landing_names(&names, LINUX).unwrap();
        assert_eq!(landed.last().unwrap().as_str(), "same (100000)");
    }

    /// Names that are likely to get in each other's way.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: [&[u8]; 15] = [
            b"%",
            b"2F",
            b"/",
            b"a",
            b"A",
            b".",
            b" ",
            b" (2)",
            b"\xff",
            b"\0",
            b":",
            b"con",
            "é".as_bytes(),
            "e\u{301}".as_bytes(),
            "\u{202e}".as_bytes(),
        ];
        let pieces = prop::sample::select(&PIECES[..]);
        prop::collection::vec(pieces, 0..4).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn names_are_safe_different_and_kept_where_they_can(
            names in prop::collection::vec(name(), 0..12),
            folds: bool,
            windows: bool,
        ) {
            let rules = NameRules { folds, windows };
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            let landed = landing_names(&names, rules).unwrap();
            prop_assert_eq!(landed.len(), names.len());
            let keys: BTreeSet<_> = landed.iter().map(|name| rules.key(name)).collect();
            prop_assert_eq!(keys.len(), names.len());
            let mut seen = BTreeSet::new();
            for (name, landed) in names.iter().zip(&landed) {
                prop_assert!(rules.kept(landed.as_bytes()).is_some(), "{:?}", landed);
                if let Some(kept) = rules.kept(name)
                    && seen.insert(rules.key(&kept))
                {
                    prop_assert_eq!(landed, &kept);
                }
            }
            // A folder that was renamed needs no renaming.
            let again: Vec<_> = landed.iter().map(|name| name.as_bytes()).collect();
            prop_assert_eq!(&landing_names(&again, rules).unwrap(), &landed);
        }
    }
}
