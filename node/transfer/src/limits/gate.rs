//! One limit as tasks meet it: [`Gate::take`] waits until bytes may move.
//!
//! A gate without a limit costs one atomic load. One with a limit asks its [`Bucket`] under a lock
//! that is held for a look-up; who has to wait is woken by [`pump`], the one task that serves the
//! gates of a node, and one more for each transfer that runs. A waiter that is dropped gives up its place. Each stream waits at most once at
//! a time, so the queue is bounded by the limits on streams.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use shoal_net::{Traffic, Way};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::bucket::{Bucket, Class, Ticket};

/// The timers' grain; waking sooner finds nothing new.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// One limit and those who wait for it.
pub(super) struct Gate {
    limited: AtomicBool,
    state: Mutex<State>,
    traffic: Traffic,
    way: Way,
    started: Instant,
    /// Tells the pump that there is something to do.
    wake: Arc<Notify>,
}

struct State {
    bucket: Bucket,
    waiting: HashMap<Ticket, oneshot::Sender<u64>>,
    /// Bytes on the sockets that the bucket knows of.
    seen: u64,
}

impl Gate {
    /// A gate without a limit on what passes the sockets one way.
    pub(super) fn new(traffic: Traffic, way: Way, wake: Arc<Notify>) -> Self {
        Self {
            limited: AtomicBool::new(false),
            state: Mutex::new(State {
                bucket: Bucket::new(Duration::ZERO),
                waiting: HashMap::new(),
                seen: 0,
            }),
            traffic,
            way,
            started: Instant::now(),
            wake,
        }
    }

    /// The limit in bytes per second.
    pub(super) fn rate(&self) -> Option<u64> {
        if !self.limited.load(Relaxed) {
            return None;
        }
        self.lock().bucket.rate()
    }

    /// Changes the limit; those who wait go by the new one.
    pub(super) fn set_rate(&self, rate: Option<u64>) {
        let mut state = self.lock();
        self.advance(&mut state);
        if state.bucket.rate() == rate {
            return;
        }
        state.bucket.set_rate(rate, self.started.elapsed());
        self.limited.store(rate.is_some(), Relaxed);
        drop(state);
        self.wake.notify_one();
    }

    /// Waits until some of `bytes` may move, and says how many: all of them without a limit.
    ///
    /// Dropping the future gives up the place in the queue.
    pub(super) async fn take(&self, class: Class, bytes: u64) -> u64 {
        if !self.limited.load(Relaxed) {
            return bytes;
        }
        let (ticket, turn) = {
            let mut state = self.lock();
            self.advance(&mut state);
            let ticket = match state.bucket.ask(class, bytes) {
                Ok(granted) => return granted,
                Err(ticket) => ticket,
            };
            let (sender, turn) = oneshot::channel();
            state.waiting.insert(ticket, sender);
            (ticket, turn)
        };
        self.wake.notify_one();
        let _place = QueuePlace { gate: self, ticket };
        // The sender goes with the gate only, and then there is no limit any more.
        turn.await.unwrap_or(bytes)
    }

    /// Lets through whose turn it is, and says when to come again.
    fn serve(&self) -> Option<Instant> {
        let mut state = self.lock();
        self.advance(&mut state);
        for (ticket, granted) in state.bucket.serve() {
            // One that was dropped in this very moment leaves its grant unused: it is forgotten.
            if let Some(turn) = state.waiting.remove(&ticket) {
                let _ = turn.send(granted);
            }
        }
        let next = state.bucket.next_turn()?;
        Some((self.started + next).max(Instant::now() + WAIT_MIN))
    }

    /// Tells the bucket the time, and what has moved until then.
    fn advance(&self, state: &mut State) {
        let total = self.traffic.bytes(self.way);
        let moved = total.saturating_sub(std::mem::replace(&mut state.seen, total));
        state.bucket.advance(moved, self.started.elapsed());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// A place in a gate's queue, given up when dropped.
struct QueuePlace<'a> {
    gate: &'a Gate,
    ticket: Ticket,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.bucket.withdraw(self.ticket);
        state.waiting.remove(&self.ticket);
    }
}

/// Serves those who wait at `gates` until shutdown. There is nothing to do while nobody waits.
pub(super) async fn pump<const N: usize>(
    gates: [Arc<Gate>; N],
    wake: Arc<Notify>,
    shutdown: CancellationToken,
) {
    loop {
        let next = gates.iter().filter_map(|gate| gate.serve()).min();
        let turn = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = wake.notified() => {}
            () = turn => {}
        }
    }
}
