//! The parts of which fetching and sharing are made, each alone and without a disk: what a chunk
//! costs to cut and to hash, a file's DAG to build, a want to plan, a message to write and to read.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use shoal_protocol::{
    address::{CHUNK_BYTES, Cid, Digest, HashFn},
    chunker::Chunker,
    exchange::{self, Request, Response, Wants},
    planner::{Action, Part, Planner, PlannerConfig, ProviderId, WantId},
    replicate::{
        Asker, Key, Origin, Position, RUN_LEAVES, Salt, Shape,
        cache::{Queue, RunId, Standing},
        helper::{Helper, HelperConfig},
    },
    unixfs::{Attributes, FileBuilder},
};

/// Leaves of a file of 16 GiB.
const LEAVES: u32 = 16 << 10;
/// As many wants as a planner takes, from as many providers as a busy swarm has.
const WANTS: u64 = 4096;
const PROVIDERS: u32 = 16;

fn chunks(c: &mut Criterion) {
    let bytes: Vec<u8> = (0..2 * CHUNK_BYTES)
        .map(|at| ((at * at) >> 7).to_le_bytes()[0])
        .collect();
    let mut group = c.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(CHUNK_BYTES as u64));
    for function in [HashFn::Blake3, HashFn::Sha2_256] {
        group.bench_function(format!("{function:?}"), |b| {
            b.iter(|| Digest::of(function, black_box(&bytes[..CHUNK_BYTES])));
        });
    }
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("cut by content", |b| {
        b.iter(|| Chunker::Cdc.cut(black_box(&bytes), false));
    });
    group.finish();
}

fn dag(c: &mut Criterion) {
    let leaf = |n: u32| Cid::raw(Digest::of(HashFn::Blake3, &n.to_le_bytes()));
    let leaves: Vec<Cid> = (0..LEAVES).map(leaf).collect();
    let mut group = c.benchmark_group("dag");
    group.throughput(Throughput::Elements(LEAVES.into()));
    group.bench_function("build a file", |b| {
        b.iter(|| {
            let mut blocks = 0;
            let mut builder = FileBuilder::new(HashFn::Blake3, Attributes::default());
            for leaf in &leaves {
                builder.push(leaf.clone(), CHUNK_BYTES as u64, &mut |_| blocks += 1);
            }
            builder.finish(&mut |_| blocks += 1);
            blocks
        });
    });
    group.finish();
}

/// A planner with all its wants, and all its providers ready.
fn planner() -> Planner {
    let mut planner = Planner::new(PlannerConfig::default());
    for id in 0..PROVIDERS {
        planner
            .add_provider(ProviderId(id), Duration::ZERO)
            .unwrap();
    }
    for id in 0..WANTS {
        assert!(planner.add_want(WantId(id), 16 << 10, Part::Leaf(id)));
    }
    planner
}

/// Has every want asked for, brought and verified, in order.
fn run(mut planner: Planner) -> u64 {
    let (mut now, mut done) = (Duration::ZERO, 0);
    while !planner.is_done() {
        for action in planner.poll(now) {
            let Action::Want { provider, wants } = action else {
                continue;
            };
            for want in wants {
                now += Duration::from_micros(20);
                planner.block_arrived(provider, want, 16 << 10, now);
                planner.block_verified(want);
                done += 1;
            }
        }
        now += Duration::from_millis(1);
    }
    done
}

fn planning(c: &mut Criterion) {
    let mut group = c.benchmark_group("planner");
    group.throughput(Throughput::Elements(WANTS));
    group.bench_function("ask, take and verify", |b| {
        b.iter_batched(
            planner,
            |planner| assert_eq!(run(planner), WANTS),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn wire(c: &mut Criterion) {
    let digests = (0..64_u32).map(|n| Digest::of(HashFn::Blake3, &n.to_le_bytes()));
    let want = Request::Want {
        id: 7,
        blocks: Wants::first_of(digests),
    };
    let block = Response::Block {
        id: 7,
        len: 1 << 20,
    };
    let mut group = c.benchmark_group("wire");
    let mut frame = Vec::new();
    group.bench_function("write 64 wants", |b| {
        b.iter(|| {
            frame.clear();
            exchange::encode(black_box(&want), &mut frame).unwrap();
        });
    });
    let mut frame = Vec::new();
    exchange::encode(&want, &mut frame).unwrap();
    group.bench_function("read 64 wants", |b| {
        b.iter(|| exchange::decode_request(black_box(&frame[4..])).unwrap());
    });
    let mut frame = Vec::new();
    exchange::encode(&block, &mut frame).unwrap();
    group.bench_function("read a block's header", |b| {
        b.iter(|| exchange::decode_response(black_box(&frame[4..])).unwrap());
    });
    group.finish();
}

/// What serving a MiB of a replica costs in books: a helper with 2 GiB in runs of 4 MiB, and readers
/// that read all of it, one after the other.
fn replicas(c: &mut Criterion) {
    const RUNS: u64 = 512;
    let (key, now) = (Key([7; 32]), Duration::from_secs(1));
    let shape = Shape {
        leaves: RUNS * RUN_LEAVES,
        size: (RUNS * RUN_LEAVES) << 20,
    };
    let mut helper = Helper::new(HelperConfig::default(), Salt([1; 32]), now);
    for run in 0..RUNS {
        let standing = Standing {
            bytes: RUN_LEAVES << 20,
            queue: Queue::Main,
            order: run,
            reads: 0,
            used: now,
        };
        helper.restore_run(RunId { key, run }, standing, shape);
    }
    let reader = |n: u64| {
        helper.mark(&Asker {
            position: Position::of_peer(&n.to_le_bytes()),
            origin: Origin::Lan,
        })
    };
    let readers: Vec<_> = (0..64).map(reader).collect();
    let mut group = c.benchmark_group("replicas");
    group.throughput(Throughput::Elements(RUN_LEAVES));
    let mut served = 0_u64;
    group.bench_function("serve a run, elements are MiB", |b| {
        b.iter(|| {
            served += 1;
            let reader = readers[(served / RUNS % 64) as usize];
            helper.served(key, served % RUNS, RUN_LEAVES << 20, reader, now);
        });
    });
    group.finish();
}

criterion_group!(parts, chunks, dag, planning, wire, replicas);
criterion_main!(parts);
