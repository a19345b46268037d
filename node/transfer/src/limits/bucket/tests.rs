//! The bucket among senders, networks and noise that are simulated: virtual time, real decisions.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// The step of the simulated clock: that of the timers.
const STEP: Duration = Duration::from_millis(1);

/// Whoever wants to move bytes, all the time.
struct Hungry {
    class: Class,
    ticket: Option<Ticket>,
    moved: u64,
}

/// A world in which what was granted shows on the wire some time later, with something added.
struct World {
    bucket: Bucket,
    now: Duration,
    hungry: Vec<Hungry>,
    /// How long after its grant a byte shows.
    delay: Duration,
    /// What the wire adds, in bytes per 100.
    overhead: u64,
    /// Bytes per second that ask nobody.
    control: u64,
    /// Granted bytes by the time at which they show.
    on_their_way: BTreeMap<Duration, u64>,
    wire: u64,
}

impl World {
    fn new(rate: u64, classes: &[Class]) -> Self {
        let mut bucket = Bucket::new(Duration::ZERO);
        bucket.set_rate(Some(rate), Duration::ZERO);
        let hungry = classes.iter().map(|&class| Hungry {
            class,
            ticket: None,
            moved: 0,
        });
        Self {
            bucket,
            now: Duration::ZERO,
            hungry: hungry.collect(),
            delay: Duration::ZERO,
            overhead: 0,
            control: 0,
            on_their_way: BTreeMap::new(),
            wire: 0,
        }
    }

    /// Lets `time` pass; what showed on the wire meanwhile.
    fn run(&mut self, time: Duration) -> u64 {
        let (before, end) = (self.wire, self.now + time);
        while self.now < end {
            self.step();
        }
        self.wire - before
    }

    fn step(&mut self) {
        self.now += STEP;
        let late = self
            .on_their_way
            .split_off(&(self.now + Duration::from_nanos(1)));
        let shown: u64 = std::mem::replace(&mut self.on_their_way, late)
            .values()
            .sum();
        let shown = shown + self.control / 1000;
        self.wire += shown;
        self.bucket.advance(shown, self.now);
        for (ticket, bytes) in self.bucket.serve() {
            let who = self.hungry.iter().position(|it| it.ticket == Some(ticket));
            self.hungry[who.unwrap()].ticket = None;
            self.grant(who.unwrap(), bytes);
        }
        for who in 0..self.hungry.len() {
            while self.hungry[who].ticket.is_none() {
                match self.bucket.ask(self.hungry[who].class, 64 << 10) {
                    Ok(bytes) => self.grant(who, bytes),
                    Err(ticket) => self.hungry[who].ticket = Some(ticket),
                }
            }
        }
    }

    fn grant(&mut self, who: usize, bytes: u64) {
        self.hungry[who].moved += bytes;
        let shown = bytes + bytes * self.overhead / 100;
        *self.on_their_way.entry(self.now + self.delay).or_default() += shown;
    }
}

fn check_window(world: &mut World, rate: u64, what: &str) {
    let expected = rate * 30;
    let wire = world.run(Duration::from_secs(30));
    let off = wire.abs_diff(expected) * 100 / expected;
    assert!(off < 5, "{what}: {wire} instead of {expected}");
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn thirty_seconds_hold_within_five_percent() {
    for rate in [8_000, 100_000, 2_500_000, 100_000_000] {
        for peers in [1, 20] {
            let mut world = World::new(rate, &vec![Class::Serve; peers]);
            world.overhead = 3;
            world.delay = Duration::from_millis(80);
            check_window(
                &mut world,
                rate,
                &format!("{rate} B/s, {peers} peers, the first"),
            );
            check_window(
                &mut world,
                rate,
                &format!("{rate} B/s, {peers} peers, the next"),
            );
        }
    }
}

#[test]
fn it_is_smooth() {
    let mut world = World::new(2_500_000, &[Class::Serve; 3]);
    world.run(SECOND);
    for _ in 0..50 {
        let moved = world.run(Duration::from_millis(100));
        assert!(moved.abs_diff(250_000) <= 70_000, "{moved} bytes in 100 ms");
    }
}

#[test]
fn what_nobody_holds_back_is_paid_for_by_the_others() {
    let mut world = World::new(1_000_000, &[Class::User]);
    world.control = 600_000;
    check_window(&mut world, 1_000_000, "with 60% of control");
    let share = world.hungry[0].moved / 30;
    assert!(share.abs_diff(400_000) < 40_000, "{share} B/s are left");
}

#[test]
fn what_comes_before_it_was_asked_for_is_paid_for_later() {
    let mut world = World::new(1_000_000, &[Class::User]);
    // The windows of twenty providers, all at once.
    world
        .on_their_way
        .insert(Duration::from_millis(20), 5 << 20);
    check_window(&mut world, 1_000_000, "with 5 MiB in flight");
}

#[test]
fn a_flood_is_forgotten_some_seconds_after_its_end() {
    let mut world = World::new(1_000_000, &[Class::Serve]);
    world.control = 50_000_000;
    world.run(10 * SECOND);
    world.control = 0;
    world.run(8 * SECOND + SECOND / 2);
    let before = world.hungry[0].moved;
    world.run(SECOND);
    assert!(world.hungry[0].moved - before > 900_000);
}

#[test]
fn what_never_shows_is_forgotten() {
    let mut bucket = Bucket::new(Duration::ZERO);
    bucket.set_rate(Some(8_000), Duration::ZERO);
    let mut now = Duration::ZERO;
    for _ in 0..100 {
        // A grant that is never used, as of a stream that was reset.
        now += SECOND;
        bucket.advance(0, now);
        assert_eq!(bucket.ask(Class::Serve, 4096), Ok(1024), "at {now:?}");
    }
}

#[test]
fn nothing_is_saved_up_while_nobody_sends() {
    let mut world = World::new(1_000_000, &[]);
    world.run(60 * SECOND);
    world.hungry.push(Hungry {
        class: Class::User,
        ticket: None,
        moved: 0,
    });
    let moved = world.run(SECOND);
    assert!(moved <= 1_000_000 + 250_000 + 20_000, "{moved}");
}

#[test]
fn waiters_of_a_class_have_equal_parts() {
    let mut world = World::new(2_000_000, &[Class::Serve; 20]);
    world.run(20 * SECOND);
    let parts = world.hungry.iter().map(|it| it.moved);
    let (least, most) = (parts.clone().min().unwrap(), parts.max().unwrap());
    assert!(most - least <= 64 << 10, "{least} to {most}");
}

#[test]
fn the_first_class_comes_first_and_the_last_has_its_part() {
    let mut world = World::new(8_000_000, &[Class::User, Class::Serve, Class::User]);
    world.run(10 * SECOND);
    let parts: Vec<u64> = world.hungry.iter().map(|it| it.moved).collect();
    let served = parts[1] * 100 / parts.iter().sum::<u64>();
    assert!((10..=15).contains(&served), "{served}% are served");
    assert!(parts[0].abs_diff(parts[2]) < 200_000, "{parts:?}");
}

#[test]
fn copies_for_others_come_last_and_starve_nobody() {
    let all = [Class::User, Class::Serve, Class::Help, Class::Replicate];
    let mut world = World::new(8_000_000, &all);
    world.run(10 * SECOND);
    let sum: u64 = world.hungry.iter().map(|it| it.moved).sum();
    let parts: Vec<u64> = world.hungry.iter().map(|it| it.moved * 100 / sum).collect();
    assert!((85..=90).contains(&parts[0]), "{parts:?}");
    assert!(
        parts[1..].iter().all(|part| (3..=5).contains(part)),
        "{parts:?}"
    );
    // Without a person's fetch, what is served comes first.
    let mut world = World::new(8_000_000, &all[1..]);
    world.run(10 * SECOND);
    let sum: u64 = world.hungry.iter().map(|it| it.moved).sum();
    assert!(world.hungry[0].moved * 100 / sum >= 85);
}

#[test]
fn a_limit_changes_while_others_wait() {
    let mut bucket = Bucket::new(Duration::ZERO);
    assert_eq!(bucket.ask(Class::User, u64::MAX), Ok(u64::MAX), "no limit");
    bucket.set_rate(Some(8_000), Duration::ZERO);
    let mut tickets = Vec::new();
    while tickets.len() < 3 {
        tickets.extend(bucket.ask(Class::User, 1 << 20).err());
    }
    bucket.withdraw(tickets[1]);
    assert!(bucket.next_turn().unwrap() > Duration::ZERO);
    assert_eq!(bucket.serve(), []);
    bucket.set_rate(None, STEP);
    assert_eq!(bucket.next_turn(), Some(STEP));
    assert_eq!(
        bucket.serve(),
        [(tickets[0], 1 << 20), (tickets[2], 1 << 20)]
    );
    assert_eq!(bucket.next_turn(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_mix_breaks_the_limit_or_starves_anybody(
        rate in 50_000_u64..200_000_000,
        peers in 1_usize..40,
        delay in 0_u64..200,
        overhead in 0_u64..10,
        control in 0_u64..30,
    ) {
        let classes: Vec<_> = (0..peers)
            .map(|peer| match peer % 5 {
                0 => Class::Serve,
                1 => Class::Help,
                2 => Class::Replicate,
                _ => Class::User,
            })
            .collect();
        let mut world = World::new(rate, &classes);
        world.delay = Duration::from_millis(delay);
        world.overhead = overhead;
        world.control = rate * control / 100;
        world.run(2 * SECOND);
        let before: Vec<u64> = world.hungry.iter().map(|it| it.moved).collect();
        let wire = world.run(10 * SECOND);
        let expected = rate * 10;
        prop_assert!(wire.abs_diff(expected) * 100 / expected < 5, "{wire} of {expected}");
        for (it, before) in world.hungry.iter().zip(before) {
            prop_assert!(it.moved > before, "somebody got nothing in 10 s");
        }
    }

    #[test]
    fn a_turn_comes_no_later_than_it_was_told(
        rate in 8_000_u64..1_000_000_000,
        wish in 1_u64..1 << 20,
        debt in 0_u64..10_000_000,
    ) {
        let mut bucket = Bucket::new(Duration::ZERO);
        bucket.set_rate(Some(rate), Duration::ZERO);
        bucket.advance(debt, Duration::ZERO);
        while bucket.ask(Class::User, wish).is_ok() {}
        let mut rounds = 0;
        while bucket.serve().is_empty() {
            let next = bucket.next_turn().unwrap();
            prop_assert!(next > Duration::ZERO || debt == 0);
            bucket.advance(0, next.max(bucket.now + Duration::from_nanos(1)));
            rounds += 1;
            prop_assert!(rounds < 64, "it is put off for ever");
        }
    }
}
