//! What the emulated links are like as a run goes on: the plan that follows from the scenario and
//! from what is in force.

use std::collections::BTreeMap;

use shoal_net::emulation::{Line, LinkChange, NodeSet, Plan, Rule};

use crate::{
    dice::Dice,
    scenario::{At, Scenario, ScenarioError, Selection, What},
};

/// The links, as of one moment.
pub(super) struct Network {
    /// What they are like when nothing has happened; none when they are not emulated.
    base: Option<Plan>,
    version: u64,
    partition: Option<Rule>,
    degraded: BTreeMap<usize, Line>,
}

impl Network {
    pub(super) fn new(scenario: &Scenario) -> Result<Self, ScenarioError> {
        let members = &scenario.members;
        let changes = |what: &What| matches!(what, What::Partition { .. } | What::Degrade { .. });
        let emulated = members.have_lines()
            || !scenario.links.is_empty()
            || scenario.events.iter().any(|event| changes(&event.what));
        let line = |node| members.group_of(node).and_then(|group| group.line.clone());
        let (sites, at) = members.sites();
        let placed = |node: usize| Line {
            site: at[node],
            ..line(node).unwrap_or_default()
        };
        let mut plan = Plan {
            version: 1,
            seed: scenario.seed,
            nodes: (0..members.len()).map(placed).collect(),
            sites,
            ..Plan::default()
        };
        for rule in &scenario.links {
            let nodes = |end: &At<Selection>| -> Result<NodeSet, ScenarioError> {
                // Chance has no part in the ends of a link.
                let mut dice = Dice::new(scenario.seed, "links");
                let nodes = end.value.resolve(members, &|_| true, &mut dice);
                Ok(nodes
                    .map_err(|why| end.place.error(why))?
                    .into_iter()
                    .collect())
            };
            plan.add(Rule {
                from: nodes(&rule.from)?,
                to: nodes(&rule.to)?,
                both_ways: rule.both_ways,
                link: rule.link.clone(),
            });
        }
        Ok(Self {
            base: emulated.then_some(plan),
            version: 1,
            partition: None,
            degraded: BTreeMap::new(),
        })
    }

    /// What is in force now; none when the links are not emulated.
    pub(super) fn plan(&self) -> Option<Plan> {
        let mut plan = self.base.clone()?;
        plan.version = self.version;
        for (&node, line) in &self.degraded {
            if let Some(own) = plan.nodes.get_mut(node) {
                // It stays where it is.
                *own = Line {
                    site: own.site,
                    ..line.clone()
                };
            }
        }
        if let Some(partition) = &self.partition {
            plan.add(partition.clone());
        }
        Some(plan)
    }

    /// Whether there is a partition.
    pub(super) fn is_parted(&self) -> bool {
        self.partition.is_some()
    }

    /// Lets nothing pass from some nodes to others.
    pub(super) fn part(&mut self, from: &[usize], to: &[usize], one_way: bool) {
        self.version += 1;
        self.partition = Some(Rule {
            from: from.iter().copied().collect(),
            to: to.iter().copied().collect(),
            both_ways: !one_way,
            link: LinkChange {
                blocked: Some(true),
                ..LinkChange::default()
            },
        });
    }

    /// Lets everything pass again.
    pub(super) fn heal(&mut self) {
        self.version += 1;
        self.partition = None;
    }

    /// Whether a node has another line than its own.
    pub(super) fn is_degraded(&self, node: usize) -> bool {
        self.degraded.contains_key(&node)
    }

    /// Gives nodes another line.
    pub(super) fn degrade(&mut self, nodes: &[usize], line: &Line) {
        self.version += 1;
        let lines = nodes.iter().map(|&node| (node, line.clone()));
        self.degraded.extend(lines);
    }

    /// Gives nodes their own line again.
    pub(super) fn restore(&mut self, nodes: &[usize]) {
        self.version += 1;
        for node in nodes {
            self.degraded.remove(node);
        }
    }
}
