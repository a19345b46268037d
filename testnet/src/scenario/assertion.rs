//! What must hold: `all-fetched`, `origin-copies <= 1.5`, `fetched-fraction >= 90%`.

use std::{fmt, str::FromStr, time::Duration};

use shoal_ground::suggest::closest;

use super::{
    error::{FilePosition, ScenarioError},
    fields::{At, Fields},
    select::Selection,
    values,
};

/// Something that must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// What, as it was written.
    pub that: That,
    /// At which time of the run; at its end without one.
    pub at: Option<Duration>,
    /// Only of what began when this part of all fetches had begun; of everything without one.
    pub after: Option<f64>,
    /// Of which content only.
    pub content: Option<At<String>>,
    /// Of which nodes only.
    pub nodes: Option<At<Selection>>,
    /// Where it is written.
    pub place: FilePosition,
}

/// A measured value, and what it has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct That {
    text: String,
    /// What is measured.
    pub metric: Metric,
    /// How it is held against what the run comes to that it is compared with, if it is.
    pub comparison: Option<Comparison>,
    /// What it has to be.
    pub bound: Bound,
}

/// How a value is held against that of the run that is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// As a multiple of it.
    Multiple,
    /// By how much a share is more, in parts of the whole: less is negative.
    Points,
}

impl Comparison {
    /// What the value is, beside that of the other run.
    #[must_use]
    pub fn of(self, value: f64, other: f64) -> f64 {
        match self {
            Self::Multiple => value / other,
            Self::Points => value - other,
        }
    }

    /// What stands between the two values.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Multiple => "of",
            Self::Points => "instead of",
        }
    }

    /// The value of `compared`; none for `false`.
    fn read(text: &str) -> Result<Option<Self>, String> {
        match text {
            "false" => Ok(None),
            "true" => Ok(Some(Self::Multiple)),
            "points" => Ok(Some(Self::Points)),
            _ => Err(format!("`{text}` is neither true, false nor points")),
        }
    }
}

/// What a value has to be. Lengths of time are milliseconds, shares go from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// It has to be so.
    Holds,
    /// At most.
    AtMost(f64),
    /// At least.
    AtLeast(f64),
}

/// How the values of a metric are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// It is so, or not.
    YesNo,
    /// A part of a whole.
    Share,
    /// By how much a part of a whole is more than another; less is negative.
    Points,
    /// A plain number.
    Number,
    /// Milliseconds.
    Millis,
    /// Bytes.
    Bytes,
}

/// What can be measured of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Every fetch of an honest node that is alive is complete and identical to the original.
    AllFetched,
    /// Which part of these fetches is.
    FetchedFraction,
    /// How many fetches of live nodes failed.
    FailedFetches,
    /// No copy that was said to be complete differs from the original.
    NoWrongBytes,
    /// The longest time from the wish for a content to its copy, when all have it.
    DoneWithin,
    /// Half of all fetches took less.
    FetchTimeMedian,
    /// 19 of 20 fetches took less; one that is not done takes for ever.
    FetchTimeP95,
    /// The time until all had a content, as a multiple of what one copy takes on its owner's line.
    TimeRatio,
    /// What the owner sent, in copies of what it owns; of the owner that sent most.
    OriginCopies,
    /// Which part of what was fetched came from others than its owner.
    PeerShare,
    /// Which part of what was fetched came from nodes that do wrong.
    EvilShare,
    /// Which part of what was fetched came from the fetcher's own region.
    RegionShare,
    /// What was fetched from other regions than the fetcher's own.
    CrossRegionBytes,
    /// Which part of what was fetched came from nodes that are near the fetcher.
    NearShare,
    /// 19 of 20 of the fetches that began 20 s after the first one, or later, took less.
    LateP95,
    /// Every lookup named a provider.
    LookupsSucceed,
    /// Half of all lookups took fewer hops.
    HopsMedian,
    /// Half of all lookups took less time.
    LookupTimeMedian,
    /// 19 of 20 lookups took less time.
    LookupTimeP95,
    /// Memory of all nodes that are up, shared out among them.
    MemoryPerNode,
    /// How many nodes are up.
    NodesUp,
    /// How many copies for others were begun to be fetched.
    Pulls,
    /// How many of these somebody had offered without an ask.
    OffersAccepted,
    /// No node pulled more than its distinct asks are worth, and what it took of offers.
    PullsAccounted,
    /// How many bytes of them came.
    PulledBytes,
    /// No node ever kept more for others than its quota.
    QuotasKept,
    /// Which part of its quota a node kept of content that nobody shares in the scenario; of the node
    /// that ever kept most.
    DisplacedShare,
    /// Copies for others as a part of all that was sent: of the bytes, those that helpers pulled.
    ReplicationShare,
    /// How much less came from other regions than in the run that is compared with, as a part of what
    /// one would have saved who knew the future and had the same room.
    OracleSaving,
}

impl Assertion {
    /// Reads an `[[assert]]`.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<Self, ScenarioError> {
        let place = fields.place();
        let compared = fields.text("compared", Comparison::read)?;
        let comparison = compared.and_then(|it| it.value);
        let that = fields.text("that", |text| That::read(text, comparison))?;
        let Some(that) = that else {
            return Err(place
                .error("an assertion says what must hold")
                .hint("write `that = \"all-fetched\"`"));
        };
        let assertion = Self {
            that: that.value,
            at: fields.text("at", values::period)?.map(|it| it.value),
            after: fields.text("after", values::share)?.map(|it| it.value),
            content: fields.text("content", values::name)?,
            nodes: fields.text("nodes", str::parse)?,
            place: that.place,
        };
        fields.finish()?;
        Ok(assertion)
    }

    /// One that holds without a word, of a scenario that asserts nothing.
    pub(super) fn of(metric: Metric, place: &FilePosition) -> Self {
        Self {
            that: That {
                text: metric.name().to_owned(),
                metric,
                comparison: None,
                bound: Bound::Holds,
            },
            at: None,
            after: None,
            content: None,
            nodes: None,
            place: place.clone(),
        }
    }
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::AllFetched,
        Self::FetchedFraction,
        Self::FailedFetches,
        Self::NoWrongBytes,
        Self::DoneWithin,
        Self::FetchTimeMedian,
        Self::FetchTimeP95,
        Self::TimeRatio,
        Self::OriginCopies,
        Self::PeerShare,
        Self::EvilShare,
        Self::RegionShare,
        Self::CrossRegionBytes,
        Self::NearShare,
        Self::LateP95,
        Self::LookupsSucceed,
        Self::HopsMedian,
        Self::LookupTimeMedian,
        Self::LookupTimeP95,
        Self::MemoryPerNode,
        Self::NodesUp,
        Self::Pulls,
        Self::OffersAccepted,
        Self::PullsAccounted,
        Self::PulledBytes,
        Self::QuotasKept,
        Self::DisplacedShare,
        Self::ReplicationShare,
        Self::OracleSaving,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AllFetched => "all-fetched",
            Self::FetchedFraction => "fetched-fraction",
            Self::FailedFetches => "failed-fetches",
            Self::NoWrongBytes => "no-wrong-bytes",
            Self::DoneWithin => "done-within",
            Self::FetchTimeMedian => "fetch-time-median",
            Self::FetchTimeP95 => "fetch-time-p95",
            Self::TimeRatio => "time-ratio",
            Self::OriginCopies => "origin-copies",
            Self::PeerShare => "peer-share",
            Self::EvilShare => "evil-share",
            Self::RegionShare => "region-share",
            Self::CrossRegionBytes => "cross-region-bytes",
            Self::NearShare => "near-share",
            Self::LateP95 => "late-p95",
            Self::LookupsSucceed => "lookups-succeed",
            Self::HopsMedian => "hops-median",
            Self::LookupTimeMedian => "lookup-time-median",
            Self::LookupTimeP95 => "lookup-time-p95",
            Self::MemoryPerNode => "memory-per-node",
            Self::NodesUp => "nodes-up",
            Self::Pulls => "pulls",
            Self::OffersAccepted => "offers-accepted",
            Self::PullsAccounted => "pulls-accounted",
            Self::PulledBytes => "pulled-bytes",
            Self::QuotasKept => "quotas-kept",
            Self::DisplacedShare => "displaced-share",
            Self::ReplicationShare => "replication-share",
            Self::OracleSaving => "oracle-saving",
        }
    }

    /// How its values are written.
    #[must_use]
    pub fn unit(self) -> Unit {
        match self {
            Self::AllFetched
            | Self::NoWrongBytes
            | Self::LookupsSucceed
            | Self::PullsAccounted
            | Self::QuotasKept => Unit::YesNo,
            Self::FetchedFraction
            | Self::PeerShare
            | Self::EvilShare
            | Self::RegionShare
            | Self::NearShare
            | Self::DisplacedShare
            | Self::ReplicationShare
            | Self::OracleSaving => Unit::Share,
            Self::FailedFetches
            | Self::TimeRatio
            | Self::OriginCopies
            | Self::HopsMedian
            | Self::NodesUp
            | Self::Pulls
            | Self::OffersAccepted => Unit::Number,
            Self::DoneWithin
            | Self::FetchTimeMedian
            | Self::FetchTimeP95
            | Self::LateP95
            | Self::LookupTimeMedian
            | Self::LookupTimeP95 => Unit::Millis,
            Self::CrossRegionBytes | Self::MemoryPerNode | Self::PulledBytes => Unit::Bytes,
        }
    }
}

impl That {
    /// How its values are written.
    #[must_use]
    pub fn unit(&self) -> Unit {
        match self.comparison {
            Some(Comparison::Multiple) => Unit::Number,
            Some(Comparison::Points) => Unit::Points,
            None => self.metric.unit(),
        }
    }

    /// Whether there has to be a run that is compared with.
    #[must_use]
    pub fn needs_another_run(&self) -> bool {
        self.comparison.is_some() || self.metric == Metric::OracleSaving
    }

    /// Reads what has to hold, perhaps compared with what another run comes to.
    ///
    /// # Errors
    /// What is wrong with the text, for a person.
    pub fn read(text: &str, comparison: Option<Comparison>) -> Result<Self, String> {
        let (name, rest) = match text.split_once(char::is_whitespace) {
            Some((name, rest)) => (name, rest.trim()),
            None => (text, ""),
        };
        let names = || Metric::ALL.into_iter().map(Metric::name);
        let metric = Metric::ALL.into_iter().find(|it| it.name() == name);
        let metric = metric.ok_or_else(|| match closest(name, names()) {
            Some(known) => format!("`{name}` cannot be asserted; did you mean `{known}`?"),
            None => {
                let known = names().collect::<Vec<_>>().join(", ");
                format!("`{name}` cannot be asserted: there are {known}")
            }
        })?;
        let unit = match (metric.unit(), comparison) {
            (Unit::YesNo, Some(_)) => {
                return Err(format!("`{name}` holds or does not: it cannot be compared"));
            }
            (Unit::Share, Some(Comparison::Points)) => Unit::Points,
            (_, Some(Comparison::Points)) => {
                return Err(format!("`{name}` is no share: it has no points"));
            }
            (_, Some(Comparison::Multiple)) => Unit::Number,
            (unit, None) => unit,
        };
        Ok(Self {
            text: text.to_owned(),
            metric,
            comparison,
            bound: bound(metric, unit, rest)?,
        })
    }
}

/// What is said of a metric.
fn bound(metric: Metric, unit: Unit, text: &str) -> Result<Bound, String> {
    let name = metric.name();
    let at_most = text.strip_prefix("<=").map(|value| (true, value));
    let at_least = text.strip_prefix(">=").map(|value| (false, value));
    match (unit, at_most.or(at_least)) {
        (Unit::YesNo, None) if text.is_empty() => Ok(Bound::Holds),
        (Unit::YesNo, _) => Err(format!("`{name}` holds or does not: it has no number")),
        (unit, Some((true, value))) => unit.read(value.trim()).map(Bound::AtMost),
        (unit, Some((false, value))) => unit.read(value.trim()).map(Bound::AtLeast),
        // Read aloud, the name says how it is compared.
        (unit, None) if metric == Metric::DoneWithin && !text.is_empty() => {
            unit.read(text).map(Bound::AtMost)
        }
        (unit, None) => Err(format!(
            "`{name}` is compared: write `{name} <= {}` or `>=`",
            unit.example()
        )),
    }
}

impl FromStr for That {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text, None)
    }
}

impl Unit {
    fn read(self, text: &str) -> Result<f64, String> {
        match self {
            Self::YesNo | Self::Number => values::number(text),
            Self::Share => values::share(text),
            Self::Points => values::points(text),
            Self::Millis => values::span(text).map(|span| span.as_secs_f64() * 1000.0),
            Self::Bytes => values::size(text).map(values::bytes_as_f64),
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::YesNo => "",
            Self::Share => "90%",
            Self::Points => "-5%",
            Self::Number => "1.5",
            Self::Millis => "30s",
            Self::Bytes => "64MiB",
        }
    }

    /// A value as people read it.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            _ if value.is_infinite() => "never".to_owned(),
            Self::YesNo if value >= 1.0 => "yes".to_owned(),
            Self::YesNo => "no".to_owned(),
            Self::Share => format!("{:.1}%", value * 100.0),
            Self::Points => format!("{:+.1}%", value * 100.0),
            Self::Number if value.fract() == 0.0 => format!("{value:.0}"),
            Self::Number => format!("{value:.2}"),
            Self::Millis => format!("{:.2} s", value / 1000.0),
            Self::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
        }
    }
}

impl Bound {
    /// Whether a value is as it has to be.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::Holds => value >= 1.0,
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    /// What it has to be, as people read it.
    #[must_use]
    pub fn show(self, unit: Unit) -> String {
        match self {
            Self::Holds => unit.show(1.0),
            Self::AtMost(most) => format!("at most {}", unit.show(most)),
            Self::AtLeast(least) => format!("at least {}", unit.show(least)),
        }
    }
}

impl fmt::Display for That {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_metric_is_read_by_its_name_and_compared_in_its_unit() {
        for metric in Metric::ALL {
            let example = metric.unit().example();
            let text = match metric.unit() {
                Unit::YesNo => metric.name().to_owned(),
                _ => format!("{} >= {example}", metric.name()),
            };
            let that: That = text.parse().unwrap();
            assert_eq!((that.metric, that.to_string()), (metric, text));
        }
        let compared = That::read("late-p95 <= 0.85", Some(Comparison::Multiple)).unwrap();
        assert_eq!(
            (compared.unit(), compared.bound),
            (Unit::Number, Bound::AtMost(0.85))
        );
        let points = That::read("near-share >= -5%", Some(Comparison::Points)).unwrap();
        assert_eq!(points.bound, Bound::AtLeast(-0.05));
        assert_eq!(points.unit().show(-0.05), "-5.0%");
        let bound = |text: &str| text.parse::<That>().unwrap().bound;
        assert_eq!(bound("done-within 90s"), Bound::AtMost(90_000.0));
        assert_eq!(bound("origin-copies <= 1.5"), Bound::AtMost(1.5));
        assert_eq!(bound("fetched-fraction >= 90%"), Bound::AtLeast(0.9));
        assert_eq!(bound("memory-per-node <= 1KiB"), Bound::AtMost(1024.0));
        assert!(bound("origin-copies <= 1.5").holds(1.5));
        assert!(!bound("origin-copies <= 1.5").holds(1.51));
        assert!(
            !bound("nodes-up >= 3").holds(f64::NAN),
            "unknown is not enough"
        );
    }

    #[test]
    fn what_cannot_be_asserted_is_said_so() {
        let error = That::read("all-fetched", Some(Comparison::Multiple)).unwrap_err();
        assert!(error.contains("cannot be compared"), "{error}");
        let error = That::read("late-p95 >= -5%", Some(Comparison::Points)).unwrap_err();
        assert!(error.contains("no share"), "{error}");
        let check = |text: &str, part: &str| {
            let error = text.parse::<That>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("all-fetchd", "did you mean `all-fetched`?");
        check("happiness", "there are all-fetched");
        check("all-fetched <= 3", "no number");
        check("origin-copies", "origin-copies <= 1.5");
        check("origin-copies = 3", "is compared");
        check("done-within", "<= 30s");
        check("evil-share <= 5", "no share");
        check("memory-per-node <= 5s", "no size");
    }
}
