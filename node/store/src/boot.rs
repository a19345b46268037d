//! Which boot of the machine this is.
//!
//! Bytes that were written but not flushed survive the death of a process and not the end of a
//! boot, so rows about them carry the boot's id and are re-hashed when it is another one.

use serde::{Deserialize, Serialize};

/// The identity of one boot of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId([u8; 16]);

impl BootId {
    /// The boot that this process runs in.
    ///
    /// Where the system does not say, the answer is random: rows then look as if they came from
    /// another boot and are re-hashed, which costs time and is never wrong.
    #[must_use]
    pub fn current() -> Self {
        Self(from_kernel().unwrap_or_else(rand::random))
    }
}

#[cfg(test)]
impl BootId {
    /// One that no machine has, for tests of what follows from another boot.
    pub(super) fn of(number: u8) -> Self {
        Self([number; 16])
    }
}

/// Reads the UUID that Linux draws at every boot.
fn from_kernel() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16)
        .ok()
        .map(u128::to_be_bytes)
}
