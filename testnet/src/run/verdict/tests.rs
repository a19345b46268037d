#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    run::record::{Change, Helped, Sample},
    scenario::Overrides,
};

const SCENARIO: &str = "
nodes = 5
[compare]
name = \"without\"
settings = [\"replicas.near=0s\"]
[[group]]
name = \"origin\"
count = 1
region = \"eu\"
link = { up = \"8mbit\" }
[[group]]
name = \"near\"
count = 1
region = \"eu\"
[[group]]
name = \"far\"
region = \"us\"
[[group]]
name = \"bad\"
count = 1
evil = \"drip\"
[[content]]
name = \"film\"
size = \"1MB\"
";

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn fetch(node: usize, done: Option<u64>, outcome: Outcome, from: &[(usize, u64)]) -> Fetch {
    Fetch {
        node,
        item: 0,
        began: at(1),
        done: done.map(at),
        outcome,
        from: from
            .iter()
            .map(|&(node, bytes)| (Some(node), bytes))
            .collect(),
    }
}

fn lookup(millis: u64, hops: u32, found: Result<u32, String>) -> Lookup {
    Lookup {
        node: 2,
        item: 0,
        began: at(1),
        took: Duration::from_millis(millis),
        hops: Some(hops),
        found,
    }
}

/// A run of 20 s: three fetches of 1 MB, the last of which is done at 10 s.
fn record() -> Record {
    let sample = |seconds, sent: [u64; 5]| Sample {
        at: at(seconds),
        up: 4,
        fetching: 0,
        sent: sent.to_vec(),
        memory: Some(40 << 20),
        helped: vec![Helped::default(); 5],
    };
    Record {
        elapsed: at(20),
        fetches: vec![
            fetch(
                1,
                Some(3),
                Outcome::Identical,
                &[(0, 900_000), (4, 100_000)],
            ),
            fetch(
                2,
                Some(6),
                Outcome::Identical,
                &[(0, 500_000), (3, 500_000)],
            ),
            fetch(3, Some(10), Outcome::Identical, &[(2, 1_000_000)]),
        ],
        lookups: vec![
            lookup(10, 1, Ok(1)),
            lookup(20, 2, Ok(1)),
            lookup(90, 3, Ok(2)),
        ],
        samples: vec![
            sample(5, [1_000_000, 0, 0, 0, 0]),
            sample(20, [1_400_000, 0, 1_500_000, 0, 100_000]),
        ],
        ..Record::default()
    }
}

fn judge(record: &Record, assertion: &str) -> Verdict {
    judge_beside(record, &other(), assertion)
}

fn judge_beside(record: &Record, other: &Record, assertion: &str) -> Verdict {
    let text = format!("{SCENARIO}\n[[assert]]\n{assertion}");
    let scenario = Scenario::read("test.toml", &text, &Overrides::default()).unwrap();
    let script = Script::draw(&scenario).unwrap();
    verdicts(&scenario, &script, record, Some(other))
        .unwrap()
        .remove(0)
}

/// What it is compared with: the last fetch takes 12 s.
fn other() -> Record {
    let mut other = record();
    other.fetches[2].done = Some(at(13));
    other
}

#[track_caller]
fn check(record: &Record, assertion: &str, held: bool, seen: &str) -> Verdict {
    let verdict = judge(record, &format!("that = \"{assertion}\""));
    assert_eq!(
        (verdict.held, verdict.seen.as_str()),
        (held, seen),
        "{assertion}: {verdict:?}"
    );
    verdict
}

#[test]
fn a_good_run_is_measured() {
    let record = record();
    check(&record, "all-fetched", true, "yes");
    check(&record, "no-wrong-bytes", true, "yes");
    check(&record, "fetched-fraction >= 100%", true, "100.0%");
    check(&record, "failed-fetches <= 0", true, "0");
    check(&record, "done-within 9s", true, "9.00 s");
    check(&record, "done-within 8s", false, "9.00 s");
    check(&record, "fetch-time-median <= 5s", true, "5.00 s");
    check(&record, "fetch-time-p95 <= 8s", false, "9.00 s");
    // One copy of 1 MB takes a second at 8 Mbit/s; from 1 s to 10 s there are nine of these.
    check(&record, "time-ratio <= 9", true, "9");
    check(&record, "origin-copies <= 1.4", true, "1.40");
    check(&record, "origin-copies <= 1.3", false, "1.40");
    check(&record, "peer-share >= 50%", true, "53.3%");
    check(&record, "evil-share <= 5%", true, "3.3%");
    check(&record, "region-share >= 80%", true, "80.0%");
    // node-01 is in the region of the origin, node-02 and node-03 are beside each other.
    check(&record, "cross-region-bytes <= 600KB", true, "0.6 MiB");
    // What the origin sent in vain went the same ways.
    let mut wasteful = self::record();
    wasteful.samples.last_mut().unwrap().sent[0] *= 2;
    check(&wasteful, "cross-region-bytes <= 600KB", false, "1.0 MiB");
    // No line has any latency: all are near.
    check(&record, "near-share >= 100%", true, "100.0%");
    check(&record, "lookups-succeed", true, "yes");
    check(&record, "hops-median <= 2", true, "2");
    check(&record, "lookup-time-median <= 20ms", true, "0.02 s");
    check(&record, "lookup-time-p95 <= 50ms", false, "0.09 s");
    check(&record, "memory-per-node <= 10MiB", true, "10.0 MiB");
    check(&record, "nodes-up >= 4", true, "4");
}

#[test]
fn what_is_done_for_others_is_measured() {
    let mut record = record();
    check(&record, "pulls <= 0", true, "0");
    check(&record, "quotas-kept", true, "yes");
    let last = record.samples.last_mut().unwrap();
    last.helped[1] = Helped {
        pulls: 2,
        offers: 1,
        asks: 2,
        pulled: 3 << 20,
        held: 1 << 20,
        quota: 1 << 20,
        strange: 1 << 18,
    };
    check(&record, "displaced-share <= 10%", false, "25.0%");
    check(&record, "pulls <= 1", false, "2");
    check(&record, "offers-accepted <= 1", true, "1");
    check(&record, "pulls-accounted", true, "yes");
    let mut greedy = record.clone();
    greedy.samples.last_mut().unwrap().helped[1].pulls = 3;
    let verdict = check(&greedy, "pulls-accounted", false, "no");
    assert_eq!(verdict.look_at, [1], "two asks are worth one pull");
    check(&record, "pulled-bytes <= 4MiB", true, "3.0 MiB");
    check(&record, "quotas-kept", true, "yes");
    record.samples[0].helped[3].held = 1;
    let verdict = check(&record, "quotas-kept", false, "no");
    assert_eq!(verdict.look_at, [3]);
    record.samples[1].helped[1].pulled = 300_000;
    // Of 3 MB that were sent.
    check(&record, "replication-share <= 10%", true, "10.0%");
}

#[test]
fn what_began_early_may_be_left_out() {
    let mut record = record();
    for (seconds, fetch) in (1..).zip(&mut record.fetches) {
        fetch.began = at(seconds);
    }
    let check = |after: &str, seen: &str| {
        let that = format!("that = \"fetch-time-median <= 1h\"\nafter = \"{after}\"");
        assert_eq!(judge(&record, &that).seen, seen, "after {after}");
    };
    check("0%", "4.00 s");
    check("33%", "4.00 s");
    check("50%", "7.00 s");
    check("100%", "nothing to measure");
    // When the last one began, 1 MB of the 3 MB had been sent.
    record.fetches[2].began = at(5);
    record.samples[1].helped[1].pulled = 500_000;
    let verdict = judge(
        &record,
        "that = \"replication-share <= 100%\"\nafter = \"50%\"",
    );
    assert_eq!(verdict.seen, "25.0%");
}

#[test]
fn what_is_saved_is_held_against_who_knows_the_future() {
    let mut record = record();
    let mut other = self::record();
    let saving = |record: &Record, other: &Record| {
        judge_beside(record, other, "that = \"oracle-saving >= 90%\"")
    };
    // Without room nothing can be saved: the two fetches of another region cross.
    other.samples[1].sent[0] = 2_800_000;
    assert_eq!(saving(&record, &other).seen, "nothing to measure");
    // 2 MB cross then; with room for one of the two nodes, one would have been enough.
    record.samples[0].helped[2].quota = 1_000_000;
    record.samples[1].sent[0] = 1_900_000;
    let verdict = saving(&record, &other);
    // 1.1 MB crossed: what the owner sent and nobody took at home, and 0.1 MB of one in no region.
    assert_eq!((verdict.held, verdict.seen.as_str()), (true, "90.0%"));
    record.samples[1].sent[0] = 2_000_000;
    let verdict = saving(&record, &other);
    assert_eq!((verdict.held, verdict.seen.as_str()), (false, "80.0%"));
    assert!(verdict.because.contains("crossed"), "{verdict:?}");
}

#[test]
fn late_ones_are_measured_alone_and_runs_are_compared() {
    let mut record = record();
    record.elapsed = at(60);
    record.fetches[1].began = at(21);
    record.fetches[1].done = Some(at(24));
    record.fetches[2].began = at(30);
    record.fetches[2].done = Some(at(35));
    check(&record, "late-p95 <= 5s", true, "5.00 s");
    record.fetches[2].done = None;
    check(&record, "late-p95 <= 1h", false, "never");

    let record = self::record();
    let verdict = judge(&record, "that = \"done-within <= 0.75\"\ncompared = true");
    assert_eq!(
        (verdict.held, verdict.seen.as_str()),
        (true, "0.75 (9.00 s of 12.00 s)")
    );
    assert_eq!(verdict.expected, "at most 0.75");
    let verdict = judge(&record, "that = \"done-within <= 0.7\"\ncompared = true");
    assert!(!verdict.held, "{verdict:?}");

    let mut other = self::other();
    other.fetches[0].from = vec![(Some(0), 1_000_000)];
    let that = "that = \"evil-share <= -1%\"\ncompared = \"points\"";
    let verdict = judge_beside(&record, &other, that);
    assert_eq!(verdict.seen, "+3.3% (3.3% instead of 0.0%)");
    assert!(!verdict.held && judge_beside(&other, &record, that).held);
}

#[test]
fn who_leaves_when_it_is_done_counts() {
    let mut record = record();
    record.changes.push(Change {
        at: at(9),
        node: 2,
        up: false,
    });
    let count = |leaves: &str| {
        let text = SCENARIO.replace("region = \"us\"", &format!("region = \"us\"\n{leaves}"));
        let text = format!("{text}\n[[assert]]\nthat = \"fetch-time-median <= 1h\"");
        let scenario = Scenario::read("test.toml", &text, &Overrides::default()).unwrap();
        let script = Script::draw(&scenario).unwrap();
        let verdicts = verdicts(&scenario, &script, &record, None).unwrap();
        verdicts[0].seen.clone()
    };
    assert_eq!(count(""), "2.00 s", "of node-01 and node-03");
    assert_eq!(count("leave-after = \"3s\""), "5.00 s", "of all three");
}

#[test]
fn what_went_wrong_is_said_with_whose_log_to_read() {
    let mut record = record();
    record.fetches[1].outcome = Outcome::Failed("nobody has it".to_owned());
    record.fetches[1].done = None;
    let verdict = check(&record, "all-fetched", false, "no");
    assert_eq!(verdict.look_at, [2]);
    assert!(
        verdict
            .because
            .contains("node-02 gave up on `film`: nobody has it"),
        "{verdict:?}"
    );
    check(&record, "failed-fetches <= 0", false, "1");
    check(&record, "fetched-fraction >= 50%", true, "66.7%");
    check(&record, "done-within 1h", false, "never");
    check(&record, "time-ratio <= 1000", false, "never");

    record.fetches[2].outcome = Outcome::Different;
    let verdict = check(&record, "no-wrong-bytes", false, "no");
    assert_eq!(verdict.look_at, [3]);
    assert!(
        verdict
            .because
            .contains("on node-03 is not what was shared"),
        "{verdict:?}"
    );
    record
        .lookups
        .push(lookup(5, 1, Err("not found".to_owned())));
    let verdict = check(&record, "lookups-succeed", false, "no");
    assert!(verdict.because.contains("1 of 4 failed"), "{verdict:?}");
}

#[test]
fn the_dead_are_not_asked_of() {
    let mut record = record();
    record.fetches[1].outcome = Outcome::Unfinished;
    record.fetches[1].done = None;
    check(&record, "all-fetched", false, "no");
    let change = |seconds, up| Change {
        at: at(seconds),
        node: 2,
        up,
    };
    record.changes.push(change(4, false));
    check(&record, "all-fetched", true, "yes");
    check(&record, "nodes-up >= 4", false, "3");
    record.changes.push(change(8, true));
    check(&record, "all-fetched", false, "no");
    record.fetches[1].outcome = Outcome::Replaced;
    check(&record, "all-fetched", true, "yes");
}

#[test]
fn an_assertion_may_be_about_a_time_and_about_some_nodes() {
    let record = record();
    let check = |rest: &str, held: bool| {
        let verdict = judge(&record, &format!("that = \"all-fetched\"\n{rest}"));
        assert_eq!(verdict.held, held, "{rest}: {verdict:?}");
    };
    check("at = \"9s\"", false);
    check("at = \"10s\"", true);
    check("at = \"4s\"\nnodes = \"group:near\"", true);
    check("at = \"4s\"\nnodes = \"group:far\"", false);
    let copies = judge(&record, "that = \"origin-copies <= 1\"\nat = \"7s\"");
    assert!(copies.held, "{copies:?}");
}

#[test]
fn what_was_not_measured_does_not_hold() {
    let record = Record::default();
    for metric in Metric::ALL {
        let fine_without = [Metric::NoWrongBytes, Metric::FailedFetches, Metric::NodesUp];
        if fine_without.contains(&metric) {
            continue;
        }
        let bound = match metric.unit() {
            crate::scenario::Unit::YesNo => "",
            crate::scenario::Unit::Share | crate::scenario::Unit::Points => " >= 0%",
            crate::scenario::Unit::Number => " >= 0",
            crate::scenario::Unit::Millis => " >= 0s",
            crate::scenario::Unit::Bytes => " >= 1KiB",
        };
        check(
            &record,
            &format!("{}{bound}", metric.name()),
            false,
            "nothing to measure",
        );
    }
}
