//! The scenarios that come with this program.

/// A scenario that comes with this program.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// What it is called.
    pub name: &'static str,
    /// Its file.
    pub text: &'static str,
}

/// All of them, the simplest first.
pub const SHIPPED: [Shipped; 19] = [
    shipped("demo", include_str!("../../scenarios/demo.toml")),
    shipped("swarm", include_str!("../../scenarios/swarm.toml")),
    shipped(
        "release-day",
        include_str!("../../scenarios/release-day.toml"),
    ),
    shipped(
        "flash-crowd",
        include_str!("../../scenarios/flash-crowd.toml"),
    ),
    shipped(
        "flash-crowd-even",
        include_str!("../../scenarios/flash-crowd-even.toml"),
    ),
    shipped(
        "flash-crowd-black-holes",
        include_str!("../../scenarios/flash-crowd-black-holes.toml"),
    ),
    shipped(
        "zipf-regions",
        include_str!("../../scenarios/zipf-regions.toml"),
    ),
    shipped(
        "near-holders",
        include_str!("../../scenarios/near-holders.toml"),
    ),
    shipped("popular", include_str!("../../scenarios/popular.toml")),
    shipped("storm", include_str!("../../scenarios/storm.toml")),
    shipped("office", include_str!("../../scenarios/office.toml")),
    shipped("churn", include_str!("../../scenarios/churn.toml")),
    shipped("partition", include_str!("../../scenarios/partition.toml")),
    shipped(
        "slow-origin",
        include_str!("../../scenarios/slow-origin.toml"),
    ),
    shipped("bad-peers", include_str!("../../scenarios/bad-peers.toml")),
    shipped(
        "black-hole",
        include_str!("../../scenarios/black-hole.toml"),
    ),
    shipped(
        "fake-demand",
        include_str!("../../scenarios/fake-demand.toml"),
    ),
    shipped("crowded", include_str!("../../scenarios/crowded.toml")),
    shipped("scale", include_str!("../../scenarios/scale.toml")),
];

const fn shipped(name: &'static str, text: &'static str) -> Shipped {
    Shipped { name, text }
}

impl Shipped {
    /// The one of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        SHIPPED.into_iter().find(|it| it.name == name)
    }
}
