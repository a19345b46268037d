//! What the node keeps for others: opened with the store, at work once there is a network.

use std::sync::Arc;

use shoal_net::{ExchangeStream, Net};
use shoal_store::{
    Library, Store, StoreError, TableName,
    replicas::{ReplicaConfig, Replicas},
};
use shoal_transfer::{
    limits::Limiter,
    replicate::{self, Clock, PullOrder, ReplicasConfig, Replicator},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    copies,
    observe::{Observer, Told},
};

/// What is kept for others, before anybody can ask for it.
pub(super) struct Kept {
    replicas: Replicas,
    /// What is configured, with what a person has chosen since.
    config: ReplicasConfig,
    clock: Clock,
    /// Where what changes of it is told.
    observed: Arc<Observer>,
}

impl Kept {
    /// Opens it. What changes of it is told to `observed`. A node that is switched off drops what it
    /// kept before. Blocking.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub(super) fn open(
        store: &Store,
        config: &ReplicasConfig,
        observed: Arc<Observer>,
    ) -> Result<Self, StoreError> {
        let clock = Clock::default();
        let told = Arc::clone(&observed);
        let config = copies::chosen(store, config)?;
        let mut helper = config.helper();
        if config.is_off() {
            helper.quota = 0;
        }
        let kept = ReplicaConfig {
            helper,
            floor: config.floor.bytes(),
        };
        let replicas = Replicas::open(store, kept, replicate::salt(), clock.now(), move |event| {
            told.tell(Told::Replica(event));
        })?;
        Ok(Self {
            replicas,
            config,
            clock,
            observed,
        })
    }

    /// Begins to speak with near peers; what is accepted to be pulled comes out of the receiver.
    /// `lasts` says whether the node outlives the fetch that it is started for.
    pub(super) fn start(
        self,
        (library, net, limits): (&Library, &Net, &Limiter),
        lasts: bool,
        incoming: mpsc::Receiver<ExchangeStream>,
        (tasks, shutdown): (&TaskTracker, &CancellationToken),
    ) -> (Replicator, mpsc::Receiver<PullOrder>) {
        let (replicator, orders) = Replicator::new(replicate::Deps {
            replicas: self.replicas,
            library: library.clone(),
            net: net.clone(),
            limits: limits.clone(),
            config: self.config,
            clock: self.clock,
            lasts,
            table: library.store().table(TableName::Node),
            shutdown: shutdown.clone(),
        });
        self.observed.tell_of_copies(replicator.changes());
        tasks.spawn(replicator.clone().run(incoming));
        (replicator, orders)
    }
}
