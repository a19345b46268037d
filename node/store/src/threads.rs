//! The database as the store calls it: from threads that may block, and from no other.
//!
//! A call into RocksDB may wait for the disk, and a task that waits holds up every other task of its
//! thread. Nothing in the types says so. With [`CHECK_VARIABLE`] set a process looks at each call, and
//! logs where it came from when that is a thread that drives tasks.

use std::backtrace::Backtrace;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rocksdb::DB;
use tokio::runtime::Handle;

/// Has every call into the database looked at, whatever it is set to. For whoever works on Shoal: a
/// look takes as long as a small read.
const CHECK_VARIABLE: &str = "SHOAL_TEST_DATABASE_THREADS";

/// The database.
pub(super) struct Database {
    db: Arc<DB>,
    checks: bool,
}

impl Database {
    pub(super) fn new(db: Arc<DB>) -> Self {
        Self {
            db,
            checks: std::env::var_os(CHECK_VARIABLE).is_some(),
        }
    }
}

impl Deref for Database {
    type Target = DB;

    fn deref(&self) -> &DB {
        if self.checks && !may_block() {
            let backtrace = Backtrace::force_capture();
            tracing::error!(%backtrace, "the database was called on a thread that drives tasks");
        }
        &self.db
    }
}

/// Whether this thread may wait. Tokio knows which of its threads may not, and tells by a panic.
fn may_block() -> bool {
    let Ok(runtime) = Handle::try_current() else {
        return true;
    };
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(async {}))).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn threads_that_drive_tasks_are_told_from_those_that_may_wait() {
        assert!(may_block(), "no thread of a runtime");
        for mut runtime in [
            tokio::runtime::Builder::new_current_thread(),
            tokio::runtime::Builder::new_multi_thread(),
        ] {
            let runtime = runtime.build().unwrap();
            let of_task = runtime.spawn(async { may_block() });
            let of_blocking = runtime.spawn_blocking(may_block);
            let (task, main, blocking) =
                runtime.block_on(async { (of_task.await, may_block(), of_blocking.await) });
            assert_eq!(
                (task.unwrap(), main, blocking.unwrap()),
                (false, false, true)
            );
        }
    }
}
