//! The routers of the lab, each seen by plain sockets, as other programs would see it: what it makes
//! of the port, and what it lets in.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use shoal_testnet::lab::{Internet, Nat, Router};
use shoal_tests::{
    DEADLINE,
    netns::{self, Machine},
};
use socket2::{Domain, Socket, Type};

/// The port of the host inside, which some routers treat in a way of its own.
const PORT: u16 = 4101;

/// How long what a router drops is waited for. All machines are this one.
const DROPPED: Duration = Duration::from_millis(700);

/// Where a host inside appears, towards three destinations: an address, another port of it, and
/// another address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mapping {
    /// At its own port.
    Kept,
    /// At another port.
    Changed,
    /// At a port for each of them.
    PerDestination,
}

/// Who may send to a host inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    /// The address and port that it has sent to.
    Asked,
    /// Any port of an address that it has sent to.
    AskedHost,
    /// Anybody, once it has sent to somebody.
    Everybody,
    /// Anybody, although it never sent anything.
    Always,
}

type Seen = Option<(Mapping, Filter)>;

/// Two public addresses, of different sites, that tell hosts what they look like.
struct Witness {
    machine: Machine,
}

const NEAR: Ipv4Addr = Internet::address(1, 1);
const FAR: Ipv4Addr = Internet::address(2, 1);

impl Witness {
    fn new(internet: &Internet) -> Self {
        let machine = internet.host(&[NEAR, FAR]).unwrap().into();
        Self { machine }
    }

    fn udp(&self, ip: Ipv4Addr, port: u16) -> UdpSocket {
        udp(&self.machine, (ip, port).into())
    }

    fn listener(&self, ip: Ipv4Addr, port: u16) -> TcpListener {
        self.machine
            .within(|| TcpListener::bind((ip, port)))
            .unwrap()
    }

    /// Whether a connection from an address of its own to `to` comes about.
    fn reaches(&self, from: Ipv4Addr, to: SocketAddr) -> bool {
        let socket = tcp(&self.machine, (from, 0).into());
        socket.connect_timeout(&to.into(), DROPPED).is_ok()
    }
}

fn udp(machine: &Machine, at: SocketAddr) -> UdpSocket {
    let socket = machine.within(|| UdpSocket::bind(at)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// A TCP socket that shares its port with others, as that of a node does.
fn tcp(machine: &Machine, at: SocketAddr) -> Socket {
    let made = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&at.into())?;
        io::Result::Ok(socket)
    };
    machine.within(made).unwrap()
}

fn any(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

fn mapping(seen: [SocketAddr; 3], public: Ipv4Addr) -> Mapping {
    assert!(
        seen.iter().all(|it| it.ip() == IpAddr::V4(public)),
        "{seen:?}"
    );
    match seen {
        [one, other, third] if one != other || one != third => Mapping::PerDestination,
        [one, ..] if one.port() == PORT => Mapping::Kept,
        _ => Mapping::Changed,
    }
}

/// What has arrived by UDP before the mark, which comes last.
fn before_mark(socket: &UdpSocket) -> Vec<u8> {
    let mut arrived = Vec::new();
    let mut datagram = [0];
    loop {
        socket.recv(&mut datagram).unwrap();
        match datagram {
            [b'!'] => return arrived,
            [other] => arrived.push(other),
        }
    }
}

/// Asks a witness, which answers with a mark; where the question came from.
fn asks(socket: &UdpSocket, of: &UdpSocket) -> Option<SocketAddr> {
    socket.send_to(b"?", of.local_addr().unwrap()).unwrap();
    let (_, from) = of.recv_from(&mut [0; 8]).ok()?;
    of.send_to(b"!", from).unwrap();
    Some(from)
}

fn seen_by_udp(witness: &Witness, host: &Machine, public: Ipv4Addr) -> Seen {
    let asked = witness.udp(NEAR, 5001);
    let other_port = witness.udp(NEAR, 5002);
    let other_host = witness.udp(FAR, 5001);
    let inside = udp(host, any(PORT));
    // Where nothing gets through, nothing more is found out.
    asked.set_read_timeout(Some(DROPPED)).unwrap();

    other_host.send_to(b"u", (public, PORT)).unwrap();
    let first = asks(&inside, &asked)?;
    let unasked = before_mark(&inside);
    other_port.send_to(b"p", first).unwrap();
    other_host.send_to(b"h", first).unwrap();
    asked.send_to(b"!", first).unwrap();
    let then = before_mark(&inside);
    let filter = match (unasked.as_slice(), then.as_slice()) {
        (b"", b"") => Filter::Asked,
        (b"", b"p") => Filter::AskedHost,
        (b"", b"ph") => Filter::Everybody,
        (b"u", b"ph") => Filter::Always,
        odd => panic!("{odd:?} arrived"),
    };
    let second = asks(&inside, &other_port).unwrap();
    let third = asks(&inside, &other_host).unwrap();
    Some((mapping([first, second, third], public), filter))
}

fn seen_by_tcp(witness: &Witness, host: &Machine, public: Ipv4Addr) -> (Mapping, Filter) {
    let asked = witness.listener(NEAR, 6001);
    let other_port = witness.listener(NEAR, 6002);
    let other_host = witness.listener(FAR, 6001);
    let listener = tcp(host, any(PORT));
    listener.listen(8).unwrap();
    let asks = |of: &TcpListener| {
        let socket = tcp(host, any(PORT));
        let to = of.local_addr().unwrap();
        socket.connect_timeout(&to.into(), DEADLINE).unwrap();
        // The connection is there: it only has to be taken.
        (of.accept().unwrap().1, socket)
    };

    let unasked = witness.reaches(FAR, (public, PORT).into());
    let (first, _kept) = asks(&asked);
    let filter = match (
        unasked,
        witness.reaches(NEAR, first),
        witness.reaches(FAR, first),
    ) {
        (false, false, false) => Filter::Asked,
        (false, true, false) => Filter::AskedHost,
        (false, true, true) => Filter::Everybody,
        (true, true, true) => Filter::Always,
        odd => panic!("{odd:?} came in"),
    };
    let (second, _kept_too) = asks(&other_port);
    let (third, _kept_as_well) = asks(&other_host);
    (mapping([first, second, third], public), filter)
}

fn check(nat: Nat, udp: Seen, tcp: (Mapping, Filter)) {
    let internet = Internet::new().unwrap();
    let witness = Witness::new(&internet);
    let router = internet.router(nat, Internet::address(3, 1), PORT).unwrap();
    let host: Machine = router.host().unwrap().0.into();
    check_seen(&witness, &router, &host, nat, udp, tcp);
}

fn check_seen(
    witness: &Witness,
    router: &Router,
    host: &Machine,
    nat: Nat,
    udp: Seen,
    tcp: (Mapping, Filter),
) {
    assert_eq!(
        seen_by_udp(witness, host, router.public()),
        udp,
        "{nat}: UDP"
    );
    assert_eq!(
        seen_by_tcp(witness, host, router.public()),
        tcp,
        "{nat}: TCP"
    );
}

#[test]
fn each_kind_of_router_is_what_its_name_says() {
    if !netns::translate_here("routers of every kind") {
        return;
    }
    use Filter::{Always, Asked, AskedHost, Everybody};
    use Mapping::{Changed, Kept, PerDestination};
    let same = |nat, mapping, filter| check(nat, Some((mapping, filter)), (mapping, filter));
    thread::scope(|scope| {
        scope.spawn(|| same(Nat::PortRestricted, Kept, Asked));
        scope.spawn(|| same(Nat::Remapped, Changed, Asked));
        scope.spawn(|| same(Nat::FullCone, Kept, Everybody));
        scope.spawn(|| same(Nat::AddressRestricted, Kept, AskedHost));
        scope.spawn(|| same(Nat::Symmetric, PerDestination, Asked));
        scope.spawn(|| same(Nat::Forwarded, Kept, Always));
        scope.spawn(|| same(Nat::Cgnat, Kept, Asked));
        scope.spawn(|| check(Nat::UdpBlocked, None, (Kept, Asked)));
    });
}

#[test]
fn a_router_becomes_another_kind_and_forgets_what_it_knew() {
    if !netns::translate_here("a router that changes") {
        return;
    }
    let internet = Internet::new().unwrap();
    let witness = Witness::new(&internet);
    let mut router = internet
        .router(Nat::FullCone, Internet::address(3, 1), PORT)
        .unwrap();
    let host: Machine = router.host().unwrap().0.into();
    let both = |seen| (Some(seen), seen);
    let (udp, tcp) = both((Mapping::Kept, Filter::Everybody));
    check_seen(&witness, &router, &host, Nat::FullCone, udp, tcp);
    for (nat, seen) in [
        (Nat::Symmetric, (Mapping::PerDestination, Filter::Asked)),
        (Nat::PortRestricted, (Mapping::Kept, Filter::Asked)),
    ] {
        router.change(nat).unwrap();
        let (udp, tcp) = both(seen);
        check_seen(&witness, &router, &host, nat, udp, tcp);
    }
    let error = router.change(Nat::Cgnat).unwrap_err().to_string();
    assert!(error.contains("cannot become cgnat"), "{error}");
}

/// Two hosts behind routers of this kind, each known to the other by its outer address.
fn pair(internet: &Internet, nat: Nat) -> [(Router, Machine, SocketAddr); 2] {
    [3, 4].map(|site| {
        let public = Internet::address(site, 1);
        let router = internet.router(nat, public, PORT).unwrap();
        let host = router.host().unwrap().0.into();
        (router, host, (public, PORT).into())
    })
}

/// That routers drop what comes unasked to themselves: otherwise the first packet, which comes too
/// early, would have the second host's mapping moved.
#[test]
fn two_usual_routers_are_passed_by_hosts_that_send_to_each_other() {
    if !netns::translate_here("two usual routers") {
        return;
    }
    let internet = Internet::new().unwrap();
    let [(_here, one, at_one), (_there, other, at_other)] = pair(&internet, Nat::PortRestricted);

    let (near, far) = (udp(&one, any(PORT)), udp(&other, any(PORT)));
    near.send_to(b"1", at_other).unwrap();
    far.send_to(b"2", at_one).unwrap();
    assert_eq!(near.recv_from(&mut [0]).unwrap(), (1, at_other));
    near.send_to(b"3", at_other).unwrap();
    let mut got = [0];
    assert_eq!(far.recv_from(&mut got).unwrap(), (1, at_one));
    assert_eq!(&got, b"3");

    let (near, far) = (tcp(&one, any(PORT)), tcp(&other, any(PORT)));
    let early = thread::spawn(move || {
        near.connect_timeout(&at_other.into(), DEADLINE).unwrap();
        let mut stream = TcpStream::from(near);
        stream.write_all(b"4").unwrap();
    });
    far.connect_timeout(&at_one.into(), DEADLINE).unwrap();
    let mut stream = TcpStream::from(far);
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"4");
    early.join().unwrap();
}
