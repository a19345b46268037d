//! What the crash loop plays with: daemons, what was acknowledged by them, and what has to hold
//! after each of their deaths.

use std::{
    collections::HashSet,
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use serde_json::Value;
use shoal_protocol::{address::Cid, replicate::Key};
use shoal_tests::{
    Daemon, allocated_bytes, assert_same_attributes, assert_same_tree, command, dice::Dice, http,
    make_writable, remove_all, scratch, text, write_content,
};
use tempfile::TempDir;

use crate::kill::Running;

/// Names the folder that fetches land in, where that is to be another disk.
pub(crate) const LANDED: &str = "SHOAL_SOAK_LANDED";

/// What is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Files and folders as they come.
    Plain,
    /// Read-only and private ones and symlinks, which keep their modes and times.
    ReadOnly,
    /// The same without symlinks, fetched to where modes and times are not kept.
    ReadOnlyToFat,
}

impl Kind {
    /// The command that shares it.
    pub(crate) fn share(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["share"],
            Self::ReadOnly | Self::ReadOnlyToFat => &["share", "--preserve", "mode,mtime"],
        }
    }
}

/// What is shared at a time; older shares make room.
const SHARED_MAX: usize = 6;

/// What a home holds besides its database, whose files are RocksDB's own, and its copies.
const HOME_FILES: [&str; 8] = [
    "api.sock",
    "config.toml",
    "daemon.lock",
    "db",
    "identity.key",
    "log",
    "replicas",
    "shares.register",
];
const COPIES: &str = "copies";

/// A helper keeps a few runs of leaves for others, so that each makes room for the next.
pub(crate) const QUOTA_BYTES: u64 = 16 << 20;
/// The others help nobody, however long they run; and they fetch slowly enough to be asked for what
/// they fetch.
const NO_HELP: &str = "[replicas]\nquota = 'off'\n[limits]\ndown = '160mbit'\n";

/// A node whose daemon dies and comes back, always at the same address.
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    home: PathBuf,
    options: Vec<String>,
    /// What it has to offer: acknowledged, and not taken back since.
    pub(crate) offers: Vec<Offer>,
    /// What it may offer besides: asked for by a command that its death cut off.
    pub(crate) in_doubt: Option<PathBuf>,
}

/// Something that a node shares: shared from there, or landed there.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) cid: String,
    pub(crate) link: String,
    pub(crate) path: PathBuf,
    /// What it was made of, never written to.
    pub(crate) original: PathBuf,
    pub(crate) bytes: u64,
}

impl Offer {
    /// The key by which helpers know it.
    fn key(&self) -> String {
        let root: Cid = self.cid.parse().expect("a cid");
        Key::of(&root.digest().expect("a digest")).to_string()
    }
}

impl Node {
    fn start(home: PathBuf, config: &str, bootstrap: &[&Node]) -> Self {
        fs::create_dir(&home).expect("a home");
        fs::write(home.join("config.toml"), config).expect("a configuration");
        let mut options = vec![
            "--no-mdns".into(),
            "--listen".into(),
            format!("/ip4/127.0.0.1/tcp/{}", free_port()),
        ];
        for node in bootstrap {
            options.extend(["--bootstrap".into(), node.daemon.address.clone()]);
        }
        Self {
            daemon: Daemon::start_with(&home, options.clone()),
            home,
            options,
            offers: Vec::new(),
            in_doubt: None,
        }
    }

    /// Starts its daemon again after it was killed.
    pub(crate) fn restart(&mut self) {
        self.daemon = Daemon::start_with(&self.home, self.options.clone());
    }

    /// Begins a command against this node.
    pub(crate) fn begin(&self, args: &[&str]) -> Running {
        Running::start(command(&self.home, args))
    }

    /// Asks its daemon, whichever runs.
    pub(crate) fn watch(&self) -> Watch {
        Watch(self.home.clone())
    }

    /// Checks everything that has to hold after a restart.
    pub(crate) fn check(&self) {
        self.check_listed();
        let verified = self.daemon.run(&["verify"]);
        assert_eq!(
            verified.code,
            Some(0),
            "something is not what it says: {verified:?}"
        );
        self.check_collected();
        self.check_home();
    }

    /// Everything acknowledged is offered, and nothing that nobody asked for.
    fn check_listed(&self) {
        let listed = self.daemon.run(&["ls"]).ok();
        let listed = listed["entries"].as_array().expect("entries");
        for offer in &self.offers {
            let entry = listed.iter().find(|it| it["path"] == text(&offer.path));
            let entry = entry.unwrap_or_else(|| panic!("{offer:?} is lost: {listed:?}"));
            assert_eq!(entry["cid"], offer.cid.as_str(), "{entry}");
            assert_eq!(entry["state"], "ok", "{entry}");
        }
        for entry in listed {
            let path = entry["path"].as_str().expect("a path");
            let may_be = self.offers.iter().map(|it| &it.path).chain(&self.in_doubt);
            // A share that is copied is listed where it was copied from.
            let known = may_be.into_iter().any(|it| text(it) == path);
            assert!(known, "nobody has asked for {entry}");
        }
    }

    /// What belongs to nobody is found once and then is gone.
    fn check_collected(&self) {
        self.daemon.run(&["gc"]).ok();
        let again = self.daemon.run(&["gc"]).ok();
        for field in ["shares", "rows", "blocks", "copies"] {
            assert_eq!(again[field], 0, "{field} are found again: {again}");
        }
    }

    /// Nothing lies in the home that a crash has left.
    fn check_home(&self) {
        for entry in fs::read_dir(&self.home).expect("a home") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_string_lossy();
            let known = HOME_FILES.contains(&&*name) || name == COPIES;
            assert!(known, "{name} is left in the home");
        }
    }

    /// Bytes of the disk that what it keeps for others takes.
    pub(crate) fn replica_bytes(&self) -> u64 {
        allocated_bytes(&self.home.join("replicas"))
    }

    /// Drops what it keeps for others, of which nothing lies about then.
    pub(crate) fn drop_replicas(&self) {
        self.daemon.run(&["replicas", "drop"]).ok();
        assert_eq!(self.replica_bytes(), 0, "bytes that nothing accounts for");
    }

    /// How many copies lie in the home.
    pub(crate) fn copies(&self) -> usize {
        fs::read_dir(self.home.join(COPIES)).map_or(0, Iterator::count)
    }
}

/// Who looks at a node while something else has it.
pub(crate) struct Watch(PathBuf);

impl Watch {
    /// A number among its metrics, which must run.
    pub(crate) fn number(&self, name: &str) -> u64 {
        http::metric(&self.0, name).unwrap_or(0)
    }

    /// The transfer to `path`, as the daemon lists it, which must run.
    pub(crate) fn transfer(&self, path: &Path) -> Option<Value> {
        let answer = http::ask(&self.0, "GET", "/api/v1/transfers", None);
        let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let mut listed = answer["transfers"].as_array()?.iter();
        listed.find(|it| it["path"] == text(path)).cloned()
    }
}

/// All nodes, and what they were given.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) sharer: Node,
    pub(crate) fetcher: Node,
    /// Keeps for others what the fetcher and the reader have asked for.
    pub(crate) helper: Node,
    /// Never killed; asks the others for what they say they have.
    pub(crate) reader: Node,
    pub(crate) kind: Kind,
    made: u64,
    copied: HashSet<PathBuf>,
    /// Where the fetcher's fetches land.
    landed: PathBuf,
    dir: TempDir,
}

impl World {
    pub(crate) fn new(seed: u64, kind: Kind) -> Self {
        let dir = scratch();
        let start = |name: &str, config: &str, bootstrap: &[&Node]| {
            Node::start(dir.path().join(name), config, bootstrap)
        };
        let helps = format!("[replicas]\nwarmup = '0s'\nquota = '{QUOTA_BYTES}B'\n");
        let helper = start("helper", &helps, &[]);
        let sharer = start("sharer", NO_HELP, &[&helper]);
        let fetcher = start("fetcher", NO_HELP, &[&sharer, &helper]);
        let reader = start("reader", NO_HELP, &[&sharer, &helper]);
        let landed = match std::env::var_os(LANDED) {
            Some(landed) => landed.into(),
            None => dir.path().join("landed"),
        };
        for folder in [
            &dir.path().join("shared"),
            &landed,
            &dir.path().join("read"),
        ] {
            fs::create_dir_all(folder).expect("a folder");
        }
        Self {
            dice: Dice::new(seed, "crash loop"),
            sharer,
            fetcher,
            helper,
            reader,
            kind,
            made: 0,
            landed,
            copied: HashSet::new(),
            dir,
        }
    }

    /// Makes something new to share, a file or a folder, and says how many bytes it has.
    pub(crate) fn make(&mut self) -> (PathBuf, u64) {
        self.made += 1;
        let path = self.dir.path().join(format!("shared/{}", self.made));
        let write = |path: &Path, bytes: u64| {
            let seed = format!("{} {}", self.made, path.display());
            write_content(path, &seed, usize::try_from(bytes).expect("small"));
            bytes
        };
        let large = (6 + self.dice.below(18)) << 20;
        if self.dice.one_in(2) {
            let bytes = write(&path, large + self.dice.below(1000));
            self.protect(&path);
            return (path, bytes);
        }
        let mut bytes = write(&path.join("large"), large / 2);
        for index in 0..200 + self.dice.below(400) {
            let name = format!("{}/{index}", index % 7);
            bytes += write(&path.join(name), self.dice.below(3000));
        }
        if self.kind == Kind::ReadOnly {
            symlink("large", path.join("link")).expect("a symlink");
            symlink("../large", path.join("0/link")).expect("a symlink");
        }
        self.protect(&path);
        (path, bytes)
    }

    /// Takes permissions away from what lies at and below `path`, from the inside out.
    fn protect(&mut self, path: &Path) {
        let found = path.symlink_metadata().expect("an entry");
        if self.kind == Kind::Plain || found.is_symlink() {
            return;
        }
        let modes = match found.is_dir() {
            true => [0o555, 0o500, 0o700, 0o755],
            false => [0o444, 0o400, 0o600, 0o644],
        };
        if found.is_dir() {
            let entries = fs::read_dir(path).expect("a folder");
            let mut below: Vec<_> = entries.map(|it| it.expect("an entry").path()).collect();
            // So that the choices of a seed are the same.
            below.sort();
            below.iter().for_each(|below| self.protect(below));
        }
        let mode = fs::Permissions::from_mode(self.dice.pick(&modes));
        fs::set_permissions(path, mode).expect("our file");
    }

    /// What has landed is what it was made of, with its modes and times where the disk keeps those.
    pub(crate) fn assert_landed(&self, original: &Path, got: &Path) {
        assert_same_tree(original, got);
        if self.kind == Kind::ReadOnly {
            assert_same_attributes(original, got);
        }
    }

    /// Makes all that was shared and has landed removable by anybody.
    pub(crate) fn make_removable(&self) {
        make_writable(self.dir.path());
        make_writable(&self.landed);
    }

    /// Has the sharer share something new, undisturbed.
    pub(crate) fn share_new(&mut self) -> Offer {
        let (path, bytes) = self.make();
        let args = [self.kind.share(), &[text(&path)]].concat();
        let shared = self.sharer.daemon.run(&args).ok();
        self.shared(path, bytes, &shared)
    }

    /// Notes what the sharer has acknowledged.
    pub(crate) fn shared(&mut self, path: PathBuf, bytes: u64, shared: &Value) -> Offer {
        let offer = Offer {
            cid: shared["cid"].as_str().expect("a cid").to_owned(),
            link: shared["link"].as_str().expect("a link").to_owned(),
            original: path.clone(),
            path,
            bytes,
        };
        self.sharer.offers.retain(|it| it.path != offer.path);
        self.sharer.offers.push(offer.clone());
        offer
    }

    /// Notes that the share of `path` is a copy.
    pub(crate) fn is_copied(&mut self, path: &Path) {
        self.copied.insert(path.to_owned());
    }

    /// Where a fetch of `offer` lands.
    pub(crate) fn landing(&self, offer: &Offer) -> PathBuf {
        let name = offer.path.file_name().expect("a name");
        self.landed.join(name)
    }

    /// Checks one node after its restart, and that it serves one of its offers.
    pub(crate) fn check(&mut self, who: fn(&Self) -> &Node) {
        who(self).check();
        let copied = who(self).offers.iter();
        let copied = copied.filter(|it| self.copied.contains(&it.path)).count();
        let copies = who(self).copies();
        // A copy in doubt may be there or not.
        assert!(
            copies.abs_diff(copied) <= 1,
            "{copies} copies, {copied} shared"
        );
        let offers = who(self).offers.len();
        if offers > 0 {
            let index = self.dice.index(offers);
            self.read(who(self), &who(self).offers[index]);
        }
    }

    /// Checks the helper after its restart: it keeps no more than it may, and what it says it keeps is
    /// there, whole and served.
    pub(crate) fn check_helper(&self) {
        let helper = &self.helper;
        helper.check();
        let kept = helper.daemon.run(&["replicas", "ls"]).ok();
        for replica in kept["replicas"].as_array().expect("replicas") {
            let key = replica["key"].as_str().expect("a key");
            let offer = self.sharer.offers.iter().find(|it| it.key() == key);
            if let Some(offer) = offer {
                self.read(helper, offer);
            }
        }
        let stats = helper.daemon.run(&["replicas", "stats"]).ok();
        assert_eq!(stats["damaged"], 0, "{stats}");
        assert!(
            stats["bytes"].as_u64().expect("bytes") <= QUOTA_BYTES,
            "{stats}"
        );
    }

    /// Waits until the fetcher and the reader ask the helper.
    pub(crate) fn wait_until_near(&self) {
        for asker in [&self.fetcher, &self.reader] {
            asker.daemon.wait_for_helpers(1);
        }
    }

    /// A fetch that keeps nothing, to a place that is to be forgotten.
    pub(crate) fn passing(&self, offer: &Offer) -> (Vec<String>, PathBuf) {
        let to = self.dir.path().join("read/passing");
        let args = ["fetch", &offer.cid, "--no-serve", "-o", text(&to)];
        (args.map(str::to_owned).to_vec(), to)
    }

    /// Fetches an offer of `node` and compares it with its original.
    fn read(&self, node: &Node, offer: &Offer) {
        let to = self.dir.path().join("read/it");
        let address = &node.daemon.address;
        let args = ["fetch", &offer.cid, "--peer", address, "--no-serve", "-o"];
        let args = [&args[..], &[text(&to)]].concat();
        self.reader.daemon.run(&args).ok();
        assert_same_tree(&offer.original, &to);
        remove_all(&to);
    }

    /// No part and nothing else that nobody asked for lies beside what has landed.
    pub(crate) fn check_landed(&self) {
        for entry in fs::read_dir(&self.landed).expect("a folder") {
            let path = entry.expect("an entry").path();
            let known = self.fetcher.offers.iter().any(|it| it.path == path);
            assert!(known, "{} is left", path.display());
        }
    }

    /// Takes back what is oldest, until there is room.
    pub(crate) fn make_room(&mut self) {
        for node in [&mut self.sharer, &mut self.fetcher] {
            while node.offers.len() > SHARED_MAX {
                let oldest = node.offers.remove(0);
                node.daemon.run(&["unshare", text(&oldest.path)]).ok();
                if oldest.path != oldest.original {
                    remove_all(&oldest.path);
                }
            }
        }
    }

    /// The end of a loop that went well: everything that is offered is served.
    pub(crate) fn check_all(&mut self) {
        self.check_helper();
        self.helper.drop_replicas();
        for node in [&self.sharer, &self.fetcher] {
            node.check();
            for offer in &node.offers {
                self.read(node, offer);
            }
        }
        self.check_landed();
        let transfers = self.fetcher.daemon.run(&["status"]).ok()["transfers"].clone();
        assert_eq!(transfers, Value::Array(Vec::new()), "all are done");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            crate::say(&format!(
                "everything is kept in {}",
                self.dir.path().display()
            ));
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
