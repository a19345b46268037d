//! The first hour: share, fetch by the pasted link, watch from the sharer's side, pause, resume, close the
//! terminal, find the link again, rename, stop sharing, uninstall; in wide and in narrow terminals.

use std::{fs, process::Command};

use shoal_tests::{
    refused::Ground,
    run, scratch,
    terminal::{Ended, Terminal},
    wait_for, write_content,
};
use tempfile::TempDir;

use super::record::Record;

const MIB: usize = 1 << 20;
/// What Bob lets through, so that there is something to watch.
const SLOWLY: &str = "1MB/s";

/// Two people with a machine each, whose daemons are stopped at the end.
struct Session {
    root: TempDir,
    ann: Ground,
    bob: Ground,
    columns: u16,
}

impl Session {
    fn new(columns: u16) -> Self {
        let root = scratch();
        let [ann, bob] = ["ann", "bob"].map(|name| {
            let place = root.path().join(name);
            fs::create_dir(&place).unwrap();
            Ground::below(&place)
        });
        Self {
            root,
            ann,
            bob,
            columns,
        }
    }

    fn start(&self, who: &Ground, args: &[&str]) -> Terminal {
        Terminal::start(who, self.columns, args, &[])
    }

    /// A command that has to end well.
    fn run(&self, who: &Ground, args: &[&str]) -> Ended {
        let ended = self.start(who, args).end();
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended
    }

    /// The same, recorded; its screen has to show these words.
    fn records(
        &self,
        record: &mut Record,
        title: &str,
        who: &Ground,
        args: &[&str],
        words: &[&str],
    ) -> String {
        let ended = self.run(who, args);
        shows(&ended.screen, words);
        record.add(title, self.name(who), args, &ended.screen);
        ended.screen
    }

    fn name(&self, who: &Ground) -> &'static str {
        match who.home == self.ann.home {
            true => "ann",
            false => "bob",
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for who in [&self.ann, &self.bob] {
            let mut stop = Command::new(&who.program);
            // One that was stopped before is not there.
            let _ = stop.arg("--home").arg(&who.home).arg("stop").output();
        }
    }
}

fn shows(screen: &str, words: &[&str]) {
    for word in words {
        assert!(screen.contains(word), "{word}: {screen}");
    }
}

/// The link on a screen.
fn link(screen: &str) -> String {
    let lines = screen.lines();
    let mut links = lines.filter(|line| line.starts_with("shoal:S"));
    links
        .next()
        .unwrap_or_else(|| panic!("no link: {screen}"))
        .trim()
        .to_owned()
}

#[test]
fn the_first_hour() {
    let mut record: Option<Record> = None;
    for columns in [80, 40] {
        let session = Session::new(columns);
        let record = record.get_or_insert_with(|| Record::of(session.root.path()));
        record.goes_on_in(session.root.path());
        record.chapter(&format!("{columns} columns"));
        let clip = sharing_and_fetching(&session, record);
        watching_pausing_resuming(&session, record, &clip);
        names_and_the_end(&session, record);
    }
    record.unwrap().keep();
}

/// Ann shares twice, and Bob fetches the first share by its link; the link of the second one.
fn sharing_and_fetching(session: &Session, record: &mut Record) -> String {
    let Session { ann, bob, .. } = session;
    write_content(&ann.dir.join("notes/plan"), "plan", 3 * MIB);
    write_content(&ann.dir.join("notes/week/monday"), "monday", 1000);
    write_content(&ann.dir.join("clip.mp4"), "clip", 40 * MIB);
    let ready = ["ready: 12D3KooW", "`shoal logs` shows it"];
    session.records(record, "A daemon", ann, &["daemon", "--detach"], &ready);
    let shared = session.records(
        record,
        "Share a folder",
        ann,
        &["share", "notes"],
        &["Shared notes: 2 files", "shoal fetch shoal:S"],
    );
    session.run(bob, &["daemon", "--detach"]);
    session.records(
        record,
        "Fetch it by the pasted link",
        bob,
        &["fetch", &link(&shared)],
        &["Fetched 2 files", "/notes"],
    );
    assert!(bob.dir.join("notes/week/monday").exists());
    link(&session.run(ann, &["share", "clip.mp4"]).screen)
}

fn watching_pausing_resuming(session: &Session, record: &mut Record, clip: &str) {
    let Session { ann, bob, .. } = session;
    let fetch = ["fetch", clip, "-o", "holiday.mp4"];
    session.records(
        record,
        "Limit downloads",
        bob,
        &["limits", "--down", SLOWLY],
        &[SLOWLY],
    );
    let mut fetching = session.start(bob, &fetch);
    let screen = fetching.wait_for(&["[", "s left", "/s", "/40.0 MiB"]);
    record.add("Fetch a large file", "bob", &fetch, &screen);

    let mut watching = session.start(ann, &["status", "--watch"]);
    let screen = watching.wait_for(&["clip.mp4", "1 peer now at"]);
    record.add(
        "Watch who downloads from me",
        "ann",
        &["status", "--watch"],
        &screen,
    );
    watching.type_keys(b"\x03");
    assert_eq!(watching.end().code, Some(0));

    let pause = ["pause", "holiday.mp4"];
    session.records(record, "Pause", bob, &pause, &["paused at", "shoal resume"]);
    let paused = fetching.end();
    assert_eq!(paused.code, Some(130), "{paused:?}");
    let resume = ["resume", "holiday.mp4"];
    session.records(record, "Resume", bob, &resume, &["holiday.mp4"]);

    // The same fetch again waits for the transfer; then its terminal is closed.
    let mut again = session.start(bob, &fetch);
    again.wait_for(&["%", "/40.0 MiB"]);
    again.hang_up();
    session.records(
        record,
        "Close the terminal: the daemon goes on",
        bob,
        &["transfers"],
        &["holiday.mp4", "from 1 source"],
    );
    session.run(bob, &["limits", "--down", "off"]);
    wait_for("it is done", || {
        let listed = run(&bob.home, &["transfers"]).ok();
        let listed = listed["transfers"].as_array()?.clone();
        listed.iter().all(|it| it["state"] == "done").then_some(())
    });
    assert!(bob.dir.join("holiday.mp4").exists());
    session.records(
        record,
        "Where did it land?",
        bob,
        &["ls"],
        &["holiday.mp4  40.0 MiB", "notes  3.0 MiB"],
    );
}

fn names_and_the_end(session: &Session, record: &mut Record) {
    let ann = &session.ann;
    wait_for("its peer says that it has all", || {
        let shown = run(&ann.home, &["show", "clip.mp4"]).ok();
        (shown["audience"]["copies"] == 1).then_some(())
    });
    let show = ["show", "clip.mp4"];
    session.records(record, "Who has it?", ann, &show, &["1 peer has all of it"]);
    let found = ["link", "notes"];
    session.records(record, "Find the link again", ann, &found, &["/notes"]);
    session.records(
        record,
        "Give it another name",
        ann,
        &["rename", "clip.mp4", "Summer 2026.mp4"],
        &[
            "clip.mp4 is now called Summer 2026.mp4",
            "/Summer%202026.mp4",
        ],
    );
    session.records(
        record,
        "Stop sharing",
        ann,
        &["unshare", "notes", "Summer 2026.mp4"],
        &[
            "no longer shared: notes",
            "no longer shared: Summer 2026.mp4",
        ],
    );
    session.records(
        record,
        "Nothing is shared",
        ann,
        &["ls"],
        &["Nothing is shared"],
    );
    assert!(ann.dir.join("clip.mp4").exists());
    session.records(record, "Stop the daemon", ann, &["stop"], &["stopped"]);
    uninstalling(session, record);
}

/// Without the home nothing is left of Shoal but the files, which stay where they are.
fn uninstalling(session: &Session, record: &mut Record) {
    let ann = &session.ann;
    let deleted = Command::new("rm").arg("-r").arg(&ann.home).status();
    assert!(deleted.unwrap().success());
    record.add_other(
        "Uninstall",
        "ann",
        &format!("rm -r {}", ann.home.display()),
        "`sudo apt remove shoal` takes the program away, and leaves this folder: what the node knows. Files that \
         were\nshared or downloaded are not in it.",
    );
    for file in ["clip.mp4", "notes/plan", "notes/week/monday"] {
        assert!(ann.dir.join(file).exists(), "{file}");
    }
}
