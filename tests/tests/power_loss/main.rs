//! Power loss: a daemon is watched while it shares and fetches; then the machine dies, again and
//! again, at any moment of that.
//!
//! Every call that changes a file below the daemon's folder is recorded, with what it is told by
//! flushes and what it tells its clients. Of that, the disk is built as a power loss at some moment
//! may leave it, and a daemon started on it that believes in another boot of the machine. Whatever
//! was promised at that moment has to be there and be served, whatever is served has to be right,
//! damage has to be said, and a fetch has to come to its end. The moments are those right after each
//! answer and rename, and others at random, most of them around flushes.
//!
//! `SHOAL_SOAK_ROUNDS` is the number of moments, `SHOAL_SOAK_SEED` repeats choices of an earlier
//! run. The same happens to the machine of a user without privileges, with read-only files and folders
//! that keep their modes and times. When it fails it keeps the homes, with their logs, and says where.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod after;
mod disk;
mod log;
mod machine;
mod pretender;
mod recorder;

use std::collections::BTreeSet;

use shoal_tests::{
    dice::{self, Dice},
    nobody,
};

use after::After;
use disk::{Disk, Loss};
use log::{Log, Step};
use machine::Machine;

/// Moments in the short form: all answers and moves, which are about eighteen, and some of the others.
const SHORT_ROUNDS: usize = 26;

#[test]
fn what_was_promised_survives_a_power_loss_and_nothing_wrong_is_served() {
    run(false);
}

#[test]
fn so_does_what_is_read_only_for_a_user_without_privileges() {
    let name = "so_does_what_is_read_only_for_a_user_without_privileges";
    if !nobody::has_run(name, &[], None) {
        run(true);
    }
}

/// All moments, of a machine whose files are read-only or not.
fn run(read_only: bool) {
    let seed = dice::seed("SHOAL_SOAK_SEED");
    let rounds = std::env::var("SHOAL_SOAK_ROUNDS");
    let rounds = rounds.map_or(SHORT_ROUNDS, |it| it.parse().expect("a number of rounds"));
    say(&format!("SHOAL_SOAK_SEED={seed}, {rounds} rounds"));
    let mut dice = Dice::new(seed, "power loss");
    let mut machine = Machine::new(read_only);
    let log = match machine.record() {
        Ok(log) => log,
        Err(error) => {
            say(&format!("skipped: no process can be traced here: {error}"));
            return;
        }
    };
    let moments = moments(&log, rounds, &mut dice);
    say(&format!(
        "{} steps of {} files",
        log.steps.len(),
        log.made.len()
    ));
    for (round, steps) in moments.into_iter().enumerate() {
        let loss = dice.pick(&Loss::EACH);
        let last = log.name(steps - 1);
        machine.moment = format!("round {:3}  {loss:?} lost at {steps}, {last}", round + 1);
        let disk = Disk::after(&log, steps, loss, &mut dice);
        let told = log.steps[..steps].iter().filter_map(Step::said);
        let after = After::begin(&machine, &disk, told.collect(), loss, &mut dice);
        let found = after.check();
        say(&format!("{}: {found}", machine.moment));
    }
    machine.make_removable();
}

/// How many steps are done at the moments of a power loss: right after every answer and every move
/// of what is done by then, and others at random, most of them around flushes.
fn moments(log: &Log, rounds: usize, dice: &mut Dice) -> BTreeSet<usize> {
    let answers = (log.begin..log.steps.len()).filter(|at| log.steps[*at].said().is_some());
    let mut moments: BTreeSet<usize> = answers.map(|at| at + 1).collect();
    let first = *moments.first().expect("answers were recorded");
    let is_move = |at: &usize| matches!(log.steps[*at], Step::Rename { .. });
    let moves = (first..log.steps.len()).filter(is_move);
    moments.extend(moves.map(|at| at + 1));
    let turning = |from: usize, to: usize| -> Vec<usize> {
        let turning = (from..to).filter(|at| log.steps[*at].is_turning());
        turning.flat_map(|at| [at, at + 1]).collect()
    };
    // Making the database takes many steps and promises nothing.
    let early = turning(log.begin, first);
    let late = turning(first, log.steps.len());
    let any: Vec<usize> = (first..log.steps.len()).collect();
    let all: BTreeSet<&usize> = early.iter().chain(&any).chain(&moments).collect();
    let rounds = rounds.min(all.len());
    while moments.len() < rounds {
        let among = [&early, &any, &late, &late][dice.index(4)];
        moments.insert(dice.pick(among));
    }
    moments
}

/// A line for whoever watches.
#[expect(clippy::print_stderr, reason = "a long test says how far it is")]
fn say(line: &str) {
    eprintln!("{line}");
}
