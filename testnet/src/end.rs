//! The end of a node, and of its home.

use std::{fs, path::Path, time::Duration};

use rustix::process::Signal;
use shoal_api::HomeLock;

use crate::{Error, manifest::NodeEntry};

/// How to end a node: a signal, what it gets to obey, and what its end is called then.
pub(crate) type Means = (Signal, Duration, End);
/// What an ordered shutdown takes on a busy machine, and no longer: `down` is about to remove it.
const STOP: Means = (Signal::TERM, Duration::from_secs(20), End::InOrder);
/// A killed process is gone when the disk has answered it.
pub(crate) const KILL: Means = (Signal::KILL, Duration::from_secs(20), End::Killed);

/// How a node came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It did not run.
    Before,
    /// When it was asked to.
    InOrder,
    /// It was killed.
    Killed,
}

/// Ends a node and removes its home.
pub(crate) async fn remove_node(node: &NodeEntry) -> Result<End, Error> {
    let end = end_node(node, &[STOP, KILL]).await?;
    let home = node.home.clone();
    let removed = tokio::task::spawn_blocking(move || remove_home(&home)).await;
    let panicked = |error: tokio::task::JoinError| Error::io("remove", &node.home)(error.into());
    removed.map_err(panicked)??;
    Ok(end)
}

/// Ends a node by the first of `means` that does.
pub(crate) async fn end_node(node: &NodeEntry, means: &[Means]) -> Result<End, Error> {
    let Some(running) = node.find()? else {
        return Ok(End::Before);
    };
    let failed = |error| Error::io("end the node in", &node.home)(error);
    for &(signal, deadline, end) in means {
        running.signal(signal).map_err(failed)?;
        if running.ended(deadline).await.map_err(failed)? {
            return Ok(end);
        }
    }
    Err(Error::Stuck {
        node: node.name.clone(),
        pid: running.pid(),
    })
}

/// Removes the home of a node that has ended, and the socket that it may have elsewhere. Blocking.
fn remove_home(home: &Path) -> Result<(), Error> {
    if !home.exists() {
        return Ok(());
    }
    // Held until the home is gone, so that nobody begins to work on it.
    let lock = HomeLock::acquire(home)?;
    lock.remove_outside_socket()?;
    fs::remove_dir_all(home).map_err(Error::io("remove", home))
}
