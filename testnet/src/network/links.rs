//! The links of a running testnet, and changing them.
//!
//! A change returns when it is in force on every node that runs, as each says itself; a node that
//! starts later reads it then.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use shoal_api::types::Status;
use shoal_net::emulation::{NodeSet, Plan};
use tokio::time::{Instant, sleep};

use super::{Testnet, at_once};
use crate::{
    Error, NodeEntry,
    links::{LINKS_FILE, plan_in, save},
};

/// Nodes look every 100 ms; this is for a machine that is very busy.
const IN_FORCE_DEADLINE: Duration = Duration::from_secs(30);
const IN_FORCE_POLL: Duration = Duration::from_millis(50);

/// What a change of the links came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LinksChanged {
    /// Of the plan that is in force now.
    pub version: u64,
    /// The nodes that run, on which it is.
    pub nodes: usize,
}

impl Testnet {
    /// What the links are like.
    ///
    /// # Errors
    /// [`Error::NotEmulated`] when the testnet was started without emulated links.
    pub fn plan(&self) -> Result<Plan, Error> {
        plan_in(self.dir())?.ok_or_else(|| Error::NotEmulated {
            dir: self.dir().to_owned(),
        })
    }

    /// Checks that the testnet has all nodes that a set names.
    ///
    /// # Errors
    /// [`Error::NoNode`] with one that it does not have.
    pub fn has(&self, nodes: &NodeSet) -> Result<(), Error> {
        nodes
            .highest()
            .map_or(Ok(()), |highest| self.node(highest).map(drop))
    }

    /// Changes what the links are like, and returns when the nodes that run keep to it.
    ///
    /// # Errors
    /// [`Error::NotEmulated`], and [`Error::NotInForce`] with a node that does not follow in time;
    /// then the others do.
    pub async fn change_links(
        &self,
        change: impl FnOnce(&mut Plan),
    ) -> Result<LinksChanged, Error> {
        let mut plan = self.plan()?;
        change(&mut plan);
        self.apply(&plan).await
    }

    /// Replaces the plan, and returns when the nodes that run keep to it. Its version, when the
    /// network has started and where the nodes listen is filled in.
    ///
    /// # Errors
    /// As [`Testnet::change_links`].
    pub async fn apply(&self, plan: &Plan) -> Result<LinksChanged, Error> {
        let before = self.plan()?;
        let mut plan = plan.clone();
        plan.version = before.version + 1;
        plan.started_ms = before.started_ms;
        self.fill_in(&mut plan);
        save(&plan, self.dir())?;
        let nodes = self.nodes();
        let version = plan.version;
        let follow = nodes
            .into_iter()
            .map(|node| async move { self.follows(&node, version).await });
        let follow = stream::iter(follow).buffer_unordered(at_once());
        let followed: Vec<bool> = follow.try_collect().await?;
        Ok(LinksChanged {
            version: plan.version,
            nodes: followed.into_iter().filter(|runs| *runs).count(),
        })
    }

    /// Writes the first plan, before anything runs.
    pub(crate) fn begin_links(&self, plan: Plan) -> Result<(), Error> {
        let since_unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let started = since_unix.unwrap_or_default().as_millis();
        let mut plan = Plan {
            version: 1,
            started_ms: u64::try_from(started).unwrap_or_default(),
            ..plan
        };
        let nodes = plan.nodes.len().max(self.nodes().len());
        plan.nodes.resize_with(nodes, Default::default);
        self.fill_in(&mut plan);
        save(&plan, self.dir())
    }

    /// How a node is told of the plan; nothing, when its links are not emulated.
    pub(crate) fn links_options(&self, index: usize) -> Vec<String> {
        let file = self.dir().join(LINKS_FILE);
        if !file.exists() {
            return Vec::new();
        }
        let file = file.to_string_lossy().into_owned();
        vec![
            "--links".into(),
            file,
            "--links-node".into(),
            index.to_string(),
        ]
    }

    /// Where the nodes listen, as far as it is known before they run.
    fn fill_in(&self, plan: &mut Plan) {
        let nodes = self.nodes();
        // There may be more lines: nodes that are no daemons have them, too.
        let lines = plan.nodes.len().max(nodes.len());
        plan.nodes.resize_with(lines, Default::default);
        for (line, node) in plan.nodes.iter_mut().zip(&nodes) {
            line.listen = node.listens().filter_map(udp_address).collect();
        }
    }

    /// Waits until a node keeps to the plan of this version; says whether it runs.
    async fn follows(&self, node: &NodeEntry, version: u64) -> Result<bool, Error> {
        let deadline = Instant::now() + IN_FORCE_DEADLINE;
        loop {
            if !node.is_running()? {
                return Ok(false);
            }
            let status: Result<Status, Error> = self.run(node, &[OsStr::new("status")]).await;
            let in_force = match status {
                Ok(status) => status.emulation.map_or(0, |line| line.version),
                Err(_) if !node.is_running()? => return Ok(false),
                Err(error) => return Err(error),
            };
            if in_force >= version {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Err(Error::NotInForce {
                    node: node.name.clone(),
                    seconds: IN_FORCE_DEADLINE.as_secs(),
                });
            }
            sleep(IN_FORCE_POLL).await;
        }
    }
}

/// The socket of `/ip4/…/udp/…/quic-v1/…`.
fn udp_address(address: &str) -> Option<SocketAddr> {
    let mut parts = address.strip_prefix("/ip")?.get(2..)?.split('/');
    let (ip, kind, port) = (parts.next()?, parts.next()?, parts.next()?);
    (kind == "udp").then_some(())?;
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn where_a_node_listens_by_udp_is_read_from_its_addresses() {
        let check = |address: &str, expected: Option<&str>| {
            let expected = expected.map(|it| it.parse().unwrap());
            assert_eq!(udp_address(address), expected, "{address}");
        };
        check(
            "/ip4/127.0.0.1/udp/4101/quic-v1/p2p/12D3",
            Some("127.0.0.1:4101"),
        );
        check("/ip6/::1/udp/7/quic-v1", Some("[::1]:7"));
        check("/ip4/127.0.0.1/tcp/4101/p2p/12D3", None);
        check("/dns4/localhost/udp/1", None);
        check("", None);
    }
}
