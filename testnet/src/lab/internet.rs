//! A small internet of machines: public hosts, and local networks behind routers of every kind.
//!
//! All public addresses are on one bridge and begin with 73: addresses for documentation count as
//! local ones, and a private one would not be public. What follows the 73 is a site of its own, a
//! /16, for nodes ask witnesses of different sites.

use std::{cell::Cell, io, net::Ipv4Addr};

use super::{
    machine::Machine,
    nat::{Inside, Nat, rules},
};

/// The line between the routers of homes and that of their carrier.
const CARRIER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// The bridge that everything public is tied to.
#[derive(Debug)]
pub struct Internet {
    machine: Machine,
    lines: Cell<u32>,
}

impl Internet {
    /// One without any host.
    ///
    /// # Errors
    /// When there are no namespaces: see [`are_here`](super::are_here).
    pub fn new() -> io::Result<Self> {
        let machine = Machine::new()?;
        machine.bridge("net")?;
        Ok(Self {
            machine,
            lines: Cell::new(0),
        })
    }

    /// The address of a host of a site.
    #[must_use]
    pub const fn address(site: u8, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(73, site, 0, host)
    }

    /// A host with these public addresses, nothing in front of it.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn host(&self, addresses: &[Ipv4Addr]) -> io::Result<Machine> {
        let machine = Machine::new()?;
        self.tie(&machine, "eth0")?;
        for address in addresses {
            machine.ip(&format!("addr add {address}/8 dev eth0"))?;
        }
        machine.ip("route add default dev eth0")?;
        Ok(machine)
    }

    /// A router with this public address, whose first host has `port` and is the one for which a
    /// port is forwarded or changed.
    ///
    /// # Errors
    /// When `ip` or `nft` fails.
    pub fn router(&self, nat: Nat, public: Ipv4Addr, port: u16) -> io::Result<Router> {
        let machine = Machine::new()?;
        let carrier = match nat {
            Nat::Cgnat => Some(self.carrier(public, &machine)?),
            _ => {
                self.tie(&machine, "wan")?;
                machine.ip(&format!("addr add {public}/8 dev wan"))?;
                machine.ip("route add default dev wan")?;
                None
            }
        };
        machine.bridge("lan")?;
        machine.ip(&format!("addr add {}/24 dev lan", Router::GATEWAY))?;
        machine.forwards()?;
        let mut router = Router {
            machine,
            carrier,
            nat,
            wan: match nat {
                Nat::Cgnat => next(CARRIER),
                _ => public,
            },
            public,
            port,
            hosts: Cell::new(0),
        };
        router.change(nat)?;
        Ok(router)
    }

    /// The carrier's router, with the line to that of one home.
    fn carrier(&self, public: Ipv4Addr, home: &Machine) -> io::Result<Machine> {
        let carrier = Machine::new()?;
        self.tie(&carrier, "wan")?;
        carrier.ip(&format!("addr add {public}/8 dev wan"))?;
        carrier.ip("route add default dev wan")?;
        carrier.tie("homes", home, "wan")?;
        carrier.ip(&format!("addr add {CARRIER}/10 dev homes"))?;
        home.ip(&format!("addr add {}/10 dev wan", next(CARRIER)))?;
        home.ip(&format!("route add default via {CARRIER}"))?;
        carrier.forwards()?;
        let nobody = Inside {
            ip: next(CARRIER),
            port: 0,
        };
        carrier.rules(&rules(Nat::PortRestricted, public, nobody))?;
        Ok(carrier)
    }

    fn tie(&self, other: &Machine, interface: &str) -> io::Result<()> {
        let port = format!("port{}", self.lines.get());
        self.lines.set(self.lines.get() + 1);
        self.machine.tie(&port, other, interface)?;
        self.machine.ip(&format!("link set {port} master net"))
    }
}

/// A router of a home, with the local network 192.168.1.0/24 behind it.
#[derive(Debug)]
pub struct Router {
    machine: Machine,
    /// The carrier's router, where there is one.
    carrier: Option<Machine>,
    nat: Nat,
    wan: Ipv4Addr,
    public: Ipv4Addr,
    port: u16,
    hosts: Cell<u8>,
}

impl Router {
    /// Its own address in the local network.
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    /// A further host of the local network, and its address there.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn host(&self) -> io::Result<(Machine, Ipv4Addr)> {
        let host = Machine::new()?;
        let number = self.hosts.get();
        self.hosts.set(number + 1);
        let (port, address) = (format!("port{number}"), Self::address(number));
        host.tie("eth0", &self.machine, &port)?;
        self.machine.ip(&format!("link set {port} master lan"))?;
        host.ip(&format!("addr add {address}/24 dev eth0"))?;
        host.ip(&format!("route add default via {}", Self::GATEWAY))?;
        Ok((host, address))
    }

    /// Turns it into a router of another kind, which knows nothing of what went through before.
    ///
    /// # Errors
    /// When `nft` fails. When one of the two kinds is behind a carrier's router: that is another
    /// line, not another rule.
    pub fn change(&mut self, nat: Nat) -> io::Result<()> {
        if (nat == Nat::Cgnat) != self.carrier.is_some() {
            return Err(io::Error::other(format!(
                "a router that is {} cannot become {nat}",
                self.nat
            )));
        }
        let inside = Inside {
            ip: Self::address(0),
            port: self.port,
        };
        self.machine.rules(&rules(nat, self.wan, inside))?;
        self.nat = nat;
        Ok(())
    }

    /// The address that hosts outside see.
    #[must_use]
    pub const fn public(&self) -> Ipv4Addr {
        self.public
    }

    /// The machine itself, to run programs of a router in.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    const fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 1, 2 + number)
    }
}

const fn next(ip: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(ip.to_bits() + 1)
}
