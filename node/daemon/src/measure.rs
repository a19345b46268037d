//! The numbers of a node, gathered from its parts when somebody asks.

use std::collections::BTreeMap;

use shoal_api::types::ShareState;
use shoal_ground::metrics::Numbers;
use shoal_net::{Direction, Way};
use shoal_protocol::near::Nearness;
use shoal_store::ShareTotals;

use super::{NodeHandle, answers};

impl NodeHandle {
    /// All numbers that the parts keep, as of now.
    pub(super) async fn measure(&self) -> Numbers {
        let mut numbers = Numbers::default();
        let inner = &self.inner;
        numbers.gauges(
            "shoal_build_info",
            "Always 1; the version that runs.",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1)],
        );
        numbers.gauge(
            "shoal_uptime_seconds",
            "Time since the node started.",
            inner.started.elapsed().as_secs(),
        );
        self.measure_network(&mut numbers).await;
        self.measure_bytes(&mut numbers);
        inner.fetcher.measure(&mut numbers);
        inner.observed.measure(&mut numbers);
        self.measure_shares(&mut numbers);
        inner.served.measure(&mut numbers);
        inner.terms.audience().measure(&mut numbers);
        inner.replicator.measure(&mut numbers);
        inner.events.measure(&mut numbers);
        measure_process(&mut numbers);
        numbers
    }

    async fn measure_network(&self, numbers: &mut Numbers) {
        let net = &self.inner.net;
        let (mut inbound, mut outbound) = (0, 0);
        let mut distances = BTreeMap::from([("lan", 0), ("near", 0), ("far", 0), ("unknown", 0)]);
        for peer in net.peers().await {
            *distances.entry(distance(peer.nearness)).or_default() += 1;
            match peer.direction {
                Direction::Inbound => inbound += 1,
                Direction::Outbound => outbound += 1,
            }
        }
        numbers.gauges(
            "shoal_peers",
            "Connected peers, by who dialled.",
            "direction",
            [("inbound", inbound), ("outbound", outbound)],
        );
        numbers.gauges(
            "shoal_peers_by_distance",
            "Connected peers, by how near they are: on the local network, near, far, or not \
             measured yet.",
            "distance",
            distances,
        );
        let dht = net.dht().await;
        numbers.gauge(
            "shoal_dht_routing_peers",
            "Peers in the routing table.",
            dht.peers as u64,
        );
        numbers.gauge(
            "shoal_dht_records",
            "Provider records held for others.",
            dht.records as u64,
        );
        numbers.gauges(
            "shoal_reachability",
            "Always 1; who can connect to this node, as far as it knows.",
            "verdict",
            [(net.reachability().verdict.name(), 1)],
        );
        numbers.counters(
            "shoal_net_limits_hit",
            "What the network refused, dropped, lost or tried again, by what it was.",
            "limit",
            net.counters().each(),
        );
    }

    fn measure_bytes(&self, numbers: &mut Numbers) {
        let inner = &self.inner;
        let fetched = inner.fetcher.totals();
        numbers.counters(
            "shoal_payload_bytes",
            "Chunk payload: sent to peers, got from them, found landed by an earlier run, copied \
             on this disk.",
            "class",
            [
                ("uploaded", inner.served.uploaded_bytes()),
                ("downloaded", fetched.downloaded),
                ("resumed", fetched.resumed),
                ("local", fetched.local),
            ],
        );
        numbers.counters(
            "shoal_dag_bytes",
            "DAG nodes, which say where content is: sent to peers, got from them.",
            "class",
            [
                ("uploaded", inner.served.dag_bytes()),
                ("downloaded", fetched.dag),
            ],
        );
        let traffic = inner.net.traffic();
        numbers.counters(
            "shoal_socket_bytes",
            "All bytes on the sockets.",
            "direction",
            [
                ("up", traffic.bytes(Way::Up)),
                ("down", traffic.bytes(Way::Down)),
            ],
        );
        let (up, down) = inner.rates.current();
        numbers.gauges(
            "shoal_socket_rate_bytes_per_second",
            "Bytes on the sockets a second, lately.",
            "direction",
            [("up", up), ("down", down)],
        );
        let disk = answers::disk(&inner.home);
        numbers.gauges(
            "shoal_disk_bytes",
            "The disk that the home is on.",
            "part",
            [("free", disk.free), ("total", disk.total)],
        );
    }

    fn measure_shares(&self, numbers: &mut Numbers) {
        let shares = self.inner.library.shares();
        let mut states = BTreeMap::from([("ok", 0), ("checking", 0), ("changed", 0)]);
        let ShareTotals { bytes, files } = ShareTotals::of(&shares);
        for share in &shares {
            let in_doubt = self.inner.library.is_in_doubt(share.id);
            let state = match answers::share_info(share, in_doubt).state {
                ShareState::Ok => "ok",
                ShareState::Checking => "checking",
                ShareState::Changed { .. } => "changed",
            };
            *states.entry(state).or_default() += 1;
        }
        numbers.gauges("shoal_shares", "Shares, by state.", "state", states);
        numbers.gauge(
            "shoal_shares_bytes",
            "Bytes of the files of all shares.",
            bytes,
        );
        numbers.gauge("shoal_shares_files", "Files of all shares.", files);
    }
}

fn distance(nearness: Option<Nearness>) -> &'static str {
    match nearness {
        Some(Nearness::Lan) => "lan",
        Some(Nearness::Near) => "near",
        Some(Nearness::Far) => "far",
        None => "unknown",
    }
}

/// What the system says of this process; nothing where it does not tell.
fn measure_process(numbers: &mut Numbers) {
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        numbers.gauge(
            "process_open_fds",
            "Open file descriptors.",
            open.count() as u64,
        );
    }
    let max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(max) = max {
        numbers.gauge("process_max_fds", "File descriptors that it may have.", max);
    }
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = statm.split(' ').nth(1).and_then(|it| it.parse().ok());
    if let Some(pages) = resident {
        let bytes = u64::saturating_mul(pages, rustix::param::page_size() as u64);
        numbers.gauge(
            "process_resident_memory_bytes",
            "Memory that is in use.",
            bytes,
        );
    }
}
