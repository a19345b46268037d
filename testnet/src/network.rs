//! A testnet as a whole: up, down, and its nodes one by one.

#[cfg_attr(not(feature = "scenarios"), path = "network/unlinked.rs")]
mod links;

use std::{
    ffi::OsStr,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{LocalBoxFuture, join_all},
    stream,
};
use parking_lot::{Mutex, MutexGuard};
use serde::{Serialize, de::DeserializeOwned};
use shoal_api::{ApiError, ErrorCode, types};
use shoal_net::emulation::Plan;
use tokio::time::{Instant, sleep};

use crate::{
    Error, NODES_MAX, capacity, command,
    end::{End, KILL, end_node, remove_node},
    error::log_tail,
    folder::Folder,
    launch::Gated,
    links::plan_in,
    manifest::{FILES_DIR, MANIFEST_FILE, Manifest, NodeEntry, is_absent},
    transport::Transport,
};

#[cfg(feature = "scenarios")]
pub use self::links::LinksChanged;

/// A testnet is ready when each node sees so many others, or all there are: fewer and one that
/// leaves may cut another off.
pub const PEERS_READY: usize = 3;

/// A node tries these first; one of them may have gone.
pub(crate) const BOOTSTRAP_PEERS: usize = 3;

/// Starting is waiting for the disk most of the time: so many at once keep the processors busy.
const STARTS_PER_CORE: usize = 4;

/// Peers are found within a second; this is for a machine that is very busy.
const PEERS_DEADLINE: Duration = Duration::from_secs(60);
const PEERS_POLL: Duration = Duration::from_millis(100);

/// A testnet that this process may change; others wait. Dropped, its nodes run on.
#[derive(Debug)]
pub struct Testnet {
    folder: Folder,
    program: PathBuf,
    manifest: Mutex<Manifest>,
}

/// What a testnet is to be.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes.
    pub nodes: usize,
    /// What they listen on.
    pub transport: Transport,
    /// What the links are like; without, they are as fast as the machine.
    pub links: Option<Plan>,
}

/// What taking a testnet down did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Down {
    /// Nodes that there were.
    pub nodes: usize,
    /// Nodes that ran.
    pub stopped: usize,
    /// Nodes of these that had to be killed.
    pub killed: usize,
    /// Whether the folder itself is gone.
    pub removed: bool,
}

impl Testnet {
    /// Starts `nodes` nodes, each a daemon that `program` is, with homes in `dir`; returns when
    /// each sees [`PEERS_READY`] others.
    ///
    /// Fails, or `interrupted`, it takes down what it has started.
    ///
    /// # Errors
    /// [`Error`] says which node it is about, and what that has logged.
    pub fn up<'a>(
        dir: &'a Path,
        nodes: usize,
        program: &'a Path,
        interrupted: LocalBoxFuture<'a, ()>,
    ) -> LocalBoxFuture<'a, Result<Self, Error>> {
        let setup = Setup {
            nodes,
            transport: Transport::default(),
            links: None,
        };
        Self::up_as(dir, setup, program, interrupted)
    }

    /// The same, as `setup` says.
    ///
    /// # Errors
    /// As for [`Self::up`].
    pub fn up_as<'a>(
        dir: &'a Path,
        setup: Setup,
        program: &'a Path,
        interrupted: LocalBoxFuture<'a, ()>,
    ) -> LocalBoxFuture<'a, Result<Self, Error>> {
        Box::pin(Self::up_until(dir, setup, program, interrupted))
    }

    async fn up_until(
        dir: &Path,
        setup: Setup,
        program: &Path,
        interrupted: LocalBoxFuture<'_, ()>,
    ) -> Result<Self, Error> {
        let nodes = setup.nodes;
        let testnet = Self::create(dir, nodes, setup.transport, program).await?;
        if let Some(plan) = setup.links
            && let Err(cause) = testnet.begin_links(plan)
        {
            return Err(testnet.down_after(cause).await);
        }
        let started = tokio::select! {
            biased;
            () = interrupted => Err(Error::Interrupted),
            started = testnet.start_all(nodes) => started,
        };
        match started {
            Ok(()) => Ok(testnet),
            Err(cause) => Err(testnet.down_after(cause).await),
        }
    }

    /// The testnet in `dir`, whose nodes are what `program` is; none when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or another command keeps it.
    pub async fn open(dir: &Path, program: &Path) -> Result<Option<Self>, Error> {
        let Some(folder) = Folder::open(dir).await? else {
            return Ok(None);
        };
        let Some(manifest) = Manifest::load(folder.path())? else {
            if folder.is_barely_begun()? {
                folder.clear(true)?;
            }
            return Ok(None);
        };
        Ok(Some(Self {
            folder,
            program: program.to_owned(),
            manifest: Mutex::new(manifest),
        }))
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Where the manifest is.
    pub fn manifest_path(&self) -> PathBuf {
        self.dir().join(MANIFEST_FILE)
    }

    /// Its nodes, as they are now.
    pub fn nodes(&self) -> Vec<NodeEntry> {
        self.manifest().nodes.clone()
    }

    /// One of its nodes.
    ///
    /// # Errors
    /// [`Error::NoNode`].
    pub fn node(&self, index: usize) -> Result<NodeEntry, Error> {
        let manifest = self.manifest();
        let node = manifest.nodes.get(index).cloned();
        node.ok_or(Error::NoNode {
            index,
            nodes: manifest.nodes.len(),
        })
    }

    /// Starts a node that does not run, where it listened before, and waits until it sees others.
    /// Says whether it had to be started.
    ///
    /// # Errors
    /// [`Error::Start`] with what the node said; it does not run then.
    pub async fn start(&self, index: usize) -> Result<bool, Error> {
        let node = self.node(index)?;
        if node.find()?.is_some() {
            return Ok(false);
        }
        let started = async {
            self.start_node(index).await?;
            let plan = plan_in(self.dir())?;
            let nodes = self.nodes().into_iter().enumerate();
            let is_cut = |other| plan.as_ref().is_some_and(|plan| plan.cuts(index, other));
            let others = nodes.filter(|(other, _)| *other != index && !is_cut(*other));
            let others = others
                .filter(|(_, it)| it.is_running().unwrap_or_default())
                .count();
            self.sees_peers(&node, others).await
        };
        if let Err(error) = started.await {
            self.kill(index).await?;
            return Err(error);
        }
        Ok(true)
    }

    /// Starts a node that does not run, and returns when it serves, also when it sees nobody.
    ///
    /// # Errors
    /// As [`Self::start`].
    #[cfg(feature = "scenarios")]
    pub(crate) async fn start_alone(&self, index: usize) -> Result<(), Error> {
        if let Err(error) = self.start_node(index).await {
            self.kill(index).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Removes all that a node that does not run has kept, so that the next one on its home is a
    /// new one.
    #[cfg(feature = "scenarios")]
    pub(crate) async fn renew(&self, index: usize) -> Result<(), Error> {
        let node = self.node(index)?;
        remove_node(&node).await?;
        self.update(index, |node| {
            node.peer_id = None;
            node.listen.clear();
        })
    }

    /// Ends a node as `kill -9` does, and says whether it ran.
    ///
    /// # Errors
    /// [`Error::Stuck`] when it does not even end then.
    pub async fn kill(&self, index: usize) -> Result<bool, Error> {
        let node = self.node(index)?;
        let end = end_node(&node, &[KILL]).await?;
        self.update(index, |now| now.forget(node.process))?;
        Ok(end != End::Before)
    }

    /// Ends every node, in order if it does so in time, and removes the homes, the manifest and the
    /// folder, if that was made for it and nothing else is in it.
    ///
    /// # Errors
    /// The first of what remains, of which the manifest still knows; it can be called again.
    pub async fn down(self) -> Result<Down, Error> {
        let Manifest {
            nodes,
            made_dir,
            made_files,
            ..
        } = self.manifest().clone();
        let ends = join_all(nodes.iter().map(remove_node)).await;
        let ends: Vec<End> = ends.into_iter().collect::<Result<_, _>>()?;
        if made_files {
            let files = self.dir().join(FILES_DIR);
            match tokio::fs::remove_dir_all(&files).await {
                Err(error) if !is_absent(&error) => return Err(Error::io("remove", &files)(error)),
                _ => {}
            }
        }
        let count = |which: &[End]| ends.iter().filter(|end| which.contains(end)).count();
        Ok(Down {
            nodes: nodes.len(),
            stopped: count(&[End::InOrder, End::Killed]),
            killed: count(&[End::Killed]),
            removed: self.folder.clear(made_dir)?,
        })
    }

    /// Takes it down because of `cause`, and says what came of that.
    pub async fn down_after(self, cause: Error) -> Error {
        match self.down().await {
            Ok(_) => cause,
            Err(remains) => Error::Remains {
                cause: Box::new(cause),
                remains: Box::new(remains),
            },
        }
    }

    /// Makes a folder for what is shared and fetched; it goes with the testnet.
    pub(crate) fn make_files_dir(&self) -> Result<PathBuf, Error> {
        let dir = self.dir().join(FILES_DIR);
        let failed = |error| Error::io("make the folder", &dir)(error);
        if dir.symlink_metadata().is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let mut manifest = self.manifest();
        manifest.made_files = true;
        manifest.save(self.dir())?;
        DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
        Ok(dir)
    }

    /// Runs a command on a node, and reads the document that it prints.
    pub(crate) async fn run<T: DeserializeOwned>(
        &self,
        node: &NodeEntry,
        arguments: &[&OsStr],
    ) -> Result<T, Error> {
        let failed = |said| Error::Command {
            node: node.name.clone(),
            said: Box::new(said),
            log: log_tail(&node.home),
        };
        let gone = || failed(ApiError::new(ErrorCode::DaemonLost, "it does not run"));
        let running = node.find()?.ok_or_else(gone)?;
        // It would wait for a daemon that hangs, and for one that is started again.
        tokio::select! {
            result = command::run(&self.program, &node.home, arguments) => result.map_err(failed),
            _ = running.end() => Err(gone()),
        }
    }

    /// The name of the node with this peer id; the peer id itself, if it is none of these.
    pub(crate) fn name_of(&self, peer_id: &str) -> String {
        let manifest = self.manifest();
        let mut nodes = manifest.nodes.iter();
        let node = nodes.find(|node| node.peer_id.as_deref() == Some(peer_id));
        node.map_or(peer_id, |node| &node.name).to_owned()
    }

    /// Takes the folder and writes down what there is going to be.
    async fn create(
        dir: &Path,
        nodes: usize,
        transport: Transport,
        program: &Path,
    ) -> Result<Self, Error> {
        if nodes == 0 || nodes > NODES_MAX {
            return Err(Error::Nodes { nodes, min: 1 });
        }
        let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
        capacity::check(nodes, existing)?;
        let addresses = transport.addresses(nodes);
        let addresses = addresses.map_err(Error::io("find ports for the nodes in", dir))?;
        let (folder, made_dir) = Folder::create(dir).await?;
        let manifest = Manifest::new(folder.path(), addresses, made_dir);
        manifest.save(folder.path())?;
        Ok(Self {
            folder,
            program: program.to_owned(),
            manifest: Mutex::new(manifest),
        })
    }

    /// The first alone, so that the others can be told of it; then many at once.
    async fn start_all(&self, nodes: usize) -> Result<(), Error> {
        let at_once = at_once();
        self.start_node(0).await?;
        let starts = stream::iter((1..nodes).map(|index| self.start_node(index)));
        starts.buffer_unordered(at_once).try_collect::<()>().await?;
        let entries = self.nodes();
        let ready = entries.iter().map(|node| self.sees_peers(node, nodes - 1));
        let ready = stream::iter(ready).buffer_unordered(at_once);
        ready.try_collect().await
    }

    /// Starts a node, and waits until it serves. What it has started is in the manifest before it
    /// does anything.
    async fn start_node(&self, index: usize) -> Result<(), Error> {
        let node = self.node(index)?;
        let mut options = vec!["--no-mdns".to_owned()];
        for address in node.listens() {
            options.extend(["--listen".to_owned(), address.to_owned()]);
        }
        for address in self.bootstrap_addresses(index) {
            options.extend(["--bootstrap".to_owned(), address]);
        }
        options.extend(self.links_options(index));
        let gated = Gated::spawn(&self.program, &node.home, &options)
            .map_err(Error::io("start a node in", &node.home))?;
        self.update(index, |node| node.process = Some(gated.id()))?;
        let ready = gated
            .open()
            .await
            .map_err(|said| start_error(&node, said))?;
        self.update(index, |node| {
            node.peer_id = Some(ready.peer_id);
            node.listen = ready.listen;
        })
    }

    /// Waits until a node sees enough of `others` nodes.
    async fn sees_peers(&self, node: &NodeEntry, others: usize) -> Result<(), Error> {
        let needed = others.min(PEERS_READY);
        let deadline = Instant::now() + PEERS_DEADLINE;
        loop {
            let peers: Result<types::Peers, _> =
                command::run(&self.program, &node.home, &[OsStr::new("peers")]).await;
            let seen = peers.map_err(|said| start_error(node, said))?.peers.len();
            if seen >= needed {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::Peers {
                    node: node.name.clone(),
                    seen,
                    needed,
                    seconds: PEERS_DEADLINE.as_secs(),
                    log: log_tail(&node.home),
                });
            }
            sleep(PEERS_POLL).await;
        }
    }

    /// Whom a node is told of: some of those that are ready, each node of others.
    fn bootstrap_addresses(&self, index: usize) -> Vec<String> {
        let manifest = self.manifest();
        let ready = manifest.nodes.iter().enumerate();
        let mut ready: Vec<_> = ready
            .filter(|(other, node)| *other != index && node.process.is_some())
            .filter_map(|(_, node)| node.listen.first())
            .collect();
        let places = ready.len().max(1);
        ready.rotate_left(index % places);
        ready.into_iter().take(BOOTSTRAP_PEERS).cloned().collect()
    }

    fn update(&self, index: usize, change: impl FnOnce(&mut NodeEntry)) -> Result<(), Error> {
        let mut manifest = self.manifest();
        manifest.nodes.get_mut(index).map(change);
        manifest.save(self.dir())
    }

    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        // What is in it was whole before and after every change.
        self.manifest.lock()
    }
}

/// How many nodes are worth starting or asking at once.
pub(crate) fn at_once() -> usize {
    STARTS_PER_CORE * thread::available_parallelism().map_or(1, Into::into)
}

/// The nodes of the testnet in `dir`, for those who only look.
///
/// # Errors
/// [`Error::Absent`] when there is none.
pub fn nodes(dir: &Path) -> Result<Vec<NodeEntry>, Error> {
    let absent = || Error::Absent {
        dir: dir.to_owned(),
    };
    let dir = dir.canonicalize().map_err(|_| absent())?;
    let manifest = Manifest::load(&dir)?.ok_or_else(absent)?;
    Ok(manifest.nodes)
}

/// What a node said in place of serving, with the end of its log.
fn start_error(node: &NodeEntry, said: ApiError) -> Error {
    Error::Start {
        node: node.name.clone(),
        said: Box::new(said),
        log: log_tail(&node.home),
    }
}
