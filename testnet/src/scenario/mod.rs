//! Scenarios: what a network is like, what happens in it, and what must hold, as a TOML file.
//!
//! Reading checks everything that can be known of a file by itself, so that nothing is started for
//! one that cannot be run: each mistake is one [`ScenarioError`] with its line, column and key. What
//! is left out has a default that runs; an empty file is a network in which one node shares
//! something that all others fetch. What chance decides is drawn elsewhere, by
//! [`Script`](crate::run::Script).

mod assertion;
mod content;
mod error;
mod event;
mod fields;
mod members;
mod rule;
mod select;
mod shipped;
#[cfg(test)]
mod tests;
pub(crate) mod values;

use std::{fmt, path::Path, str::FromStr, time::Duration};

pub use assertion::{Assertion, Bound, Comparison, Metric, That, Unit};
pub use content::Content;
pub use error::{FilePosition, ScenarioError};
pub use event::{Event, Repeat, What, Wish};
pub use fields::At;
pub use members::{Group, Member, Members};
pub use rule::LinkRule;
pub use select::Selection;
pub use shipped::{SHIPPED, Shipped};
pub use values::Amount;

use fields::Fields;
use members::or;

use crate::Transport;

/// A network that has not done what it should in this time will not do it.
const LIMIT_DEFAULT: Duration = Duration::from_secs(5 * 60);

/// A timeline of a few pages; more is another file by mistake.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a network is like, what happens in it, and what must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name, which becomes part of file names.
    pub name: String,
    /// What it shows, in a sentence or two.
    pub description: String,
    /// What all chance is drawn from.
    pub seed: u64,
    /// What its nodes are; whoever runs it may choose without a word.
    pub mode: Option<Mode>,
    /// What they listen on, where each is a process; TCP by itself.
    pub transport: Option<Transport>,
    /// The run is over at this time at the latest.
    pub limit: Duration,
    /// What the configuration of its nodes says, key by key.
    pub settings: Vec<Setting>,
    /// What it is compared with: the same, with the same choices of chance and other settings.
    pub compare: Option<Compare>,
    /// Its nodes.
    pub members: Members,
    /// What differs on some links.
    pub links: Vec<LinkRule>,
    /// What is shared; at least one.
    pub contents: Vec<Content>,
    /// What happens, in the order in which it is written.
    pub events: Vec<Event>,
    /// What must hold; at least one.
    pub assertions: Vec<Assertion>,
}

/// What the nodes of a run are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Each node is a process: what a user runs.
    #[default]
    Process,
    /// All nodes are parts of one process, on a network in its memory.
    InProcess,
}

/// What a run is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// What the other run is called.
    pub name: String,
    /// What the configuration of its nodes says, besides that of the scenario.
    pub settings: Vec<Setting>,
    /// Whether those nodes do wrong in it that do in the scenario; otherwise they are ordinary ones.
    pub evil: bool,
}

/// A key of the configuration with its value, as it is written: `replicas.near=10ms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Section and name.
    pub key: String,
    /// The value as text.
    pub value: String,
}

impl Setting {
    /// The variable of the environment that says the same, with its value.
    #[must_use]
    pub fn variable(&self) -> (String, String) {
        let name = self.key.replace(['.', '-'], "_").to_ascii_uppercase();
        (format!("SHOAL_{name}"), self.value.clone())
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=');
        let parts = parts.map(|(key, value)| (key.trim(), value.trim()));
        match parts.filter(|(key, _)| key.contains('.')) {
            Some((key, value)) => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            None => Err(format!(
                "`{text}` is no setting: write a key and a value, like `replicas.near=10ms`"
            )),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// What whoever runs a scenario says in place of its file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// How many nodes.
    pub nodes: Option<usize>,
    /// What chance is drawn from.
    pub seed: Option<u64>,
    /// All sizes are multiplied by it.
    pub scale: Option<f64>,
}

impl Scenario {
    /// Reads a scenario; `file` is what errors call it.
    ///
    /// # Errors
    /// The first mistake in it, with its place.
    pub fn read(file: &str, text: &str, overrides: &Overrides) -> Result<Self, ScenarioError> {
        let mut fields = Fields::parse(file, text)?;
        let place = fields.place();
        let groups = fields.tables("group")?.into_iter().map(Group::read);
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        let mut nodes = fields.text("nodes", values::count)?;
        if let Some(value) = overrides.nodes {
            let place = nodes.map_or_else(|| place.clone(), |it| it.place);
            nodes = Some(At { value, place });
        }
        let members = Members::count(groups, nodes, &place)?;
        let scenario = Self {
            name: or(fields.text("name", values::name)?, name_of(file)),
            description: or(fields.text("description", description)?, String::new()),
            seed: {
                let said = fields.text("seed", seed)?.map_or(0, |it| it.value);
                overrides.seed.unwrap_or(said)
            },
            mode: fields.text("mode", str::parse)?.map(|it| it.value),
            transport: fields.text("transport", str::parse)?.map(|it| it.value),
            limit: or(fields.text("limit", values::period)?, LIMIT_DEFAULT),
            settings: settings(&mut fields)?,
            compare: compare(&mut fields)?,
            links: read_all(&mut fields, "link", LinkRule::read)?,
            contents: Content::read_all(&mut fields, overrides.scale)?,
            events: events(&mut fields, &place)?,
            assertions: assertions(&mut fields, &place)?,
            members,
        };
        fields.finish()?;
        scenario.check()?;
        Ok(scenario)
    }

    /// What it is compared with, as a scenario of its own: the same nodes under the same numbers, with other
    /// settings, and without those that do wrong if it says so.
    #[must_use]
    pub(crate) fn compared(&self) -> Option<Self> {
        let compare = self.compare.as_ref()?;
        let mut other = self.clone();
        other.settings.extend(compare.settings.iter().cloned());
        if !compare.evil {
            other.members = other.members.all_honest();
        }
        Some(other)
    }

    /// Names that have to mean something, and times that have to be reached.
    fn check(&self) -> Result<(), ScenarioError> {
        for event in &self.events {
            if event.at >= self.limit {
                return Err(self.too_late(&event.place));
            }
            match &event.what {
                What::Share { content } => self.check_content(content.as_ref())?,
                What::Fetch(wish) | What::Lookup(wish) => {
                    self.check_content(wish.content.as_ref())?;
                }
                _ => {}
            }
        }
        for assertion in &self.assertions {
            if assertion.that.needs_another_run() && self.compare.is_none() {
                let error = assertion.place.error("this is compared with no other run");
                return Err(error.hint("say what with in `[compare]`"));
            }
            self.check_content(assertion.content.as_ref())?;
            if assertion.at.is_some_and(|at| at > self.limit) {
                return Err(self.too_late(&assertion.place));
            }
        }
        Ok(())
    }

    fn too_late(&self, place: &FilePosition) -> ScenarioError {
        let limit = humantime::format_duration(self.limit);
        let error = place.error(format!("the run is over by then, after {limit}"));
        error.hint("set a longer `limit`, or an earlier time")
    }

    fn check_content(&self, name: Option<&At<String>>) -> Result<(), ScenarioError> {
        let names = || self.contents.iter().map(|content| content.name.as_str());
        match name {
            Some(name) if !names().any(|it| it == name.value) => {
                let message = members::unknown("content", &name.value, names());
                Err(name.place.error(message))
            }
            _ => Ok(()),
        }
    }
}

/// Reads settings of the nodes.
fn settings(fields: &mut Fields<'_>) -> Result<Vec<Setting>, ScenarioError> {
    let settings = fields.texts("settings", str::parse)?.into_iter();
    Ok(settings.map(|setting| setting.value).collect())
}

/// Reads `[compare]`.
fn compare(fields: &mut Fields<'_>) -> Result<Option<Compare>, ScenarioError> {
    let Some(mut table) = fields.table("compare") else {
        return Ok(None);
    };
    let place = table.place();
    let compare = Compare {
        name: match table.text("name", description)? {
            Some(name) => name.value,
            None => return Err(place.error("what is compared with has a `name`")),
        },
        settings: settings(&mut table)?,
        evil: or(table.text("evil", values::yes)?, true),
    };
    table.finish()?;
    if compare.settings.is_empty() && compare.evil {
        let error = place.error("nothing differs in what is compared with");
        return Err(error.hint("say what in `settings`, or `evil = false`"));
    }
    Ok(Some(compare))
}

/// Reads each table of a list.
fn read_all<T>(
    fields: &mut Fields<'_>,
    key: &'static str,
    read: fn(Fields<'_>) -> Result<T, ScenarioError>,
) -> Result<Vec<T>, ScenarioError> {
    fields.tables(key)?.into_iter().map(read).collect()
}

/// The timeline; somebody fetches or looks for something in it.
fn events(fields: &mut Fields<'_>, document: &FilePosition) -> Result<Vec<Event>, ScenarioError> {
    let mut events = read_all(fields, "event", Event::read)?;
    let wishes = |event: &Event| matches!(event.what, What::Fetch(_) | What::Lookup(_));
    if !events.iter().any(wishes) {
        events.push(Event {
            at: Duration::ZERO,
            repeat: None,
            what: What::Fetch(Wish::ALL),
            place: document.clone(),
        });
    }
    Ok(events)
}

/// What must hold; whatever else, copies are what was shared.
fn assertions(
    fields: &mut Fields<'_>,
    document: &FilePosition,
) -> Result<Vec<Assertion>, ScenarioError> {
    let assertions = read_all(fields, "assert", Assertion::read)?;
    if !assertions.is_empty() {
        return Ok(assertions);
    }
    let metrics = [Metric::AllFetched, Metric::NoWrongBytes];
    let assertions = metrics.map(|metric| Assertion::of(metric, document));
    Ok(assertions.into())
}

/// The name of a scenario that gives itself none: that of its file, where it can be one.
fn name_of(file: &str) -> String {
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str());
    let name = stem.and_then(|stem| values::name(stem).ok());
    name.unwrap_or_else(|| "scenario".to_owned())
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no seed, which is a whole number from 0 on"))
}

fn description(text: &str) -> Result<String, String> {
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "process" => Ok(Self::Process),
            "in-process" => Ok(Self::InProcess),
            _ => Err(format!(
                "`{text}` is no mode: there are process and in-process"
            )),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::InProcess => "in-process",
        })
    }
}
