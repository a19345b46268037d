//! A network of processes: every node is a daemon, as a user runs it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use libp2p::{PeerId, multiaddr::multiaddr};
use parking_lot::Mutex;
use shoal_api::{
    ApiError, HEARTBEAT_INTERVAL,
    client::Client,
    types::{FetchUpdate, FindRequest},
};
use shoal_net::{
    NetConfig,
    emulation::{Emulation, Emulator, Plan},
};

use super::{
    driver::{Counters, Driver, Fetched, LookedUp, Network},
    requests::{self, SharedKeys},
};
use crate::{
    Error, NodeEntry, Testnet, error::log_tail, launch::log_path, links::plan_in,
    network::BOOTSTRAP_PEERS,
};

/// Eight missed heartbeats: a machine that runs a whole network is busier than that of one node.
const SILENCE_MAX: Duration = HEARTBEAT_INTERVAL.saturating_mul(8);

/// A testnet, as a run uses it.
#[derive(Debug)]
pub struct Processes {
    testnet: Testnet,
    files: PathBuf,
    clients: Vec<Client>,
    /// Who is or was which node: a new node in the place of another has a new name.
    peers: Mutex<HashMap<String, usize>>,
    shared_keys: SharedKeys,
    /// The links of those nodes that are tasks of this process.
    emulator: Option<Emulator>,
    links: tokio::sync::Mutex<()>,
    /// What a node may take without any progress: as long as the run.
    patience: Duration,
}

impl Processes {
    /// Takes a testnet that is up. What a node is asked for may take as long as `patience`.
    ///
    /// # Errors
    /// When there is no room for the files of a run. The testnet is taken down then.
    pub async fn new(testnet: Testnet, patience: Duration) -> Result<Self, Error> {
        match Self::prepare(&testnet) {
            Ok((files, clients, plan)) => {
                let driver = Self {
                    testnet,
                    files,
                    clients,
                    peers: Mutex::default(),
                    shared_keys: SharedKeys::default(),
                    emulator: plan.map(Emulator::new),
                    links: tokio::sync::Mutex::default(),
                    patience,
                };
                driver.learn_peers();
                Ok(driver)
            }
            Err(error) => Err(testnet.down_after(error).await),
        }
    }

    fn prepare(testnet: &Testnet) -> Result<(PathBuf, Vec<Client>, Option<Plan>), Error> {
        let files = testnet.make_files_dir()?;
        let client = |node: NodeEntry| match Client::of(&node.home) {
            Ok(client) => Ok(client.silent_for(SILENCE_MAX)),
            Err(said) => Err(failed(&node, said)),
        };
        let clients = testnet.nodes().into_iter().map(client);
        let clients = clients.collect::<Result<_, _>>()?;
        Ok((files, clients, plan_in(testnet.dir())?))
    }

    fn learn_peers(&self) {
        let nodes = self.testnet.nodes().into_iter().enumerate();
        let known = nodes.filter_map(|(index, node)| Some((node.peer_id?, index)));
        let mut peers = self.peers.lock();
        peers.extend(known);
    }

    fn client(&self, node: usize) -> Result<(&Client, NodeEntry), Error> {
        let entry = self.testnet.node(node)?;
        match self.clients.get(node) {
            Some(client) => Ok((client, entry)),
            None => Err(Error::NoNode {
                index: node,
                nodes: self.clients.len(),
            }),
        }
    }
}

impl Network for Processes {
    /// What remains, `shoal testnet down` can try again.
    async fn down(self) -> Result<(), Error> {
        self.testnet.down().await.map(drop)
    }

    async fn down_after(self, cause: Error) -> Error {
        self.testnet.down_after(cause).await
    }

    async fn keep(self) -> Result<(), Error> {
        Ok(())
    }
}

impl Driver for Processes {
    async fn start(&self, node: usize, fresh: bool) -> Result<(), Error> {
        if fresh {
            self.testnet.renew(node).await?;
        }
        self.testnet.start_alone(node).await?;
        self.learn_peers();
        Ok(())
    }

    async fn kill(&self, node: usize) -> Result<(), Error> {
        self.testnet.kill(node).await.map(drop)
    }

    async fn share(&self, node: usize, path: &Path) -> Result<String, Error> {
        let (client, entry) = self.client(node)?;
        let request = requests::share(path).map_err(|said| failed(&entry, said))?;
        let shared = client.share(&request, |_| {}).await;
        let shared = shared.map_err(|said| failed(&entry, said))?;
        self.shared_keys.add(&shared.cid);
        Ok(shared.cid)
    }

    async fn fetch(
        &self,
        node: usize,
        root: &str,
        to: &Path,
        keeps: bool,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Fetched, Error> {
        let (client, entry) = self.client(node)?;
        let request = requests::fetch(root, to, keeps, self.patience);
        let request = request.map_err(|said| failed(&entry, said))?;
        let on_progress = |at: FetchUpdate| on_progress(at.progress.verified_bytes);
        let fetched = client.fetch(&request, on_progress).await;
        let fetched = fetched.map_err(|said| failed(&entry, said))?;
        let peers = self.peers.lock();
        let from = fetched.from.iter().map(|source| {
            let node = peers.get(&source.peer.to_string()).copied();
            (node, source.bytes)
        });
        Ok(Fetched {
            from: from.collect(),
        })
    }

    async fn lookup(&self, node: usize, root: &str) -> Result<LookedUp, Error> {
        let (client, entry) = self.client(node)?;
        let request = FindRequest {
            link: root.to_owned(),
            timeout_ms: requests::millis(self.patience),
        };
        let found = client.find(&request, |_| {}).await;
        let found = found.map_err(|said| failed(&entry, said))?;
        Ok(LookedUp {
            providers: u32::try_from(found.providers.len()).unwrap_or(u32::MAX),
            asked: found.asked,
            hops: None,
        })
    }

    async fn counters(&self, node: usize) -> Result<Counters, Error> {
        let (client, entry) = self.client(node)?;
        let status = client.status().await;
        let status = status.map_err(|said| failed(&entry, said))?;
        let replicas = client.replica_stats().await;
        let replicas = replicas.map_err(|said| failed(&entry, said))?;
        let kept = client.replicas().await;
        let kept = kept.map_err(|said| failed(&entry, said))?;
        Ok(Counters {
            uploaded: status.uploaded_bytes,
            downloaded: status.downloaded_bytes,
            peers: status.peers.len(),
            helped: requests::helped(&replicas, self.shared_keys.strange(&kept)),
        })
    }

    fn memory_bytes(&self) -> Option<u64> {
        let nodes = self.testnet.nodes().into_iter();
        let pids = nodes.filter_map(|node| Some(node.process?.pid));
        // One that has just ended takes none.
        Some(pids.filter_map(resident_bytes).sum())
    }

    fn memory_before(&self) -> Option<u64> {
        None
    }

    async fn apply(&self, plan: &Plan) -> Result<(), Error> {
        // One after the other: each has a version of its own.
        let _turn = self.links.lock().await;
        self.testnet.apply(plan).await?;
        if let Some(emulator) = &self.emulator {
            emulator.apply(self.testnet.plan()?);
        }
        Ok(())
    }

    fn net_config(&self, node: usize) -> NetConfig {
        let nodes = self.testnet.nodes().into_iter();
        let known = nodes.filter_map(|node| node.listen.first()?.parse().ok());
        NetConfig {
            listen: vec![multiaddr!(Ip4([127, 0, 0, 1]), Tcp(0_u16))],
            bootstrap: known.take(BOOTSTRAP_PEERS).collect(),
            mdns: false,
            emulation: self
                .emulator
                .clone()
                .map(|emulator| Emulation::Sockets { emulator, node }),
            ..NetConfig::default()
        }
    }

    fn meet(&self, node: usize, peer: PeerId) {
        let mut peers = self.peers.lock();
        peers.insert(peer.to_string(), node);
    }

    fn files(&self) -> &Path {
        &self.files
    }

    fn log(&self, node: usize) -> Option<PathBuf> {
        let entry = self.testnet.node(node).ok()?;
        Some(log_path(&entry.home))
    }
}

fn failed(node: &NodeEntry, said: ApiError) -> Error {
    Error::Command {
        node: node.name.clone(),
        said: Box::new(said),
        log: log_tail(&node.home),
    }
}

/// The memory of a process that is in use (proc_pid_statm(5)).
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}
