//! The limits on this process's memory, and whether one of them is reached.
//!
//! The system says only that it gives no memory: whether a limit of this process is behind that, or the
//! machine has none left, shows by what the process has. Nothing here allocates or takes a lock, so that
//! a signal handler may ask, too.

use rustix::{
    fs::{Mode, OFlags},
    process::{Resource, getrlimit},
};

/// A limit counts as reached with less than this left: nothing here asks for more at once.
const ASKED_AT_ONCE_MAX: u64 = 64 << 20;

/// A limit on memory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimit {
    /// Its bytes.
    pub bytes: u64,
    /// How a shell shows it.
    pub shown_by: &'static str,
    /// The line of `/proc/self/status` that says how much of it is taken, in KiB.
    taken: &'static str,
}

/// The lower of the limits on this process's memory, if it has one.
#[must_use]
pub fn limit() -> Option<MemoryLimit> {
    limits().min_by_key(|limit| limit.bytes)
}

/// A limit that keeps this process from more memory; none where it is the machine that has no more.
#[must_use]
pub fn reached() -> Option<MemoryLimit> {
    let mut buffer = [0; 4096];
    // Where the system does not say, a limit is the better guess.
    let status = read_status(&mut buffer).unwrap_or_default();
    limits().find(|limit| {
        let taken = field(status, limit.taken);
        taken.is_none_or(|taken| taken.saturating_add(ASKED_AT_ONCE_MAX) > limit.bytes)
    })
}

fn limits() -> impl Iterator<Item = MemoryLimit> {
    let all = [
        (Resource::As, "ulimit -v", "\nVmSize:"),
        (Resource::Data, "ulimit -d", "\nVmData:"),
    ];
    all.into_iter().filter_map(|(resource, shown_by, taken)| {
        let bytes = getrlimit(resource).current?;
        Some(MemoryLimit {
            bytes,
            shown_by,
            taken,
        })
    })
}

fn read_status(buffer: &mut [u8; 4096]) -> Option<&[u8]> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open("/proc/self/status", flags, Mode::empty()).ok()?;
    let length = rustix::io::read(&file, &mut buffer[..]).ok()?;
    buffer.get(..length)
}

/// A number of KiB in the lines of a status, in bytes.
fn field(status: &[u8], name: &str) -> Option<u64> {
    let at = status
        .windows(name.len())
        .position(|it| it == name.as_bytes())?;
    let mut kib: Option<u64> = None;
    for byte in status.get(at + name.len()..)? {
        match byte {
            b'0'..=b'9' => {
                let digit = u64::from(byte - b'0');
                kib = Some(kib.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            }
            _ if kib.is_some() => break,
            b' ' | b'\t' => {}
            _ => return None,
        }
    }
    kib?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_read_from_the_systems_lines() {
        let status = b"Name:\tshoal\nVmPeak:\t  900 kB\nVmSize:\t  123456 kB\nVmData:\t7 kB\n";
        assert_eq!(field(status, "\nVmSize:"), Some(123_456 << 10));
        assert_eq!(field(status, "\nVmData:"), Some(7 << 10));
        for damaged in [
            &b""[..],
            b"\nVmSize:",
            b"\nVmSize:\t kB",
            b"\nVmSize: -3 kB",
        ] {
            assert_eq!(field(damaged, "\nVmSize:"), None);
        }
        let huge = b"\nVmSize: 99999999999999999999999 kB";
        assert_eq!(field(huge, "\nVmSize:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_some_memory() {
        let mut buffer = [0; 4096];
        let status = read_status(&mut buffer).unwrap_or_default();
        for name in ["\nVmSize:", "\nVmData:"] {
            assert!(field(status, name).is_some_and(|taken| taken > 0));
        }
    }
}
