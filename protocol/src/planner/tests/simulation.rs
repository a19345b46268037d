//! A transfer in virtual time: providers with links and faults against one planner, with an
//! [`Audit`] watching every step.
//!
//! The promise under test is the planner's main one: while one provider has everything and
//! delivers, the transfer ends in good time, and that provider is never dropped, whatever the
//! others do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use proptest::prelude::*;

use super::audit::Audit;
use super::*;

/// Payload comes in pieces of this size, each reported as progress.
const PIECE_BYTES: u32 = 64 << 10;

/// How a provider behaves once it was asked for `after` blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Its connection ends, and comes back a second later, time and again.
    Dies,
    /// It sends wrong bytes.
    Lies,
    /// It answers nothing any more.
    Stalls,
    /// It sends 2 KiB a second.
    Drips,
    /// It sends 100 bytes a second.
    Trickles,
    /// It says that it lacks every second block.
    Lacks,
    /// It answers everything twice.
    Repeats,
    /// It is busy, for half a second each time.
    Busy,
}

#[derive(Clone, Debug)]
struct Behaviour {
    fault: Fault,
    after: usize,
    bytes_per_second: u64,
    one_way: Duration,
    /// It has this part of the leaves, or all.
    holds: Option<std::ops::Range<u64>>,
    /// What it says it is, and whether it is near.
    claim: Claim,
    is_near: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Owner,
    Holder,
    Member,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request or a cancel reaches the provider.
    Asked(ProviderId, WantId),
    Cancelled(ProviderId, WantId),
    /// A provider's line is free for the next answer.
    Free(ProviderId),
    /// Bytes of an answer reach the client.
    Piece(ProviderId, WantId, u32),
    Block(ProviderId, WantId, bool),
    Missing(ProviderId, WantId),
    Busy(ProviderId),
    Lost(ProviderId),
    Verified(ProviderId, WantId, bool),
    Join(ProviderId),
}

struct Provider {
    behaviour: Behaviour,
    /// Counts connections; events of an earlier one are void.
    epoch: u32,
    asked: VecDeque<WantId>,
    served: usize,
    sending: bool,
}

struct World {
    planner: Planner,
    audit: Audit,
    providers: BTreeMap<ProviderId, Provider>,
    sizes: Vec<u32>,
    next_want: usize,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, u32, Event)>>,
    sequence: u64,
    dropped: Vec<(ProviderId, Blame)>,
}

/// How many wants the caller keeps in the planner, to exercise the horizon.
const CALLER_WANTS: usize = 64;

impl World {
    fn new(behaviours: Vec<Behaviour>, sizes: Vec<u32>, budget: u64, order: Order) -> Self {
        let mut planner = Planner::new(PlannerConfig {
            order,
            ..PlannerConfig::default()
        });
        planner.budget(budget);
        let providers = behaviours.into_iter().enumerate().map(|(at, behaviour)| {
            let provider = Provider {
                behaviour,
                epoch: 0,
                asked: VecDeque::new(),
                served: 0,
                sending: false,
            };
            (ProviderId(at as u32), provider)
        });
        let mut world = Self {
            planner,
            audit: Audit::new(budget),
            providers: providers.collect(),
            sizes,
            next_want: 0,
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            sequence: 0,
            dropped: Vec::new(),
        };
        let ids: Vec<ProviderId> = world.providers.keys().copied().collect();
        for id in ids {
            world.schedule(Duration::ZERO, id, Event::Join(id));
        }
        world
    }

    fn schedule(&mut self, after: Duration, of: ProviderId, event: Event) {
        let epoch = self.providers[&of].epoch;
        self.sequence += 1;
        self.events
            .push(Reverse((self.now + after, self.sequence, epoch, event)));
    }

    /// Runs until all is verified; the time that took.
    fn run(&mut self, limit: Duration) -> Duration {
        for _ in 0..100_000 {
            self.top_up();
            for action in self.planner.poll(self.now) {
                self.audit.acted(&action).unwrap();
                self.act(action);
            }
            self.audit.check(&self.planner).unwrap();
            if self.next_want == self.sizes.len() && self.planner.is_done() {
                assert!(self.audit.all_verified());
                return self.now;
            }
            self.step();
            assert!(
                self.now < limit,
                "not done in {limit:?}: {:#?}",
                self.planner.status()
            );
        }
        panic!(
            "too many steps, at {:?}: {:#?}",
            self.now,
            self.planner.status()
        );
    }

    fn top_up(&mut self) {
        let known = self.planner.wants_pending() + self.planner.wants_in_flight();
        for _ in known..CALLER_WANTS {
            let Some(size) = self.sizes.get(self.next_want) else {
                return;
            };
            let id = WantId(self.next_want as u64);
            assert!(self.planner.add_want(id, *size, Part::Leaf(id.0)));
            self.audit.wanted(id, (*size).max(CHARGE_MIN));
            for (provider, state) in &self.providers {
                if state
                    .behaviour
                    .holds
                    .as_ref()
                    .is_some_and(|holds| !holds.contains(&id.0))
                {
                    self.audit.lacks(*provider, id);
                }
            }
            self.next_want += 1;
        }
    }

    /// Goes to the next event or deadline, whichever is first.
    fn step(&mut self) {
        let event_at = self.events.peek().map(|Reverse((at, ..))| *at);
        let deadline = self.planner.next_deadline();
        let next = event_at.into_iter().chain(deadline).min();
        self.now = next.expect("nothing will ever happen").max(self.now);
        if event_at == Some(self.now) {
            let Some(Reverse((_, _, epoch, event))) = self.events.pop() else {
                return;
            };
            self.happen(epoch, event);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Want { provider, wants } => {
                let way = self.providers[&provider].behaviour.one_way;
                for want in wants {
                    self.schedule(way, provider, Event::Asked(provider, want));
                }
            }
            Action::Cancel { provider, want } => {
                let way = self.providers[&provider].behaviour.one_way;
                self.schedule(way, provider, Event::Cancelled(provider, want));
            }
            Action::Drop { provider, blame } => {
                self.dropped.push((provider, blame));
                self.reset(provider);
                if !blame.bars() {
                    // As a breaker would have it.
                    self.schedule(ms(30_000), provider, Event::Join(provider));
                }
            }
        }
    }

    /// The connection is gone, with all that was on its way.
    fn reset(&mut self, id: ProviderId) {
        let provider = self.providers.get_mut(&id).unwrap();
        provider.epoch += 1;
        provider.asked.clear();
        provider.sending = false;
    }

    fn happen(&mut self, epoch: u32, event: Event) {
        let of = match event {
            Event::Verified(from, want, good) => return self.verified(from, want, good),
            Event::Asked(of, _)
            | Event::Cancelled(of, _)
            | Event::Free(of)
            | Event::Piece(of, ..)
            | Event::Block(of, ..)
            | Event::Missing(of, _)
            | Event::Busy(of)
            | Event::Lost(of)
            | Event::Join(of) => of,
        };
        if self.providers[&of].epoch != epoch {
            return;
        }
        match event {
            Event::Verified(..) => {}
            Event::Asked(_, want) => {
                self.providers.get_mut(&of).unwrap().asked.push_back(want);
                self.serve(of);
            }
            Event::Cancelled(_, want) => {
                self.providers
                    .get_mut(&of)
                    .unwrap()
                    .asked
                    .retain(|asked| *asked != want);
            }
            Event::Free(_) => {
                self.providers.get_mut(&of).unwrap().sending = false;
                self.serve(of);
            }
            Event::Piece(_, want, bytes) => self.planner.progress(of, want, bytes, self.now),
            Event::Block(_, want, good) => self.received(of, want, good),
            Event::Missing(_, want) => {
                self.planner.block_missing(of, want, self.now);
                self.audit.missing(of, want);
            }
            Event::Busy(_) => {
                let retry_after = ms(500);
                self.planner
                    .remove_provider(of, Removal::Busy { retry_after }, self.now);
            }
            Event::Lost(_) => {
                self.planner.remove_provider(of, Removal::Lost, self.now);
                self.audit.left(of);
                self.reset(of);
                self.schedule(ms(1_000), of, Event::Join(of));
            }
            Event::Join(_) => self.join(of),
        }
    }

    fn join(&mut self, id: ProviderId) {
        let behaviour = self.providers[&id].behaviour.clone();
        if self.planner.add_provider(id, self.now).is_err() {
            return;
        }
        let class = match behaviour.claim {
            Claim::Owner => Class::Owner,
            Claim::Holder => Class::Holder,
            Claim::Member => Class::Member {
                key: u64::from(id.0),
            },
        };
        self.planner.classify(id, class);
        self.planner.set_near(id, behaviour.is_near);
        self.audit.joined(id).unwrap();
        let holds = behaviour.holds;
        if let Some(holds) = holds {
            let ranges = LeafRanges::new(vec![holds.clone()]).unwrap();
            self.planner.set_availability(id, Holdings::Leaves(ranges));
            for want in (0..self.next_want as u64).filter(|want| !holds.contains(want)) {
                self.audit.lacks(id, WantId(want));
            }
        }
    }

    fn received(&mut self, from: ProviderId, want: WantId, good: bool) {
        let bytes = self.sizes[want.0 as usize];
        let arrival = self.planner.block_arrived(from, want, bytes, self.now);
        self.audit.arrived(from, want, bytes, arrival).unwrap();
        if arrival == Arrival::Wanted {
            self.schedule(ms(2), from, Event::Verified(from, want, good));
        }
    }

    fn verified(&mut self, from: ProviderId, want: WantId, good: bool) {
        if good {
            self.planner.block_verified(want);
            self.audit.verified(want);
        } else {
            self.planner.block_bad(from, want, self.now);
            self.audit.bad(from, want);
        }
    }

    /// The provider answers its next request, if its line is free.
    fn serve(&mut self, id: ProviderId) {
        let provider = self.providers.get_mut(&id).unwrap();
        if provider.sending {
            return;
        }
        let Some(want) = provider.asked.pop_front() else {
            return;
        };
        provider.served += 1;
        let Behaviour {
            one_way,
            bytes_per_second,
            after,
            ..
        } = provider.behaviour;
        let faulty = provider.served > after;
        let fault = if faulty {
            provider.behaviour.fault
        } else {
            Fault::None
        };
        let second = provider.served.is_multiple_of(2);
        provider.sending = true;
        match fault {
            Fault::Stalls => {}
            Fault::Dies => {
                provider.served = 0;
                self.schedule(one_way, id, Event::Lost(id));
            }
            Fault::Busy => {
                provider.served = 0;
                self.schedule(one_way, id, Event::Busy(id));
                self.schedule(ms(1), id, Event::Free(id));
            }
            Fault::Lacks if second => {
                self.schedule(one_way, id, Event::Missing(id, want));
                self.schedule(ms(1), id, Event::Free(id));
            }
            Fault::Drips => self.send(id, want, true, 2 << 10),
            Fault::Trickles => self.send(id, want, true, 100),
            Fault::Lies => self.send(id, want, !second, bytes_per_second),
            Fault::Repeats => {
                self.send(id, want, true, bytes_per_second);
                self.send(id, want, true, bytes_per_second);
            }
            Fault::None | Fault::Lacks => self.send(id, want, true, bytes_per_second),
        }
    }

    fn send(&mut self, id: ProviderId, want: WantId, good: bool, bytes_per_second: u64) {
        let way = self.providers[&id].behaviour.one_way;
        let bytes = self.sizes[want.0 as usize];
        let time =
            |bytes: u32| Duration::from_micros(u64::from(bytes) * 1_000_000 / bytes_per_second);
        let slow = bytes_per_second < u64::from(PIECE_BYTES);
        let piece = if slow {
            bytes_per_second as u32
        } else {
            PIECE_BYTES
        };
        let mut sent = 0;
        while sent + piece < bytes {
            sent += piece;
            self.schedule(way + time(sent), id, Event::Piece(id, want, piece));
        }
        self.schedule(way + time(bytes), id, Event::Block(id, want, good));
        self.schedule(time(bytes), id, Event::Free(id));
    }
}

fn honest(bytes_per_second: u64, one_way: Duration) -> Behaviour {
    Behaviour {
        fault: Fault::None,
        after: 0,
        bytes_per_second,
        one_way,
        holds: None,
        claim: Claim::Owner,
        is_near: false,
    }
}

fn any_claim() -> impl Strategy<Value = Claim> {
    prop::sample::select(vec![Claim::Owner, Claim::Holder, Claim::Member])
}

fn any_behaviour() -> impl Strategy<Value = Behaviour> {
    let fault = prop::sample::select(vec![
        Fault::None,
        Fault::Dies,
        Fault::Lies,
        Fault::Stalls,
        Fault::Drips,
        Fault::Trickles,
        Fault::Lacks,
        Fault::Repeats,
        Fault::Busy,
    ]);
    let holds = prop::option::of((0..50_u64, 1..200_u64));
    (
        fault,
        0..20_usize,
        50_000..50_000_000_u64,
        0..200_u64,
        holds,
        (any_claim(), any::<bool>()),
    )
        .prop_map(
            |(fault, after, bytes_per_second, one_way, holds, (claim, is_near))| Behaviour {
                fault,
                after,
                bytes_per_second,
                one_way: ms(one_way),
                holds: holds.map(|(start, len)| start..start + len),
                claim,
                is_near,
            },
        )
}

fn any_sizes() -> impl Strategy<Value = Vec<u32>> {
    let size = prop_oneof![3 => Just(MIB), 1 => 1..2 * MIB, 2 => 1..20_000_u32];
    prop::collection::vec(size, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn one_honest_provider_is_enough(
        others in prop::collection::vec(any_behaviour(), 0..8),
        rate in 100_000..50_000_000_u64,
        one_way in 0..200_u64,
        sizes in any_sizes(),
        budget in prop_oneof![Just(64_u64 << 20), (4_u64 << 20)..(8 << 20)],
        order in prop_oneof![Just(Order::ById), Just(Order::Swarm { key: 99 })],
        (claim, is_near) in (any_claim(), any::<bool>()),
    ) {
        let honest_id = ProviderId(others.len() as u32);
        let mut behaviours = others;
        behaviours.push(Behaviour { claim, is_near, ..honest(rate, ms(one_way)) });
        let honest_ids: Vec<ProviderId> = behaviours
            .iter()
            .enumerate()
            .filter(|(_, behaviour)| behaviour.fault == Fault::None)
            .map(|(at, _)| ProviderId(at as u32))
            .collect();
        let bytes: u64 = sizes.iter().map(|size| u64::from(*size)).sum();
        let alone = Duration::from_secs(bytes / rate) + ms(2 * one_way) * sizes.len() as u32;
        let mut world = World::new(behaviours, sizes, budget, order);
        // Each fault may cost a deadline or a stall for every window of wants it got.
        world.run(alone * 3 + Duration::from_secs(120));
        prop_assert!(honest_ids.contains(&honest_id));
        for (dropped, blame) in &world.dropped {
            prop_assert!(!honest_ids.contains(dropped), "{dropped:?} for {blame:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// Whoever says that it is a near holder is asked first. When it then is slow or silent, that
    /// costs the fetch a few seconds and no more, however many they are.
    #[test]
    fn a_liar_gains_nothing_but_being_asked_first(
        faults in prop::collection::vec(
            prop::sample::select(vec![Fault::Stalls, Fault::Drips, Fault::Trickles, Fault::Busy]),
            1..8,
        ),
        after in 0..4_usize,
        claim in prop::sample::select(vec![Claim::Holder, Claim::Member]),
        rate in 1_000_000..20_000_000_u64,
        order in prop_oneof![Just(Order::ById), Just(Order::Swarm { key: 99 })],
    ) {
        let liar = |fault| Behaviour { fault, after, claim, is_near: true, ..honest(20_000_000, ms(5)) };
        let mut behaviours: Vec<Behaviour> = faults.into_iter().map(liar).collect();
        behaviours.push(honest(rate, ms(80)));
        let alone = World::new(vec![honest(rate, ms(80))], vec![MIB; 100], 64 << 20, order)
            .run(Duration::from_secs(10_000));
        let mut world = World::new(behaviours, vec![MIB; 100], 64 << 20, order);
        let took = world.run(Duration::from_secs(10_000));
        prop_assert!(took <= alone.mul_f64(1.2) + LIES_COST, "{took:?}, alone {alone:?}");
    }
}

/// What lies may cost a fetch: the credit of a liar, and the time in which a rate fades that was
/// high once and is next to nothing now.
const LIES_COST: Duration = Duration::from_secs(20);

/// Runs one transfer and tells how long it took.
fn run(behaviours: Vec<Behaviour>, chunks: usize) -> (Duration, World) {
    let mut world = World::new(behaviours, vec![MIB; chunks], 64 << 20, Order::ById);
    let took = world.run(Duration::from_secs(10_000));
    (took, world)
}

#[test]
fn a_single_provider_is_used_to_its_rate() {
    fn check(bytes_per_second: u64, one_way: u64, chunks: usize) {
        let behaviour = honest(bytes_per_second, ms(one_way));
        let (took, world) = run(vec![behaviour], chunks);
        let floor =
            Duration::from_micros(chunks as u64 * u64::from(MIB) * 1_000_000 / bytes_per_second);
        let part = floor.as_secs_f64() / took.as_secs_f64();
        assert!(
            part > 0.9,
            "{bytes_per_second} B/s, {one_way} ms: {part} {:?}",
            world.planner.status()
        );
        assert!(world.planner.status().totals.late_bytes == 0);
    }
    check(12_500_000, 40, 256); // the emulated 100 Mbit/s and 80 ms
    check(100_000, 10, 20);
    check(100_000_000, 1, 256);
    check(50_000_000, 50, 1024);
}

#[test]
fn several_providers_add_up() {
    let behaviours = vec![honest(6_250_000, ms(10)); 4];
    let (took, world) = run(behaviours, 256);
    let floor = 256.0 * f64::from(MIB) / 25_000_000.0;
    assert!(floor / took.as_secs_f64() > 0.9, "{took:?}");
    assert!(world.planner.status().totals.late_bytes < 8 << 20);
}

#[test]
fn a_slow_provider_does_not_hold_up_a_fast_one() {
    let (took, world) = run(
        vec![honest(50_000, ms(10)), honest(50_000_000, ms(10))],
        256,
    );
    assert!(took < ms(7_000), "{took:?}");
    let doubled = world.planner.status().totals.doubled;
    assert!((1..=16).contains(&doubled), "{doubled}");
}

#[test]
fn many_that_drip_do_not_keep_the_buffers_to_themselves() {
    let drip = Behaviour {
        fault: Fault::Drips,
        ..honest(1_000_000, ms(10))
    };
    let mut behaviours = vec![drip; PROVIDERS_MAX - 1];
    behaviours.push(honest(12_500_000, ms(10)));
    let (took, _) = run(behaviours, 256);
    assert!(took < Duration::from_secs(90), "{took:?}");
}
