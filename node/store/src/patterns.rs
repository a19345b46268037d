//! Glob patterns over the paths of a tree, as people give them.
//!
//! `*` does not cross a `/`, `**` does, and a `/` at the end says that a folder is meant. What a
//! pattern is compared with, names or paths, and what follows for a folder is its user's.

use std::{fmt::Display, path::Path};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Longest pattern in bytes: what is nested in it is parsed and compiled level by level.
const PATTERN_BYTES_MAX: usize = 1024;

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {pattern:?} is malformed: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Several patterns; what one of them matches is matched.
pub struct Patterns(GlobSet);

impl Patterns {
    /// Parses patterns; all of them count.
    ///
    /// # Errors
    /// The first pattern that is malformed.
    pub fn new(patterns: &[String]) -> Result<Self, PatternError> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            if pattern.len() > PATTERN_BYTES_MAX {
                let start: String = pattern.chars().take(PATTERN_BYTES_MAX / 16).collect();
                let reason = format!("it has more than {PATTERN_BYTES_MAX} bytes");
                return Err(malformed(&start, &reason));
            }
            // `target/` means the folder, and entries are compared without the slash.
            let glob = GlobBuilder::new(pattern.strip_suffix('/').unwrap_or(pattern))
                .literal_separator(true)
                .build();
            set.add(glob.map_err(|error| malformed(pattern, &error.kind()))?);
        }
        let built = set.build();
        Ok(Self(built.map_err(|error| {
            malformed(&patterns.join(" "), &error.kind())
        })?))
    }

    /// Matches nothing.
    pub fn none() -> Self {
        Self(GlobSet::empty())
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the patterns matches the path.
    pub fn matches(&self, path: impl AsRef<Path>) -> bool {
        self.0.is_match(path)
    }
}

fn malformed(pattern: &str, reason: &dyn Display) -> PatternError {
    PatternError {
        pattern: pattern.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn patterns_match_whole_paths() {
        let check = |pattern: &str, path: &str, expected: bool| {
            let patterns = Patterns::new(&[pattern.to_owned()]).unwrap();
            assert_eq!(patterns.matches(path), expected, "{pattern} {path}");
        };
        check("*.raw", "a.raw", true);
        check("*.raw", "sub/a.raw", false);
        check("sub/*.raw", "sub/a.raw", true);
        check("sub/*.raw", "sub/deeper/a.raw", false);
        check("**/*.raw", "a.raw", true);
        check("**/*.raw", "sub/deeper/a.raw", true);
        check("sub/", "sub", true);
        check("s?b/{a,b}[0-9]", "sub/b7", true);
    }

    #[test]
    fn patterns_that_are_none_are_named() {
        let check = |pattern: &str, says: &str| {
            let error = Patterns::new(&["fine".to_owned(), pattern.to_owned()]).err();
            let said = error.unwrap().to_string();
            assert!(said.contains(says), "{said}");
        };
        check("a[b", "\"a[b\"");
        check("{a", "\"{a\"");
        check(&"{".repeat(PATTERN_BYTES_MAX + 1), "bytes");
    }
}
