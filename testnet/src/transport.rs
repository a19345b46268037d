//! What the nodes of a testnet talk over.

use std::{
    fmt,
    net::{Ipv4Addr, UdpSocket},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// What the nodes of a testnet listen on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, on a port that the system chooses.
    #[default]
    Tcp,
    /// QUIC. Who dials a QUIC link relays it, and has to know before whose address it is: the port
    /// is chosen with the testnet, and kept.
    Quic,
}

impl Transport {
    /// Where so many new nodes listen, without their peer ids.
    ///
    /// Ports are free when this returns; a node that finds its port taken says so.
    ///
    /// # Errors
    /// When the system has no ports left.
    pub(crate) fn addresses(self, nodes: usize) -> std::io::Result<Vec<String>> {
        match self {
            Self::Tcp => Ok(vec!["/ip4/127.0.0.1/tcp/0".to_owned(); nodes]),
            Self::Quic => {
                let bind = |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
                // Held together, so that each is another one.
                let sockets: Vec<UdpSocket> = (0..nodes).map(bind).collect::<Result<_, _>>()?;
                let address = |socket: &UdpSocket| {
                    let port = socket.local_addr()?.port();
                    Ok(format!("/ip4/127.0.0.1/udp/{port}/quic-v1"))
                };
                sockets.iter().map(address).collect()
            }
        }
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "quic" => Ok(Self::Quic),
            _ => Err(format!("`{text}` is no transport: there are tcp and quic")),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_node_has_a_port_of_its_own_for_quic() {
        let addresses = Transport::Quic.addresses(100).unwrap();
        let different: BTreeSet<_> = addresses.iter().collect();
        assert_eq!(different.len(), 100, "{addresses:?}");
        assert!(
            addresses.iter().all(|it| !it.contains("/udp/0/")),
            "{addresses:?}"
        );
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for transport in [Transport::Tcp, Transport::Quic] {
            assert_eq!(transport.to_string().parse(), Ok(transport));
        }
        assert!("udp".parse::<Transport>().is_err());
    }
}
