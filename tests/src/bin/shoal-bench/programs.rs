//! The other programs: which are here, and how each does the work.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use crate::{Result, measure::timed};

/// A seeder and a leecher of one torrent, each in a process of its own.
const LIBTORRENT: &str = include_str!("torrent.py");

/// Debian's, which `python3-libtorrent` is installed for.
const PYTHON: &str = "/usr/bin/python3";

/// What is installed.
pub(crate) struct Programs {
    pub(crate) floor: Option<PathBuf>,
    pub(crate) b3sum: bool,
    pub(crate) sendme: bool,
    pub(crate) libtorrent: bool,
}

impl Programs {
    /// Looks for them on the `PATH`.
    pub(crate) fn find(floor: Option<PathBuf>) -> Self {
        let says = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).stdin(Stdio::null());
            command.output().is_ok_and(|it| it.status.success())
        };
        Self {
            floor,
            b3sum: says("b3sum", &["--version"]),
            sendme: says("sendme", &["--version"]),
            libtorrent: says(PYTHON, &["-c", "import libtorrent"]) && says("mktorrent", &["-h"]),
        }
    }

    /// What is not measured, and what would change that.
    pub(crate) fn missing(&self) -> Vec<(&'static str, &'static str)> {
        let all = [
            ("the floor", "--floor PROGRAM", self.floor.is_some()),
            ("b3sum", "cargo install --locked b3sum", self.b3sum),
            ("sendme", "cargo install --locked sendme", self.sendme),
            (
                "libtorrent",
                "packages python3-libtorrent and mktorrent",
                self.libtorrent,
            ),
        ];
        let missing = all.into_iter().filter(|(.., is_here)| !is_here);
        missing.map(|(program, how, _)| (program, how)).collect()
    }
}

/// A process that is ended with its owner.
pub(crate) struct Serving {
    name: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Serving {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let stdout = BufReader::new(stdout);
        let name = command.get_program().display().to_string();
        Ok(Self {
            name,
            child,
            stdout,
        })
    }

    /// Waits for a line that `wanted` finds something in.
    pub(crate) fn line<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        let mut line = String::new();
        while self.stdout.read_line(&mut line)? > 0 {
            if let Some(found) = wanted(&line) {
                return Ok(found);
            }
            line.clear();
        }
        Err(format!("{} ended before it was ready", self.name).into())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end, and says how long it took.
pub(crate) fn run(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null());
    let (took, output) = timed(|| Ok(command.output()?))?;
    match output.status.success() {
        true => Ok(took),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Removes a file or a folder that may be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(entry) if entry.is_dir() => fs::remove_dir_all(path)?,
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    Ok(())
}

/// The floor: reads, encrypts, hashes and writes, and nothing else.
pub(crate) struct Floor<'a> {
    program: &'a Path,
    port: String,
    _server: Serving,
}

impl<'a> Floor<'a> {
    pub(crate) fn serve(program: &'a Path, file: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut server = Command::new(program);
        server.args([
            "server", "--sec", "tls", "--buf", "1048576", "--port", &port, "--in",
        ]);
        let mut server = Serving::start(server.arg(file))?;
        server.line(|_| Some(()))?;
        Ok(Self {
            program,
            port,
            _server: server,
        })
    }

    pub(crate) fn fetch(&self, mib: u64, out: &Path) -> Result<Duration> {
        let gib = (mib / 1024).to_string();
        let mut client = Command::new(self.program);
        client.args([
            "client", "--sec", "tls", "--buf", "1048576", "--hash", "--port", &self.port,
        ]);
        let took = run(client.args(["--gib", &gib, "--out"]).arg(out))?;
        remove(out)?;
        Ok(took)
    }
}

/// libtorrent: one seeder, and a leecher that starts anew each time.
pub(crate) struct Libtorrent {
    torrent: PathBuf,
    script: PathBuf,
    port: String,
    _seeder: Serving,
}

impl Libtorrent {
    pub(crate) fn serve(source: &Path, dir: &Path) -> Result<Self> {
        let torrent = dir.join("bench.torrent");
        let script = dir.join("torrent.py");
        fs::write(&script, LIBTORRENT)?;
        run(Command::new("mktorrent")
            .args(["-l", "22", "-o"])
            .arg(&torrent)
            .arg(source))?;
        let port = free_port()?;
        let mut seeder = Command::new(PYTHON);
        seeder.arg(&script).arg("seed").arg(&torrent).arg(&port);
        seeder.arg(source.parent().ok_or("a file in a folder")?);
        let mut seeder = Serving::start(&mut seeder)?;
        seeder.line(|line| line.contains("seeding").then_some(()))?;
        Ok(Self {
            torrent,
            script,
            port,
            _seeder: seeder,
        })
    }

    pub(crate) fn fetch(&self, out: &Path) -> Result<Duration> {
        fs::create_dir_all(out)?;
        let mut leecher = Command::new(PYTHON);
        leecher
            .arg(&self.script)
            .arg("leech")
            .arg(&self.torrent)
            .arg(&self.port);
        let took = run(leecher.arg(out))?;
        remove(out)?;
        Ok(took)
    }
}

/// sendme: imports what it sends each time it starts, so sharing and fetching are told apart.
pub(crate) struct Sendme {
    ticket: String,
    _sender: Serving,
    _dir: PathBuf,
}

impl Sendme {
    /// Starts to send, and says how long that took.
    pub(crate) fn share(source: &Path, dir: &Path) -> Result<(Duration, Self)> {
        remove(dir)?;
        fs::create_dir_all(dir)?;
        timed(|| {
            let mut sender = Command::new("sendme");
            sender.current_dir(dir).args(SENDME_SEND).arg(source);
            let mut sender = Serving::start(&mut sender)?;
            let word = |line: &str| {
                line.split_whitespace()
                    .find(|it| it.starts_with("blob"))?
                    .to_owned()
                    .into()
            };
            let ticket = sender.line(word)?;
            Ok(Self {
                ticket,
                _sender: sender,
                _dir: dir.to_owned(),
            })
        })
    }

    pub(crate) fn fetch(&self, out: &Path) -> Result<Duration> {
        let took = self.fetch_and_keep(out)?;
        remove(out)?;
        Ok(took)
    }

    pub(crate) fn fetch_and_keep(&self, out: &Path) -> Result<Duration> {
        fs::create_dir_all(out)?;
        let mut receiver = Command::new("sendme");
        run(receiver
            .current_dir(out)
            .args(SENDME_RECEIVE)
            .arg(&self.ticket))
    }
}

const SENDME_SEND: [&str; 6] = [
    "send",
    "--relay",
    "disabled",
    "--ticket-type",
    "addresses",
    "--no-progress",
];
const SENDME_RECEIVE: [&str; 4] = ["receive", "--relay", "disabled", "--no-progress"];

/// A port that nobody listens on now.
pub(crate) fn free_port() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port().to_string())
}
