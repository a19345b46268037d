//! What `kill -9` leaves, at every moment of pulls, evictions and drops.
//!
//! The process is this test binary again, running only [`child`] with its work in the environment.

use std::env;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::tests::death::{await_death, killed};

const HOME: &str = "SHOAL_TEST_REPLICAS_HOME";
const AT: &str = "SHOAL_TEST_REPLICAS_AT";

/// Room for two runs and the nodes of two roots.
const QUOTA: u64 = 2 * RUN_BYTES + 64 * KIB as u64;

/// The moments that the store passes.
const MOMENTS: [&str; 5] = [
    "decided",
    "bytes written",
    "rows written",
    "rows deleted",
    "one hole punched",
];

fn roots() -> [Root; 4] {
    ["a", "b", "c", "d"].map(|name| Root::new(name, 8))
}

/// The store has come to a moment; the process that is to die there does.
pub(crate) fn reached(moment: &str) {
    static PASSED: AtomicUsize = AtomicUsize::new(0);
    let Some(at) = env::var(AT).ok().and_then(|at| at.parse::<usize>().ok()) else {
        return;
    };
    if PASSED.fetch_add(1, Relaxed) == at {
        await_death(moment);
    }
}

/// The work of the process that is killed: roots come, each in place of the one before, and one is
/// dropped.
#[test]
fn child() {
    let Ok(home) = env::var(HOME) else {
        return;
    };
    let store = Store::open(home.as_ref()).unwrap();
    let kit = Kit::open(&store, QUOTA);
    let [a, b, c, d] = roots();
    kit.pull(&a);
    kit.pull(&b);
    kit.replicas.drop_root(b.key(), NOW).unwrap();
    kit.pull(&c);
    kit.replicas.deny(&c.digest(), NOW).unwrap();
    kit.pull(&d);
    await_death("over");
}

#[test]
fn a_kill_at_any_moment_leaves_no_row_without_bytes_and_no_bytes_without_a_row() {
    let mut seen = BTreeSet::new();
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let number = at.to_string();
        let variables = [(HOME, dir.path().as_os_str()), (AT, OsStr::new(&number))];
        let word = killed("replicas::tests::crash::child", variables);
        let is_over = word == "over";
        let store = Store::open(dir.path()).unwrap();
        let kit = Kit::open(&store, QUOTA);
        for root in roots() {
            // What is held is read, and is what it was.
            let runs = kit.runs(&root);
            for node in root.nodes.iter().filter(|_| !runs.is_empty()) {
                let found = kit.read(&root, node);
                assert_eq!(found.as_ref(), Some(&node.1), "{word}, number {at}");
            }
        }
        kit.check_disk();
        assert_eq!(kit.replicas.stats().damaged, 0, "{word}, number {at}");
        // And the store goes on.
        let next = Root::new("next", 8);
        kit.pull(&next);
        assert_eq!(kit.runs(&next), [0, 1], "{word}, number {at}");
        kit.check_disk();
        if is_over {
            break;
        }
        seen.insert(word);
    }
    assert_eq!(seen, MOMENTS.map(str::to_owned).into());
}
