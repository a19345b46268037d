//! Machines that are network namespaces of this one: with lines, bridges and routes of their own.
//!
//! A [`Machine`] is that of the lab of `shoal-testnet`, for tests: what goes wrong with it fails the
//! test. Nothing in it reaches anything but machines that a test has tied to it. Namespaces need
//! root: a test asks [`are_here`] first.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use shoal_testnet::lab;

use crate::{Ran, shoal};

/// Whether this process may make namespaces. Where it may not, says so; under continuous
/// integration (`CI` is set) that is a failure.
///
/// # Panics
/// Under continuous integration, when it may not.
pub fn are_here(test: &str) -> bool {
    is_possible(test, lab::are_here())
}

/// Whether a machine can be a router that translates addresses. Where it cannot, says so; under
/// continuous integration that is a failure.
///
/// # Panics
/// Under continuous integration, when it cannot.
pub fn translate_here(test: &str) -> bool {
    is_possible(test, lab::translate_here())
}

fn is_possible(test: &str, possible: io::Result<()>) -> bool {
    let Err(error) = possible else { return true };
    assert!(std::env::var_os("CI").is_none(), "{test}: {error}");
    // Past the harness, which would keep it to itself.
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{test} is skipped: {error}");
    false
}

/// A machine with nothing but a loopback interface at first.
#[derive(Debug)]
pub struct Machine(lab::Machine);

impl From<lab::Machine> for Machine {
    fn from(machine: lab::Machine) -> Self {
        Self(machine)
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A new one.
    ///
    /// # Panics
    /// When there are no namespaces: see [`are_here`].
    pub fn new() -> Self {
        Self(lab::Machine::new().expect("there are namespaces"))
    }

    /// A command that runs in this machine.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        self.0.command(program)
    }

    /// Does something on a thread that is in this machine; sockets that are made there stay there.
    ///
    /// # Panics
    /// When it does, or when this process may not enter the machine.
    #[cfg(target_os = "linux")]
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace =
            std::fs::File::open(self.0.namespace()).expect("the machine has a namespace");
        let there = move || {
            let network = nix::sched::CloneFlags::CLONE_NEWNET;
            nix::sched::setns(namespace, network).expect("root may enter it");
            work()
        };
        std::thread::scope(|scope| scope.spawn(there).join().expect("the work is done"))
    }

    /// Runs `ip` with these words, in this machine.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, words: &str) {
        self.0.ip(words).expect("`ip` works");
    }

    /// Lays a line to another machine, `name` here and `far_name` there, without addresses.
    ///
    /// # Panics
    /// When it fails.
    pub fn tie(&self, name: &str, other: &Self, far_name: &str) {
        self.0.tie(name, &other.0, far_name).expect("`ip` works");
    }

    /// Adds a bridge with this address and one port that is up, as a container program makes it.
    pub fn bridge(&self, name: &str, address: &str) {
        self.ip(&format!("link add {name} type bridge"));
        self.ip(&format!("addr add {address} dev {name}"));
        self.ip(&format!("link add p-{name} type veth peer name q-{name}"));
        self.ip(&format!("link set p-{name} master {name}"));
        for interface in [name, &format!("p-{name}"), &format!("q-{name}")] {
            self.ip(&format!("link set {interface} up"));
        }
    }

    /// Runs a program with these words, in this machine.
    ///
    /// # Panics
    /// When it fails.
    pub fn does(&self, program: &str, words: &[&str]) {
        self.0.does(program, words).expect("the program works");
    }

    /// Has it pass packets on, and those that leave by the interface `out` under its own address,
    /// as the router of a home or an office does.
    pub fn translates(&self, out: &str) {
        self.0.forwards().expect("root may have it so");
        let table = format!(
            "table ip nat {{ chain out {{ type nat hook postrouting priority srcnat; \
             oifname {out} masquerade; }}; }}"
        );
        self.does("nft", &[&table]);
    }

    /// Lets at most so many megabits a second out by an interface.
    pub fn limits(&self, interface: &str, megabits: u32) {
        // Half a second of it waits, as in a home router.
        let rate = format!("{megabits}mbit");
        let words = [
            "qdisc", "add", "dev", interface, "root", "tbf", "rate", &rate,
        ];
        self.does(
            "tc",
            &[&words[..], &["burst", "32kb", "latency", "500ms"]].concat(),
        );
    }

    /// A `shoal --json` command on `home`, without what this process's environment would tell it.
    pub fn shoal(&self, home: &Path, args: &[&str]) -> Command {
        let mut command = self.command(shoal());
        command.arg("--home").arg(home).arg("--json").args(args);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("SHOAL_") {
                command.env_remove(variable);
            }
        }
        command
    }

    /// Runs such a command to its end.
    pub fn run(&self, home: &Path, args: &[&str]) -> Ran {
        Ran::new(&self.shoal(home, args).output().expect("the binary runs"))
    }

    /// Starts a daemon with these options, and waits until it serves.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn daemon(&self, home: &Path, options: &[&str]) -> MachineDaemon {
        let mut process = self
            .shoal(home, &[&["daemon"], options].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let stdout = process.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it speaks");
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let listen = ready["listen"].as_array().cloned().unwrap_or_default();
        let daemon = MachineDaemon {
            process,
            listen: listen
                .iter()
                .filter_map(|it| it.as_str().map(str::to_owned))
                .collect(),
        };
        assert_eq!(ready["event"], "ready", "{line}");
        daemon
    }

    /// UDP datagrams that have come in, as the system counts them for the whole machine.
    pub fn datagrams(&self) -> u64 {
        let mut command = self.command("cat");
        let output = command.arg("/proc/net/snmp").output().expect("`cat` runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut udp = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
        // The first of the two lines has the names.
        let numbers = udp.nth(1).and_then(|line| line.split(' ').next());
        numbers.and_then(|it| it.parse().ok()).unwrap_or(u64::MAX)
    }
}

/// A daemon in a machine; killed when dropped.
#[derive(Debug)]
pub struct MachineDaemon {
    process: Child,
    /// The addresses of its ready line.
    pub listen: Vec<String>,
}

impl Drop for MachineDaemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
