//! What differs on the links between some nodes: `[[link]]`.

use shoal_net::emulation::LinkChange;

use super::{
    error::ScenarioError,
    fields::{At, Fields},
    members::or,
    select::Selection,
    values,
};

/// What differs on the links between some nodes and others.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkRule {
    /// From these …
    pub from: At<Selection>,
    /// … to these.
    pub to: At<Selection>,
    /// And back.
    pub both_ways: bool,
    /// What they are like.
    pub link: LinkChange,
}

impl LinkRule {
    /// Reads a `[[link]]`.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<Self, ScenarioError> {
        let place = fields.place();
        let ends = (
            fields.text("from", str::parse::<Selection>)?,
            fields.text("to", str::parse::<Selection>)?,
        );
        let (Some(from), Some(to)) = ends else {
            return Err(place.error("a link goes `from` some nodes `to` others"));
        };
        for end in [&from, &to] {
            if end.value.is_random() {
                return Err(end
                    .place
                    .error("links are not left to chance; name the nodes"));
            }
        }
        let rule = Self {
            from,
            to,
            both_ways: or(fields.text("both-ways", values::yes)?, true),
            link: LinkChange {
                latency: fields.text("latency", values::span)?.map(|it| it.value),
                jitter: fields.text("jitter", values::span)?.map(|it| it.value),
                rate: fields.text("rate", str::parse)?.map(|it| it.value),
                loss: fields.text("loss", str::parse)?.map(|it| it.value),
                stall: fields.text("stall", str::parse)?.map(|it| it.value),
                reset: fields.text("reset", str::parse)?.map(|it| it.value),
                blocked: fields.text("blocked", values::yes)?.map(|it| it.value),
            },
        };
        fields.finish()?;
        Ok(rule)
    }
}
