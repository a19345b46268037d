//! The timeline of a scenario: what is done, when, and to which nodes.

use std::time::Duration;

use shoal_ground::suggest::closest;
use shoal_net::emulation::Line;

use super::{
    error::{FilePosition, ScenarioError},
    fields::{At, Fields},
    members::{or, read_line},
    select::Selection,
    values,
};

/// The kinds of events, as they are written.
const KINDS: [&str; 9] = [
    "share",
    "fetch",
    "lookup",
    "kill",
    "start",
    "partition",
    "heal",
    "degrade",
    "churn",
];

/// A node that was replaced comes back after the time that people take to start a program again.
const AWAY_DEFAULT: Duration = Duration::from_secs(5);
/// What a rate of churn is counted in.
const CHURN_PERIOD_DEFAULT: Duration = Duration::from_secs(60);

/// Something that is done at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, since the start of the run.
    pub at: Duration,
    /// When it is done again.
    pub repeat: Option<Repeat>,
    /// What.
    pub what: What,
    /// Where it is written.
    pub place: FilePosition,
}

/// Again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// From one time to the next.
    pub every: Duration,
    /// No more from here on.
    pub until: Duration,
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The owners of a content, or of all contents, share it.
    Share {
        /// Which; all without one.
        content: Option<At<String>>,
    },
    /// Nodes fetch a content, or one that chance chooses by its popularity.
    Fetch(Wish),
    /// Nodes look for the providers of a content.
    Lookup(Wish),
    /// Nodes are ended as `kill -9` does.
    Kill {
        /// Which.
        nodes: At<Selection>,
    },
    /// Nodes that do not run are started again.
    Start {
        /// Which.
        nodes: At<Selection>,
        /// As new nodes, that know nothing.
        fresh: bool,
    },
    /// Nothing passes between some nodes and others.
    Partition {
        /// These …
        nodes: At<Selection>,
        /// … from these; all others without any.
        from: Option<At<Selection>>,
        /// Only what the first send is held back.
        one_way: bool,
        /// When it is over; at a `heal` without a time.
        until: Option<Duration>,
    },
    /// Every partition is over.
    Heal,
    /// Nodes have another line.
    Degrade {
        /// Which.
        nodes: At<Selection>,
        /// What the line is like.
        line: Line,
        /// When they have their own again.
        until: Option<Duration>,
    },
    /// Nodes are replaced one after the other.
    Churn {
        /// Which.
        nodes: At<Selection>,
        /// Which part of them in each span.
        rate: f64,
        /// The span.
        every: Duration,
        /// No more from here on.
        until: Duration,
        /// From the end of a node to its start.
        away: Duration,
        /// The node that comes is a new one.
        fresh: bool,
    },
}

/// Who wants what.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Who; without any, all that are not owners.
    pub nodes: Option<At<Selection>>,
    /// What; every content without a name.
    pub content: Option<At<String>>,
    /// So many that chance chooses; of each content one by one without a number.
    pub count: Option<usize>,
    /// They begin at times that chance spreads over this span.
    pub over: Duration,
}

impl Event {
    /// Reads an `[[event]]`.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<Self, ScenarioError> {
        let place = fields.place();
        let Some(kind) = fields.text("do", kind)? else {
            return Err(place
                .error("an event says what to do")
                .hint(format!("`do` is one of {}", KINDS.join(", "))));
        };
        let at = or(fields.text("at", values::span)?, Duration::ZERO);
        let what = match kind.value {
            "share" => What::Share {
                content: fields.text("content", values::name)?,
            },
            "fetch" => What::Fetch(Wish::read(&mut fields)?),
            "lookup" => What::Lookup(Wish::read(&mut fields)?),
            "kill" => What::Kill {
                nodes: nodes(&mut fields)?,
            },
            "start" => What::Start {
                nodes: nodes(&mut fields)?,
                fresh: or(fields.text("fresh", values::yes)?, false),
            },
            "partition" => What::Partition {
                nodes: nodes(&mut fields)?,
                from: fields.text("from", str::parse)?,
                one_way: or(fields.text("one-way", values::yes)?, false),
                until: until(&mut fields, at)?.map(|it| it.value),
            },
            "heal" => What::Heal,
            "degrade" => degrade(&mut fields, at)?,
            _ => churn(&mut fields, at)?,
        };
        let repeat = match what {
            What::Partition { .. } | What::Heal | What::Degrade { .. } | What::Churn { .. } => None,
            _ => repeat(&mut fields, at)?,
        };
        fields.finish()?;
        Ok(Self {
            at,
            repeat,
            what,
            place,
        })
    }
}

impl Wish {
    /// Everybody but the owners, everything.
    pub(super) const ALL: Self = Self {
        nodes: None,
        content: None,
        count: None,
        over: Duration::ZERO,
    };

    fn read(fields: &mut Fields<'_>) -> Result<Self, ScenarioError> {
        Ok(Self {
            nodes: fields.text("nodes", str::parse)?,
            content: fields.text("content", values::name)?,
            count: fields.text("count", values::count)?.map(|it| it.value),
            over: or(fields.text("over", values::span)?, Duration::ZERO),
        })
    }
}

fn kind(text: &str) -> Result<&'static str, String> {
    let known = KINDS.into_iter().find(|&kind| kind == text);
    known.ok_or_else(|| match closest(text, KINDS.into_iter()) {
        Some(known) => format!("there is no event `{text}`; did you mean `{known}`?"),
        None => format!("there is no event `{text}`; there are {}", KINDS.join(", ")),
    })
}

fn nodes(fields: &mut Fields<'_>) -> Result<At<Selection>, ScenarioError> {
    let place = fields.place();
    let nodes = fields.text("nodes", str::parse)?;
    nodes.ok_or_else(|| place.error("this event says of which `nodes` it is"))
}

/// The end of something that begins `at` a time.
fn until(fields: &mut Fields<'_>, at: Duration) -> Result<Option<At<Duration>>, ScenarioError> {
    let until = fields.text("until", values::span)?;
    match until {
        Some(until) if until.value <= at => Err(until
            .place
            .error("this ends before it begins: `until` has to be after `at`")),
        until => Ok(until),
    }
}

fn repeat(fields: &mut Fields<'_>, at: Duration) -> Result<Option<Repeat>, ScenarioError> {
    let every = fields.text("every", values::period)?;
    let until = until(fields, at)?;
    match (every, until) {
        (Some(every), Some(until)) => Ok(Some(Repeat {
            every: every.value,
            until: until.value,
        })),
        (Some(every), None) => Err(every
            .place
            .error("what is done again and again has an end")
            .hint("say `until` when")),
        (None, Some(until)) => Err(until
            .place
            .error("this is done once, so it has no end")
            .hint("say `every` how long it is done again")),
        (None, None) => Ok(None),
    }
}

fn degrade(fields: &mut Fields<'_>, at: Duration) -> Result<What, ScenarioError> {
    let place = fields.place();
    Ok(What::Degrade {
        nodes: nodes(fields)?,
        line: match read_line(fields, "link")? {
            Some(line) => line,
            None => {
                let error = place.error("this event says which `link` the nodes get");
                return Err(error.hint("name a profile like `slow`, or say what it is like"));
            }
        },
        until: until(fields, at)?.map(|it| it.value),
    })
}

fn churn(fields: &mut Fields<'_>, at: Duration) -> Result<What, ScenarioError> {
    let place = fields.place();
    let missing = |key: &str, why: &str| place.error(format!("churn has a `{key}`: {why}"));
    Ok(What::Churn {
        nodes: nodes(fields)?,
        rate: match fields.text("rate", values::share)? {
            Some(rate) => rate.value,
            None => return Err(missing("rate", "which part is replaced in each span")),
        },
        every: or(fields.text("every", values::period)?, CHURN_PERIOD_DEFAULT),
        until: match until(fields, at)? {
            Some(until) => until.value,
            None => return Err(missing("until", "when it is over")),
        },
        away: or(fields.text("away", values::span)?, AWAY_DEFAULT),
        fresh: or(fields.text("fresh", values::yes)?, true),
    })
}
