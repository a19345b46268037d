//! The crash loop: daemons that share, serve and fetch, and of which one after the other is killed
//! in the middle of it.
//!
//! Each round begins something, kills a daemon with SIGKILL once it has moved so many bytes and
//! made so many calls, starts it again, and checks what has to hold whatever was cut off: what was
//! acknowledged is listed and whole, `verify` is clean, nothing unfinished has a final name, a
//! fetch goes on by itself and downloads nothing again, garbage is found once, and nothing is left
//! over. What a node keeps for others is treated the same: it is whole and served, or gone, and no
//! bytes of it lie about.
//!
//! The same runs once more as a user without privileges, with read-only files and folders that keep
//! their modes and times: what has its mode already stands in the way of nobody but such a user. And
//! again where fetches land on FAT, which keeps neither.
//!
//! `scripts/soak` runs it long. `SHOAL_SOAK_ROUNDS` says how long, and `SHOAL_SOAK_SEED` repeats
//! the choices of an earlier run. When it fails it keeps the homes, with their logs, and says
//! where; its daemons end in any case.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kill;
mod world;

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Instant,
};

use shoal_tests::{
    dice,
    nobody::{self, NOBODY},
    remove_all, scratch,
    small_disk::{DiskKind, SmallDisk},
    text, uml, wait_for,
};

use kill::{KillPoint, mib};
use world::{Kind, LANDED, Offer, World};

/// Each phase that counts most once, and one more: enough to notice that something is broken for
/// good, in less than 30 seconds.
const SHORT_ROUNDS: u64 = 6;

/// The same for FAT: a minute.
const SHORT_ROUNDS_TO_FAT: u64 = 2;

/// Landed payload that a crash may keep out of the journal.
const JOURNAL_BYTES: u64 = 4 << 20;

/// What is kept for others at the least: four leaves.
const RUN_BYTES: u64 = 4 << 20;

/// Room for what the fetcher keeps, of which the oldest goes.
const FAT_BYTES: u64 = 512 << 20;

#[test]
fn whatever_kill_9_cuts_off_is_whole_or_goes_on_after_the_restart() {
    run(Kind::Plain);
}

#[test]
fn so_does_what_is_read_only_for_a_user_without_privileges() {
    let name = "so_does_what_is_read_only_for_a_user_without_privileges";
    if !nobody::has_run(name, &[], None) {
        run(Kind::ReadOnly);
    }
}

#[test]
fn so_does_what_is_read_only_where_a_user_without_privileges_fetches_to_fat() {
    let name = "so_does_what_is_read_only_where_a_user_without_privileges_fetches_to_fat";
    if std::env::var_os(LANDED).is_some() {
        return run(Kind::ReadOnlyToFat);
    }
    if uml::has_run(name) {
        return;
    }
    let dir = scratch();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let options = format!("uid={NOBODY},gid={NOBODY}");
    if let Some(disk) = SmallDisk::mount(DiskKind::Fat, FAT_BYTES, dir.path(), &options) {
        assert!(nobody::has_run(name, &[(LANDED, &disk.at)], None));
    }
}

/// The loop, with what is shared of one kind.
fn run(kind: Kind) {
    let seed = dice::seed("SHOAL_SOAK_SEED");
    let rounds = std::env::var("SHOAL_SOAK_ROUNDS");
    let (first, all) = Phase::of(kind);
    let short = match kind {
        Kind::ReadOnlyToFat => SHORT_ROUNDS_TO_FAT,
        _ => SHORT_ROUNDS,
    };
    let rounds = rounds.map_or(short, |it| it.parse().expect("a number of rounds"));
    say(&format!("SHOAL_SOAK_SEED={seed}, {rounds} rounds"));
    let mut world = World::new(seed, kind);
    let mut totals = BTreeMap::<&str, Totals>::new();
    for round in 0..rounds {
        let phase = match first.get(usize::try_from(round).unwrap()) {
            Some(phase) => *phase,
            None => world.dice.pick(all),
        };
        let start = Instant::now();
        let killed = phase.run(&mut world);
        let (number, name, took) = (round + 1, phase.name(), start.elapsed().as_secs_f64());
        say(&format!(
            "round {number:3}  {name:7}  {took:4.1} s  {killed}"
        ));
        totals.entry(phase.name()).or_default().add(&killed);
        world.make_room();
    }
    world.check_all();
    world.make_removable();
    for (phase, totals) in totals {
        say(&format!("{phase:7}  {totals}"));
    }
}

/// A line for whoever watches.
#[expect(clippy::print_stderr, reason = "a long test says how far it is")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// What is going on when a daemon is killed.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Share,
    Copy,
    Fetch,
    Serve,
    Unshare,
    Collect,
    Verify,
    Pull,
    Drop,
}

/// How one round went.
struct Killed {
    point: KillPoint,
    /// Whether the command had said that it is done.
    acknowledged: bool,
    fetched: Option<Refetched>,
}

/// What a fetch that was cut off came to in the end.
#[derive(Debug, Clone, Copy, Default)]
struct Refetched {
    /// The length of what was fetched.
    bytes: u64,
    /// What of it was verified before the kill.
    verified: u64,
    /// What of that was downloaded again.
    again: u64,
}

impl std::fmt::Display for Killed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let when = if self.acknowledged { "after" } else { "before" };
        write!(f, "killed at {}, {when} the answer", self.point)?;
        self.fetched
            .map_or(Ok(()), |fetched| write!(f, "; {fetched}"))
    }
}

impl std::fmt::Display for Refetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            bytes,
            verified,
            again,
        } = self;
        let (bytes, verified, again) = (mib(*bytes), mib(*verified), mib(*again));
        write!(f, "{verified:.1} of {bytes:.1} MiB verified before, ")?;
        write!(f, "{again:.1} MiB downloaded again")
    }
}

#[derive(Default)]
struct Totals {
    kills: u64,
    acknowledged: u64,
    fetched: Refetched,
}

impl Totals {
    fn add(&mut self, killed: &Killed) {
        self.kills += 1;
        self.acknowledged += u64::from(killed.acknowledged);
        let fetched = killed.fetched.unwrap_or_default();
        self.fetched.bytes += fetched.bytes;
        self.fetched.verified += fetched.verified;
        self.fetched.again += fetched.again;
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kills, acknowledged) = (self.kills, self.acknowledged);
        write!(f, "{kills} kills, {acknowledged} after the answer")?;
        match self.fetched.bytes {
            0 => Ok(()),
            _ => write!(f, "; {}", self.fetched),
        }
    }
}

impl Phase {
    /// Each that counts most once.
    const FIRST: [Self; 5] = [
        Self::Share,
        Self::Fetch,
        Self::Serve,
        Self::Pull,
        Self::Drop,
    ];

    /// Those in which something lands. In a Linux of its own, which is slow, no helper is near.
    const LANDING: [Self; 2] = [Self::Fetch, Self::Serve];

    /// The phases of a loop: the first ones, and those to choose from then.
    fn of(kind: Kind) -> (&'static [Self], &'static [Self]) {
        match kind {
            Kind::Plain | Kind::ReadOnly => (&Self::FIRST, &Self::ALL),
            Kind::ReadOnlyToFat => (&Self::LANDING, &Self::LANDING),
        }
    }

    const ALL: [Self; 13] = [
        Self::Share,
        Self::Share,
        Self::Copy,
        Self::Fetch,
        Self::Fetch,
        Self::Serve,
        Self::Unshare,
        Self::Collect,
        Self::Verify,
        Self::Pull,
        Self::Pull,
        Self::Pull,
        Self::Drop,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Copy => "copy",
            Self::Fetch => "fetch",
            Self::Serve => "serve",
            Self::Unshare => "unshare",
            Self::Collect => "gc",
            Self::Verify => "verify",
            Self::Pull => "pull",
            Self::Drop => "drop",
        }
    }

    fn run(self, world: &mut World) -> Killed {
        match self {
            Self::Share => share(world, &[]),
            Self::Copy => share(world, &["--copy"]),
            Self::Fetch => fetch(world),
            Self::Serve => serve(world),
            Self::Unshare => unshare(world),
            Self::Collect => upkeep(world, "gc"),
            Self::Verify => upkeep(world, "verify"),
            Self::Pull => pull(world),
            Self::Drop => drop_replicas(world),
        }
    }
}

/// The sharer dies while it shares. What it did not acknowledge can be shared again.
fn share(world: &mut World, options: &[&str]) -> Killed {
    let (path, bytes) = world.make();
    let is_copy = options.contains(&"--copy");
    if is_copy {
        world.is_copied(&path);
    }
    // A copy is read, written and read again.
    let moved = if is_copy { 3 * bytes } else { bytes };
    let point = KillPoint::choose(&mut world.dice, moved);
    let args = [world.kind.share(), options, &[text(&path)]].concat();
    let mut running = world.sharer.begin(&args);
    running.kill_at(&mut world.sharer.daemon, point, || {});
    let ran = running.ended();
    let acknowledged = ran.code == Some(0);
    world.sharer.in_doubt = Some(path.clone());
    if acknowledged {
        world.shared(path.clone(), bytes, &ran.json);
    }
    world.sharer.restart();
    world.check(|world| &world.sharer);
    let again = world.sharer.daemon.run(&args).ok();
    let cid = world.shared(path, bytes, &again).cid;
    assert!(
        !acknowledged || ran.json["cid"] == cid.as_str(),
        "{ran:?}, {again}"
    );
    world.sharer.in_doubt = None;
    Killed {
        point,
        acknowledged,
        fetched: None,
    }
}

/// The fetcher dies while it fetches, and goes on by itself.
fn fetch(world: &mut World) -> Killed {
    let offer = world.share_new();
    let got = world.landing(&offer);
    // The same again means the same place, also when it is there.
    let args = ["fetch", &offer.link, "-o", text(got.parent().unwrap())];
    // What it receives is not counted, what it writes is.
    let point = KillPoint::choose(&mut world.dice, offer.bytes);
    let mut running = world.fetcher.begin(&args);
    let mut seen = 0;
    let home = world.fetcher.watch();
    running.kill_at(&mut world.fetcher.daemon, point, || {
        let listed = home.transfer(&got);
        seen = listed
            .and_then(|it| it["verified_bytes"].as_u64())
            .unwrap_or(seen);
    });
    let acknowledged = running.ended().code == Some(0);
    if got.exists() {
        world.assert_landed(&offer.original, &got);
    }
    if acknowledged {
        world.fetcher.offers.push(landed(&offer, &got));
    }
    world.fetcher.in_doubt = Some(got.clone());
    world.fetcher.restart();
    let listed = home.transfer(&got);
    if listed.is_some() {
        wait_for("the fetch goes on by itself", || {
            (home.transfer(&got)?["state"] == "done").then_some(())
        });
    }
    // It is over, or the daemon died before it knew of it.
    world.fetcher.daemon.run(&args).ok();
    world.assert_landed(&offer.original, &got);
    let status = world.fetcher.daemon.run(&["status"]).ok();
    let downloaded = status["downloaded_bytes"].as_u64().unwrap();
    let again = (seen + downloaded).saturating_sub(offer.bytes);
    assert!(again <= JOURNAL_BYTES, "{again} bytes again after {seen}");
    if !acknowledged {
        world.fetcher.offers.push(landed(&offer, &got));
    }
    world.fetcher.in_doubt = None;
    world.check(|world| &world.fetcher);
    world.check_landed();
    Killed {
        point,
        acknowledged,
        fetched: Some(Refetched {
            bytes: offer.bytes,
            verified: seen,
            again,
        }),
    }
}

/// The sharer dies while the fetcher fetches from it; once it is back, that goes on.
fn serve(world: &mut World) -> Killed {
    let offer = world.share_new();
    let got = world.landing(&offer);
    let point = KillPoint::choose(&mut world.dice, offer.bytes);
    let args = ["fetch", &offer.link, "-o", text(&got)];
    let mut running = world.fetcher.begin(&args);
    let acknowledged = running.kill_at(&mut world.sharer.daemon, point, || {});
    world.sharer.restart();
    world.check(|world| &world.sharer);
    let fetched = running.ended().ok();
    assert_eq!(fetched["downloaded_bytes"], offer.bytes, "{fetched}");
    world.assert_landed(&offer.original, &got);
    world.fetcher.offers.push(landed(&offer, &got));
    world.check_landed();
    Killed {
        point,
        acknowledged,
        fetched: None,
    }
}

/// The sharer dies while it takes a share back. Once that is acknowledged it stays so.
fn unshare(world: &mut World) -> Killed {
    world.share_new();
    let index = world.dice.index(world.sharer.offers.len());
    let path = world.sharer.offers.remove(index).path;
    let point = KillPoint::choose(&mut world.dice, 0);
    let mut running = world.sharer.begin(&["unshare", text(&path)]);
    running.kill_at(&mut world.sharer.daemon, point, || {});
    let acknowledged = running.ended().code == Some(0);
    assert!(path.exists(), "the files are the user's");
    world.sharer.in_doubt = (!acknowledged).then(|| path.clone());
    world.sharer.restart();
    world.check(|world| &world.sharer);
    let again = world.sharer.daemon.run(&["unshare", text(&path)]);
    assert!(!acknowledged || again.code == Some(1), "{again:?}");
    world.sharer.in_doubt = None;
    world.sharer.check();
    Killed {
        point,
        acknowledged,
        fetched: None,
    }
}

/// The sharer dies while it looks after what it has.
fn upkeep(world: &mut World, command: &str) -> Killed {
    let unwanted = world.share_new();
    let bytes = world.sharer.offers.iter().map(|it| it.bytes).sum();
    if command == "gc" {
        world.sharer.offers.retain(|it| it.path != unwanted.path);
        world
            .sharer
            .daemon
            .run(&["unshare", text(&unwanted.path)])
            .ok();
    }
    let moved = if command == "gc" { 0 } else { bytes };
    let point = KillPoint::choose(&mut world.dice, moved);
    let mut running = world.sharer.begin(&[command]);
    running.kill_at(&mut world.sharer.daemon, point, || {});
    let acknowledged = running.ended().code == Some(0);
    world.sharer.restart();
    world.check(|world| &world.sharer);
    Killed {
        point,
        acknowledged,
        fetched: None,
    }
}

/// Has the helper pull a part of something new, and kills it at a point on the way: two that keep nothing
/// ask for it.
fn pull(world: &mut World) -> Killed {
    let offer = world.share_new();
    world.wait_until_near();
    let (args, got) = world.passing(&offer);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    world.fetcher.daemon.run(&args).ok();
    remove_all(&got);
    // A run comes in, is sealed and written, and others make room for it.
    let point = KillPoint::choose(&mut world.dice, 2 * RUN_BYTES);
    let mut running = world.reader.begin(&args);
    let home = world.helper.watch();
    let mut answered = false;
    let acknowledged = kill::kill_at(&mut world.helper.daemon, point, || {
        answered |= running.has_answered();
        let begun = || home.number("shoal_replica_pulls_total{cause=\"asks\"}");
        let ended = || home.number("shoal_replica_pulls_ended_total{outcome=\"complete\"}");
        answered && begun() == ended()
    });
    running.ended().ok();
    world.assert_landed(&offer.original, &got);
    remove_all(&got);
    world.helper.restart();
    world.check_helper();
    Killed {
        point,
        acknowledged,
        fetched: None,
    }
}

/// The helper dies while it drops what it keeps. Once that is acknowledged, it stays so.
fn drop_replicas(world: &mut World) -> Killed {
    let point = KillPoint::choose(&mut world.dice, 0);
    let mut running = world.helper.begin(&["replicas", "drop"]);
    running.kill_at(&mut world.helper.daemon, point, || {});
    let acknowledged = running.ended().code == Some(0);
    world.helper.restart();
    if acknowledged {
        assert_eq!(world.helper.replica_bytes(), 0, "it was dropped");
    }
    world.check_helper();
    world.helper.drop_replicas();
    Killed {
        point,
        acknowledged,
        fetched: None,
    }
}

/// A share of what the fetcher has landed.
fn landed(offer: &Offer, got: &Path) -> Offer {
    Offer {
        path: got.to_owned(),
        ..offer.clone()
    }
}
