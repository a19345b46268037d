//! The thread that takes out the rows of shares that are going.
//!
//! It owns nothing but its turn: what is to be done is in the database, as shares in state
//! `Removing`, so a crash or a failed attempt loses nothing. It begins when there is something to
//! do for the first time, and ends, within one step, when the library does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::Store;

/// A handle to the collecting thread; dropping it ends the thread and waits for that.
pub(super) struct Collector {
    store: Store,
    running: Mutex<Option<Running>>,
}

struct Running {
    /// One waiting wake-up stands for any number of them.
    wake: Sender<()>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Collector {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            running: Mutex::default(),
        }
    }

    /// Says that there may be shares to take out.
    pub(super) fn wake(&self) {
        let mut running = self.running.lock();
        if running.is_none() {
            *running = self.start();
        }
        if let Some(running) = running.as_ref() {
            // A full channel means that the thread will look anyway.
            let _ = running.wake.try_send(());
        }
    }

    fn start(&self) -> Option<Running> {
        let (wake, woken) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (store, stopped) = (self.store.clone(), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("shoal-collect".to_owned())
            .spawn(move || run(&store, &woken, &stopped))
            .inspect_err(|error| {
                tracing::warn!(%error, "removed shares are collected later: there is no thread");
            });
        Some(Running {
            wake,
            stop,
            thread: thread.ok()?,
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        let Some(Running { wake, stop, thread }) = running.take() else {
            return;
        };
        stop.store(true, Ordering::Relaxed);
        drop(wake);
        if thread.join().is_err() {
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
