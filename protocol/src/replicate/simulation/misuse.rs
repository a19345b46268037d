//! What must not cause pulls: helpers that join, an end of demand, askers that are made up.

use super::super::cache::{Queue, RunId, Standing};
use super::*;

const DAY: Duration = Duration::from_hours(24);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pulling {
    /// As the helper has it: for asks.
    ForAsks,
    /// What neighbours tell of counts as if somebody had asked for it: the variant that has to fail.
    ForHoldings,
}

/// `joining` helpers join beside others that hold so many roots, and nobody asks. How many pulls
/// follow within a day.
fn storm(standing: usize, joining: usize, roots: usize, pulling: Pulling) -> u64 {
    let mut world = World::new(1, standing + joining, HelperConfig::default());
    for n in standing..standing + joining {
        world.leave(n, Duration::ZERO);
    }
    for file in 0..roots {
        let id = RunId {
            key: key(file),
            run: 0,
        };
        let held = Standing {
            bytes: FILE_BYTES,
            queue: Queue::Main,
            order: file as u64,
            reads: 1,
            used: Duration::ZERO,
        };
        world.helpers[file % standing].restore_run(id, held, FILE);
    }
    for n in standing..standing + joining {
        world.join(n);
    }
    for hour in 0..24 {
        let now = Duration::from_hours(hour);
        for file in 0..roots {
            let holder = file % standing;
            world.tell(holder, file, now);
            if pulling == Pulling::ForAsks {
                continue;
            }
            let home = world.tables[holder].closest(key(file), None)[0].peer.0 as usize;
            for n in 0..2 {
                let by = asker((holder + n) % standing);
                let around = Around {
                    table: &world.tables[home],
                    is_lan: false,
                };
                let ask = Ask {
                    key: key(file),
                    peer: peer(holder),
                    by,
                    stays: false,
                };
                if world.helpers[home].asked(&ask, around, now) == Said::Want {
                    world.offer(holder, home, by, file, 1, now);
                }
            }
        }
    }
    world.check(2);
    world.pulls
}

#[test]
fn helpers_that_join_pull_nothing() {
    assert_eq!(storm(100, 50, 1000, Pulling::ForAsks), 0);
}

#[test]
fn a_build_that_pulls_without_asks_fails_the_storm() {
    let pulls = storm(30, 20, 100, Pulling::ForHoldings);
    assert!(pulls > 20, "{pulls}");
}

#[test]
#[ignore = "a minute: scripts/soak runs it"]
fn replication_storm_at_scale() {
    assert_eq!(storm(2000, 200, 10_000, Pulling::ForAsks), 0);
}

#[test]
fn when_demand_ends_nothing_keeps_itself_alive() {
    let mut world = World::new(1, 40, HelperConfig::default());
    for n in 0..20 {
        for file in 0..10 {
            world.ask(n, n, asker(n), file, Duration::from_secs(n as u64));
        }
    }
    let pulls = world.pulls;
    assert!(pulls >= 10, "{pulls}");
    for hour in 1..=24 * 8 {
        let now = Duration::from_hours(hour);
        for n in 0..40 {
            let held: Vec<usize> = (0..10)
                .filter(|file| world.helpers[n].held(key(*file)).is_some())
                .collect();
            for file in held {
                world.tell(n, file, now);
            }
            world.helpers[n].expire(now);
        }
        let held: usize = world.helpers.iter().map(|it| it.cache().len()).sum();
        assert_eq!(
            held == 0,
            now >= 7 * DAY + Duration::from_hours(1),
            "after {hour} h: {held}"
        );
    }
    assert_eq!(world.pulls, pulls, "no pull without an ask");
    world.check(2);
}

/// One region in which 30 nodes ask for 40 files; a /24 with a thousand ids asks for a thousand keys
/// beside them. The share of honest fetches that found a copy, and the most that one helper holds
/// for the attacker.
fn fake_demand(is_attacked: bool) -> (f64, u64) {
    let quota = 100 * FILE_BYTES;
    let config = HelperConfig {
        quota,
        ..HelperConfig::default()
    };
    let mut world = World::new(1, 40, config);
    let mut dice = Dice(7);
    let (mut hits, mut fetches) = (0.0, 0.0);
    for step in 0..3000_usize {
        let now = Duration::from_secs(step as u64);
        if is_attacked {
            let ip = IpAddr::V4(Ipv4Addr::new(198, 51, 100, step as u8));
            let by = Asker {
                position: position(1 << 30 | step),
                origin: Origin::Elsewhere(ip),
            };
            for file in [step, step + 1, step + 2, step + 3].map(|it| 1000 + it % 1000) {
                world.ask(39, 39, by, file, now);
            }
        }
        let (n, file) = (dice.below(30), dice.below(40).min(dice.below(40)));
        let found = world.ask(n, n, asker(n), file, now);
        if step >= 1000 {
            hits += f64::from(found.is_near);
            fetches += 1.0;
        }
    }
    world.check(2);
    let made_up = |it: &Helper| {
        (1000..2000)
            .filter(|file| it.held(key(*file)).is_some())
            .count()
    };
    let most = world.helpers.iter().map(made_up).max().unwrap();
    (hits / fetches, most as u64 * FILE_BYTES)
}

#[test]
fn made_up_demand_displaces_a_tenth_at_most() {
    let (honest, _) = fake_demand(false);
    let (attacked, most) = fake_demand(true);
    assert!(honest > 0.8, "{honest}");
    assert!(attacked >= honest - 0.05, "{attacked} instead of {honest}");
    assert!(most > 0, "the attack does something");
    assert!(most <= 10 * FILE_BYTES, "{most} bytes of 100 MiB");
}
