//! How many nodes a testnet may have, and what they are called.

/// What the manifest has room for; what a machine has room for is less.
pub const NODES_MAX: usize = 10_000;

/// `node-07`: two digits, or as many as it takes.
pub(crate) fn node_name(index: usize) -> String {
    format!("node-{index:02}")
}
