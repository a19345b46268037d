//! What is shared in a scenario: how many, how large, how popular, and whose.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    error::{FilePosition, ScenarioError},
    fields::{At, Fields},
    members::or,
    select::Selection,
    values,
};

/// Large enough that it comes from several nodes, small enough for any machine.
const SIZE_DEFAULT: u64 = 16 << 20;
/// What is scaled down stays something: a chunk of data for each of a few files.
const SIZE_MIN: u64 = 1 << 10;
/// Of one content: as many as the homes of a run hold rows for without a thought.
const COUNT_MAX: usize = 10_000;

/// Some things to share that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// Its name; that of each of several ends in a number.
    pub name: String,
    /// How large each is: drawn from one of these.
    pub sizes: Vec<RangeInclusive<u64>>,
    /// Of how many files each is.
    pub files: usize,
    /// How many there are.
    pub count: usize,
    /// How popular the first is before the others: the exponent of Zipf's law, 0 for all alike.
    pub zipf: f64,
    /// From when on others of them are popular: the order is shuffled. Never without a time.
    pub changes: Option<Duration>,
    /// Who has them, in turn; the first node without a word.
    pub owner: Option<At<Selection>>,
    /// Where it is written.
    pub place: FilePosition,
}

impl Content {
    /// Reads every `[[content]]`; there is one without any.
    pub(super) fn read_all(
        fields: &mut Fields<'_>,
        scale: Option<f64>,
    ) -> Result<Vec<Self>, ScenarioError> {
        let document = fields.place();
        let tables = fields.tables("content")?.into_iter();
        let mut contents = tables.map(Self::read).collect::<Result<Vec<_>, _>>()?;
        if contents.is_empty() {
            contents.push(Self {
                name: "content".to_owned(),
                sizes: vec![SIZE_DEFAULT..=SIZE_DEFAULT],
                files: 1,
                count: 1,
                zipf: 0.0,
                changes: None,
                owner: None,
                place: document,
            });
        }
        for (index, content) in contents.iter().enumerate() {
            if contents[..index].iter().any(|it| it.name == content.name) {
                let message = format!("there are two contents `{}`", content.name);
                return Err(content.place.error(message));
            }
        }
        if let Some(scale) = scale {
            contents
                .iter_mut()
                .for_each(|content| content.resize(scale));
        }
        Ok(contents)
    }

    fn read(mut fields: Fields<'_>) -> Result<Self, ScenarioError> {
        let place = fields.place();
        let size = fields.text("size", values::sizes)?;
        let mut sizes = fields.texts("sizes", values::sizes)?;
        if let (Some(_), Some(second)) = (&size, sizes.first()) {
            let error = second.place.error("there is a `size` already");
            return Err(error.hint("say either `size` or `sizes`"));
        }
        sizes.extend(size);
        let sizes: Vec<_> = sizes.into_iter().map(|it| it.value).collect();
        let count = fields.text("count", values::count)?;
        if let Some(count) = count.as_ref().filter(|it| it.value > COUNT_MAX) {
            return Err(count
                .place
                .error(format!("there can be {COUNT_MAX} at most")));
        }
        let content = Self {
            name: match fields.text("name", values::name)? {
                Some(name) => name.value,
                None => return Err(place.error("a content has a `name`")),
            },
            sizes: match sizes.is_empty() {
                true => vec![SIZE_DEFAULT..=SIZE_DEFAULT],
                false => sizes,
            },
            files: or(fields.text("files", values::count)?, 1),
            count: or(count, 1),
            zipf: or(fields.text("zipf", values::number)?, 0.0),
            changes: fields.text("changes", values::period)?.map(|it| it.value),
            owner: fields.text("owner", str::parse)?,
            place,
        };
        fields.finish()?;
        Ok(content)
    }

    fn resize(&mut self, scale: f64) {
        let resized = |size: u64| values::scaled(size, scale).max(SIZE_MIN);
        for sizes in &mut self.sizes {
            *sizes = resized(*sizes.start())..=resized(*sizes.end());
        }
    }
}
