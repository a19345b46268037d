//! The nodes of a scenario: groups of them, counted, with their lines.

use std::time::Duration;

use shoal_ground::suggest::closest;
use shoal_net::emulation::{Line, Profile, Site};

use super::{
    error::{FilePosition, ScenarioError},
    fields::{At, Fields},
    values::{self, Amount},
};
use crate::{
    evil::Behaviour,
    numbering::{NODES_MAX, node_name},
};

/// Of a scenario that does not say it: enough for a swarm, and little enough for any machine.
const NODES_DEFAULT: usize = 5;

/// The group of a scenario that names none.
const GROUP_DEFAULT: &str = "nodes";

/// Nodes that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What its nodes have for a line; none is a perfect one.
    pub line: Option<Line>,
    /// Where its nodes are, for rules and for the report.
    pub region: Option<String>,
    /// What its nodes do wrong.
    pub evil: Option<Behaviour>,
    /// What they share: a line, a local network.
    pub site: Option<Site>,
    /// Whether its nodes keep and serve what they have fetched.
    pub keep: bool,
    /// How long after its last fetch is done a node leaves; they stay without a word.
    pub leave_after: Option<Duration>,
    /// How many nodes it has; the rest without a number.
    count: Option<Amount>,
    place: FilePosition,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: `node-03`.
    pub name: String,
    /// Which group it is of.
    pub group: usize,
    /// What it does wrong; none for an ordinary daemon.
    pub evil: Option<Behaviour>,
}

/// All nodes, by their numbers: those of the groups in their order, those who do wrong at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    groups: Vec<Group>,
    nodes: Vec<Member>,
}

impl Group {
    /// Reads a `[[group]]`.
    pub(super) fn read(mut fields: Fields<'_>) -> Result<Self, ScenarioError> {
        let place = fields.place();
        let group = Self {
            name: match fields.text("name", values::name)? {
                Some(name) => name.value,
                None => return Err(place.error("a group has a `name`")),
            },
            line: read_line(&mut fields, "link")?,
            region: fields.text("region", values::name)?.map(|it| it.value),
            evil: fields.text("evil", behaviour)?.map(|it| it.value),
            site: read_site(&mut fields)?,
            keep: or(fields.text("keep", values::yes)?, true),
            leave_after: fields.text("leave-after", values::span)?.map(|it| it.value),
            count: fields.text("count", values::amount)?.map(|it| it.value),
            place,
        };
        fields.finish()?;
        Ok(group)
    }
}

fn behaviour(text: &str) -> Result<Behaviour, String> {
    let names = || Behaviour::ALL.into_iter().map(Behaviour::name);
    text.parse()
        .map_err(|_| unknown("behaviour", text, names()))
}

/// Reads a line: the name of a profile, or a table of what it is like.
pub(super) fn read_line(
    fields: &mut Fields<'_>,
    key: &'static str,
) -> Result<Option<Line>, ScenarioError> {
    let Some(mut table) = fields.table(key) else {
        let profile = fields.text(key, str::parse::<Profile>)?;
        return Ok(profile.map(|it| it.value.line()));
    };
    let perfect = Line::default();
    let line = Line {
        up: or(table.text("up", str::parse)?, perfect.up),
        down: or(table.text("down", str::parse)?, perfect.down),
        latency: or(table.text("latency", values::span)?, perfect.latency),
        jitter: or(table.text("jitter", values::span)?, perfect.jitter),
        loss: or(table.text("loss", str::parse)?, perfect.loss),
        stall: table.text("stall", str::parse)?.map(|it| it.value),
        reset: table.text("reset", str::parse)?.map(|it| it.value),
        site: perfect.site,
        listen: perfect.listen,
    };
    table.finish()?;
    Ok(Some(line))
}

/// Reads what the nodes of a group share: `shared`, the rates of their line, and `lan`.
fn read_site(fields: &mut Fields<'_>) -> Result<Option<Site>, ScenarioError> {
    let lan = or(fields.text("lan", values::yes)?, false);
    let mut site = Site {
        lan,
        ..Site::default()
    };
    let Some(mut shared) = fields.table("shared") else {
        return Ok(lan.then_some(site));
    };
    site.up = or(shared.text("up", str::parse)?, site.up);
    site.down = or(shared.text("down", str::parse)?, site.down);
    shared.finish()?;
    Ok(Some(site))
}

/// What is said, or what holds without a word.
pub(super) fn or<T>(said: Option<At<T>>, default: T) -> T {
    said.map_or(default, |it| it.value)
}

impl Members {
    /// Counts the nodes of `groups`, which are `nodes` in all if that is said.
    ///
    /// # Errors
    /// When the groups do not come to that, or two have one name.
    pub(super) fn count(
        mut groups: Vec<Group>,
        nodes: Option<At<usize>>,
        document: &FilePosition,
    ) -> Result<Self, ScenarioError> {
        if groups.is_empty() {
            groups.push(Group {
                name: GROUP_DEFAULT.to_owned(),
                line: None,
                region: None,
                evil: None,
                site: None,
                keep: true,
                leave_after: None,
                count: None,
                place: document.clone(),
            });
        }
        check_names(&groups)?;
        let counts = counts(&groups, nodes, document)?;
        let mut nodes: Vec<Member> = Vec::new();
        // Those who do wrong are no daemons: so the numbers of the daemons have no gaps.
        for evil in [false, true] {
            for (index, group) in groups.iter().enumerate() {
                if group.evil.is_some() == evil {
                    nodes.extend((0..counts[index]).map(|_| Member {
                        name: String::new(),
                        group: index,
                        evil: group.evil,
                    }));
                }
            }
        }
        for (index, node) in nodes.iter_mut().enumerate() {
            node.name = node_name(index);
        }
        Ok(Self { groups, nodes })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none, which no scenario has.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many are ordinary daemons; the others come after them.
    pub fn honest(&self) -> usize {
        let honest = self.nodes.iter().filter(|node| node.evil.is_none());
        honest.count()
    }

    /// The same under the same numbers, all of them ordinary daemons.
    pub(super) fn all_honest(mut self) -> Self {
        self.nodes.iter_mut().for_each(|node| node.evil = None);
        self
    }

    /// All of them, by their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.nodes.iter()
    }

    /// What a node is called.
    pub fn name(&self, node: usize) -> &str {
        self.nodes.get(node).map_or("", |node| &node.name)
    }

    /// The group of a node; none when there is no such node.
    pub fn group_of(&self, node: usize) -> Option<&Group> {
        self.groups.get(self.nodes.get(node)?.group)
    }

    /// Whether a node is one that does wrong.
    pub fn is_evil(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|it| it.evil.is_some())
    }

    /// Whether any node has a line that is not perfect.
    pub(crate) fn have_lines(&self) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|group| group.line.is_some() || group.site.is_some())
    }

    /// The sites of a network: one for each group that has one, in the order of the groups, and
    /// which of them each node is at.
    pub(crate) fn sites(&self) -> (Vec<Site>, Vec<Option<usize>>) {
        let mut sites = Vec::new();
        let of_groups = self.groups.iter().map(|group| {
            sites.push(group.site?);
            Some(sites.len() - 1)
        });
        let of_groups: Vec<_> = of_groups.collect();
        let of_nodes = self.nodes.iter().map(|node| of_groups[node.group]);
        (sites, of_nodes.collect())
    }

    /// The nodes of a group.
    pub(super) fn group(&self, name: &str) -> Result<Vec<usize>, String> {
        let names = || self.groups.iter().map(|group| group.name.as_str());
        match names().position(|it| it == name) {
            Some(group) => Ok(self.of_groups(|index| index == group)),
            None => Err(unknown("group", name, names())),
        }
    }

    /// The nodes of a region.
    pub(super) fn region(&self, name: &str) -> Result<Vec<usize>, String> {
        let regions = || self.groups.iter().filter_map(|it| it.region.as_deref());
        if !regions().any(|it| it == name) {
            return Err(unknown("region", name, regions()));
        }
        let groups = &self.groups;
        Ok(self.of_groups(|index| groups[index].region.as_deref() == Some(name)))
    }

    fn of_groups(&self, is_meant: impl Fn(usize) -> bool) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        let meant = nodes.filter(|(_, node)| is_meant(node.group));
        meant.map(|(index, _)| index).collect()
    }
}

pub(super) fn unknown<'a>(
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    match closest(name, known.clone()) {
        Some(known) => format!("there is no {kind} `{name}`; did you mean `{known}`?"),
        None => match known.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => format!("there is no {kind} `{name}`, and no other"),
            known => format!("there is no {kind} `{name}`; there are {known}"),
        },
    }
}

fn check_names(groups: &[Group]) -> Result<(), ScenarioError> {
    for (index, group) in groups.iter().enumerate() {
        if groups[..index].iter().any(|it| it.name == group.name) {
            let message = format!("there are two groups `{}`", group.name);
            return Err(group.place.error(message));
        }
    }
    Ok(())
}

/// How many nodes each group has.
fn counts(
    groups: &[Group],
    nodes: Option<At<usize>>,
    document: &FilePosition,
) -> Result<Vec<usize>, ScenarioError> {
    let place = nodes.as_ref().map_or(document, |it| &it.place).clone();
    let said = nodes.map(|it| it.value);
    let total = said.unwrap_or(NODES_DEFAULT);
    if total > NODES_MAX {
        return Err(place.error(format!("there can be {NODES_MAX} nodes at most")));
    }
    let counted = |group: &Group| group.count.map_or(0, |count| count.of(total));
    let sum: usize = groups.iter().map(counted).fold(0, usize::saturating_add);
    let open: Vec<&Group> = groups.iter().filter(|it| it.count.is_none()).collect();
    match open.as_slice() {
        [] if said.is_some_and(|said| said != sum) => {
            let message = format!("the groups come to {sum} nodes, not to {total}");
            return Err(place
                .error(message)
                .hint("take the `count` out of the group that shall have the rest"));
        }
        [] if sum > NODES_MAX => {
            return Err(place.error(format!("there can be {NODES_MAX} nodes at most")));
        }
        [] => {}
        [open] if sum >= total => {
            let message = format!(
                "`{}` has no `count`, and of {total} nodes nothing is left",
                open.name
            );
            return Err(open.place.error(message).hint("set more `nodes`"));
        }
        [_] => {}
        [_, second, ..] => {
            return Err(second
                .place
                .error("only one group can do without a `count`: it gets the rest"));
        }
    }
    let rest = total.saturating_sub(sum);
    let of_group = |group: &Group| group.count.map_or(rest, |count| count.of(total));
    Ok(groups.iter().map(of_group).collect())
}
