//! The steps of a run, drawn in the order of their times: who is up, and what is shared, follows
//! from the steps before.

use std::{collections::BTreeMap, time::Duration};

use super::{Action, Item, ScriptStep, choices, network::Network};
use crate::{
    dice::Dice,
    scenario::{At, Event, FilePosition, Scenario, ScenarioError, Selection, What, Wish},
};

/// More than this is a mistake in a `count` or an `every`: it would not be done in a day.
const STEPS_MAX: usize = 1_000_000;

/// What is to be drawn at a time, and in which order at the same time: shares first.
type Queue<'a> = BTreeMap<(Duration, bool, usize), Moment<'a>>;

/// Something to be drawn.
enum Moment<'a> {
    /// An event, for the n-th time.
    Event(&'a Event, usize),
    /// A node begins to fetch, if it is up then.
    Fetch { node: usize, item: usize },
    /// A node looks for something, if it is up then.
    Lookup { node: usize, item: usize },
    /// One of these nodes is replaced.
    Replace { event: &'a Event, nodes: Vec<usize> },
    /// A node comes back.
    Start { node: usize, fresh: bool },
    /// A partition is over.
    Heal,
    /// Nodes get their own line again.
    Restore { nodes: Vec<usize> },
}

/// The state of a run as far as it is planned.
pub(super) struct Drawing<'a> {
    scenario: &'a Scenario,
    items: &'a [Item],
    network: &'a mut Network,
    queue: Queue<'a>,
    sequence: usize,
    dice: Dice,
    up: Vec<bool>,
    shared: Vec<bool>,
    /// What each node has wanted so far.
    wanted: Vec<Vec<usize>>,
    steps: Vec<ScriptStep>,
}

impl<'a> Drawing<'a> {
    pub(super) fn new(scenario: &'a Scenario, items: &'a [Item], network: &'a mut Network) -> Self {
        Self {
            scenario,
            items,
            network,
            queue: Queue::new(),
            sequence: 0,
            dice: Dice::new(scenario.seed, "start"),
            up: vec![true; scenario.members.len()],
            shared: vec![false; items.len()],
            wanted: vec![Vec::new(); scenario.members.len()],
            steps: Vec::new(),
        }
    }

    /// All steps, in order.
    pub(super) fn steps(mut self) -> Result<Vec<ScriptStep>, ScenarioError> {
        self.share_what_no_event_shares();
        for event in &self.scenario.events {
            // What is shared at a time can be fetched at that time.
            let shares = matches!(event.what, What::Share { .. });
            for (round, at) in times(event, self.scenario.limit).enumerate() {
                self.insert(at, shares, Moment::Event(event, round));
            }
        }
        while let Some(((at, ..), moment)) = self.queue.pop_first() {
            if at >= self.scenario.limit {
                break;
            }
            self.draw(at, moment)?;
            if self.steps.len() > STEPS_MAX {
                let message = format!("this comes to more than {STEPS_MAX} steps");
                return Err(self.scenario.contents[0].place.error(message));
            }
        }
        Ok(self.steps)
    }

    /// A content that no event shares is there from the start.
    fn share_what_no_event_shares(&mut self) {
        let events = &self.scenario.events;
        let shares = |event: &Event, content: &str| match &event.what {
            What::Share { content: None } => true,
            What::Share {
                content: Some(name),
            } => name.value == content,
            _ => false,
        };
        for item in 0..self.items.len() {
            let content = &self.scenario.contents[self.items[item].content].name;
            if !events.iter().any(|event| shares(event, content)) {
                self.share(Duration::ZERO, item);
            }
        }
    }

    fn draw(&mut self, at: Duration, moment: Moment<'a>) -> Result<(), ScenarioError> {
        match moment {
            Moment::Event(event, round) => {
                let name = format!("{} {round}", event.place.key);
                self.dice = Dice::new(self.scenario.seed, &name);
                self.event(at, event)?;
            }
            Moment::Fetch { node, item } if self.up[node] => {
                self.push(at, Action::Fetch { node, item });
            }
            Moment::Lookup { node, item } if self.up[node] => {
                self.push(at, Action::Lookup { node, item });
            }
            Moment::Fetch { .. } | Moment::Lookup { .. } => {}
            Moment::Replace { event, nodes } => self.replace(at, event, &nodes),
            Moment::Start { node, fresh } => self.start(at, node, fresh),
            Moment::Heal => {
                self.network.heal();
                self.links(at, "the partition is over".to_owned());
            }
            Moment::Restore { nodes } => {
                self.network.restore(&nodes);
                let nodes = self.names(&nodes);
                self.links(at, format!("{nodes} have their own lines again"));
            }
        }
        Ok(())
    }

    fn event(&mut self, at: Duration, event: &'a Event) -> Result<(), ScenarioError> {
        match &event.what {
            What::Share { content } => {
                for item in self.items_of(content.as_ref()) {
                    self.share(at, item);
                }
            }
            What::Fetch(wish) => self.fetch(at, wish, &event.place)?,
            What::Lookup(wish) => self.lookup(at, wish, &event.place)?,
            What::Kill { nodes } => {
                for node in self.select(nodes, true)? {
                    self.kill(at, node);
                }
            }
            What::Start { nodes, fresh } => {
                for node in self.select(nodes, false)? {
                    self.start(at, node, *fresh);
                }
            }
            What::Partition { .. } => self.part(at, event)?,
            What::Heal if self.network.is_parted() => {
                self.draw(at, Moment::Heal)?;
            }
            What::Heal => return Err(event.place.error("there is no partition to heal then")),
            What::Degrade { .. } => self.degrade(at, event)?,
            What::Churn { .. } => self.churn(at, event)?,
        }
        Ok(())
    }

    fn share(&mut self, at: Duration, item: usize) {
        self.shared[item] = true;
        let node = self.items[item].owner;
        self.push(at, Action::Share { node, item });
    }

    fn fetch(
        &mut self,
        at: Duration,
        wish: &Wish,
        place: &FilePosition,
    ) -> Result<(), ScenarioError> {
        let items = self.wished(wish, place)?;
        let places = choices::places(self.scenario, self.items, at);
        for node in self.wishers(wish, &items)? {
            let can = |it: &usize| self.items[*it].owner != node && !self.wanted[node].contains(it);
            let mut left: Vec<_> = items.iter().copied().filter(can).collect();
            let count = wish.count.unwrap_or(left.len());
            for _ in 0..count {
                let contents = &self.scenario.contents;
                let item = match wish.count {
                    None => left.first().copied(),
                    Some(_) => {
                        let all = (self.items, places.as_slice());
                        choices::popular(contents, all, &left, &mut self.dice)
                    }
                };
                let Some(item) = item else { break };
                left.retain(|it| *it != item);
                self.wanted[node].push(item);
                let at = at + wish.over.mul_f64(self.dice.unit());
                self.later(at, Moment::Fetch { node, item });
            }
        }
        Ok(())
    }

    /// With a number, so many lookups of nodes and things that chance chooses; otherwise each node
    /// looks for each thing.
    fn lookup(
        &mut self,
        at: Duration,
        wish: &Wish,
        place: &FilePosition,
    ) -> Result<(), ScenarioError> {
        let items = self.wished(wish, place)?;
        let nodes = self.wishers(wish, &items)?;
        let places = choices::places(self.scenario, self.items, at);
        let pairs: Vec<(usize, usize)> = match wish.count {
            None => {
                let pairs = nodes
                    .iter()
                    .map(|&node| items.iter().map(move |&it| (node, it)));
                pairs.flatten().collect()
            }
            Some(count) => {
                let contents = &self.scenario.contents;
                let draw = |_| {
                    let node = *nodes.get(self.dice.index(nodes.len()))?;
                    let all = (self.items, places.as_slice());
                    let item = choices::popular(contents, all, &items, &mut self.dice)?;
                    Some((node, item))
                };
                (0..count).filter_map(draw).collect()
            }
        };
        for (node, item) in pairs {
            let at = at + wish.over.mul_f64(self.dice.unit());
            self.later(at, Moment::Lookup { node, item });
        }
        Ok(())
    }

    /// What a wish is for; all of it is shared by then.
    fn wished(&self, wish: &Wish, place: &FilePosition) -> Result<Vec<usize>, ScenarioError> {
        let items = self.items_of(wish.content.as_ref());
        match items.iter().find(|&&item| !self.shared[item]) {
            Some(&item) => {
                let name = &self.items[item].name;
                Err(place.error(format!("`{name}` is not shared by then")))
            }
            None => Ok(items),
        }
    }

    /// Whose wish it is: without a word, everybody's that can and owns none of it.
    fn wishers(&mut self, wish: &Wish, items: &[usize]) -> Result<Vec<usize>, ScenarioError> {
        match &wish.nodes {
            Some(nodes) => self.select(nodes, true),
            None => {
                let owns = |node| items.iter().all(|&item| self.items[item].owner == node);
                let nodes = 0..self.scenario.members.honest();
                Ok(nodes.filter(|&node| self.up[node] && !owns(node)).collect())
            }
        }
    }

    fn kill(&mut self, at: Duration, node: usize) {
        self.up[node] = false;
        self.push(at, Action::Kill { node });
    }

    /// A new node shares what is its own again, and wants what its predecessor wanted.
    fn start(&mut self, at: Duration, node: usize, fresh: bool) {
        if self.up[node] {
            return;
        }
        self.up[node] = true;
        self.push(at, Action::Start { node, fresh });
        if !fresh {
            return;
        }
        for item in 0..self.items.len() {
            if self.items[item].owner == node && self.shared[item] {
                self.push(at, Action::Share { node, item });
            }
        }
        for item in self.wanted[node].clone() {
            self.push(at, Action::Fetch { node, item });
        }
    }

    fn part(&mut self, at: Duration, event: &Event) -> Result<(), ScenarioError> {
        let What::Partition {
            nodes,
            from,
            one_way,
            until,
        } = &event.what
        else {
            return Ok(());
        };
        if self.network.is_parted() {
            let error = event.place.error("there is a partition already then");
            return Err(error.hint("end the one before with `until` or `heal`"));
        }
        let these = self.resolve(nodes, |_| true)?;
        let others = match from {
            Some(from) => self.resolve(from, |_| true)?,
            None => (0..self.up.len())
                .filter(|it| !these.contains(it))
                .collect(),
        };
        if these.is_empty() || others.is_empty() {
            return Err(nodes
                .place
                .error("there is nobody on one side of this partition"));
        }
        if let Some(&node) = these.iter().find(|it| others.contains(it)) {
            let name = self.scenario.members.name(node);
            return Err(nodes
                .place
                .error(format!("{name} is on both sides of this partition")));
        }
        self.network.part(&these, &others, *one_way);
        let (these, others) = (self.names(&these), self.names(&others));
        let what = match one_way {
            true => format!("nothing passes from {these} to {others}"),
            false => format!("nothing passes between {these} and {others}"),
        };
        self.links(at, what);
        if let Some(until) = until {
            self.later(*until, Moment::Heal);
        }
        Ok(())
    }

    fn degrade(&mut self, at: Duration, event: &Event) -> Result<(), ScenarioError> {
        let What::Degrade { nodes, line, until } = &event.what else {
            return Ok(());
        };
        let these = self.resolve(nodes, |_| true)?;
        if let Some(&node) = these.iter().find(|&&node| self.network.is_degraded(node)) {
            let name = self.scenario.members.name(node);
            return Err(nodes
                .place
                .error(format!("the line of {name} is degraded already then")));
        }
        self.network.degrade(&these, line);
        let names = self.names(&these);
        self.links(at, format!("{names} have another line"));
        if let Some(until) = until {
            self.later(*until, Moment::Restore { nodes: these });
        }
        Ok(())
    }

    /// Spreads the replacements of each span evenly over it.
    fn churn(&mut self, at: Duration, event: &'a Event) -> Result<(), ScenarioError> {
        let What::Churn {
            nodes,
            rate,
            every,
            until,
            ..
        } = &event.what
        else {
            return Ok(());
        };
        let nodes = self.resolve(nodes, |_| true)?;
        if let Some(&node) = nodes.iter().find(|&&it| self.scenario.members.is_evil(it)) {
            let name = self.scenario.members.name(node);
            let message = format!("{name} is no ordinary node: it cannot be replaced");
            return Err(event.place.error(message));
        }
        #[expect(clippy::cast_precision_loss, reason = "there are far fewer nodes")]
        let each_span = nodes.len() as f64 * rate;
        if each_span <= 0.0 {
            return Ok(());
        }
        let gap = every.div_f64(each_span);
        let mut next = at + gap.div_f64(2.0);
        while next < *until && self.queue.len() < STEPS_MAX {
            let nodes = nodes.clone();
            self.later(next, Moment::Replace { event, nodes });
            next += gap.max(Duration::from_millis(1));
        }
        Ok(())
    }

    fn replace(&mut self, at: Duration, event: &Event, nodes: &[usize]) {
        let What::Churn { away, fresh, .. } = &event.what else {
            return;
        };
        let name = format!("{} {}", event.place.key, at.as_millis());
        self.dice = Dice::new(self.scenario.seed, &name);
        let up: Vec<_> = nodes
            .iter()
            .copied()
            .filter(|&node| self.up[node])
            .collect();
        for node in self.dice.choose(&up, 1) {
            self.kill(at, node);
            let fresh = *fresh;
            self.later(at + *away, Moment::Start { node, fresh });
        }
    }

    /// The nodes that are meant and that are up, or are not. One that is named by itself has to be
    /// what it is taken for.
    fn select(&mut self, nodes: &At<Selection>, up: bool) -> Result<Vec<usize>, ScenarioError> {
        let members = &self.scenario.members;
        let states = self.up.clone();
        let can = |node: usize| states[node] == up && !members.is_evil(node);
        let all = self.resolve(nodes, can)?;
        let fit: Vec<_> = all.iter().copied().filter(|&node| can(node)).collect();
        let unfit = all.iter().find(|&&node| !can(node));
        match unfit {
            Some(&node) if nodes.value.is_exact() || fit.is_empty() => {
                let name = self.scenario.members.name(node);
                let why = match (self.scenario.members.is_evil(node), up) {
                    (true, _) => "is no ordinary node: it only does wrong",
                    (false, true) => "does not run then",
                    (false, false) => "runs then",
                };
                Err(nodes.place.error(format!("{name} {why}")))
            }
            _ => Ok(fit),
        }
    }

    fn resolve(
        &mut self,
        nodes: &At<Selection>,
        can: impl Fn(usize) -> bool,
    ) -> Result<Vec<usize>, ScenarioError> {
        let resolved = nodes
            .value
            .resolve(&self.scenario.members, &can, &mut self.dice);
        resolved.map_err(|why| nodes.place.error(why))
    }

    fn items_of(&self, content: Option<&At<String>>) -> Vec<usize> {
        let is_meant = |item: &Item| match content {
            Some(name) => self.scenario.contents[item.content].name == name.value,
            None => true,
        };
        let items = self.items.iter().enumerate();
        let meant = items.filter(|(_, item)| is_meant(item));
        meant.map(|(index, _)| index).collect()
    }

    /// `node-00`, `node-03 and node-04`, `5 nodes`.
    fn names(&self, nodes: &[usize]) -> String {
        match nodes {
            [one] => self.scenario.members.name(*one).to_owned(),
            [one, other] => {
                let members = &self.scenario.members;
                format!("{} and {}", members.name(*one), members.name(*other))
            }
            more => {
                let set: shoal_net::emulation::NodeSet = more.iter().copied().collect();
                format!("nodes {set}")
            }
        }
    }

    fn links(&mut self, at: Duration, what: String) {
        if let Some(plan) = self.network.plan() {
            let plan = Box::new(plan);
            self.push(at, Action::Links { what, plan });
        }
    }

    fn later(&mut self, at: Duration, moment: Moment<'a>) {
        self.insert(at, false, moment);
    }

    fn insert(&mut self, at: Duration, first: bool, moment: Moment<'a>) {
        self.sequence += 1;
        self.queue.insert((at, !first, self.sequence), moment);
    }

    fn push(&mut self, at: Duration, action: Action) {
        self.steps.push(ScriptStep { at, action });
    }
}

/// When an event is.
fn times(event: &Event, limit: Duration) -> impl Iterator<Item = Duration> {
    let (every, until) = match event.repeat {
        Some(repeat) => (repeat.every, repeat.until.min(limit)),
        None => (Duration::MAX, event.at + Duration::from_millis(1)),
    };
    let next = move |at: &Duration| at.checked_add(every);
    std::iter::successors(Some(event.at), next)
        .take_while(move |at| *at < until)
        .take(STEPS_MAX)
}
