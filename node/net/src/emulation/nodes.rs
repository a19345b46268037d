//! Sets of nodes as people write them: `0-9,12`, `node-03`, `all`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The highest number that a node may have: far more nodes than run on one machine.
const INDEX_MAX: usize = 9_999;

/// Some of the nodes of a network, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeSet(Which);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Which {
    All,
    /// First and last of each range; in order, apart from each other.
    Ranges(Vec<(usize, usize)>),
}

impl NodeSet {
    /// Every node.
    pub const ALL: Self = Self(Which::All);

    /// One node.
    #[must_use]
    pub fn one(node: usize) -> Self {
        Self(Which::Ranges(vec![(node, node)]))
    }

    /// Whether the node is one of them.
    #[must_use]
    pub fn contains(&self, node: usize) -> bool {
        match &self.0 {
            Which::All => true,
            Which::Ranges(ranges) => ranges
                .iter()
                .any(|range| (range.0..=range.1).contains(&node)),
        }
    }

    /// Those of them that a network of so many nodes has, in order.
    pub fn among(&self, nodes: usize) -> impl Iterator<Item = usize> {
        (0..nodes).filter(|node| self.contains(*node))
    }

    /// The highest number that is named; none when it is all nodes, or no node.
    #[must_use]
    pub fn highest(&self) -> Option<usize> {
        match &self.0 {
            Which::All => None,
            Which::Ranges(ranges) => ranges.last().map(|range| range.1),
        }
    }

    fn of_ranges(mut ranges: Vec<(usize, usize)>) -> Self {
        ranges.sort_unstable();
        let mut apart: Vec<(usize, usize)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match apart.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => apart.push((first, last)),
            }
        }
        Self(Which::Ranges(apart))
    }
}

impl FromIterator<usize> for NodeSet {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        Self::of_ranges(nodes.into_iter().map(|node| (node, node)).collect())
    }
}

impl FromStr for NodeSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("all") {
            return Ok(Self::ALL);
        }
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        ranges.map(Self::of_ranges).ok_or_else(|| {
            format!("`{text}` names no nodes: write `3`, `node-03`, `0-4`, `0-4,7` or `all`")
        })
    }
}

fn range(text: &str) -> Option<(usize, usize)> {
    let bare = text.replace("node-", "");
    let (first, last) = bare.split_once('-').unwrap_or((&bare, &bare));
    let (first, last) = (index(first)?, index(last)?);
    (first <= last).then_some((first, last))
}

fn index(text: &str) -> Option<usize> {
    let index = text.trim().parse().ok()?;
    (index <= INDEX_MAX).then_some(index)
}

impl fmt::Display for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Which::Ranges(ranges) = &self.0 else {
            return f.write_str("all");
        };
        for (place, (first, last)) in ranges.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            write!(f, "{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for NodeSet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NodeSet> for String {
    fn from(nodes: NodeSet) -> Self {
        nodes.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sets_read_and_print() {
        fn check(text: &str, printed: &str, members: &[usize]) {
            let set: NodeSet = text.parse().unwrap();
            assert_eq!(set.to_string(), printed, "{text}");
            assert_eq!(set.among(8).collect::<Vec<_>>(), members, "{text}");
            assert_eq!(printed.parse(), Ok(set), "{text}");
        }
        check("3", "3", &[3]);
        check("node-03", "3", &[3]);
        check("node-03-node-05", "3-5", &[3, 4, 5]);
        check("5, 0-2,1-3", "0-3,5", &[0, 1, 2, 3, 5]);
        check("0,1,2", "0-2", &[0, 1, 2]);
        check("6-9", "6-9", &[6, 7]);
        check("All", "all", &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(
            NodeSet::from_iter([4, 2, 3]),
            "2-4".parse::<NodeSet>().unwrap()
        );
        assert_eq!("0-3,12".parse::<NodeSet>().unwrap().highest(), Some(12));
    }

    #[test]
    fn what_names_no_nodes_is_said_so() {
        for bad in ["", "x", "3-1", "1,,2", "-1", "node", "10000", "1-2-3"] {
            let error = bad.parse::<NodeSet>().unwrap_err();
            assert!(error.contains("names no nodes"), "{bad}: {error}");
        }
    }
}
