//! What happens on a link at a time: a pure function of the seed, the link and the time.
//!
//! Time is cut into slots. What happens in a slot is drawn by the number of the slot, with BLAKE3
//! keyed by the seed, so that it is the same on every platform and in every version, and can be
//! asked for any time in any order.

use std::{cmp::Reverse, collections::BinaryHeap, fmt, time::Duration};

use super::{Link, Plan};

/// For how long a delay stays as it was drawn: about what buffers on a path take to fill or drain.
const JITTER_SLOT: Duration = Duration::from_millis(10);

/// What is drawn; each has numbers of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Draw {
    Jitter = 1,
    Stall = 2,
    Reset = 3,
    Loss = 4,
}

/// When what happens on one link, one way. All times are counted from the start of the network.
#[derive(Clone, Debug)]
pub struct Schedule {
    key: [u8; 32],
    /// Of the link and of the way: what happens one way says nothing of the other.
    way: (usize, usize),
    link: Link,
}

impl Schedule {
    /// Of the link from one node to another in a network of this seed; nodes that the network does
    /// not know have no number.
    #[must_use]
    pub fn new(seed: u64, from: Option<usize>, to: Option<usize>, link: Link) -> Self {
        let number = |node: Option<usize>| node.unwrap_or(usize::MAX);
        Self {
            key: *blake3::hash(&seed.to_le_bytes()).as_bytes(),
            way: (number(from), number(to)),
            link,
        }
    }

    /// What the link is like.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// How long something that is sent at `at` is under way.
    #[must_use]
    pub fn delay(&self, at: Duration) -> Duration {
        let Link {
            latency, jitter, ..
        } = self.link;
        if jitter.is_zero() {
            return latency;
        }
        let drawn = part(
            jitter.saturating_mul(2),
            self.draw(Draw::Jitter, slot(at, JITTER_SLOT)),
        );
        latency.saturating_add(drawn).saturating_sub(jitter)
    }

    /// When the stall ends that holds at `at`; none when there is none.
    #[must_use]
    pub fn stalled_until(&self, at: Duration) -> Option<Duration> {
        let every = self.link.stall?.every();
        let (from, until) = self.stall_of(slot(at, every))?;
        (from <= at && at < until).then_some(until)
    }

    /// When connections break for the first time after `after`; none when they never do.
    #[must_use]
    pub fn next_reset(&self, after: Duration) -> Option<Duration> {
        let every = self.link.reset?.every();
        if every.is_zero() {
            return None;
        }
        let first = slot(after, every);
        (first..=first.saturating_add(1))
            .map(|slot| self.reset_of(slot, every))
            .find(|at| *at > after)
    }

    /// Whether the datagram of this number is lost.
    #[must_use]
    pub fn loses(&self, number: u64) -> bool {
        let lost = u64::from(self.link.loss.in_a_million());
        lost > 0 && self.draw(Draw::Loss, number) % 1_000_000 < lost
    }

    fn stall_of(&self, slot: u64) -> Option<(Duration, Duration)> {
        let stall = self.link.stall.filter(|stall| !stall.lasts().is_zero())?;
        let room = stall.every().saturating_sub(stall.lasts());
        let from =
            start(slot, stall.every()).saturating_add(part(room, self.draw(Draw::Stall, slot)));
        Some((from, from.saturating_add(stall.lasts())))
    }

    fn reset_of(&self, slot: u64, every: Duration) -> Duration {
        // A connection breaks both ways at once.
        let (from, to) = self.way;
        let both = (from.min(to), from.max(to));
        start(slot, every).saturating_add(part(every, self.draw_for(both, Draw::Reset, slot)))
    }

    fn draw(&self, what: Draw, number: u64) -> u64 {
        self.draw_for(self.way, what, number)
    }

    fn draw_for(&self, way: (usize, usize), what: Draw, number: u64) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[what as u8]);
        for word in [way.0 as u64, way.1 as u64, number] {
            hasher.update(&word.to_le_bytes());
        }
        let mut drawn = [0; 8];
        hasher.finalize_xof().fill(&mut drawn);
        u64::from_le_bytes(drawn)
    }
}

/// The number of the slot that a time is in.
fn slot(at: Duration, length: Duration) -> u64 {
    let number = at.as_nanos() / length.as_nanos().max(1);
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// When a slot begins.
fn start(slot: u64, length: Duration) -> Duration {
    let nanos = u128::from(slot).saturating_mul(length.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A part of a span, evenly drawn: 0 is none of it, `u64::MAX` almost all.
fn part(span: Duration, drawn: u64) -> Duration {
    let nanos = span.as_nanos().saturating_mul(u128::from(drawn)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Something that the seed decided for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decision {
    /// When, from the start of the network.
    pub at: Duration,
    /// The link's beginning.
    pub from: usize,
    /// Its end.
    pub to: usize,
    /// What.
    pub what: Happening,
}

/// What happens on a link by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// It carries nothing until this time, from the start of the network.
    StallsUntil(Duration),
    /// Connections over it break, both ways.
    Resets,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, from, to, what } = self;
        write!(f, "{:.6} {from}>{to} ", at.as_secs_f64())?;
        match what {
            Happening::StallsUntil(until) => write!(f, "stalls until {:.6}", until.as_secs_f64()),
            Happening::Resets => f.write_str("resets"),
        }
    }
}

/// All that a plan's seed decides for the links between its nodes until `span` is over, in the
/// order of time.
///
/// Delays and losses are decided by the same seed, too many to be listed. Holds one decision for
/// each link that stalls or breaks.
pub fn decisions(plan: &Plan, span: Duration) -> impl Iterator<Item = Decision> {
    let mut links = Vec::new();
    for from in 0..plan.nodes.len() {
        for to in (0..plan.nodes.len()).filter(|to| *to != from) {
            let link = plan.link(from, Some(to));
            if link.stall.is_some() || link.reset.is_some() {
                links.push(Schedule::new(plan.seed, Some(from), Some(to), link));
            }
        }
    }
    let mut next = BinaryHeap::new();
    for (index, schedule) in links.iter().enumerate() {
        next.extend(
            schedule
                .stall_decision(0)
                .map(|what| Reverse((what, index, 0))),
        );
        next.extend(
            schedule
                .reset_decision(0)
                .map(|what| Reverse((what, index, 0))),
        );
    }
    std::iter::from_fn(move || {
        let Reverse((decision, index, slot)) = next.pop()?;
        let (schedule, slot) = (links.get(index)?, slot + 1);
        let follows = match decision.what {
            Happening::StallsUntil(_) => schedule.stall_decision(slot),
            Happening::Resets => schedule.reset_decision(slot),
        };
        next.extend(follows.map(|what| Reverse((what, index, slot))));
        (decision.at < span).then_some(decision)
    })
    .fuse()
}

impl Schedule {
    fn stall_decision(&self, slot: u64) -> Option<Decision> {
        let (at, until) = self.stall_of(slot)?;
        Some(self.decision(at, Happening::StallsUntil(until)))
    }

    /// Listed once, of the two ways of a link that breaks.
    fn reset_decision(&self, slot: u64) -> Option<Decision> {
        let every = self.link.reset?.every();
        let listed = self.way.0 < self.way.1 && !every.is_zero();
        listed.then(|| self.decision(self.reset_of(slot, every), Happening::Resets))
    }

    fn decision(&self, at: Duration, what: Happening) -> Decision {
        let (from, to) = self.way;
        Decision { at, from, to, what }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::emulation::{Line, Loss, Profile, Reset, Stall};

    const MINUTE: Duration = Duration::from_secs(60);

    fn schedule(seed: u64, link: &Link) -> Schedule {
        Schedule::new(seed, Some(3), Some(5), link.clone())
    }

    fn network(seed: u64, profile: Profile) -> Plan {
        Plan {
            seed,
            nodes: vec![profile.line(); 6],
            ..Plan::default()
        }
    }

    fn log(plan: &Plan) -> Vec<String> {
        decisions(plan, 30 * MINUTE)
            .map(|decision| decision.to_string())
            .collect()
    }

    #[test]
    fn the_first_decisions_of_a_seed_are_what_they_always_were() {
        let first: Vec<_> = decisions(&network(1, Profile::Slow), 5 * MINUTE)
            .take(3)
            .collect();
        let text: Vec<_> = first.iter().map(ToString::to_string).collect();
        assert_eq!(
            text, FIRST,
            "a seed in a report must give the same network for ever"
        );
    }

    const FIRST: [&str; 3] = [
        "2.136366 2>4 stalls until 4.136366",
        "3.588699 1>4 stalls until 5.588699",
        "4.284617 5>0 stalls until 6.284617",
    ];

    #[test]
    fn a_perfect_network_decides_nothing() {
        assert_eq!(log(&network(1, Profile::Lan)), Vec::<String>::new());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn one_seed_is_one_network_and_another_seed_another(seed in any::<u64>()) {
            let one = log(&network(seed, Profile::Slow));
            prop_assert_eq!(&one, &log(&network(seed, Profile::Slow)));
            prop_assert_ne!(&one, &log(&network(seed.wrapping_add(1), Profile::Slow)));
            // 30 links stall once a minute, and 15 pairs break once in ten.
            prop_assert_eq!(one.iter().filter(|line| line.contains("stalls")).count(), 30 * 30);
            prop_assert_eq!(one.iter().filter(|line| line.contains("resets")).count(), 15 * 3);
        }

        #[test]
        fn what_is_listed_is_what_is_answered(seed in any::<u64>()) {
            let plan = network(seed, Profile::Slow);
            let mut last = Duration::ZERO;
            for decision in decisions(&plan, 10 * MINUTE) {
                prop_assert!(decision.at >= last);
                last = decision.at;
                let (from, to) = (decision.from, decision.to);
                let link = plan.link(from, Some(to));
                let there = Schedule::new(seed, Some(from), Some(to), link.clone());
                let back = Schedule::new(seed, Some(to), Some(from), link);
                let before = decision.at.saturating_sub(Duration::from_nanos(1));
                match decision.what {
                    Happening::StallsUntil(until) => {
                        prop_assert_eq!(there.stalled_until(decision.at), Some(until));
                        prop_assert_eq!(there.stalled_until(before), None);
                        prop_assert_eq!(there.stalled_until(until), None);
                    }
                    Happening::Resets => {
                        prop_assert_eq!(there.next_reset(before), Some(decision.at));
                        prop_assert_eq!(back.next_reset(before), Some(decision.at));
                    }
                }
            }
        }

        #[test]
        fn delays_stay_within_the_jitter_and_are_right_on_average(seed in any::<u64>()) {
            let millis = Duration::from_millis;
            let link = Link { latency: millis(40), jitter: millis(10), ..Link::default() };
            let schedule = schedule(seed, &link);
            let slots = 2_000;
            let mut sum = Duration::ZERO;
            for slot in 0..slots {
                let delay = schedule.delay(JITTER_SLOT * slot);
                prop_assert!((millis(30)..millis(50)).contains(&delay));
                sum += delay;
            }
            // Evenly drawn: the mean of 2,000 is off by 0.13 ms typically.
            let off = (sum / slots).abs_diff(millis(40));
            prop_assert!(off < millis(1), "{:?}", off);
        }

        #[test]
        fn as_many_are_lost_as_should_be(seed in any::<u64>()) {
            let link = Link { loss: Loss::parts_per_million(50_000), ..Link::default() };
            let schedule = schedule(seed, &link);
            let lost = (0..10_000).filter(|number| schedule.loses(*number)).count();
            // 500, and 22 more or less typically.
            prop_assert!((350..650).contains(&lost), "{}", lost);
        }
    }

    #[test]
    fn no_jitter_is_always_the_same_delay_and_no_loss_loses_nothing() {
        let link = Profile::Lan.line();
        let line = Line {
            jitter: Duration::ZERO,
            ..link
        };
        let plan = Plan {
            nodes: vec![line; 2],
            ..Plan::default()
        };
        let schedule = schedule(1, &plan.link(0, Some(1)));
        for at in 0..100 {
            assert_eq!(schedule.delay(MINUTE * at), Duration::from_micros(300));
            assert!(!schedule.loses(at.into()));
            assert_eq!(schedule.stalled_until(MINUTE * at), None);
        }
        assert_eq!(schedule.next_reset(MINUTE), None);
        let never = Link {
            reset: Some(Reset::new(Duration::ZERO)),
            ..Link::default()
        };
        assert_eq!(self::schedule(1, &never).next_reset(MINUTE), None);
        let always = Stall::new(MINUTE, MINUTE);
        assert!(always.lasts() < always.every());
    }
}
