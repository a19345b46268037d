//! Looking up in the index where the bytes of a chunk lie, among a million of them, and writing
//! rows.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use shoal_protocol::address::{Digest, HashFn};
use shoal_store::{BATCH_BYTES, Store};

const CHUNKS: u64 = 1_000_000;
const CHUNK_BYTES: u32 = 1 << 20;
const PER_FILE: u64 = 1 << 10;
const ROWS: u64 = 1_000;

fn digest(chunk: u64) -> Digest {
    Digest::of(HashFn::Blake3, &chunk.to_le_bytes())
}

/// A store that knows where [`CHUNKS`] chunks lie, those of files of a GiB.
fn store(home: &std::path::Path) -> Store {
    let store = Store::open(home).unwrap();
    let mut batch = store.batch();
    let files = store.new_file_ids(CHUNKS.div_ceil(PER_FILE)).unwrap();
    let places = files.flat_map(|file| (0..PER_FILE).map(move |at| (file, at << 20)));
    for (chunk, (file, offset)) in (0..CHUNKS).zip(places) {
        batch.put_chunk(file, offset, &digest(chunk), CHUNK_BYTES);
        if batch.bytes() >= BATCH_BYTES {
            batch.commit(false).unwrap();
            batch = store.batch();
        }
    }
    batch.commit(true).unwrap();
    store
}

fn index(c: &mut Criterion) {
    let home = tempfile::tempdir().unwrap();
    let store = store(home.path());
    let mut group = c.benchmark_group("index");
    let mut chunk = 0;
    group.bench_function("find one of a million chunks", |b| {
        b.iter(|| {
            chunk = (chunk + 7_919) % CHUNKS;
            store
                .locations(black_box(&digest(chunk)))
                .next()
                .unwrap()
                .unwrap()
        });
    });
    group.bench_function("miss", |b| {
        b.iter(|| {
            chunk += 1;
            assert!(store.locations(&digest(CHUNKS + chunk)).next().is_none());
        });
    });
    group.throughput(Throughput::Elements(ROWS));
    let file = store.new_file_ids(1).unwrap().next().unwrap();
    group.bench_function("write a thousand chunks", |b| {
        b.iter_batched(
            || store.batch(),
            |mut batch| {
                for chunk in 0..ROWS {
                    batch.put_chunk(file, chunk << 20, &digest(chunk), CHUNK_BYTES);
                }
                batch.commit(false).unwrap();
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(store_benches, index);
criterion_main!(store_benches);
