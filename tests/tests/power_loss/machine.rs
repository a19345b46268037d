//! The machine that loses its power, and the network around it.

use std::{
    fs, io,
    io::{BufRead as _, BufReader},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::ChildStdout,
    sync::mpsc,
    thread,
};

use serde_json::Value;
use shoal_protocol::{
    address::{Cid, Digest},
    replicate::Key,
};
use shoal_tests::{
    DEADLINE, Daemon, Ran, command,
    http::metric,
    make_writable,
    peer::Blocks,
    remove_all, run, scratch, text,
    trace::{Traced, Watcher},
    wait_for, write_content,
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

/// Something that two have asked for, so that the machine keeps a part of it for others.
#[derive(Debug)]
pub(crate) struct Popular {
    pub(crate) root: Cid,
    pub(crate) blocks: Vec<Digest>,
}

/// So many: each makes room for the next.
const POPULAR: usize = 3;
/// Two runs of leaves, of which the machine keeps one.
const POPULAR_BYTES: usize = 5_300_000;
/// The machine's room for others.
pub(crate) const QUOTA_BYTES: u64 = 8 << 20;
/// Slow enough to be asked for what is fetched.
const SLOW: &str = "40mbit";

/// The machine with its disk, somebody to fetch from, and two who fetch from it.
pub(crate) struct Machine {
    pub(crate) origin: Daemon,
    pub(crate) reader: Daemon,
    other: Daemon,
    pub(crate) items: Vec<Item>,
    /// What is to be kept for others; the last is dropped in the end.
    pub(crate) popular: Vec<Popular>,
    /// When it loses its power, for whoever asks what happened.
    pub(crate) moment: String,
    /// Whether what it deals with is read-only and keeps its modes and times.
    pub(crate) read_only: bool,
    dir: TempDir,
}

/// The daemon on the machine, while it has power.
pub(crate) struct Running<W: Watcher> {
    traced: Traced<W>,
    /// Its address with its peer id.
    pub(crate) address: String,
    pub(crate) home: PathBuf,
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
    pub(crate) fn new(read_only: bool) -> Self {
        let dir = scratch();
        let origin = Daemon::start(&dir.path().join("origin"), &[]);
        let [reader, other] = ["reader", "other"].map(|name| {
            let home = dir.path().join(name);
            fs::create_dir(&home).unwrap();
            fs::write(home.join("config.toml"), "[replicas]\nquota = 'off'\n").unwrap();
            Daemon::start(&home, &[])
        });
        let machine = Self {
            origin,
            reader,
            other,
            items: Vec::new(),
            popular: Vec::new(),
            moment: String::new(),
            read_only,
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
        if self.disk().exists() {
            remove_all(&self.disk());
        }
        fs::create_dir(self.disk()).unwrap();
    }

    /// Makes all of it removable by anybody.
    pub(crate) fn make_removable(&self) {
        make_writable(self.dir.path());
    }

    /// Starts the daemon, whose calls `watcher` is told of.
    pub(crate) fn start<W: Watcher>(&self, watcher: W) -> io::Result<Running<W>> {
        let home = self.disk().join("home");
        let args = ["daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
        let bootstrap = ["--bootstrap", &self.origin.address];
        let mut command = command(&home, &[&args[..], &bootstrap].concat());
        command.env("SHOAL_REPLICAS_WARMUP", "0s");
        command.env("SHOAL_REPLICAS_QUOTA", format!("{QUOTA_BYTES}B"));
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
        self.keep_for_others(&running);
        Ok(running.cut().0)
    }

    /// Has the daemon keep parts of what others ask for, one after the other, and drop the last.
    fn keep_for_others(&mut self, running: &Running<Recorder>) {
        let askers = [&self.reader, &self.other];
        for asker in askers {
            asker.run(&["limits", "--down", SLOW]).ok();
            asker.run(&["connect", &running.address]).ok();
            asker.wait_for_helpers(1);
        }
        for index in 0..POPULAR {
            let original = self.aside(&format!("popular/{index}"));
            write_content(&original, &format!("popular {index}"), POPULAR_BYTES);
            let shared = self.origin.share(&original);
            let link = shared["link"].as_str().unwrap();
            let got = self.aside("got");
            for asker in askers {
                asker
                    .run(&["fetch", link, "--no-serve", "-o", text(&got)])
                    .ok();
                remove_all(&got);
            }
            wait_for("it pulls its part", || {
                let name = "shoal_replica_pulls_ended_total{outcome=\"complete\"}";
                (metric(&running.home, name)? == index as u64 + 1).then_some(())
            });
            let mut blocks = Blocks::default();
            let root = blocks.path(&original).unwrap();
            let blocks = blocks.digests();
            self.popular.push(Popular { root, blocks });
        }
        let key = self.popular[POPULAR - 1].key();
        running.run(&["replicas", "drop", &key]).ok();
        for asker in askers {
            asker.run(&["limits", "--down", "off"]).ok();
        }
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
        if self.read_only {
            make_read_only(&original);
        }
        let share: &[&str] = match self.read_only {
            true => &["share", "--preserve", "mode,mtime"],
            false => &["share"],
        };
        let share = [share, &[text(&original)]].concat();
        let landed = self.landed();
        let (done, path) = match deed {
            Deed::Share | Deed::ShareAndUnshare => (running.run(&share).ok(), original.clone()),
            Deed::Copy => {
                let done = running.run(&[&share[..], &["--copy"]].concat()).ok();
                (done, original.clone())
            }
            Deed::Fetch | Deed::FetchSynced => {
                let shared = self.origin.run(&share).ok();
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

impl Popular {
    /// The key by which the machine knows it.
    pub(crate) fn key(&self) -> String {
        Key::of(&self.root.digest().unwrap()).to_string()
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

/// Puts a link beside what lies in a folder, and takes the permission to write away from all of it.
fn make_read_only(path: &Path) {
    let mut mode = 0o444;
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        entries.for_each(|entry| make_read_only(&entry.unwrap().path()));
        symlink("large", path.join("link")).unwrap();
        mode = 0o555;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
