//! What the steps of a run do.

use std::{fs, path::Path, sync::atomic::Ordering::Relaxed};

use super::{Life, Root, Run};
use crate::{
    Error,
    run::{
        driver::Driver,
        record::{Lookup, Outcome},
        script::ScriptStep,
    },
};

impl<D: Driver> Run<'_, D> {
    pub(super) async fn share(&self, step: &ScriptStep, node: usize, item: usize) {
        self.until_up(node).await;
        let shared = self.driver.share(node, &self.originals[item].path).await;
        let (root, error): (Root, _) = match shared {
            Ok(root) => (Ok(root), None),
            Err(error) => (Err(()), Some(error)),
        };
        self.happened(step, Some(node), error);
        self.roots[item].send_replace(Some(root));
    }

    /// Fetches until it is done, also through the deaths of the node: what a person would do.
    pub(super) async fn fetch(&self, node: usize, item: usize) {
        let fresh = self.life(node).fresh;
        let to = self.destination(node, fresh, item);
        let entry = self.ledger.fetch_begins(node, item, self.start.elapsed());
        let outcome = self.fetch_to(node, fresh, item, entry, &to).await;
        self.ledger.fetch_ends(entry, self.start.elapsed(), outcome);
        if self.to_fetch[node].fetch_sub(1, Relaxed) == 1 {
            self.leave(node).await;
        }
    }

    /// A node that has all that it wants leaves some time later, if its group does.
    async fn leave(&self, node: usize) {
        let group = self.scenario.members.group_of(node);
        let Some(after) = group.and_then(|group| group.leave_after) else {
            return;
        };
        tokio::time::sleep(after).await;
        if self.life(node).up {
            self.end(node).await;
        }
    }

    async fn fetch_to(
        &self,
        node: usize,
        fresh: u32,
        item: usize,
        entry: usize,
        to: &Path,
    ) -> Outcome {
        let Some(root) = self.root(item).await else {
            return Outcome::Failed("it was not shared".to_owned());
        };
        if let Some(Err(error)) = to.parent().map(fs::create_dir_all) {
            let error = Error::io("make the folder", to)(error);
            return Outcome::Failed(error.to_string());
        }
        let keeps = self
            .scenario
            .members
            .group_of(node)
            .is_none_or(|it| it.keep);
        loop {
            let life = self.until_up(node).await;
            if life.fresh != fresh {
                return Outcome::Replaced;
            }
            let Ok(_permit) = self.fetches.acquire().await else {
                return Outcome::Unfinished;
            };
            let landed = |bytes| self.ledger.landed(entry, bytes);
            let fetched = tokio::select! {
                biased;
                () = self.until_over(node, life) => continue,
                fetched = self.driver.fetch(node, &root, to, keeps, &landed) => fetched,
            };
            match fetched {
                Ok(fetched) => {
                    self.ledger.fetched_from(entry, fetched.from);
                    return Outcome::Landed(to.to_owned());
                }
                Err(_) if self.life(node) != life => {}
                Err(error) => return Outcome::Failed(error.to_string()),
            }
        }
    }

    pub(super) async fn lookup(&self, node: usize, item: usize) {
        let root = self.root(item).await;
        let Ok(_permit) = self.lookups.acquire().await else {
            return;
        };
        let began = self.start.elapsed();
        let found = match &root {
            Some(root) => {
                let found = self.driver.lookup(node, root).await;
                found.map_err(|error| error.to_string())
            }
            None => Err("it was not shared".to_owned()),
        };
        self.ledger.looked_up(Lookup {
            node,
            item,
            began,
            took: self.start.elapsed().saturating_sub(began),
            hops: found.as_ref().ok().and_then(|found| found.hops),
            found: found.map(|found| found.providers),
        });
    }

    /// What the node does for a run is given up before it is killed, so that its end is no failure.
    pub(super) async fn kill(&self, step: &ScriptStep, node: usize) {
        self.until_up(node).await;
        let error = self.end(node).await;
        self.happened(step, Some(node), error);
    }

    /// Ends a node that is up; why that did not go well.
    async fn end(&self, node: usize) -> Option<Error> {
        self.count(node).await;
        self.nodes[node].send_modify(|life| {
            life.up = false;
            life.number += 1;
        });
        let killed = self.driver.kill(node).await;
        self.ledger.changed(self.start.elapsed(), node, false);
        killed.err()
    }

    pub(super) async fn restart(&self, step: &ScriptStep, node: usize, fresh: bool) {
        let mut life = self.nodes[node].subscribe();
        // The sender is this run's own.
        let _ = life.wait_for(|life| !life.up).await;
        let Ok(_permit) = self.starts.acquire().await else {
            return;
        };
        let started = self.driver.start(node, fresh).await;
        let error = started.err();
        if error.is_none() {
            self.ledger.changed(self.start.elapsed(), node, true);
            self.nodes[node].send_modify(|life| {
                life.up = true;
                life.fresh += u32::from(fresh);
            });
        }
        self.happened(step, Some(node), error);
    }

    /// The root of an item, once it is shared; none when that failed.
    async fn root(&self, item: usize) -> Option<String> {
        let mut root = self.roots[item].subscribe();
        let known = root.wait_for(Option::is_some).await;
        known.ok().and_then(|root| root.clone()?.ok())
    }

    async fn until_up(&self, node: usize) -> Life {
        let mut life = self.nodes[node].subscribe();
        let up = life.wait_for(|life| life.up).await.map(|life| *life);
        up.unwrap_or_else(|_| self.life(node))
    }

    /// Until a life of a node is over.
    async fn until_over(&self, node: usize, life: Life) {
        let mut lives = self.nodes[node].subscribe();
        // The sender is this run's own.
        let _ = lives.wait_for(|now| *now != life).await;
    }
}
