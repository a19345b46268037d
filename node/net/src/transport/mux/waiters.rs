//! Everybody who waits for one socket.
//!
//! A socket remembers one task per direction, and here any task may be the one that reads or writes
//! for all. So the socket is given one waker, and that wakes all who wait. Who finds the socket not
//! ready is added afterwards: the ticket, taken before, tells whether the socket became ready in
//! between.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Waker};

use futures::task::{self, ArcWake};
use parking_lot::{Mutex, MutexGuard};

/// The tasks that wait for a socket: that of the connection, and one for each stream at most.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    wakes: u64,
    connection: Option<Waker>,
    streams: Vec<Waker>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock()
    }

    /// Wakes the task of the connection alone.
    pub(super) fn wake_connection(&self) {
        let connection = self.lock().connection.take();
        if let Some(connection) = connection {
            connection.wake();
        }
    }
}

impl ArcWake for Waiters {
    fn wake_by_ref(waiters: &Arc<Self>) {
        let (connection, streams) = {
            let mut waiting = waiters.lock();
            waiting.wakes += 1;
            (waiting.connection.take(), mem::take(&mut waiting.streams))
        };
        // Who is woken last runs first on this thread: a stream's task reads into its own buffer.
        connection.into_iter().chain(streams).for_each(Waker::wake);
    }
}

/// Whose turn it is.
#[derive(Clone, Copy)]
pub(super) enum Who {
    /// The task of the connection, which has to be woken whenever there is something to do.
    Connection,
    /// The task of a stream.
    Stream,
}

/// One task's turn with the socket.
pub(super) struct Turn<'a> {
    task: &'a Waker,
    who: Who,
    waiters: &'a Waiters,
    wakes: u64,
    /// What the socket is polled with.
    pub(super) socket: Context<'a>,
}

impl<'a> Turn<'a> {
    /// The turn of a task; `waker` is that of the `waiters`.
    pub(super) fn new(who: Who, task: &'a Waker, waiters: &'a Waiters, waker: &'a Waker) -> Self {
        Self {
            task,
            who,
            waiters,
            wakes: waiters.lock().wakes,
            socket: Context::from_waker(waker),
        }
    }

    /// The task itself.
    pub(super) fn task(&self) -> &Waker {
        self.task
    }

    /// Has the task woken when the socket is ready.
    pub(super) fn wait(&self) {
        let mut waiting = self.waiters.lock();
        if waiting.wakes != self.wakes {
            drop(waiting);
            self.task.wake_by_ref();
            return;
        }
        match self.who {
            Who::Connection => waiting.connection = Some(self.task.clone()),
            Who::Stream if waiting.streams.iter().any(|it| it.will_wake(self.task)) => {}
            Who::Stream => waiting.streams.push(self.task.clone()),
        }
    }
}

/// The waker to give to the socket.
pub(super) fn waker(waiters: &Arc<Waiters>) -> Waker {
    task::waker(Arc::clone(waiters))
}
