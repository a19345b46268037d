//! What a node begins with: what lies on its disk is opened, and shares that are over are ended before
//! anybody is served; then its network starts.

use std::{path::Path, sync::Arc, time::SystemTime};

use libp2p::identity::Keypair;
use shoal_ground::wall_clock;
use shoal_net::{DhtConfig, Incoming, KvLog, Net, NetConfig, NetDeps, emulation::Emulation};
use shoal_store::{Library, Store, TableName};
use shoal_transfer::{
    fetch::{FetchEvent, Transfers},
    limits::{Flags, Kept},
    replicate::ReplicasConfig,
    serve::Audience,
};
use tokio_util::sync::CancellationToken;

use super::{
    NodeError, Shared, helping,
    observe::{Observer, Told},
    offers::{Announces, Offers},
    tables::{NoLog, TableLog},
    terms::Terms,
};
use crate::config::Config;

/// Where a node is among those of its process.
#[derive(Clone)]
pub(super) struct SharedPlace {
    pub(super) shared: Shared,
    pub(super) number: u16,
}

/// What lies on disk.
pub(super) struct Opened {
    pub(super) library: Library,
    pub(super) transfers: Transfers,
    pub(super) keypair: Keypair,
    pub(super) kept: Kept,
    pub(super) helping: helping::Kept,
    pub(super) terms: Arc<Terms>,
}

/// Opens what lies on disk.
pub(super) async fn open_home(
    home: &Path,
    place: Option<SharedPlace>,
    config: &Config,
    (observed, shutdown): (Arc<Observer>, CancellationToken),
) -> Result<Opened, NodeError> {
    if let Some(clock) = wall_clock::wrong(SystemTime::now()) {
        tracing::warn!("{clock}");
    }
    let (home, flags) = (home.to_owned(), config.limits.flags);
    let replicas = config.replicas.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let store = match place {
            Some(SharedPlace { shared, number }) => shared.store.store(number, &home)?,
            None => Store::open(&home)?,
        };
        open(store, observed, (flags, &replicas), shutdown)
    });
    let opened = opened.await;
    opened.map_err(|it| NodeError::Identity(it.to_string()))?
}

/// Opens what lies on disk. Blocking.
fn open(
    store: Store,
    observed: Arc<Observer>,
    (flags, replicas): (Flags, &ReplicasConfig),
    shutdown: CancellationToken,
) -> Result<Opened, NodeError> {
    let home = store.home().to_owned();
    let kept = Kept::open(store.table(TableName::Node), flags)?;
    let helping = helping::Kept::open(&store, replicas, Arc::clone(&observed))?;
    let on_fetch = Arc::clone(&observed);
    let on_fetch = move |event: FetchEvent<'_>| on_fetch.tell(Told::Transfer(&event));
    let transfers = Transfers::load(&store, on_fetch, shutdown)?;
    let library = Library::open(store, move |event| observed.tell(Told::Library(&event)))?;
    for share in transfers.unserved() {
        library.set_served(share, false);
    }
    let audience = Audience::load(library.store().table(TableName::Node))?;
    let terms = Terms::new(library.clone(), audience);
    terms.look();
    let keypair = shoal_net::identity::load_or_create(&home)
        .map_err(|error| NodeError::Identity(error.to_string()))?;
    Ok(Opened {
        library,
        transfers,
        keypair,
        kept,
        helping,
        terms,
    })
}

pub(super) fn net_config(
    config: &Config,
    announces: Announces,
    emulation: Option<Emulation>,
) -> NetConfig {
    let dht = DhtConfig {
        serves: announces == Announces::Everything,
        ..DhtConfig::default()
    };
    let network = match announces {
        Announces::Nothing => config.network.clone().alone(),
        Announces::Everything | Announces::OnlyNewShares => config.network.clone(),
    };
    NetConfig {
        dht,
        network: network.name.to_string(),
        listen: network.listen,
        external: network.external,
        port_fallback: network.port_fallback,
        bootstrap: network.bootstrap,
        mdns: network.mdns,
        near: config.replicas.nearness(),
        emulation,
        ..NetConfig::default()
    }
}

pub(super) async fn start_net(
    mut config: NetConfig,
    keypair: &Keypair,
    library: &Library,
    offers: &Offers,
    place: Option<SharedPlace>,
) -> Result<(Net, Incoming), NodeError> {
    let journal = place.map(|SharedPlace { shared, .. }| {
        (config.limits.neighbours_max, config.idle_timeout) = shared.idle;
        shared.journal
    });
    let keys = offers.keys(&library.shares());
    let log = |name| -> Arc<dyn KvLog> {
        match offers.are_nothing() {
            // Whom nobody knows, nobody dials.
            true => Arc::new(NoLog),
            false => Arc::new(TableLog::new(library.store().table(name))),
        }
    };
    let deps = NetDeps {
        providers: log(TableName::Providers),
        peers: log(TableName::Peers),
        journal,
    };
    let (net, incoming) = Net::spawn(config, keypair, deps).await?;
    net.announce_all(keys).await;
    Ok((net, incoming))
}
