//! What has to hold once the power is back.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;
use shoal_tests::{
    allocated_bytes, asker::Asker, assert_same_tree, dice::Dice, is_same_tree, remove_all, text,
};

use crate::{
    disk::{Disk, Loss},
    machine::{Deed, Item, Machine, Popular, QUOTA_BYTES, Running},
    pretender::Pretender,
    recorder::DROPPED,
};

/// What there was after a power loss.
#[derive(Default)]
pub(crate) struct Found {
    /// Items that had to be there, and were.
    promised: u64,
    /// Items that were served, and right.
    served: u64,
    /// Items that were not as they should be, and said to be so.
    damaged: u64,
    /// Bytes that had to be fetched again.
    fetched_bytes: u64,
    /// Blocks that were kept for others, and served.
    kept_blocks: usize,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            promised,
            served,
            damaged,
            fetched_bytes,
            kept_blocks,
        } = self;
        write!(
            f,
            "{promised} promised, {served} served, {damaged} damaged, {kept_blocks} kept for others, "
        )?;
        write!(f, "{} KiB fetched again", fetched_bytes / 1024)
    }
}

/// The daemon on a disk that has lost something.
pub(crate) struct After<'a> {
    machine: &'a Machine,
    running: Running<Pretender>,
    /// What clients had been told.
    told: Vec<&'a str>,
}

impl<'a> After<'a> {
    /// Builds the disk and starts the daemon on it, which must come up whatever is there.
    pub(crate) fn begin(
        machine: &'a Machine,
        disk: &Disk<'_>,
        told: Vec<&'a str>,
        loss: Loss,
        dice: &mut Dice,
    ) -> Self {
        // Who reads shall get it from the machine, and nothing shall mend itself meanwhile.
        machine.origin.signal(Signal::STOP);
        machine.clear();
        let files = disk.build(&machine.disk());
        let boot = match loss {
            Loss::None => fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap(),
            _ => format!("{:08x}-0000-4000-8000-000000000000\n", dice.below(1 << 32)),
        };
        let running = machine.start(Pretender { files, boot });
        Self {
            machine,
            running: running.unwrap(),
            told,
        }
    }

    /// Checks it, and says what there was.
    pub(crate) fn check(self) -> Found {
        let mut found = Found::default();
        let listed = self.listed();
        for entry in &listed {
            let mut items = self.machine.items.iter();
            let is_known = items.any(|it| entry["path"] == text(&it.path));
            assert!(is_known, "nobody has asked for {entry}");
        }
        for item in &self.machine.items {
            let entry = listed.iter().find(|it| it["path"] == text(&item.path));
            self.check_listed(item, entry);
            found.promised += u64::from(self.is_promised(item));
            if entry.is_some_and(|entry| entry["state"] == "ok") {
                found.served += u64::from(self.check_served(item));
            }
        }
        self.check_verified();
        found.kept_blocks = self.check_kept_for_others();
        found.damaged = self.check_damage_is_said();
        self.machine.origin.signal(Signal::CONT);
        self.check_fetched_again();
        self.check_landed();
        let status = self.running.run(&["status"]).ok();
        found.fetched_bytes = status["downloaded_bytes"].as_u64().unwrap();
        self.running.run(&["gc"]).ok();
        let again = self.running.run(&["gc"]).ok();
        for field in ["shares", "rows", "blocks", "copies"] {
            assert_eq!(again[field], 0, "{field} are found again: {again}");
        }
        self.running.cut();
        found
    }

    fn listed(&self) -> Vec<Value> {
        let mut listed = self.running.run(&["ls"]).ok();
        let Value::Array(listed) = listed["entries"].take() else {
            panic!("no list: {listed}");
        };
        listed
    }

    /// Whether a client was told that something is done with an item.
    fn was_told(&self, item: &Item, what: &str) -> bool {
        let mut told = self.told.iter();
        told.any(|line| line.contains(what) && line.contains(&item.cid))
    }

    /// Whether an item has to be here, whatever else is lost.
    fn is_promised(&self, item: &Item) -> bool {
        let durable = matches!(item.deed, Deed::Share | Deed::Copy | Deed::FetchSynced);
        durable && self.was_told(item, "done")
    }

    fn check_listed(&self, item: &Item, entry: Option<&Value>) {
        if self.is_promised(item) {
            let entry = entry.unwrap_or_else(|| panic!("{item:?} is lost"));
            assert_eq!(entry["state"], "ok", "{item:?}: {entry}");
        }
        if item.deed == Deed::ShareAndUnshare && self.was_told(item, "removed") {
            assert!(entry.is_none(), "{item:?} is back");
        }
        if let Some(entry) = entry {
            assert_eq!(entry["cid"], item.cid.as_str(), "{item:?}");
        }
    }

    /// What is offered is right, or found not to be when somebody asks for it.
    fn check_served(&self, item: &Item) -> bool {
        let to = self.machine.aside("read");
        let address = &self.running.address;
        let args = ["fetch", &item.cid, "--peer", address, "--no-serve"];
        let limits = ["--timeout", "2s", "--patience", "2s"];
        let args = [&args[..], &limits, &["-o", text(&to)]].concat();
        let read = self.machine.reader.run(&args);
        if read.code == Some(0) {
            assert_same_tree(&item.original, &to);
            remove_all(&to);
            return true;
        }
        assert!(!self.is_promised(item), "{item:?} is not served: {read:?}");
        assert_ne!(read.code, Some(5), "{item:?} is served wrong: {read:?}");
        let listed = self.listed();
        let entry = listed.iter().find(|it| it["path"] == text(&item.path));
        let is_said = entry.is_none_or(|entry| entry["state"] == "changed");
        assert!(is_said, "{item:?} is not served and not said to be damaged");
        false
    }

    /// What is kept for others is right, within its quota, and gone where it was dropped; nothing of it
    /// lies about when all is dropped. How many blocks of it there are.
    fn check_kept_for_others(&self) -> usize {
        let kept = self.running.run(&["replicas", "ls"]).ok();
        let kept = kept["replicas"].as_array().unwrap();
        let is_kept = |it: &Popular| kept.iter().any(|kept| kept["key"] == it.key().as_str());
        let mut blocks = 0;
        if let Some(last) = self.machine.popular.last() {
            let was_dropped = self.told.iter().any(|line| line.starts_with(DROPPED));
            assert!(!was_dropped || !is_kept(last), "what was dropped is back");
        }
        let asker = Asker::start();
        for popular in self.machine.popular.iter().filter(|it| is_kept(it)) {
            let asked = asker.ask(&self.running.address, &popular.root, &popular.blocks);
            assert_eq!(asked.wrong, 0, "wrong blocks of {popular:?}");
            blocks += asked.sent.len();
        }
        let stats = self.running.run(&["replicas", "stats"]).ok();
        assert!(stats["bytes"].as_u64().unwrap() <= QUOTA_BYTES, "{stats}");
        self.running.run(&["replicas", "drop"]).ok();
        assert_eq!(allocated_bytes(&self.running.home.join("replicas")), 0);
        blocks
    }

    /// All but what a fetch had not flushed is intact.
    fn check_verified(&self) {
        let verified = self.running.run(&["verify"]);
        if verified.code == Some(0) {
            return;
        }
        verified.fails(5, "integrity");
        for share in verified.json["shares"].as_array().unwrap() {
            let item = self
                .machine
                .items
                .iter()
                .find(|it| share["cid"] == it.cid.as_str());
            let item = item.unwrap_or_else(|| panic!("nobody has asked for {share}"));
            let found = ["changed", "unreadable", "damaged_blocks"].map(|it| &share[it]);
            let is_whole = found.iter().all(|it| **it == 0);
            assert!(is_whole || !self.is_promised(item), "{item:?}: {share}");
        }
    }

    /// What has its final name is whole, or the daemon knows that it is not.
    fn check_damage_is_said(&self) -> u64 {
        let mut damaged = 0;
        let (listed, status) = (self.listed(), self.running.run(&["status"]).ok());
        let transfers = self.running.run(&["transfers"]).ok();
        for item in &self.machine.items {
            if !matches!(item.deed, Deed::Fetch | Deed::FetchSynced) || !item.path.exists() {
                continue;
            }
            if is_same_tree(&item.original, &item.path) {
                continue;
            }
            let mut known = listed
                .iter()
                .chain(transfers["transfers"].as_array().unwrap());
            let is_known = known.any(|it| it["path"] == text(&item.path) && it["state"] != "ok");
            assert!(
                is_known,
                "{item:?} is damaged, and nobody says so: {status}"
            );
            damaged += 1;
        }
        damaged
    }

    /// What was fetched can be fetched again, wherever it was cut off.
    fn check_fetched_again(&self) {
        let items = self.machine.items.iter();
        for item in items.filter(|it| matches!(it.deed, Deed::Fetch | Deed::FetchSynced)) {
            let address = &self.machine.origin.address;
            let into = text(item.path.parent().unwrap());
            let name = item.path.file_name().unwrap().to_str().unwrap();
            let link = format!("shoal:{}?name={name}", item.cid);
            let args = ["fetch", &link, "--peer", address, "-o", into, "--overwrite"];
            let mut fetched = self.running.run(&args[..args.len() - 1]);
            if fetched.code != Some(0) {
                fetched.fails(1, "destination_exists");
                fetched = self.running.run(&args);
            }
            fetched.ok();
            assert_same_tree(&item.original, &item.path);
        }
    }

    /// Beside what was fetched nothing lies that an interrupted fetch has left.
    fn check_landed(&self) {
        for entry in fs::read_dir(self.machine.landed()).unwrap() {
            let path = entry.unwrap().path();
            let is_item = self.machine.items.iter().any(|it| it.path == path);
            assert!(is_item, "{} is left", path.display());
        }
    }
}
