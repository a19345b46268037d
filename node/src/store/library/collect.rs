//! The thread that takes out the rows of shares that are going.
//!
//! It owns nothing but its turn: what is to be done is in the database, as shares in state
//! `Removing`, so a crash or a failed attempt loses nothing. It ends, within one step, when the
//! library does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::store::{Store, StoreError};

/// A handle to the collecting thread; dropping it ends the thread and waits for that.
pub(super) struct Collector {
    /// One waiting wake-up stands for any number of them.
    wake: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    pub(super) fn spawn(store: Store) -> Result<Self, StoreError> {
        let (wake, woken) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let home = store.home().to_owned();
        let thread = std::thread::Builder::new()
            .name("shoal-collect".to_owned())
            .spawn({
                let stop = Arc::clone(&stop);
                move || run(&store, &woken, &stop)
            })
            .map_err(|error| StoreError::io(&home, error))?;
        Ok(Self {
            wake: Some(wake),
            stop,
            thread: Some(thread),
        })
    }

    /// Says that there may be shares to take out.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // A full channel means that the thread will look anyway.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that collects removed shares panicked");
        }
    }
}

fn run(store: &Store, woken: &Receiver<()>, stop: &AtomicBool) {
    while woken.recv().is_ok() && !stop.load(Ordering::Relaxed) {
        let stopped = || stop.load(Ordering::Relaxed);
        if let Err(error) = store.collect_removed(&stopped) {
            tracing::warn!(%error, "removed shares could not be collected, will be tried again");
        }
    }
}
