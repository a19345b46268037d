//! The nodes of a run that do wrong: tasks of this process, on the network that the others are on.

use std::sync::Arc;

use futures::future::try_join_all;
use shoal_protocol::address::Cid;
use tokio::task::JoinError;

use super::{driver::Driver, files::Original};
use crate::{
    Error,
    evil::{Behaviour, Blocks, Deeds, Evil, EvilConfig},
    scenario::Scenario,
};

/// All of them, while they run; they are cut off when dropped.
pub(crate) struct Evils {
    /// With its number.
    running: Vec<(usize, Evil)>,
}

impl Evils {
    /// Starts the nodes of a scenario that do wrong: they claim everything that is shared.
    ///
    /// # Errors
    /// [`Error::Evil`] with the first that does not start; nothing is left running then.
    pub(crate) async fn start<D: Driver>(
        driver: &D,
        scenario: &Scenario,
        originals: &[Original],
    ) -> Result<Self, Error> {
        let members = scenario.members.iter().enumerate();
        let evil: Vec<(usize, Behaviour)> = members
            .filter_map(|(node, member)| Some((node, member.evil?)))
            .collect();
        if evil.is_empty() {
            return Ok(Self {
                running: Vec::new(),
            });
        }
        let (blocks, claims) = blocks(originals).await?;
        let started = evil.into_iter().map(|(node, behaviour)| {
            let config = EvilConfig {
                net: driver.net_config(node),
                key_seed: key_seed(scenario.seed, node),
                behaviour,
                claims: claims.clone(),
                blocks: Arc::clone(&blocks),
                seed: scenario.seed,
            };
            async move {
                let started = Evil::start(config).await;
                let evil = started.map_err(|source| failed(scenario, node, source.to_string()))?;
                driver.meet(node, evil.peer_id());
                Ok::<_, Error>((node, evil))
            }
        });
        Ok(Self {
            running: try_join_all(started).await?,
        })
    }

    /// What each has done so far.
    pub(crate) fn deeds(&self) -> impl Iterator<Item = (usize, Deeds)> {
        self.running
            .iter()
            .map(|(node, evil)| (*node, evil.deeds()))
    }

    /// Ends them, and waits until nothing of them runs.
    ///
    /// # Errors
    /// [`Error::Evil`] with the first that had panicked.
    pub(crate) async fn end(self, scenario: &Scenario) -> Result<(), Error> {
        let ends = self.running.into_iter().map(|(node, evil)| async move {
            let ended = evil.shutdown().await;
            ended.map_err(|source| failed(scenario, node, source.to_string()))
        });
        let ends = futures::future::join_all(ends).await;
        ends.into_iter().collect()
    }
}

/// The blocks of everything that is shared, with their roots.
async fn blocks(originals: &[Original]) -> Result<(Arc<Blocks>, Vec<Cid>), Error> {
    let paths: Vec<_> = originals.iter().map(|it| it.path.clone()).collect();
    let read = tokio::task::spawn_blocking(move || {
        let mut blocks = Blocks::default();
        let roots = paths.iter().map(|path| {
            let root = blocks.path(path);
            root.map_err(Error::io("read", path))
        });
        let roots = roots.collect::<Result<Vec<_>, Error>>()?;
        Ok((Arc::new(blocks), roots))
    });
    let panicked = |error: JoinError| Error::io("read", "what is shared".as_ref())(error.into());
    read.await.map_err(panicked)?
}

/// The same node of the same seed has the same name.
fn key_seed(seed: u64, node: usize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"evil").update(&seed.to_be_bytes());
    hasher.update(&(node as u64).to_be_bytes());
    *hasher.finalize().as_bytes()
}

fn failed(scenario: &Scenario, node: usize, why: String) -> Error {
    Error::Evil {
        node: scenario.members.name(node).to_owned(),
        why,
    }
}
