//! What is done now and then: greeting near peers, trying those that were named, telling homes what
//! is held, comparing it with its digests, letting go, and keeping the demand.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use libp2p::PeerId;
use shoal_protocol::{
    exchange::{LeafRanges, List},
    near::Nearness,
    replicate::{HELD_MAX, Held, Key, PeerKey, Response, Telling},
};
use shoal_store::{StoreError, TableChange, replicas::ReplicaPosition};
use tokio::time::MissedTickBehavior;

use super::{
    LINKS_MAX, ReplicatorInner, Word, config::Scope, finished::finished, metered::Meter,
    people::Circle, power,
};

/// Between two looks at who is near, at the most; whatever is new is looked at at once.
const TICK: Duration = Duration::from_secs(1);

/// Between two looks at once: what changes in a burst is told together.
const NUDGES_APART: Duration = Duration::from_millis(50);

/// Between two greetings of all peers. Each gets two of them, one on each stream, and a peer may greet
/// once in 10 s: so nobody that switches on and off again and again is shut out for it.
const GREET_TICKS: u64 = 20;

/// Ticks after which the disk's floor and the battery are looked at, what nobody reads is let go, and what would be
/// forgotten with the process is written.
const FLOOR_TICKS: u64 = 10;
const EXPIRE_TICKS: u64 = 3600;
const KEEP_TICKS: u64 = 600;

/// The time after which the system is asked again whether the line is metered.
const METER_INTERVAL: Duration = Duration::from_secs(60);

/// Ticks after which one piece of what is held is read and compared with its digest: the usual 2 GiB, in
/// pieces of 4 MiB, once in four days.
const SCRUB_TICKS: u64 = 660;

/// Leaves that fit into one message of holdings: each range takes a few bytes, and a message of 256
/// keys with one range each 9 KiB of the 16 KiB that it may have. Of more ranges fewer keys.
const HELD_RANGES_PER_MESSAGE: usize = 512;

/// The row of the demand.
const DEMAND_KEY: &[u8] = b"replicas.demand";

/// The length of the time before the saved demand: seconds since the epoch, little-endian.
const SAVED_AT_BYTES: usize = 8;

impl ReplicatorInner {
    /// Tends until it is dropped.
    pub(super) async fn tend(self: Arc<Self>) {
        self.restore_demand().await;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut tick, mut greet_at, mut is_greeting_due) = (0_u64, 0_u64, false);
        let mut scrubbed = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    tick = tick.wrapping_add(1);
                    is_greeting_due |= self.look_whether_it_helps();
                    if is_greeting_due && tick >= greet_at && self.greet_again().await {
                        (greet_at, is_greeting_due) = (tick.saturating_add(GREET_TICKS), false);
                    }
                    self.people().trim();
                    self.look_whether_busy_is_over();
                    self.keep_house(tick).await;
                    if tick.is_multiple_of(SCRUB_TICKS) {
                        scrubbed = self.scrub(scrubbed).await;
                    }
                }
                () = self.nudge.notified() => tokio::time::sleep(NUDGES_APART).await,
            }
            if self.is_on() {
                self.greet_neighbours();
                self.try_named().await;
                self.tell_homes();
            }
        }
    }

    /// Asks again and again whether the line is metered, until it is dropped. Beside [`Self::tend`]: a
    /// system bus that hangs holds up an answer for seconds.
    pub(super) async fn watch_meter(&self) {
        let mut meter = Meter::default();
        loop {
            self.is_metered.store(meter.is_metered().await, Relaxed);
            tokio::time::sleep(METER_INTERVAL).await;
        }
    }

    /// Has a stream to each near peer, and the distances in the tables follow.
    fn greet_neighbours(self: &Arc<Self>) {
        let mut near = self.net.near_peers();
        near.retain(|it| self.config.scope != Scope::Lan || it.nearness == Nearness::Lan);
        let peers: Vec<_> = near.iter().map(|it| it.peer).collect();
        let to_greet = {
            let mut people = self.people();
            for peer in people.placed() {
                match near.iter().find(|it| it.peer == peer) {
                    Some(it) => {
                        people.place(&peer, it.nearness, it.rtt);
                    }
                    // It greets again when it is near again.
                    None => people.unlink(&peer),
                }
            }
            let mut due = people.greetings_due(&peers, self.clock.now());
            // No link gives way to a greeting, or the one that does would be greeted next.
            due.truncate(LINKS_MAX.saturating_sub(people.links.len()));
            due
        };
        for peer in to_greet {
            self.link_to(peer);
        }
    }

    /// Says who this node is again, after that has changed. Whether there was anybody to greet.
    async fn greet_again(&self) -> bool {
        let (links, callers): (Vec<_>, Vec<_>) = {
            let people = self.people();
            let links = people
                .links
                .iter()
                .map(|(peer, link)| (*peer, link.clone()));
            let callers = people
                .callers
                .iter()
                .map(|(peer, said)| (*peer, said.clone()));
            (links.collect(), callers.collect())
        };
        let is_anybody_there = !links.is_empty() || !callers.is_empty();
        for (peer, link) in links {
            link.say(Word::Hello(self.hello(peer).await));
        }
        for (peer, said) in callers {
            // A stream on which too much waits is told nothing; it will end.
            let _ = said.try_send(Response::Hello(self.hello(peer).await));
        }
        is_anybody_there
    }

    /// Connects with a helper that a neighbour named, if it is time; being near, it is greeted then.
    async fn try_named(self: &Arc<Self>) {
        let now = self.clock.now();
        let Some(named) = self.people().next_to_try(now) else {
            return;
        };
        let net = self.net.clone();
        net.learn(named.peer, named.addresses, named.told_by).await;
        let (inner, shutdown) = (Arc::clone(self), self.shutdown.clone());
        self.tasks.spawn(async move {
            let connecting = net.connect_peer(named.peer, Vec::new());
            if let Some(Ok(_)) = shutdown.run_until_cancelled(connecting).await {
                inner.nudge.notify_one();
            }
        });
    }

    /// Tells homes what is held, as far as they do not know.
    fn tell_homes(self: &Arc<Self>) {
        if !std::mem::take(&mut self.people().is_telling_due) {
            return;
        }
        let mut keys: Vec<Key> = self
            .replicas
            .decide(|helper| helper.cache().keys().collect());
        // A node that ends with its fetch keeps nothing for those who come later.
        if self.lasts {
            let finished = finished(&self.library);
            keys.extend(&finished);
            *self.finished.lock() = finished;
        }
        let due: Vec<_> = {
            let mut people = self.people();
            let people = &mut *people;
            let circles = [&mut people.lan, &mut people.near];
            circles
                .into_iter()
                .flat_map(|Circle { table, told }| told.due(keys.iter().copied(), table))
                .collect()
        };
        for (home, tellings) in due {
            self.tell_home(home, tellings);
        }
    }

    fn tell_home(self: &Arc<Self>, home: PeerKey, tellings: Vec<Telling>) {
        let peer = self.people().numbers.peer(home);
        let Some(link) = peer.and_then(|peer: PeerId| self.link_to(peer)) else {
            return;
        };
        let held = tellings.into_iter().map(|telling| match telling {
            Telling::Holds(key) => self.held(key),
            Telling::Gone(key) => Held {
                key,
                ranges: LeafRanges::default(),
                busy: false,
            },
        });
        for message in messages(held) {
            let keys: Vec<Key> = message.iter().map(|it| it.key).collect();
            if link.say(Word::Hold(List::first_of(message))) {
                continue;
            }
            // Too much waits to be told already: the rest has its turn later.
            let mut people = self.people();
            for key in keys {
                people.lan.told.changed(key);
                people.near.told.changed(key);
            }
            people.is_telling_due = true;
        }
    }

    /// What costs disk calls.
    async fn keep_house(&self, tick: u64) {
        if tick % FLOOR_TICKS == 1 {
            let looking = self.on_disk(|replicas, _| {
                replicas.keep_floor()?;
                Ok(power::is_on_battery())
            });
            match looking.await {
                Ok(on_battery) => self.on_battery.store(on_battery, Relaxed),
                Err(error) => tracing::warn!(%error, "the disk's floor was not looked after"),
            }
        }
        if tick % EXPIRE_TICKS == 1 {
            self.log(
                self.on_disk(|replicas, now| replicas.expire(now)).await,
                "what nobody reads",
            );
        }
        if tick.is_multiple_of(KEEP_TICKS) {
            self.keep_demand().await;
        }
    }

    /// Looks at the next piece of what is held, and says where to go on; from the beginning after the
    /// last one, and after a failure.
    async fn scrub(&self, behind: Option<ReplicaPosition>) -> Option<ReplicaPosition> {
        let step = match self
            .on_disk(move |replicas, _| replicas.scrub(behind))
            .await
        {
            Ok(step) => step?,
            Err(error) => {
                self.log::<()>(Err(error), "a piece of what is held");
                return None;
            }
        };
        self.counters.bytes_scrubbed.add_all(step.bytes);
        Some(step.position)
    }

    fn log<T>(&self, result: Result<T, StoreError>, what: &str) {
        if let Err(error) = result {
            tracing::warn!(%error, "replicas: {what} was not looked after");
        }
    }

    /// Writes the demand, and how what is held stands.
    pub(super) async fn keep_demand(&self) {
        let table = self.table.clone();
        let kept = self.on_disk(move |replicas, now| {
            replicas.flush()?;
            let demand = replicas.decide(|helper| helper.save_demand(now));
            let mut value = now.as_secs().to_le_bytes().to_vec();
            value.extend_from_slice(&demand);
            let key = DEMAND_KEY.to_vec();
            table.write(&[TableChange::Put { key, value }], false)?;
            Ok(())
        });
        self.log(kept.await, "the demand");
    }

    /// Takes up the demand of an earlier run.
    async fn restore_demand(&self) {
        let table = self.table.clone();
        let restored = self.on_disk(move |replicas, now| {
            let Some(row) = table.get(DEMAND_KEY)? else {
                return Ok(());
            };
            if let Some((at, demand)) = row.split_first_chunk::<SAVED_AT_BYTES>() {
                let at = Duration::from_secs(u64::from_le_bytes(*at));
                let age = now.saturating_sub(at);
                replicas.decide(|helper| helper.restore_demand(demand, age, now));
            }
            Ok(())
        });
        self.log(restored.await, "the demand");
    }
}

/// Cuts what is held into messages that fit a frame.
fn messages(held: impl Iterator<Item = Held>) -> Vec<Vec<Held>> {
    let mut messages: Vec<Vec<Held>> = Vec::new();
    let mut room = 0_usize;
    for held in held {
        let ranges = held.ranges.iter().len().max(1);
        match messages.last_mut() {
            Some(last) if last.len() < HELD_MAX && ranges <= room => {
                room -= ranges;
                last.push(held);
            }
            _ => {
                room = HELD_RANGES_PER_MESSAGE.saturating_sub(ranges);
                messages.push(vec![held]);
            }
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::replicate::{Request, encode};

    use super::*;

    fn held(n: u64, ranges: u64) -> Held {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        // Far apart, so that each takes as many bytes as a range may.
        let leaves = (0..ranges).map(|it| it << 30);
        Held {
            key: Key(key),
            ranges: LeafRanges::from_sorted(leaves),
            busy: false,
        }
    }

    #[test]
    fn what_is_held_is_told_in_frames_that_are_not_too_long() {
        for ranges in [0, 1, 2, 3, 64] {
            let all: Vec<_> = (0..2000).map(|n| held(n, ranges)).collect();
            let messages = messages(all.iter().cloned());
            assert_eq!(messages.concat(), all, "all of it, in order");
            for message in messages {
                let held = List::try_from(message).unwrap();
                encode(&Request::Holding { held }, &mut Vec::new()).unwrap();
            }
        }
    }
}
