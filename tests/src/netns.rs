//! Machines that are network namespaces of this one: with lines, bridges and routes of their own.
//!
//! A [`Machine`] lives as long as the process that holds its namespace, which goes when the machine
//! is dropped, and by itself after ten minutes. Nothing in it reaches anything but machines that a
//! test has tied to it. Namespaces need root: a test asks [`are_here`] first.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{Ran, shoal};

/// Has a namespace with a loopback interface and says so; the holder then only sleeps.
const HOLD: &str = "ip link set lo up && echo held && exec sleep 600";

/// Whether this process may make namespaces. Where it may not, says so; under continuous
/// integration (`CI` is set) that is a failure.
///
/// # Panics
/// Under continuous integration, when it may not.
pub fn are_here(test: &str) -> bool {
    let made = Command::new("unshare").args(["-n", "ip", "link"]).output();
    let is_made = made.is_ok_and(|output| output.status.success());
    assert!(
        is_made || std::env::var_os("CI").is_none(),
        "{test} needs network namespaces: run it as root, with `unshare` and `ip`"
    );
    if !is_made {
        // Past the harness, which would keep it to itself.
        let mut stderr = io::stderr().lock();
        let _ = writeln!(
            stderr,
            "{test} is skipped: no network namespaces here (not root, or no `unshare`)"
        );
    }
    is_made
}

/// Whether a machine can be a router that translates addresses. Where it cannot, says so; under
/// continuous integration that is a failure.
///
/// # Panics
/// Under continuous integration, when it cannot.
pub fn translate_here(test: &str) -> bool {
    if !are_here(test) {
        return false;
    }
    let machine = Machine::new();
    let listed = machine.command("nft").args(["list", "ruleset"]).output();
    let can = listed.is_ok_and(|output| output.status.success());
    assert!(
        can || std::env::var_os("CI").is_none(),
        "{test} needs `nft` of nftables"
    );
    if !can {
        let mut stderr = io::stderr().lock();
        let _ = writeln!(stderr, "{test} is skipped: no `nft` here");
    }
    can
}

/// A machine with nothing but a loopback interface at first.
#[derive(Debug)]
pub struct Machine {
    holder: Child,
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
        let mut holder = Command::new("unshare")
            .args(["-n", "sh", "-c", HOLD])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`unshare` is there");
        let stdout = holder.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the holder speaks");
        assert_eq!(line, "held\n");
        Self { holder }
    }

    /// A command that runs in this machine.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.holder.id().to_string(), "-n", "--"])
            .arg(program.as_ref())
            .stdin(Stdio::null());
        command
    }

    /// Runs `ip` with these words, in this machine.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, words: &str) {
        let mut command = self.command("ip");
        let output = command.args(words.split(' ')).output().expect("`ip` runs");
        assert!(output.status.success(), "ip {words}: {output:?}");
    }

    /// Lays a line to another machine, `name` here and `far_name` there, without addresses.
    pub fn tie(&self, name: &str, other: &Self, far_name: &str) {
        let pid = other.holder.id();
        self.ip(&format!(
            "link add {name} type veth peer name {far_name} netns {pid}"
        ));
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("link set {far_name} up"));
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
        let mut command = self.command(program);
        let output = command.args(words).output().expect("the program runs");
        assert!(output.status.success(), "{program} {words:?}: {output:?}");
    }

    /// Has it pass packets on, and those that leave by the interface `out` under its own address,
    /// as the router of a home or an office does.
    pub fn translates(&self, out: &str) {
        self.does("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
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

impl Drop for Machine {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
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
