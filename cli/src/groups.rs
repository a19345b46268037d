//! The control groups that this process is in, and how many threads they let it have.
//!
//! A group has no more than any group around it. A container shows its own groups only, some of them where
//! this process does not look: then nothing is said of them.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// Where systems have the groups: of version 2, beside those of version 1, and of version 1.
const ROOTS: [(&str, &str); 3] = [
    ("0::", "/sys/fs/cgroup"),
    ("0::", "/sys/fs/cgroup/unified"),
    ("pids:", "/sys/fs/cgroup/pids"),
];

/// A limit on the processes and threads of a group together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadLimit {
    limit: u64,
    /// How many of them are taken.
    taken: u64,
}

impl ThreadLimit {
    /// Whether it has fewer threads left than are wanted.
    pub(crate) fn has_less_than(&self, wanted: usize) -> bool {
        self.limit.saturating_sub(self.taken) < wanted as u64
    }
}

impl fmt::Display for ThreadLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        write!(
            f,
            "the control group has {limit} for all that runs in it (`pids.max`)"
        )
    }
}

/// The limit that leaves the fewest threads to this process; none where no group has one.
pub(crate) fn limit() -> Option<ThreadLimit> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let folders = ROOTS
        .iter()
        .flat_map(|(of, root)| folders(&groups, of, root));
    let limits = folders.filter_map(|folder| {
        let number = |name: &str| -> Option<u64> {
            let text = fs::read_to_string(folder.join(name)).ok()?;
            text.trim().parse().ok()
        };
        let (limit, taken) = (number("pids.max")?, number("pids.current")?);
        Some(ThreadLimit { limit, taken })
    });
    limits.min_by_key(|it| it.limit.saturating_sub(it.taken))
}

/// The folders of a group and of all around it, below `root`; `groups` are the lines of the system.
fn folders(groups: &str, of: &str, root: &str) -> Vec<PathBuf> {
    let own = groups.lines().find_map(|line| {
        // A line of version 1 begins with a number.
        let line = match of {
            "0::" => line,
            _ => line.split_once(':')?.1,
        };
        line.strip_prefix(of)
    });
    let Some(own) = own else { return Vec::new() };
    let all = Path::new(own).ancestors();
    let all = all.filter_map(|it| it.strip_prefix("/").ok());
    all.map(|below| Path::new(root).join(below)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_looked_for_with_all_around_it() {
        let groups = "8:pids:/a/b\n4:memory:/m\n0::/c\n";
        let check = |of, expected: &[&str]| {
            let found = folders(groups, of, "/root");
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(found, expected);
        };
        check("pids:", &["/root/a/b", "/root/a", "/root"]);
        check("0::", &["/root/c", "/root"]);
        check("cpu:", &[]);
    }

    #[test]
    fn a_limit_is_behind_it_where_less_is_left_than_is_wanted() {
        let limit = ThreadLimit {
            limit: 12,
            taken: 9,
        };
        assert!(limit.has_less_than(4) && !limit.has_less_than(3));
        assert!(limit.to_string().contains("12"));
    }
}
