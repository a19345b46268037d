//! Which nodes something is about: `all`, `group:fetchers`, `region:eu`, `node-03`, `4-7`,
//! `random:10%`, `random:2 of group:fetchers`, and lists of these with commas.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive, str::FromStr};

use super::{
    members::Members,
    values::{self, Amount},
};
use crate::dice::Dice;

/// A set of nodes, before it is known which nodes there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    text: String,
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    All,
    Group(String),
    Region(String),
    Nodes(RangeInclusive<usize>),
    Random { amount: Amount, of: Box<Self> },
}

impl Selection {
    /// The nodes that are meant, in order; chance only chooses among those that `can`.
    ///
    /// # Errors
    /// What it names that there is not.
    pub(crate) fn resolve(
        &self,
        members: &Members,
        can: &dyn Fn(usize) -> bool,
        dice: &mut Dice,
    ) -> Result<Vec<usize>, String> {
        let mut nodes = BTreeSet::new();
        for term in &self.terms {
            nodes.extend(term.resolve(members, can, dice)?);
        }
        Ok(nodes.into_iter().collect())
    }

    /// Whether it names nodes one by one, so that each of them has to be fit for what is asked.
    pub(crate) fn is_exact(&self) -> bool {
        self.terms.iter().all(|term| matches!(term, Term::Nodes(_)))
    }

    /// Whether chance has a part in it.
    pub(crate) fn is_random(&self) -> bool {
        let mut terms = self.terms.iter();
        terms.any(|term| matches!(term, Term::Random { .. }))
    }
}

impl Term {
    fn resolve(
        &self,
        members: &Members,
        can: &dyn Fn(usize) -> bool,
        dice: &mut Dice,
    ) -> Result<Vec<usize>, String> {
        Ok(match self {
            Self::All => (0..members.len()).collect(),
            Self::Group(name) => members.group(name)?,
            Self::Region(name) => members.region(name)?,
            Self::Nodes(range) if *range.end() < members.len() => range.clone().collect(),
            Self::Nodes(_) => {
                let last = members.len().saturating_sub(1);
                return Err(format!("the nodes are numbered from 0 to {last}"));
            }
            Self::Random { amount, of } => {
                let among = of.resolve(members, can, dice)?;
                let wanted = amount.of(among.len());
                let among: Vec<_> = among.into_iter().filter(|&node| can(node)).collect();
                dice.choose(&among, wanted)
            }
        })
    }
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let terms = text.split(',').map(|term| term.trim().parse());
        Ok(Self {
            text: text.to_owned(),
            terms: terms.collect::<Result<_, _>>()?,
        })
    }
}

impl FromStr for Term {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(random) = text.strip_prefix("random:") {
            let (amount, of) = random.split_once(" of ").unwrap_or((random, "all"));
            let of: Self = of.trim().parse()?;
            if matches!(of, Self::Random { .. }) {
                return Err("chance is named once: `random:10% of group:NAME`".to_owned());
            }
            return Ok(Self::Random {
                amount: values::amount(amount)?,
                of: Box::new(of),
            });
        }
        if let Some(group) = text.strip_prefix("group:") {
            return Ok(Self::Group(group.to_owned()));
        }
        if let Some(region) = text.strip_prefix("region:") {
            return Ok(Self::Region(region.to_owned()));
        }
        if text == "all" {
            return Ok(Self::All);
        }
        let digits = text.strip_prefix("node-").unwrap_or(text);
        let (first, last) = digits.split_once('-').unwrap_or((digits, digits));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self::Nodes(first..=last)),
            _ => Err(format!(
                "`{text}` names no nodes: write `all`, `group:NAME`, `region:NAME`, `node-03`, \
                 `4-7`, `random:10%` or `random:2 of group:NAME`, or several with commas"
            )),
        }
    }
}

impl fmt::Display for Selection {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
