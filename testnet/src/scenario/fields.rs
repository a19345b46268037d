//! The tables of a scenario's file, key by key, so that every mistake is named with its place.
//!
//! A reader takes the keys that it knows; what is left at the end is a mistake, and the nearest of
//! the known keys is what was probably meant.

use std::{borrow::Cow, ops::Range};

use shoal_ground::suggest::closest;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::error::{FilePosition, ScenarioError};

/// A value, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub place: FilePosition,
}

/// The file that is read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

/// A table whose keys are taken one by one.
pub(super) struct Fields<'a> {
    source: Source<'a>,
    /// What it is called in front of its keys: empty, or `event[2].`.
    path: String,
    span: Range<usize>,
    entries: Vec<(Spanned<Cow<'a, str>>, Spanned<DeValue<'a>>)>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The document as a whole.
    ///
    /// # Errors
    /// When it is not TOML.
    pub(super) fn parse(file: &'a str, text: &'a str) -> Result<Self, ScenarioError> {
        let source = Source { file, text };
        let table = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            let place = source.place(&span, String::new());
            place.error(format!("this is not TOML: {}", one_line(error.message())))
        })?;
        Ok(Self::new(source, String::new(), table))
    }

    fn new(source: Source<'a>, path: String, table: Spanned<DeTable<'a>>) -> Self {
        Self {
            source,
            path,
            span: table.span(),
            entries: table.into_inner().into_iter().collect(),
            known: Vec::new(),
        }
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> FilePosition {
        let key = self.path.trim_end_matches('.').to_owned();
        self.source.place(&self.span, key)
    }

    /// The value of a key as `read` makes it of its text; numbers and yes-or-no have one, too.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<At<T>>, ScenarioError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let place = self.place_of(key, &value);
        let text = scalar(value.get_ref()).ok_or_else(|| {
            let kind = value.get_ref().type_str();
            place.error(format!("this takes one value, not an {kind}"))
        })?;
        let value = read(&text).map_err(|why| place.error(why))?;
        Ok(Some(At { value, place }))
    }

    /// The value of a key, or those of a list.
    pub(super) fn texts<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<At<T>>, ScenarioError> {
        let Some(value) = self.take(key) else {
            return Ok(Vec::new());
        };
        let values = match value.get_ref() {
            DeValue::Array(array) => array.iter().cloned().collect(),
            _ => vec![value],
        };
        let values = values.into_iter().map(|value| {
            let place = self.place_of(key, &value);
            let text = scalar(value.get_ref())
                .ok_or_else(|| place.error("this takes a value, or a list of values"))?;
            let value = read(&text).map_err(|why| place.error(why))?;
            Ok(At { value, place })
        });
        values.collect()
    }

    /// The table of a key; none when there is something else, or nothing.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Self> {
        let mut entries = self.entries.iter();
        entries.find(|(name, value)| name.get_ref() == key && value.get_ref().is_table())?;
        let value = self.take(key)?;
        let (span, path) = (value.span(), format!("{}{key}.", self.path));
        match value.into_inner() {
            DeValue::Table(table) => Some(Self::new(self.source, path, Spanned::new(span, table))),
            _ => None,
        }
    }

    /// The tables of a list of tables: `[[event]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Result<Vec<Self>, ScenarioError> {
        let Some(value) = self.take(key) else {
            return Ok(Vec::new());
        };
        let place = self.place_of(key, &value);
        let DeValue::Array(array) = value.into_inner() else {
            return Err(place.error(format!("this is a list of tables: write [[{key}]]")));
        };
        let tables = array.into_iter().enumerate().map(|(index, value)| {
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(table) => {
                    let path = format!("{}{key}[{index}].", self.path);
                    Ok(Self::new(self.source, path, Spanned::new(span, table)))
                }
                _ => Err(place.error(format!("this is a list of tables: write [[{key}]]"))),
            }
        });
        tables.collect()
    }

    /// Fails when there are keys that nobody took.
    pub(super) fn finish(self) -> Result<(), ScenarioError> {
        let Some((key, _)) = self.entries.first() else {
            return Ok(());
        };
        let path = format!("{}{}", self.path, key.get_ref());
        let error = self
            .source
            .place(&key.span(), path)
            .error("there is no such key here");
        let known = closest(key.get_ref(), self.known.iter().copied());
        Err(match known {
            Some(known) => error.hint(format!("did you mean `{known}`?")),
            None => error.hint(format!("the keys are {}", self.known.join(", "))),
        })
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.known.push(key);
        let mut entries = self.entries.iter();
        let index = entries.position(|(name, _)| name.get_ref() == key)?;
        Some(self.entries.swap_remove(index).1)
    }

    fn place_of(&self, key: &str, value: &Spanned<DeValue<'a>>) -> FilePosition {
        let key = format!("{}{key}", self.path);
        self.source.place(&value.span(), key)
    }
}

impl Source<'_> {
    fn place(&self, span: &Range<usize>, key: String) -> FilePosition {
        FilePosition::of(self.file, self.text, span, key)
    }
}

/// The text of a value that has one.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => return None,
    })
}

/// A message of several lines on one.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
