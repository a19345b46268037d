//! The threads that work on one disk.
//!
//! A thread that a disk keeps in the kernel is lost until the disk answers. So each disk has its
//! own threads, at most as many as it is made with, and what hangs on one disk takes none from
//! another. Threads begin when there is work for them and end after some idle time. A job that
//! panics is logged; its thread goes on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// A thread without work ends after this.
const IDLE_TIME: Duration = Duration::from_secs(10);

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A bounded set of threads and the queue before them. Dropping it lets the threads end when the
/// queue is empty.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    threads_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Pool {
    pub(super) fn new(threads_max: usize) -> Self {
        let shared = Shared {
            threads_max,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Queues a job. Never waits.
    pub(super) fn spawn(&self, job: Job) {
        let mut state = self.shared.lock();
        state.queue.push_back(job);
        if state.queue.len() > state.idle && state.threads < self.shared.threads_max {
            state.threads += 1;
            drop(state);
            self.start_thread();
        } else {
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// Jobs that wait for a thread.
    pub(super) fn queued(&self) -> usize {
        self.shared.lock().queue.len()
    }

    fn start_thread(&self) {
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new()
            .name("shoal-disk".to_owned())
            .spawn(move || shared.run());
        if let Err(error) = started {
            // What is queued waits for the threads there are; without any its callers' deadlines
            // end it.
            tracing::warn!(%error, "a thread for a disk could not be started");
            self.shared.lock().threads -= 1;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job on a disk panicked");
            }
        }
    }

    /// The next job; `None` after some time without one, and the thread counts no more.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let waited = self.changed.wait_for(&mut state, IDLE_TIME);
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use super::*;

    #[test]
    fn no_more_threads_than_allowed_and_all_jobs_run() {
        let pool = Pool::new(2);
        let (release, blocked) = mpsc::sync_channel::<()>(1);
        let blocked = Arc::new(Mutex::new(blocked));
        let (done, finished) = mpsc::sync_channel(5);
        for number in 0..5 {
            let (done, blocked) = (done.clone(), Arc::clone(&blocked));
            pool.spawn(Box::new(move || {
                let _ = blocked.lock().recv();
                done.send(number).unwrap();
            }));
        }
        assert!(pool.shared.lock().threads <= 2);
        assert!(pool.queued() >= 3, "two are stuck and the rest waits");
        drop(release);
        let mut numbers: Vec<i32> = finished.iter().take(5).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let pool = Pool::new(1);
        let (done, finished) = mpsc::sync_channel(1);
        pool.spawn(Box::new(|| panic!("on purpose")));
        pool.spawn(Box::new(move || done.send(()).unwrap()));
        finished.recv().unwrap();
    }
}
