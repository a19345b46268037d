//! What a node does with copies that others near it keep.

mod config;

pub use self::config::ReplicasConfig;
