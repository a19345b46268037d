//! Whether a machine has room for so many nodes, before any of them is started.

use std::{fs, path::Path};

use shoal_ground::space::Space;

/// An idle node holds 28 MiB; one that fetches a large folder, up to 90.
const MEMORY_BYTES_PER_NODE: u64 = 64 << 20;
/// A node's database, with the space that RocksDB sets aside for its log, takes 11 MiB.
const DISK_BYTES_PER_NODE: u64 = 16 << 20;
/// An idle node has 34 descriptors open; connections and files in transit take one each.
const DESCRIPTORS_PER_NODE: u64 = 128;

/// A node among others in one process takes 16 MiB at the most, which the scenario `scale` asserts.
#[cfg(feature = "scenarios")]
const MEMORY_BYTES_PER_NODE_IN_PROCESS: u64 = 16 << 20;

/// Something that nodes need and a machine has only so much of.
#[derive(Clone, Copy, Debug)]
struct Resource {
    name: &'static str,
    unit: Unit,
    per_node: u64,
    available: u64,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Bytes,
    Pieces,
}

/// What a machine has too little of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{nodes} nodes need {need} of {resource}, and there is room for {have}")]
pub struct Shortage {
    /// How many nodes were asked for.
    pub nodes: usize,
    /// How many there is room for.
    pub fit: usize,
    resource: &'static str,
    need: String,
    have: String,
}

/// Whether there is room for `nodes` nodes with homes in `dir`.
///
/// What the system does not say is taken to be enough.
///
/// # Errors
/// [`Shortage`] of what there is least of.
pub(crate) fn check(nodes: usize, dir: &Path) -> Result<(), Shortage> {
    let memory = memory_bytes().map(|available| Resource {
        name: "memory",
        unit: Unit::Bytes,
        per_node: MEMORY_BYTES_PER_NODE,
        available,
    });
    let disk = disk_bytes(dir).map(|available| Resource {
        name: "disk space",
        unit: Unit::Bytes,
        per_node: DISK_BYTES_PER_NODE,
        available,
    });
    let descriptors = descriptors().map(|available| Resource {
        name: "open files",
        unit: Unit::Pieces,
        per_node: DESCRIPTORS_PER_NODE,
        available,
    });
    fit(nodes, [memory, disk, descriptors].into_iter().flatten())
}

/// Whether there is room for `nodes` nodes in this process.
///
/// # Errors
/// [`Shortage`] of memory; of files and disk they need next to nothing of their own.
#[cfg(feature = "scenarios")]
pub(crate) fn check_in_process(nodes: usize) -> Result<(), Shortage> {
    let memory = memory_bytes().map(|available| Resource {
        name: "memory",
        unit: Unit::Bytes,
        per_node: MEMORY_BYTES_PER_NODE_IN_PROCESS,
        available,
    });
    fit(nodes, memory.into_iter())
}

fn fit(nodes: usize, resources: impl Iterator<Item = Resource>) -> Result<(), Shortage> {
    let scarcest = resources.min_by_key(Resource::nodes);
    match scarcest {
        Some(resource) if resource.nodes() < nodes => Err(resource.shortage(nodes)),
        _ => Ok(()),
    }
}

impl Resource {
    /// How many nodes it is enough for.
    fn nodes(&self) -> usize {
        usize::try_from(self.available / self.per_node).unwrap_or(usize::MAX)
    }

    fn shortage(&self, nodes: usize) -> Shortage {
        let need = self.per_node.saturating_mul(nodes as u64);
        Shortage {
            nodes,
            fit: self.nodes(),
            resource: self.name,
            need: self.unit.show(need),
            have: self.unit.show(self.available),
        }
    }
}

impl Unit {
    fn show(self, amount: u64) -> String {
        match self {
            Self::Bytes => format!("{} MiB", amount >> 20),
            Self::Pieces => amount.to_string(),
        }
    }
}

/// Memory that can be had without swapping, also within the limit of a container.
fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| available_in_meminfo(&text));
    machine.into_iter().chain(cgroup_memory_bytes()).min()
}

fn available_in_meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|it| it.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// What the control group of this process may still take (cgroup v2); none without a limit.
fn cgroup_memory_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let dir = Path::new("/sys/fs/cgroup").join(group);
    let number = |file: &str| -> Option<u64> {
        fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

/// What is free on the disk that `dir` is on; none when the system does not say.
pub(crate) fn disk_bytes(dir: &Path) -> Option<u64> {
    Space::at(dir).ok()?.map(|space| space.free)
}

/// Descriptors that the whole system can still open.
fn descriptors() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/fs/file-nr").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    let open = numbers.next()?.ok()?;
    let max = numbers.nth(1)?.ok()?;
    Some(max.saturating_sub(open))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn memory(available: u64) -> Resource {
        Resource {
            name: "memory",
            unit: Unit::Bytes,
            per_node: MEMORY_BYTES_PER_NODE,
            available,
        }
    }

    fn descriptors(available: u64) -> Resource {
        Resource {
            name: "open files",
            unit: Unit::Pieces,
            per_node: DESCRIPTORS_PER_NODE,
            available,
        }
    }

    #[test]
    fn the_scarcest_resource_decides_and_is_named() {
        let check = |nodes, have: &[Resource], expected: Option<(usize, &str)>| {
            let shortage = fit(nodes, have.iter().copied()).err();
            let found = shortage.as_ref().map(|it| (it.fit, it.resource));
            assert_eq!(found, expected, "{nodes} nodes of {have:?}");
        };
        check(1000, &[], None);
        check(16, &[memory(1 << 30)], None);
        check(17, &[memory(1 << 30)], Some((16, "memory")));
        check(
            17,
            &[memory(1 << 30), descriptors(1 << 20)],
            Some((16, "memory")),
        );
        check(
            17,
            &[memory(1 << 30), descriptors(1280)],
            Some((10, "open files")),
        );
        check(1, &[descriptors(127)], Some((0, "open files")));
        let shortage = fit(17, std::iter::once(memory(1 << 30))).unwrap_err();
        assert_eq!(
            shortage.to_string(),
            "17 nodes need 1088 MiB of memory, and there is room for 1024 MiB"
        );
    }

    #[test]
    fn this_machine_says_what_it_has() {
        assert!(memory_bytes().unwrap() > 0);
        assert!(disk_bytes(Path::new("/")).is_some());
        assert!(super::descriptors().unwrap() > 0);
        assert_eq!(
            available_in_meminfo("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(available_in_meminfo("MemTotal: 9 kB\n"), None);
    }
}
