//! Where a node says that it is, and how it is reached there: machines with bridges, tunnels and
//! without routes, links with dead addresses, TCP before QUIC.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use shoal_protocol::link::Link;
use shoal_tests::{
    Daemon, assert_same_file, command, content,
    netns::{self, Machine},
    run, scratch, text, write_content,
};

/// Options of a daemon that others find by its link only.
const ALONE: &[&str] = &["--no-mdns"];

/// Longer than a machine under load needs, and shorter than the time after which a dial of an
/// address that swallows packets gives up, 10 s.
const BELOW_DIAL_TIMEOUT: Duration = Duration::from_secs(8);

/// The addresses of a link's peers, without the peers' ids.
fn addresses_of(link: &str) -> Vec<String> {
    let link: Link = link.parse().unwrap();
    let address = |peer: &String| peer.split("/p2p/").next().unwrap().to_owned();
    link.peers.iter().map(address).collect()
}

/// Shares a file on `host`, and has `far` fetch it by the link; gives the addresses in the link.
fn link_works(dir: &Path, host: &Machine, far: &Machine) -> Vec<String> {
    let file = dir.join("file");
    write_content(&file, "by a link", 300_000);
    let home = dir.join("host");
    let _daemon = host.daemon(&home, ALONE);
    let shared = host.run(&home, &["share", text(&file)]).ok();
    let link = shared["link"].as_str().unwrap();
    let got = dir.join("got");
    let fetch = ["fetch", link, "-o", text(&got), "--timeout", "30s"];
    let mut fetch = far.shoal(&dir.join("far"), &fetch);
    let fetched = fetch.env("SHOAL_NETWORK_MDNS", "false").output().unwrap();
    assert!(fetched.status.success(), "{link}: {fetched:?}");
    assert_same_file(&file, &got);
    addresses_of(link)
}

/// A host at `192.168.77.7` with these bridges, and a machine at the other end of its line.
fn with_bridges(bridges: usize, has_route: bool) {
    if !netns::are_here("a host with bridges") {
        return;
    }
    let (dir, host, far) = (scratch(), Machine::new(), Machine::new());
    for n in 0..bridges {
        let name = if n == 0 {
            "docker0".to_owned()
        } else {
            format!("br-{n:07x}")
        };
        host.bridge(&name, &format!("172.{}.0.1/16", 17 + n));
    }
    host.tie("lan", &far, "eth0");
    host.ip("addr add 192.168.77.7/24 dev lan");
    far.ip("addr add 192.168.77.8/24 dev eth0");
    if has_route {
        host.ip("route add default via 192.168.77.1 dev lan");
    }
    // The far machine has such a network of its own, where nobody answers.
    far.bridge("docker0", "172.17.0.1/16");
    let said = link_works(dir.path(), &host, &far);
    let port = said[0].rsplit('/').next().unwrap();
    assert_eq!(said[0], format!("/ip4/192.168.77.7/tcp/{port}"), "{said:?}");
    if has_route {
        let is_on_line = |it: &String| it.starts_with("/ip4/192.168.77.7/");
        assert!(said.iter().all(is_on_line), "{said:?}");
    }
}

#[test]
fn a_host_without_bridges_is_reached_by_its_link() {
    with_bridges(0, true);
}

#[test]
fn a_host_with_one_bridge_is_reached_by_its_link() {
    with_bridges(1, true);
}

#[test]
fn a_host_with_five_bridges_is_reached_by_its_link() {
    with_bridges(5, true);
}

#[test]
fn a_host_with_bridges_and_no_default_route_is_reached_by_its_link() {
    with_bridges(3, false);
}

#[test]
fn a_host_with_ipv6_only_is_reached_by_its_link() {
    if !netns::are_here("a host with IPv6 only") {
        return;
    }
    let (dir, host, far) = (scratch(), Machine::new(), Machine::new());
    host.tie("eth0", &far, "eth0");
    host.ip("-6 addr add fd77::7/64 dev eth0 nodad");
    far.ip("-6 addr add fd77::8/64 dev eth0 nodad");
    for machine in [&host, &far] {
        machine.ip("addr del 127.0.0.1/8 dev lo");
    }
    let said = link_works(dir.path(), &host, &far);
    assert!(said[0].starts_with("/ip6/fd77::7/tcp/"), "{said:?}");
}

#[test]
fn a_host_with_nothing_but_a_tunnel_names_its_own_end_of_it() {
    if !netns::are_here("a host with a tunnel") {
        return;
    }
    let (dir, host, far) = (scratch(), Machine::new(), Machine::new());
    host.tie("tun0", &far, "tun0");
    host.ip("addr add 10.77.0.1 peer 10.77.0.2 dev tun0");
    far.ip("addr add 10.77.0.2 peer 10.77.0.1 dev tun0");
    let said = link_works(dir.path(), &host, &far);
    assert!(said[0].starts_with("/ip4/10.77.0.1/tcp/"), "{said:?}");
    let is_own = |it: &String| it.starts_with("/ip4/10.77.0.1/");
    assert!(said.iter().all(is_own), "{said:?}");
}

#[test]
fn dead_addresses_in_a_link_hold_nothing_up() {
    const DEAD: usize = 15;
    if !netns::are_here("dead addresses") {
        return;
    }
    let (dir, host, far) = (scratch(), Machine::new(), Machine::new());
    host.tie("eth0", &far, "eth0");
    host.ip("addr add 192.168.77.7/24 dev eth0");
    far.ip("addr add 192.168.77.8/24 dev eth0");
    // What goes there is taken and never answered: the other end of that line is nobody.
    far.ip("link add nowhere type veth peer name nobody");
    far.ip("link set nowhere up");
    far.ip("link set nobody up");
    far.ip("addr add 10.255.0.1/32 dev nowhere");
    far.ip("route add 10.0.0.0/8 dev nowhere");
    for n in 0..DEAD {
        far.ip(&format!(
            "neigh add 10.1.{n}.1 lladdr 02:00:00:00:00:01 dev nowhere"
        ));
    }
    let file = dir.path().join("file");
    write_content(&file, "dead addresses", 300_000);
    let home = dir.path().join("host");
    let daemon = host.daemon(&home, ALONE);
    let shared = host.run(&home, &["share", text(&file)]).ok();
    let bare = format!("shoal:{}", shared["cid"].as_str().unwrap());
    let good = &daemon.listen[0];
    let (_, id) = good.split_once("/p2p/").unwrap();
    let dead = |n: usize| format!("/ip4/10.1.{n}.1/tcp/4101/p2p/{id}");
    for place in [0, DEAD / 2, DEAD] {
        let mut peers: Vec<String> = (0..DEAD).map(dead).collect();
        peers.insert(place, good.clone());
        let link = format!("{bare}?peer={}", peers.join("&peer="));
        let got = dir.path().join(format!("got-{place}"));
        let fetch = ["fetch", &link, "-o", text(&got), "--timeout", "60s"];
        let mut fetch = far.shoal(&dir.path().join(format!("far-{place}")), &fetch);
        let start = Instant::now();
        let fetched = fetch.env("SHOAL_NETWORK_MDNS", "false").output().unwrap();
        assert!(fetched.status.success(), "{place}: {fetched:?}");
        assert!(
            start.elapsed() < BELOW_DIAL_TIMEOUT,
            "{place}: {:?}",
            start.elapsed()
        );
        assert_same_file(&file, &got);
    }
}

#[test]
fn an_address_where_somebody_else_answers_holds_nothing_up() {
    let dir = scratch();
    let file = dir.path().join("file");
    write_content(&file, "somebody else", 300_000);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let other = Daemon::start(&dir.path().join("other"), &[]);
    let fetcher = Daemon::start(&dir.path().join("fetcher"), &[]);
    let cid = a.share(&file)["cid"].as_str().unwrap().to_owned();
    let (wrong, _) = other.address.split_once("/p2p/").unwrap();
    let link = format!(
        "shoal:{cid}?peer={wrong}/p2p/{}&peer={}",
        a.peer_id, a.address
    );
    let got = dir.path().join("got");
    fetcher.fetch(&link, &got);
    assert_same_file(&file, &got);
}

#[test]
fn two_machines_of_one_network_use_tcp_with_multicast_on() {
    const BYTES: usize = 32 << 20;
    /// A thirtieth of the packets that the file would need by QUIC, and far above what multicast
    /// and the DHT send.
    const DATAGRAMS_MAX: u64 = (BYTES / 1500 / 30) as u64;
    if !netns::are_here("TCP with multicast on") {
        return;
    }
    let (dir, host, far) = (scratch(), Machine::new(), Machine::new());
    host.tie("eth0", &far, "eth0");
    host.ip("addr add 192.168.77.7/24 dev eth0");
    far.ip("addr add 192.168.77.8/24 dev eth0");
    for machine in [&host, &far] {
        machine.ip("route add default dev eth0");
    }
    let file = dir.path().join("file");
    write_content(&file, "by TCP", BYTES);
    let home = dir.path().join("host");
    let _daemon = host.daemon(&home, &[]);
    let shared = host.run(&home, &["share", text(&file)]).ok();
    let link = shared["link"].as_str().unwrap();
    let bare = shared["cid"].as_str().unwrap();
    for (n, link) in [link, bare, link].into_iter().enumerate() {
        let before = far.datagrams();
        let got = dir.path().join(format!("got-{n}"));
        let far_home = dir.path().join(format!("far-{n}"));
        far.run(&far_home, &["fetch", link, "-o", text(&got)]).ok();
        assert_same_file(&file, &got);
        let datagrams = far.datagrams() - before;
        assert!(datagrams < DATAGRAMS_MAX, "{n}: {datagrams} datagrams");
    }
}

#[test]
fn a_forwarded_address_comes_first_everywhere() {
    const FORWARDED: &str = "/ip4/203.0.113.9/tcp/4101";
    let dir = scratch();
    let options = [
        "--no-mdns",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--external",
        FORWARDED,
        "--external",
        "/dns/home.example/tcp/4101",
    ];
    let options = options.map(str::to_owned).to_vec();
    let daemon = Daemon::start_with(&dir.path().join("home"), options);
    let first = format!("{FORWARDED}/p2p/{}", daemon.peer_id);
    assert_eq!(daemon.address, first, "the ready line");
    let id = daemon.run(&["id"]).ok();
    assert_eq!(id["addresses"][0], first.as_str());
    assert!(
        id["addresses"][1]
            .as_str()
            .unwrap()
            .starts_with("/dns/home.example/")
    );
    let file = dir.path().join("file");
    write_content(&file, "forwarded", 1000);
    let shared = daemon.share(&file);
    let said = addresses_of(shared["link"].as_str().unwrap());
    assert_eq!(said[0], FORWARDED, "{said:?}");
}

#[test]
fn what_nobody_could_dial_is_no_external_address() {
    let dir = scratch();
    for wrong in [
        "/ip4/0.0.0.0/tcp/4101",
        "/ip4/203.0.113.9/tcp/0",
        "/ip4/203.0.113.9",
    ] {
        let args = [
            "daemon",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--external",
            wrong,
        ];
        let ran = run(&dir.path().join("home"), &args);
        ran.fails(2, "config");
        assert!(ran.json.to_string().contains(wrong), "{ran:?}");
    }
}

#[test]
fn a_command_without_a_daemon_listens_where_it_is_told() {
    let dir = scratch();
    let file = dir.path().join("file");
    std::fs::write(&file, content("one command", 1000)).unwrap();
    let port = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().port()
    };
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let by_flag = ["share", text(&file), "--listen", &address];
    let by_environment = ["share", text(&file)];
    for (args, variable) in [(&by_flag[..], None), (&by_environment[..], Some(&address))] {
        let mut share = command(&dir.path().join("home"), args);
        share.env_remove("SHOAL_NETWORK_LISTEN");
        if let Some(address) = variable {
            share.env("SHOAL_NETWORK_LISTEN", address);
        }
        let mut share = share
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(share.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        // Its node ends with it: the next one starts on the same home and port.
        share.kill().unwrap();
        share.wait().unwrap();
        let shared: serde_json::Value = serde_json::from_str(&line).unwrap();
        let said = addresses_of(shared["link"].as_str().unwrap());
        assert_eq!(said, [address.as_str()], "{args:?}");
    }
}
