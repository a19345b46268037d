//! What a run is going to do, step by step: every choice of chance is made here, from the seed,
//! before anything is started.
//!
//! A script does not depend on how long anything takes, so two runs of one seed do the same things
//! to the same nodes at the same times. Its text is `decisions.log`.

mod choices;
mod network;
mod steps;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use shoal_net::emulation::{Plan, decisions};

use crate::scenario::{Members, Scenario, ScenarioError};

/// Decisions of the emulated links that are listed; an hour of a hundred nodes on bad lines has
/// fewer.
const LINK_DECISIONS_MAX: usize = 100_000;

/// What a run is going to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// What chance was drawn from.
    pub seed: u64,
    /// Everything that there is to share.
    pub items: Vec<Item>,
    /// What is done, in order.
    pub steps: Vec<ScriptStep>,
    /// What the links are like at the start; none when they are not emulated.
    pub network: Option<Plan>,
    nodes: Vec<String>,
    limit: Duration,
}

/// Something to share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name: that of its content, with a number when there are several.
    pub name: String,
    /// The content that it is one of.
    pub content: usize,
    /// Who has it.
    pub owner: usize,
    /// All its bytes.
    pub bytes: u64,
    /// Its files.
    pub files: usize,
}

/// Something that is done at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptStep {
    /// When, since the start of the run.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A node shares an item.
    Share {
        /// Who.
        node: usize,
        /// What.
        item: usize,
    },
    /// A node fetches an item.
    Fetch {
        /// Who.
        node: usize,
        /// What.
        item: usize,
    },
    /// A node looks for the providers of an item.
    Lookup {
        /// Who.
        node: usize,
        /// What.
        item: usize,
    },
    /// A node is killed.
    Kill {
        /// Who.
        node: usize,
    },
    /// A node is started again.
    Start {
        /// Who.
        node: usize,
        /// As a new node, that knows nothing.
        fresh: bool,
    },
    /// The links change.
    Links {
        /// What happened to them.
        what: String,
        /// What they are like from now on.
        plan: Box<Plan>,
    },
}

impl Script {
    /// Draws what a run of `scenario` does.
    ///
    /// # Errors
    /// What cannot happen: a node that nobody knows, or that is killed twice.
    pub fn draw(scenario: &Scenario) -> Result<Self, ScenarioError> {
        let items = choices::items(scenario)?;
        let mut links = network::Network::new(scenario)?;
        let network = links.plan();
        let steps = steps::Drawing::new(scenario, &items, &mut links).steps()?;
        let names = |members: &Members| members.iter().map(|it| it.name.clone()).collect();
        Ok(Self {
            seed: scenario.seed,
            items,
            steps,
            network,
            nodes: names(&scenario.members),
            limit: scenario.limit,
        })
    }

    /// What the links do by themselves until the run is over at the latest.
    fn link_decisions(&self) -> impl Iterator<Item = String> {
        let changes = self.steps.iter().filter_map(|step| match &step.action {
            Action::Links { plan, .. } => Some((step.at, plan.as_ref())),
            _ => None,
        });
        let start = self.network.iter().map(|plan| (Duration::ZERO, plan));
        let plans: Vec<_> = start.chain(changes).collect();
        let ends = plans.iter().skip(1).map(|(at, _)| *at).chain([self.limit]);
        let ends: Vec<_> = ends.collect();
        plans.into_iter().zip(ends).flat_map(|((from, plan), end)| {
            let decisions = decisions(plan, end).skip_while(move |it| it.at < from);
            decisions.map(|decision| decision.to_string())
        })
    }

    fn node(&self, node: usize) -> &str {
        self.nodes.get(node).map_or("", String::as_str)
    }

    fn item(&self, item: usize) -> &str {
        self.items.get(item).map_or("", |item| &item.name)
    }

    /// What a step does, in a line.
    #[must_use]
    pub fn describe(&self, action: &Action) -> String {
        match action {
            Action::Share { node, item } => {
                format!("{} shares {}", self.node(*node), self.item(*item))
            }
            Action::Fetch { node, item } => {
                format!("{} fetches {}", self.node(*node), self.item(*item))
            }
            Action::Lookup { node, item } => {
                format!("{} looks for {}", self.node(*node), self.item(*item))
            }
            Action::Kill { node } => format!("{} is killed", self.node(*node)),
            Action::Start { node, fresh: false } => format!("{} is started", self.node(*node)),
            Action::Start { node, fresh: true } => {
                format!("{} is started as a new node", self.node(*node))
            }
            Action::Links { what, .. } => what.clone(),
        }
    }
}

impl fmt::Display for Script {
    /// The text of `decisions.log`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for item in &self.items {
            let (name, owner) = (&item.name, self.node(item.owner));
            let Item { bytes, files, .. } = item;
            writeln!(
                f,
                "content {name}: {bytes} bytes in {files} files, of {owner}"
            )?;
        }
        for step in &self.steps {
            let seconds = step.at.as_secs_f64();
            writeln!(f, "{seconds:10.3} {}", self.describe(&step.action))?;
        }
        for line in self.link_decisions().take(LINK_DECISIONS_MAX) {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}
