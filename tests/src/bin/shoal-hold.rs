//! Fills a home whose daemon is down with copies for others: many small ones, which a daemon would take weeks to be
//! asked for. `scripts/bench-idle --keys N` uses it.
//!
//! They are admitted as a pull admits them, with limits that let all of them in at once; the next daemon finds and
//! tells them like any other. Each is one made-up leaf of 4 KiB.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program is there to print"
)]

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::Parser;
use shoal_protocol::{
    address::{Digest, HashFn},
    exchange::LeafRanges,
    replicate::{
        Asker, CreditConfig, Key, NearTable, Origin, PeerKey, Position, Salt, Shape,
        helper::{Around, HelperConfig, Offered},
    },
};
use shoal_store::{
    Store,
    replicas::{Cause, ReplicaConfig, Replicas},
};

const LEAF_BYTES: usize = 4096;

/// More of them, or of bytes, than are admitted here.
const NO_LIMIT: usize = 1 << 20;
const NO_LIMIT_BYTES: u64 = 1 << 40;

#[derive(Parser)]
struct Args {
    /// A home that no daemon has open
    home: PathBuf,
    /// How many roots
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    keys: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match fill(&args) {
        Ok(held) => {
            println!("{held}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("shoal-hold: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many copies the home holds afterwards.
fn fill(args: &Args) -> Result<usize, Box<dyn Error>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let store = Store::open(&args.home)?;
    let replicas = Replicas::open(&store, without_limits(), Salt([7; 32]), now, |_| {})?;
    for number in 0..args.keys {
        hold(&replicas, number, now)?;
    }
    replicas.flush()?;
    Ok(replicas.list().len())
}

fn without_limits() -> ReplicaConfig {
    let credit = CreditConfig {
        hourly: NO_LIMIT_BYTES,
        start: NO_LIMIT_BYTES,
        most: NO_LIMIT_BYTES,
        ..CreditConfig::default()
    };
    let helper = HelperConfig {
        pulls_max: NO_LIMIT,
        pulls_offered_max: NO_LIMIT,
        roots_hourly: NO_LIMIT,
        credit,
        ..HelperConfig::default()
    };
    ReplicaConfig {
        helper,
        floor: None,
    }
}

/// Has a made-up peer offer a root of one leaf, and pulls it.
fn hold(replicas: &Replicas, number: u32, now: Duration) -> Result<(), Box<dyn Error>> {
    let mut leaf = vec![0; LEAF_BYTES];
    let mut content = blake3::Hasher::new();
    content.update(&number.to_le_bytes());
    content.finalize_xof().fill(&mut leaf);
    let root = Digest::of(HashFn::Blake3, &leaf);
    let offered = Offered {
        key: Key::of(&root),
        peer: PeerKey(number),
        by: Asker {
            position: Position::of_peer(&number.to_le_bytes()),
            origin: Origin::Elsewhere(IpAddr::V4(Ipv4Addr::from(number << 8))),
        },
        is_near: true,
        stays: false,
        shape: Shape {
            leaves: 1,
            size: LEAF_BYTES as u64,
        },
        ranges: LeafRanges::from_sorted(0..1),
        asked: HelperConfig::default().need.into(),
    };
    let table = NearTable::new(Position::of_peer(b"self"));
    let around = Around {
        table: &table,
        is_lan: false,
    };
    let accepted = replicas.decide(|helper| helper.offered(&offered, around, now));
    accepted.map_err(|declined| format!("root {number} is declined: {declined:?}"))?;
    replicas.begin_pull(&root, Cause::Near, now);
    replicas.admit_run(&root, 0, &[(root, leaf.as_slice())], now)?;
    replicas.end_pull(&root, now)?;
    Ok(())
}
