//! The machine that loses its power, and the network around it.

use std::{
    fs, io,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::ChildStdout,
    sync::mpsc,
    thread,
};

use serde_json::Value;
use shoal_tests::{
    DEADLINE, Daemon, Ran, command, run, scratch, text,
    trace::{Traced, Watcher},
    write_content,
};
use tempfile::TempDir;

use crate::{log::Log, recorder::Recorder};

/// What the machine was asked to do with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Share,
    Copy,
    ShareAndUnshare,
    Fetch,
    FetchSynced,
}

/// Something that the machine deals with.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) deed: Deed,
    pub(crate) cid: String,
    /// What it was made of; not on the disk that loses anything.
    pub(crate) original: PathBuf,
    /// Where the machine has it.
    pub(crate) path: PathBuf,
}

/// The machine with its disk, somebody to fetch from, and somebody who fetches from it.
pub(crate) struct Machine {
    pub(crate) origin: Daemon,
    pub(crate) reader: Daemon,
    pub(crate) items: Vec<Item>,
    /// When it loses its power, for whoever asks what happened.
    pub(crate) moment: String,
    dir: TempDir,
}

/// The daemon on the machine, while it has power.
pub(crate) struct Running<W: Watcher> {
    traced: Traced<W>,
    /// Its address with its peer id.
    pub(crate) address: String,
    home: PathBuf,
}

impl<W: Watcher> Running<W> {
    /// Runs a command against it.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(&self.home, args)
    }

    /// The machine loses its power; what happens to the disk is another question.
    pub(crate) fn cut(self) -> W {
        self.traced.kill()
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
        let dir = scratch();
        let origin = Daemon::start(&dir.path().join("origin"), &[]);
        let reader = Daemon::start(&dir.path().join("reader"), &[]);
        let machine = Self {
            origin,
            reader,
            items: Vec::new(),
            moment: String::new(),
            dir,
        };
        machine.clear();
        machine
    }

    /// All that a power loss may take.
    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// A place that no power loss touches.
    pub(crate) fn aside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where its fetches land.
    pub(crate) fn landed(&self) -> PathBuf {
        self.disk().join("landed")
    }

    /// Takes the whole disk away and gives an empty one.
    pub(crate) fn clear(&self) {
        match fs::remove_dir_all(self.disk()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
            _ => fs::create_dir(self.disk()).unwrap(),
        }
    }

    /// Starts the daemon, whose calls `watcher` is told of.
    pub(crate) fn start<W: Watcher>(&self, watcher: W) -> io::Result<Running<W>> {
        let home = self.disk().join("home");
        let args = ["daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
        let bootstrap = ["--bootstrap", &self.origin.address];
        let command = command(&home, &[&args[..], &bootstrap].concat());
        let log = self.aside("daemon.log");
        let (traced, stdout) = Traced::start(&command, &log, watcher)?;
        let line = first_line(stdout);
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let address = ready["listen"][0].as_str();
        let Some(address) = address else {
            let log = fs::read_to_string(log).unwrap();
            panic!("the daemon is not ready, it says {line:?}:\n{log}");
        };
        Ok(Running {
            traced,
            address: address.to_owned(),
            home,
        })
    }

    /// Has the daemon do everything, on an empty disk, and records what it does to that.
    pub(crate) fn record(&mut self) -> io::Result<Log> {
        fs::create_dir(self.landed()).unwrap();
        let mut log = Log::new(&self.disk());
        log.made_by_us(&self.landed());
        let running = self.start(Recorder(log))?;
        for (index, deed) in [
            Deed::Share,
            Deed::Fetch,
            Deed::Copy,
            Deed::ShareAndUnshare,
            Deed::FetchSynced,
            Deed::Fetch,
            Deed::Share,
        ]
        .into_iter()
        .enumerate()
        {
            let item = self.deal(&running, deed, index);
            self.items.push(item);
        }
        Ok(running.cut().0)
    }

    /// Has the daemon do one thing.
    fn deal(&self, running: &Running<Recorder>, deed: Deed, index: usize) -> Item {
        let original = self.aside(&format!("originals/{index}"));
        if index.is_multiple_of(2) {
            for (name, bytes) in [("large", 2_500_000), ("small", 10), ("sub/other", 70_000)] {
                write_content(&original.join(name), &format!("{index} {name}"), bytes);
            }
        } else {
            write_content(&original, &index.to_string(), 5_300_000);
        }
        let share = ["share", text(&original)];
        let landed = self.landed();
        let (done, path) = match deed {
            Deed::Share | Deed::ShareAndUnshare => (running.run(&share).ok(), original.clone()),
            Deed::Copy => {
                let done = running.run(&[&share[..], &["--copy"]].concat()).ok();
                (done, original.clone())
            }
            Deed::Fetch | Deed::FetchSynced => {
                let shared = self.origin.share(&original);
                let link = shared["link"].as_str().unwrap();
                let fetch = ["fetch", link, "-o", text(&landed), "--sync"];
                let end = if deed == Deed::Fetch { 4 } else { 5 };
                let done = running.run(&fetch[..end]).ok();
                (done, landed.join(index.to_string()))
            }
        };
        if deed == Deed::ShareAndUnshare {
            running.run(&["unshare", text(&original)]).ok();
        }
        Item {
            deed,
            cid: done["cid"].as_str().unwrap().to_owned(),
            original,
            path,
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            self.dir.disable_cleanup(true);
            let kept = self.dir.path().display().to_string();
            crate::say(&format!("{}: everything is kept in {kept}", self.moment));
        }
    }
}

/// The first line that a process prints; nothing when it ends before that.
fn first_line(stdout: ChildStdout) -> String {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The thread keeps the pipe open and empty for as long as the process lives.
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines();
        if let Some(Ok(line)) = lines.next() {
            let _ = sender.send(line);
        }
        lines.for_each(drop);
    });
    receiver.recv_timeout(DEADLINE).unwrap_or_default()
}

/// Takes away a file or a folder.
pub(crate) fn remove(path: &Path) {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.unwrap();
}
