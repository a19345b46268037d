//! A machine that is a network namespace of this one, with lines and routes of its own.
//!
//! A [`Machine`] lives as long as the process that holds its namespace. That process ends when the
//! machine is dropped and, by itself, when this program is gone. Nothing in a machine reaches
//! anything but the machines that it was tied to. Namespaces need root: ask [`are_here`] first.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// Has a namespace with a loopback interface and says so; the holder then waits for its own end:
/// that of its input, which this program holds.
const HOLD: &str = "ip link set lo up && echo held && exec cat";

/// Whether this program may make machines.
///
/// # Errors
/// Why not, and what to do about it.
pub fn are_here() -> io::Result<()> {
    let made = Command::new("unshare").args(["-n", "ip", "link"]).output();
    if made.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    Err(io::Error::other(
        "no network namespaces here: run as root, with the programs `unshare` and `ip`",
    ))
}

/// Whether a machine can be a router that translates addresses.
///
/// # Errors
/// Why not, and what to do about it.
pub fn translate_here() -> io::Result<()> {
    are_here()?;
    let machine = Machine::new()?;
    for (program, words) in [
        ("nft", ["list", "ruleset"].as_slice()),
        ("conntrack", &["-L"]),
    ] {
        if machine.does(program, words).is_err() {
            return Err(io::Error::other(format!(
                "no address translation here: `{program}` does not work; install the packages \
                 nftables and conntrack"
            )));
        }
    }
    Ok(())
}

/// A machine with nothing but a loopback interface at first.
#[derive(Debug)]
pub struct Machine {
    holder: Child,
}

impl Machine {
    /// Makes a new one.
    ///
    /// # Errors
    /// When there are no namespaces: see [`are_here`].
    pub fn new() -> io::Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["-n", "sh", "-c", HOLD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = holder.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        // From here on the holder ends with the machine, whatever goes wrong.
        let machine = Self { holder };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        match line.as_str() {
            "held\n" => Ok(machine),
            _ => Err(io::Error::other("a network namespace could not be made")),
        }
    }

    /// The file that names its namespace, for `setns`.
    #[must_use]
    pub fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// A command that runs in this machine, without input.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.holder.id().to_string(), "-n", "--"])
            .arg(program.as_ref())
            .stdin(Stdio::null());
        command
    }

    /// Runs a program with these words, in this machine.
    ///
    /// # Errors
    /// When it does not run or fails, with what it said.
    pub fn does(&self, program: &str, words: &[&str]) -> io::Result<()> {
        let output = self.command(program).args(words).output()?;
        succeeded(&format!("{program} {}", words.join(" ")), &output)
    }

    /// Runs `ip` with these words, in this machine.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn ip(&self, words: &str) -> io::Result<()> {
        self.does("ip", &words.split(' ').collect::<Vec<_>>())
    }

    /// Replaces all rules for packets by these, in the language of `nft`, and forgets every
    /// connection that was translated by the rules before.
    ///
    /// # Errors
    /// When `nft` refuses them or `conntrack` fails, with what it said.
    pub fn rules(&self, rules: &str) -> io::Result<()> {
        let mut nft = self
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = nft.stdin.take() {
            stdin.write_all(rules.as_bytes())?;
        }
        succeeded("nft -f -", &nft.wait_with_output()?)?;
        self.does("conntrack", &["-F"])
    }

    /// Has it pass packets on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn forwards(&self) -> io::Result<()> {
        self.does("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    }

    /// Adds a bridge without addresses.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn bridge(&self, name: &str) -> io::Result<()> {
        self.ip(&format!("link add {name} type bridge"))?;
        self.ip(&format!("link set {name} up"))
    }

    /// Lays a line to another machine, `name` here and `far_name` there, without addresses.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn tie(&self, name: &str, other: &Self, far_name: &str) -> io::Result<()> {
        let pid = other.holder.id();
        self.ip(&format!(
            "link add {name} type veth peer name {far_name} netns {pid}"
        ))?;
        self.ip(&format!("link set {name} up"))?;
        other.ip(&format!("link set {far_name} up"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn succeeded(what: &str, output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "`{what}` failed: {}",
        said.trim()
    )))
}
