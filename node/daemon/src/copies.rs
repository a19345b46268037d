//! What people ask of the copies that the node keeps for others: a list, numbers, dropping them, and
//! whether it keeps any. What a person has chosen is kept in a row, and goes before the
//! configuration. A person hears once, at the first start, that it keeps some.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use jiff::Timestamp;
use shoal_api::{ApiError, ErrorCode, types as api};
use shoal_protocol::replicate::Key;
use shoal_store::{
    Store, StoreError, TableName,
    replicas::{Cause, ReplicaInfo},
};
use shoal_transfer::replicate::{Paused, ReplicasConfig, Scope, declined_reason, gone_reason};

use super::{NodeHandle, errors::IntoApi as _};

/// The row of the node's own table that says what a person has chosen: `on` or `off`.
const CHOSEN: &[u8] = b"replicas.chosen";

/// The row of the node's own table that says that a person was told what it keeps.
const TOLD: &[u8] = b"replicas.told";

/// Digits of a key that are enough to name it: two keys of one home never share them by chance.
const DIGITS_MIN: usize = 8;

/// The configuration with what a person has chosen since. Blocking.
///
/// # Errors
/// Those of the database.
pub(super) fn chosen(store: &Store, config: &ReplicasConfig) -> Result<ReplicasConfig, StoreError> {
    let chosen = store.table(TableName::Node).get(CHOSEN)?;
    let mut config = config.clone();
    match chosen.as_deref() {
        Some(b"off") => config.scope = Scope::Off,
        Some(b"on") => config = config.switched_on(),
        _ => {}
    }
    Ok(config)
}

impl NodeHandle {
    /// What a person is to hear of copies when this node starts: once, what it keeps for whom, and
    /// how to switch that off. Nothing where it keeps none.
    ///
    /// # Errors
    /// Those of the database.
    pub fn first_words(&self) -> BoxFuture<'_, Result<Option<String>, ApiError>> {
        Box::pin(self.first_words_once())
    }

    async fn first_words_once(&self) -> Result<Option<String>, ApiError> {
        let replicator = &self.inner.replicator;
        if !replicator.keeps_copies() {
            return Ok(None);
        }
        let table = self.inner.library.store().table(TableName::Node);
        let is_first = move || {
            let is_first = table.get(TOLD)?.is_none();
            if is_first {
                table.put(TOLD, &[])?;
            }
            Ok(is_first)
        };
        let is_first = on_disk(is_first).await?;
        Ok(is_first.then(|| first_words(replicator.config())))
    }

    pub(super) fn replica_list(&self) -> api::ReplicaList {
        let list = self.inner.replicator.list();
        api::ReplicaList {
            replicas: list.iter().map(replica).collect(),
        }
    }

    pub(super) fn replica_numbers(&self) -> api::ReplicaStats {
        let replicator = &self.inner.replicator;
        let kept = replicator.stats();
        let counted = replicator
            .replicas()
            .decide(|helper| helper.counters().clone());
        api::ReplicaStats {
            on: replicator.keeps_copies(),
            paused: replicator.paused().map(paused),
            roots: kept.roots,
            bytes: kept.used,
            quota: kept.quota,
            floor: kept.floor,
            disk_free: kept.disk_free,
            asks: counted.asks,
            asks_distinct: counted.asks_distinct,
            pulls_for_asks: counted.pulls_for_asks,
            pulls_for_offers: counted.offers_accepted,
            declined: words(&counted.declined, declined_reason),
            bytes_in: counted.bytes_pulled,
            bytes_out: kept.served_bytes,
            gone: words(&kept.gone, gone_reason),
            damaged: kept.damaged,
        }
    }

    /// Switches it on or off, and remembers that first: a node that is killed meanwhile does what
    /// was asked of it when it starts.
    pub(super) async fn replicas_switched(&self, on: bool) -> Result<(), ApiError> {
        let table = self.inner.library.store().table(TableName::Node);
        let word: &[u8] = match on {
            true => b"on",
            false => b"off",
        };
        let row = shoal_store::TableChange::Put {
            key: CHOSEN.to_vec(),
            value: word.to_vec(),
        };
        on_disk(move || table.write(&[row], true)).await?;
        let switched = self.inner.replicator.set_on(on).await;
        switched.map_err(|error| error.into_api())
    }

    pub(super) async fn replicas_dropped(
        &self,
        key: Option<String>,
    ) -> Result<api::ReplicasDropped, ApiError> {
        let replicator = &self.inner.replicator;
        let list = replicator.list();
        let (roots, freed) = match key {
            Some(word) => {
                let key = named(&list, &word)?;
                (1, replicator.drop_root(key).await)
            }
            None => (list.len() as u64, replicator.drop_all().await),
        };
        let freed_bytes = freed.map_err(|error| error.into_api())?;
        Ok(api::ReplicasDropped { roots, freed_bytes })
    }
}

/// Runs something on the database, on a thread that may block.
async fn on_disk<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let ran = tokio::task::spawn_blocking(run).await;
    ran.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?
        .map_err(|error| error.into_api())
}

fn first_words(config: &ReplicasConfig) -> String {
    let whom = match config.scope {
        Scope::Lan => "peers on the local network",
        Scope::Private => "peers nearby at private addresses",
        Scope::Public | Scope::Off => "peers nearby",
    };
    format!(
        "This node keeps copies of what is popular for {whom}, sealed and at most {} in all; \
         `shoal replicas off` keeps none.",
        config.quota,
    )
}

fn replica(info: &ReplicaInfo) -> api::Replica {
    let time = |millis: u64| {
        let millis = i64::try_from(millis).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
    };
    api::Replica {
        key: info.key.to_string(),
        bytes: info.bytes,
        size: info.size,
        leaves: info.held.leaves(),
        leaves_total: info.leaves,
        since: time(info.since_ms),
        used: time(info.used_ms),
        reads: info.reads,
        asked_by: match info.cause {
            Cause::Lan => api::AskedBy::Lan,
            Cause::Near => api::AskedBy::Near,
            Cause::Offer => api::AskedBy::Offer,
        },
    }
}

/// The one key that begins like this.
fn named(list: &[ReplicaInfo], word: &str) -> Result<Key, ApiError> {
    let is_key = word.len() >= DIGITS_MIN && word.bytes().all(|it| it.is_ascii_hexdigit());
    if !is_key {
        let message = format!("{word:?} is no key of a copy");
        return Err(ApiError::new(ErrorCode::Usage, message)
            .hint("`shoal replicas ls` shows the keys; the first 8 digits are enough"));
    }
    let word = word.to_ascii_lowercase();
    let keys = list.iter().map(|it| it.key);
    let mut found = keys.filter(|key| key.to_string().starts_with(&word));
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => {
            let message = format!("several copies have keys that begin with {word}");
            Err(ApiError::new(ErrorCode::Usage, message).hint("give more digits of the key"))
        }
        (None, _) => {
            let message = format!("no copy with the key {word} is kept here");
            Err(ApiError::new(ErrorCode::NotShared, message)
                .hint("`shoal replicas ls` lists the copies"))
        }
    }
}

fn paused(reason: Paused) -> api::ReplicasPaused {
    match reason {
        Paused::Battery => api::ReplicasPaused::Battery,
        Paused::Metered => api::ReplicasPaused::Metered,
        Paused::Month => api::ReplicasPaused::Month,
        Paused::Warmup => api::ReplicasPaused::Warmup,
    }
}

fn words<K: Copy>(
    counts: &BTreeMap<K, u64>,
    word: impl Fn(K) -> &'static str,
) -> BTreeMap<String, u64> {
    let counts = counts.iter();
    counts
        .map(|(what, count)| (word(*what).to_owned(), *count))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::exchange::LeafRanges;

    use super::*;

    fn info(first: u8) -> ReplicaInfo {
        let mut key = [7; 32];
        key[0] = first;
        ReplicaInfo {
            key: Key(key),
            leaves: 1,
            size: 1,
            bytes: 1,
            runs: 1,
            held: LeafRanges::all(),
            since_ms: 0,
            reads: 0,
            used_ms: 0,
            cause: Cause::Lan,
        }
    }

    #[test]
    fn a_copy_is_named_by_the_beginning_of_its_key() {
        let list = [info(0xab), info(0xac)];
        let code = |word: &str| named(&list, word).map_err(|error| error.code);
        assert_eq!(code("AB070707"), Ok(list[0].key));
        assert_eq!(code(&format!("ac{}", "07".repeat(31))), Ok(list[1].key));
        assert_eq!(code("ab0707"), Err(ErrorCode::Usage));
        assert_eq!(code("../../xx"), Err(ErrorCode::Usage));
        assert_eq!(code("ad070707"), Err(ErrorCode::NotShared));
        let twice = [info(1), info(1)];
        let error = named(&twice, "01070707").unwrap_err();
        assert_eq!(error.code, ErrorCode::Usage);
    }

    #[test]
    fn the_first_words_say_for_whom_how_much_and_how_to_stop_it() {
        let words = |scope| {
            first_words(&ReplicasConfig {
                scope,
                ..ReplicasConfig::default()
            })
        };
        for scope in [Scope::Lan, Scope::Private, Scope::Public] {
            assert!(words(scope).contains("shoal replicas off"));
            assert!(words(scope).contains("2GiB"), "{}", words(scope));
        }
        assert!(words(Scope::Lan).contains("the local network"));
    }

    #[test]
    fn what_a_person_has_chosen_goes_before_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let public = ReplicasConfig::default();
        let off = ReplicasConfig {
            scope: Scope::Off,
            ..ReplicasConfig::default()
        };
        let check = |config: &ReplicasConfig, is_off| {
            assert_eq!(chosen(&store, config).unwrap().is_off(), is_off);
        };
        check(&public, false);
        check(&off, true);
        for (word, is_off) in [("off", true), ("on", false)] {
            store
                .table(TableName::Node)
                .put(CHOSEN, word.as_bytes())
                .unwrap();
            check(&public, is_off);
            check(&off, is_off);
        }
    }
}
