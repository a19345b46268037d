//! What Shoal does, shown on a testnet: one node shares, the others fetch by the address alone, the
//! first one is killed, and the last node still gets everything, from the others.
//!
//! What is shown is measured: every step is a command on a real node, and every copy is compared
//! with the original byte by byte. What is shared is only read; what is fetched goes with the testnet.

mod compare;
mod content;

use std::{
    cmp::Reverse,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use futures::{StreamExt as _, TryStreamExt as _, future::LocalBoxFuture, stream};
use serde::Serialize;
use shoal_api::types::{FetchResult, ShareResult};

use crate::{Error, NodeEntry, Testnet};

/// A command whose daemon is gone, with the demo or before it, does not become a node in a home that
/// is being removed.
const DAEMON_ONLY: &str = "--daemon-only";

/// One that shares, one that fetches, and one that fetches when the first is gone.
pub const DEMO_NODES_MIN: usize = 3;

/// What was shown.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// How many nodes there were.
    pub nodes: usize,
    /// The root of what was shared.
    pub cid: String,
    /// Its name.
    pub name: String,
    /// Its files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Who shared it.
    pub origin: String,
    /// Whether every copy is what the original is; there is no report when one is not.
    pub identical: bool,
    /// From the first command to the last comparison.
    pub elapsed_ms: u64,
    /// Who got it, and from whom; the last one after the origin was killed.
    pub fetches: Vec<DemoFetch>,
}

/// How one node got it.
#[derive(Clone, Debug, Serialize)]
pub struct DemoFetch {
    /// Who.
    pub node: String,
    /// Where its copy is, as long as the testnet is there.
    #[serde(skip)]
    path: PathBuf,
    /// Whether the origin still ran.
    pub origin_runs: bool,
    /// How long it took.
    pub elapsed_ms: u64,
    /// From whom, those who gave most first.
    pub from: Vec<DemoSource>,
    /// Links that cannot be had without leaving the copy.
    #[serde(skip)]
    skipped: u64,
}

/// What one node gave to another.
#[derive(Clone, Debug, Serialize)]
pub struct DemoSource {
    /// Who gave.
    pub node: String,
    /// How much.
    pub bytes: u64,
}

/// A step of the demo, as it is done.
#[derive(Clone, Copy, Debug)]
pub enum DemoStep<'a> {
    /// The origin serves it.
    Shared {
        /// Who.
        origin: &'a str,
        /// What.
        share: &'a ShareResult,
    },
    /// So many nodes begin to fetch it, all at once.
    Fetching {
        /// How many.
        nodes: usize,
    },
    /// A node has it.
    Fetched(&'a DemoFetch),
    /// The origin is gone.
    Killed {
        /// Who that was.
        origin: &'a str,
        /// Who is going to fetch it now.
        last: &'a str,
    },
    /// So many copies are what the original is.
    Identical {
        /// How many.
        copies: usize,
    },
}

/// Shares `path`, or something made for it, on the first node of a testnet that has just been
/// started, and fetches it on all others. `tell` hears of each step.
///
/// # Errors
/// [`Error::Command`] when a node fails at its part, [`Error::Different`] when a copy is not what
/// the original is. The testnet runs on, and is the caller's to take down.
pub fn demo<'a>(
    testnet: &'a Testnet,
    path: Option<&'a Path>,
    tell: &'a dyn Fn(DemoStep<'_>),
) -> LocalBoxFuture<'a, Result<DemoReport, Error>> {
    Box::pin(show(testnet, path, tell))
}

async fn show(
    testnet: &Testnet,
    path: Option<&Path>,
    tell: &dyn Fn(DemoStep<'_>),
) -> Result<DemoReport, Error> {
    let start = Instant::now();
    let nodes = testnet.nodes();
    let ([origin, fetchers @ .., last], DEMO_NODES_MIN..) = (nodes.as_slice(), nodes.len()) else {
        let (nodes, min) = (nodes.len(), DEMO_NODES_MIN);
        return Err(Error::Nodes { nodes, min });
    };
    let files = testnet.make_files_dir()?;
    let path = match path {
        Some(path) => path.to_owned(),
        None => made(&files)?,
    };
    let arguments = [
        "share".as_ref(),
        DAEMON_ONLY.as_ref(),
        "--wait".as_ref(),
        path.as_os_str(),
    ];
    let share: ShareResult = testnet.run(origin, &arguments).await?;
    tell(DemoStep::Shared {
        origin: &origin.name,
        share: &share,
    });

    let mut fetches = fetch_all(testnet, &files, fetchers, &share, tell).await?;
    testnet.kill(0).await?;
    tell(DemoStep::Killed {
        origin: &origin.name,
        last: &last.name,
    });
    let fetched = fetch(testnet, &files, last, &share, false).await?;
    tell(DemoStep::Fetched(&fetched));
    fetches.push(fetched);

    for fetch in &fetches {
        check(&path, fetch).await?;
    }
    let copies = fetches.len();
    tell(DemoStep::Identical { copies });
    Ok(DemoReport {
        nodes: nodes.len(),
        cid: share.cid,
        name: share.name,
        files: share.files,
        bytes: share.size,
        origin: origin.name.clone(),
        identical: true,
        elapsed_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        fetches,
    })
}

/// Makes something to share.
fn made(files: &Path) -> Result<PathBuf, Error> {
    let folder = folder(files, "original")?;
    // Right here, for half a second: a thread that still writes when the demo is interrupted would
    // come in the way of removing the folder.
    content::write(&folder).map_err(Error::io("write to", &folder))
}

/// Fetches on many nodes at once, and says how in the order of the nodes.
async fn fetch_all(
    testnet: &Testnet,
    files: &Path,
    nodes: &[NodeEntry],
    share: &ShareResult,
    tell: &dyn Fn(DemoStep<'_>),
) -> Result<Vec<DemoFetch>, Error> {
    tell(DemoStep::Fetching { nodes: nodes.len() });
    let fetches = nodes
        .iter()
        .map(|node| fetch(testnet, files, node, share, true));
    let fetches = stream::iter(fetches).buffer_unordered(nodes.len());
    let fetches = fetches.inspect_ok(|fetch| tell(DemoStep::Fetched(fetch)));
    let mut fetches: Vec<DemoFetch> = fetches.try_collect().await?;
    fetches.sort_by(|one, other| one.node.cmp(&other.node));
    Ok(fetches)
}

/// Fetches by the address alone, into a folder of the node's own.
async fn fetch(
    testnet: &Testnet,
    files: &Path,
    node: &NodeEntry,
    share: &ShareResult,
    origin_runs: bool,
) -> Result<DemoFetch, Error> {
    let path = folder(files, &node.name)?.join(&share.name);
    let arguments: [&OsStr; 5] = [
        "fetch".as_ref(),
        DAEMON_ONLY.as_ref(),
        share.cid.as_ref(),
        "-o".as_ref(),
        path.as_os_str(),
    ];
    let result: FetchResult = testnet.run(node, &arguments).await?;
    let mut from: Vec<_> = result
        .from
        .iter()
        .map(|source| DemoSource {
            node: testnet.name_of(&source.peer.to_string()),
            bytes: source.bytes,
        })
        .collect();
    from.sort_by_key(|source| Reverse(source.bytes));
    Ok(DemoFetch {
        node: node.name.clone(),
        path,
        origin_runs,
        elapsed_ms: result.elapsed_ms,
        from,
        skipped: result.skipped,
    })
}

/// Whether a copy is what the original is.
async fn check(original: &Path, fetch: &DemoFetch) -> Result<(), Error> {
    let (original, copy, links) = (original.to_owned(), fetch.path.clone(), fetch.skipped);
    let compare = move || compare::difference(&original, &copy, links);
    let compared = tokio::task::spawn_blocking(compare).await;
    let compared = compared.map_err(io::Error::from).flatten();
    match compared.map_err(Error::io("compare the original with", &fetch.path))? {
        None => Ok(()),
        Some(path) => Err(Error::Different {
            node: fetch.node.clone(),
            path,
        }),
    }
}

fn folder(files: &Path, name: &str) -> Result<PathBuf, Error> {
    let folder = files.join(name);
    fs::create_dir(&folder).map_err(Error::io("make the folder", &folder))?;
    Ok(folder)
}
