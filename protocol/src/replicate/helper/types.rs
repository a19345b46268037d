//! What goes into a [`Helper`](super::Helper) and comes out of it, and its numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::asker::Asker;
use super::super::credit::CreditConfig;
use super::super::demand::DemandConfig;
use super::super::message::Why;
use super::super::near_table::NearTable;
use super::super::position::{Key, PeerKey};
use super::super::stripes::Shape;
use crate::exchange::LeafRanges;

/// The numbers of a [`Helper`](super::Helper); `Default` is their only source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelperConfig {
    /// How many bytes of others it holds at most.
    pub quota: u64,
    /// How many distinct askers a root needs within the long half-life of the demand.
    pub need: u8,
    /// Whether one asker is enough while more than half of the quota is free.
    pub eager: bool,
    /// How many pulls run at a time, at most.
    pub pulls_max: usize,
    /// How many of these were caused by offers that nobody asked for.
    pub pulls_offered_max: usize,
    /// How many roots are pulled in an hour, at most.
    pub roots_hourly: usize,
    /// The credit.
    pub credit: CreditConfig,
    /// The demand.
    pub demand: DemandConfig,
}

/// How many pulls run at a time, at most.
pub const PULLS_MAX: usize = 4;

impl Default for HelperConfig {
    fn default() -> Self {
        Self {
            quota: 2 << 30,
            need: 2,
            eager: false,
            pulls_max: PULLS_MAX,
            pulls_offered_max: 2,
            roots_hourly: 120,
            credit: CreditConfig::default(),
            demand: DemandConfig::default(),
        }
    }
}

/// What a helper has done; every number only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Asks that were answered.
    pub asks: u64,
    /// Of these, the first by their asker within a day or two.
    pub asks_distinct: u64,
    /// Distinct asks that pulls were made for.
    pub asks_spent: u64,
    /// Pulls that asks caused.
    pub pulls_for_asks: u64,
    /// Offers that nobody asked for and that were accepted: each is a pull.
    pub offers_accepted: u64,
    /// Asks and offers that were turned down, by the reason.
    pub declined: BTreeMap<Why, u64>,
    /// Bytes that were pulled.
    pub bytes_pulled: u64,
    /// Bytes that distinct readers read from replicas here.
    pub bytes_served: u64,
}

/// An ask.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// For which root.
    pub key: Key,
    /// Who asks.
    pub peer: PeerKey,
    /// As who it counts.
    pub by: Asker,
    /// Whether its own copy will be near.
    pub stays: bool,
}

/// An offer.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The root's key, which the caller has computed from the root.
    pub key: Key,
    /// Who offers.
    pub peer: PeerKey,
    /// As who it counts.
    pub by: Asker,
    /// Whether it is near. What a far peer offers is taken only if somebody near has asked for it.
    pub is_near: bool,
    /// Whether what it fetches stays.
    pub stays: bool,
    /// What the root is like, as the sender says.
    pub shape: Shape,
    /// Which leaves are worth a copy.
    pub ranges: LeafRanges,
    /// How many distinct askers it knows of.
    pub asked: u32,
}

/// The neighbourhood in which an ask or an offer comes.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The helpers there.
    pub table: &'a NearTable,
    /// Whether it is the LAN.
    pub is_lan: bool,
}

/// What is answered to an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is held.
    Have {
        /// Which leaves, at most so many ranges as a message carries.
        ranges: LeafRanges,
        /// Whether more would be pulled.
        wants: bool,
    },
    /// It is being pulled.
    Pulling,
    /// It would be pulled.
    Want,
    /// Others hold it, or are closer.
    Elsewhere {
        /// The holders.
        holders: Vec<PeerKey>,
        /// The closer nodes, the closest first.
        closer: Vec<PeerKey>,
    },
    /// No.
    No {
        /// Why.
        why: Why,
        /// When to ask again.
        retry: Duration,
    },
}

/// What is to be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The runs, in order.
    pub runs: Vec<u64>,
    /// Their leaves.
    pub ranges: LeafRanges,
}

/// Why not, and when to come again.
pub type Declined = (Why, Duration);
