//! Near ones first: who has a part serves those who want something of it, and colleagues behind one
//! router find each other through an owner outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Instant,
};

use rustix::process::Signal;
use serde_json::Value;
use shoal_tests::{
    Daemon, Ran, assert_same_file, command,
    http::ask,
    joining,
    netns::{self, Machine, MachineDaemon},
    scratch, text,
    thin::ThinLine,
    wait_for, write_content,
};

const MIB: usize = 1 << 20;

/// What a fetch got from one peer.
fn bytes_from(fetched: &Value, peer: &str) -> u64 {
    let sources = fetched["from"].as_array().unwrap();
    let of_peer = sources.iter().filter(|source| source["peer"] == peer);
    of_peer
        .map(|source| source["bytes"].as_u64().unwrap())
        .sum()
}

/// A folder of files of four chunks each, of which a node has some and waits for the others.
struct PartHolder {
    dir: tempfile::TempDir,
    cid: String,
    origin: Daemon,
    holder: Daemon,
    fetch: Child,
    /// The numbers of the files that the holder has.
    has: Vec<usize>,
}

const FILES: usize = 12;
const FILE_BYTES: usize = 4 * MIB;

fn file(n: usize) -> String {
    format!("file-{n:02}")
}

impl PartHolder {
    fn new() -> Self {
        let dir = scratch();
        let at = |name: &str| dir.path().join(name);
        for n in 0..FILES {
            write_content(&at("tree").join(file(n)), &file(n), FILE_BYTES);
        }
        let origin = Daemon::start(&at("origin"), &[]);
        let cid = origin.share(&at("tree"))["cid"]
            .as_str()
            .unwrap()
            .to_owned();
        let line = ThinLine::to(&origin.address, 6_250_000);
        let holder = Daemon::start_with(&at("holder"), joining(&line.address));
        let got = at("got");
        let fetch = ["fetch", &cid, "--peer", &line.address, "-o", text(&got)];
        let mut fetch = command(holder.home(), &fetch);
        let fetch = fetch.stdout(Stdio::piped()).stderr(Stdio::null());
        let fetch = fetch.spawn().unwrap();
        wait_for("some files are here", || {
            let status = holder.run(&["status"]).ok();
            let bytes = status["downloaded_bytes"].as_u64().unwrap();
            (bytes > 3 * FILE_BYTES as u64).then_some(())
        });
        // From now on nobody gets anything new.
        origin.signal(Signal::STOP);
        let asker = Daemon::start_with(&at("asker"), joining(&holder.address));
        let has = wait_for("the holder says what it has", || {
            let found = asker.run(&["find", &cid, "--timeout", "5s"]);
            let providers = found.json["providers"].as_array()?.clone();
            let is_holder = |it: &&Value| it["peer"] == holder.peer_id.as_str();
            let ranges = providers.iter().find(is_holder)?["ranges"].clone();
            let ranges: Vec<(u64, u64)> = serde_json::from_value(ranges).ok()?;
            let has = |n: &usize| {
                let first = 4 * *n as u64;
                let covers = |(start, end): &(u64, u64)| *start <= first && first + 4 <= *end;
                ranges.iter().any(covers)
            };
            let has: Vec<usize> = (0..FILES).filter(has).collect();
            (!has.is_empty()).then_some(has)
        });
        Self {
            dir,
            cid,
            origin,
            holder,
            fetch,
            has,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn who_has_a_part_serves_a_file_of_it_by_path_and_by_pattern() {
    let part = PartHolder::new();
    assert!(part.has.len() < FILES, "{:?}", part.has);
    let wanted = file(part.has[0]);
    let source = part.at("tree").join(&wanted);
    let holder = part.holder.address.as_str();
    let late = Daemon::start_with(&part.at("late"), joining(holder));

    let by_path = part.at("by-path");
    let path = format!("{}/{wanted}", part.cid);
    let args = ["fetch", &path, "--peer", holder, "-o", text(&by_path)];
    let fetched = late.run(&args).ok();
    assert_same_file(&source, &by_path);
    assert_eq!(
        bytes_from(&fetched, &part.holder.peer_id),
        FILE_BYTES as u64
    );

    let later = Daemon::start_with(&part.at("later"), joining(holder));
    let by_pattern = part.at("by-pattern");
    let args = [
        "fetch",
        &part.cid,
        "--only",
        &wanted,
        "--peer",
        holder,
        "-o",
        text(&by_pattern),
    ];
    let fetched = later.run(&args).ok();
    assert_same_file(&source, &by_pattern.join(&wanted));
    assert_eq!(
        bytes_from(&fetched, &part.holder.peer_id),
        FILE_BYTES as u64
    );

    // A file that it has not: nobody else is asked in vain for it, and nobody is blamed. It comes
    // once the owner is back.
    let lacking = (0..FILES).find(|n| !part.has.contains(n)).unwrap();
    let lacking = file(lacking);
    let output = part.at("lacking");
    let path = format!("{}/{lacking}", part.cid);
    let args = ["fetch", &path, "--peer", holder, "-o", text(&output)];
    let mut fetch = command(later.home(), &args);
    let fetch = fetch.stdout(Stdio::piped()).stderr(Stdio::piped());
    let fetch = fetch.spawn().unwrap();
    part.origin.signal(Signal::CONT);
    Ran::new(&fetch.wait_with_output().unwrap()).ok();
    assert_same_file(&part.at("tree").join(&lacking), &output);
    Ran::new(&part.fetch.wait_with_output().unwrap()).ok();
}

#[test]
fn how_near_peers_are_is_shown_and_can_be_chosen() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    let near = Daemon::start(&at("near"), &[]);
    let nearness = |daemon: &Daemon| {
        wait_for("the distance is measured", || {
            let peers = daemon.run(&["peers"]).ok();
            let nearness = peers["peers"][0]["nearness"].as_str()?;
            Some(nearness.to_owned())
        })
    };
    let other = Daemon::start(&at("other"), &[&near]);
    // This machine is no local network.
    assert_eq!(nearness(&other), "near");
    write_content(&at("file"), "near", MIB);
    let shared = near.share(&at("file"));
    let found = wait_for("it is found", || {
        let found = other.run(&["find", shared["cid"].as_str()?, "--timeout", "5s"]);
        found.json["providers"].as_array()?.first().cloned()
    });
    assert_eq!(found["nearness"], "near", "{found:?}");
    let metrics = ask(other.home(), "GET", "/metrics", None).body;
    let metrics = String::from_utf8(metrics).unwrap();
    let line = "shoal_peers_by_distance{distance=\"near\"} 1";
    assert!(metrics.contains(line), "{metrics}");

    fs::create_dir_all(at("strict")).unwrap();
    fs::write(
        at("strict").join("config.toml"),
        "[replicas]\nnear = \"0s\"\n",
    )
    .unwrap();
    let strict = Daemon::start(&at("strict"), &[&near]);
    assert_eq!(nearness(&strict), "far");
}

/// What of an office's line a fetch takes, in megabits a second.
const OFFICE_MEGABITS: u32 = 20;
const COLLEAGUES: usize = 4;

/// A local network behind a router, whose line to the owner outside is thin.
struct Office {
    machines: Vec<Machine>,
    homes: Vec<PathBuf>,
    _daemons: Vec<MachineDaemon>,
    _router: Machine,
}

impl Office {
    /// Office `n` has the networks `8.8.n.0/24` to the owner and `192.168.7.0/24` of its own: that
    /// of every office is the same.
    fn new(n: usize, owner: &Machine, dir: &Path) -> Self {
        let router = Machine::new();
        let line = format!("line{n}");
        owner.tie(&line, &router, "wan");
        owner.ip(&format!("addr add 8.8.{n}.1/24 dev {line}"));
        owner.limits(&line, OFFICE_MEGABITS);
        router.ip(&format!("addr add 8.8.{n}.2/24 dev wan"));
        router.ip(&format!("route add default via 8.8.{n}.1"));
        router.ip("link add lan type bridge");
        router.ip("addr add 192.168.7.1/24 dev lan");
        router.ip("link set lan up");
        router.translates("wan");
        let machine = |c: usize| {
            let machine = Machine::new();
            let port = format!("port{c}");
            machine.tie("eth0", &router, &port);
            router.ip(&format!("link set {port} master lan"));
            machine.ip(&format!("addr add 192.168.7.{}/24 dev eth0", 10 + c));
            machine.ip("route add default via 192.168.7.1");
            machine
        };
        let machines: Vec<_> = (0..COLLEAGUES).map(machine).collect();
        let home = |c: usize| dir.join(format!("office{n}-{c}"));
        let homes: Vec<_> = (0..COLLEAGUES).map(home).collect();
        let daemon = |(machine, home): (&Machine, &PathBuf)| machine.daemon(home, &[]);
        let daemons = machines.iter().zip(&homes).map(daemon).collect();
        Self {
            machines,
            homes,
            _daemons: daemons,
            _router: router,
        }
    }

    /// Waits until multicast has brought all machines together, as it has in an office where daemons
    /// run all day.
    fn knows_itself(&self) {
        for (machine, home) in self.machines.iter().zip(&self.homes) {
            wait_for("colleagues are connected", || {
                let peers = machine.run(home, &["peers"]).ok();
                let peers = peers["peers"].as_array()?.len();
                (peers >= COLLEAGUES - 1).then_some(())
            });
        }
    }

    /// Starts a fetch on every machine.
    fn fetch(&self, link: &str) -> Vec<(PathBuf, Child)> {
        let nodes = self.machines.iter().zip(&self.homes);
        let fetch = |(machine, home): (&Machine, &PathBuf)| {
            let output = home.with_extension("got");
            let mut fetch = machine.shoal(home, &["fetch", link, "-o", text(&output)]);
            let fetch = fetch.stdout(Stdio::piped()).stderr(Stdio::piped());
            (output, fetch.spawn().unwrap())
        };
        nodes.map(fetch).collect()
    }
}

/// Two offices whose local networks look alike. The owner knows their routers only, so it can name
/// colleagues to each other and not say where they are; multicast tells them. What is fetched is not
/// announced, so nothing but the owner names anybody.
#[test]
fn colleagues_behind_one_router_find_each_other_through_an_owner_outside() {
    const BYTES: usize = 64 * MIB;
    if !netns::translate_here("two offices behind routers") {
        return;
    }
    let (dir, owner) = (scratch(), Machine::new());
    let at = |name: &str| dir.path().join(name);
    owner.ip("link add world type veth peer name beyond");
    owner.ip("link set beyond up");
    owner.ip("addr add 9.9.9.9/24 dev world");
    owner.ip("link set world up");
    let offices: Vec<_> = (0..2).map(|n| Office::new(n, &owner, dir.path())).collect();
    let options = ["--no-mdns", "--listen", "/ip4/9.9.9.9/tcp/4101"];
    let _daemon = owner.daemon(&at("owner"), &options);
    let file = at("file");
    write_content(&file, "for the office", BYTES);
    let shared = ["share", text(&file), "--no-announce"];
    let shared = owner.run(&at("owner"), &shared).ok();
    let link = shared["link"].as_str().unwrap();

    offices.iter().for_each(Office::knows_itself);
    let began = Instant::now();
    let fetches: Vec<_> = offices
        .iter()
        .flat_map(|office| office.fetch(link))
        .collect();
    for (output, fetch) in fetches {
        Ran::new(&fetch.wait_with_output().unwrap()).ok();
        assert_same_file(&at("file"), &output);
    }
    let took = began.elapsed().as_secs_f64();
    let status = owner.run(&at("owner"), &["status"]).ok();
    let sent = status["uploaded_bytes"].as_u64().unwrap() as f64;
    let copies = sent / BYTES as f64 / offices.len() as f64;
    let one_copy = BYTES as f64 * 8.0 / f64::from(OFFICE_MEGABITS) / 1e6;
    let ratio = took / one_copy;
    // How long it takes is the machine's, too; a copy more is not.
    assert!(
        copies <= 1.3,
        "{copies:.2} copies crossed each line, {ratio:.2} times one copy's time"
    );
}
