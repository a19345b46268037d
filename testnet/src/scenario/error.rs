//! Where a scenario is wrong, and what was meant.

use std::ops::Range;

/// A place in a scenario's file: what an error points to, also one that is found later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePosition {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key, with the table that it is in: `event[2].nodes`.
    pub key: String,
}

/// Why a scenario cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", head(.place))]
pub struct ScenarioError {
    /// Where.
    pub place: Box<FilePosition>,
    /// What is wrong there.
    pub message: String,
    /// What to write in its place.
    pub hint: Option<String>,
}

impl FilePosition {
    /// The place of a span of `text`.
    pub(super) fn of(file: &str, text: &str, span: &Range<usize>, key: String) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            key,
        }
    }

    /// An error about it.
    pub(crate) fn error(&self, message: impl Into<String>) -> ScenarioError {
        ScenarioError {
            place: Box::new(self.clone()),
            message: message.into(),
            hint: None,
        }
    }
}

impl ScenarioError {
    /// With what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

fn head(place: &FilePosition) -> String {
    let FilePosition {
        file,
        line,
        column,
        key,
    } = place;
    match key.as_str() {
        "" => format!("{file}:{line}:{column}"),
        key => format!("{file}:{line}:{column}: `{key}`"),
    }
}
