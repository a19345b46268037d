//! How the database is laid out and how much memory it may use.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType,
    DEFAULT_COLUMN_FAMILY_NAME, LogLevel, Options, SliceTransform, WriteBufferManager,
};

use super::keys;
use super::prefix::PREFIX_BYTES;

/// The schema that this build reads and writes. A change of any key or row needs the next number
/// and a migration from the one before, of which [`SCHEMA_OLDEST`] is the first.
pub(super) const SCHEMA: u32 = 4;
pub(super) const SCHEMA_OLDEST: u32 = 1;

const MIB: usize = 1 << 20;

/// All of RocksDB's own memory: block cache and write buffers of all families, in one account.
const MEMORY_BYTES: usize = 32 * MIB;

/// The part of `MEMORY_BYTES` that unflushed writes may take: 79,000 small files make about 21 MB
/// of rows, so sharing such a tree flushes twice.
const WRITE_BUFFER_BYTES: usize = 12 * MIB;

/// One family's write buffer, so that one busy family cannot hold all of `WRITE_BUFFER_BYTES`.
const FAMILY_BUFFER_BYTES: usize = 6 * MIB;

/// Memory that a family takes at its first write; 14 families times 128 KiB are 1.8 MiB.
const ARENA_BLOCK_BYTES: usize = MIB / 8;

/// The log that is replayed at start: at 300 MB/s it takes a tenth of a second.
const LOG_BYTES_MAX: u64 = 32 << 20;

/// Open table files; each costs a descriptor and a few KiB, a database of 1,000,000 chunks has
/// about 30.
const OPEN_FILES_MAX: i32 = 128;

/// Threads for flush and compaction: one each.
const BACKGROUND_JOBS: i32 = 2;

/// Threads that open table files when the database is opened. RocksDB would start 15 for each family
/// and end them again, and where there are no more threads to be had it aborts the process.
const OPENING_THREADS: i32 = 1;

/// Size of a table file, small so that compactions are short.
const TABLE_BYTES: u64 = 8 << 20;

/// Blocks from this size on lie in blob files, where compaction does not copy them.
const BLOB_BYTES_MIN: u64 = 4 << 10;

/// Size of one blob file.
const BLOB_FILE_BYTES: u64 = 64 << 20;

/// Options of the family of blocks under which a compaction rewrites every blob file, so that the
/// space of all deleted blocks comes back; and RocksDB's usual ones, under which it rewrites the
/// oldest quarter of them.
pub(super) const BLOB_GC_ALL: [(&str, &str); 1] = [("blob_garbage_collection_age_cutoff", "1.0")];
pub(super) const BLOB_GC_USUAL: [(&str, &str); 1] =
    [("blob_garbage_collection_age_cutoff", "0.25")];

/// RocksDB's own text log: two files of at most 1 MiB.
const INFO_LOG_BYTES: usize = MIB;
const INFO_LOG_FILES: usize = 2;

/// Ten bits per key: about 1% of lookups of absent keys reach a table.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// How keys begin: as one store has them, or with the number of the store that they belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Own,
    Shared,
}

/// A column family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Meta,
    Blocks,
    Refs,
    ShareBlocks,
    Locations,
    Files,
    FileChunks,
    ShareFiles,
    Shares,
    Transfers,
    Providers,
    Peers,
    Node,
    Replicas,
}

impl Family {
    pub(super) const ALL: [Self; 14] = [
        Self::Meta,
        Self::Blocks,
        Self::Refs,
        Self::ShareBlocks,
        Self::Locations,
        Self::Files,
        Self::FileChunks,
        Self::ShareFiles,
        Self::Shares,
        Self::Transfers,
        Self::Providers,
        Self::Peers,
        Self::Node,
        Self::Replicas,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Blocks => "blocks",
            Self::Refs => "refs",
            Self::ShareBlocks => "share_blocks",
            Self::Locations => "locations",
            Self::Files => "files",
            Self::FileChunks => "file_chunks",
            Self::ShareFiles => "share_files",
            Self::Shares => "shares",
            Self::Transfers => "transfers",
            Self::Providers => "providers",
            Self::Peers => "peers",
            Self::Node => "node",
            Self::Replicas => "replicas",
        }
    }

    fn options(self, layout: Layout, cache: &Cache) -> Options {
        let (mut options, mut table) = common_options(cache);
        match self {
            Self::Blocks => {
                options.set_enable_blob_files(true);
                options.set_min_blob_size(BLOB_BYTES_MIN);
                options.set_blob_file_size(BLOB_FILE_BYTES);
                options.set_enable_blob_gc(true);
            }
            // Always asked by digest: who has this chunk, who refers to this block.
            Self::Locations | Self::Refs => {
                let before = match layout {
                    Layout::Own => 0,
                    Layout::Shared => PREFIX_BYTES,
                };
                let digest = SliceTransform::create_fixed_prefix(before + keys::DIGEST_BYTES);
                options.set_prefix_extractor(digest);
                table.set_whole_key_filtering(false);
            }
            _ => {}
        }
        options.set_block_based_table_factory(&table);
        options
    }
}

/// What all families have in common.
fn common_options(cache: &Cache) -> (Options, BlockBasedOptions) {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    // Index and filter blocks count against the cache, or memory would grow with the data.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);

    let mut options = Options::default();
    options.set_write_buffer_size(FAMILY_BUFFER_BYTES);
    options.set_arena_block_size(ARENA_BLOCK_BYTES);
    options.set_target_file_size_base(TABLE_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    (options, table)
}

/// Options of the whole database and of each family.
pub(super) fn descriptors(layout: Layout) -> (Options, Vec<ColumnFamilyDescriptor>) {
    let cache = Cache::new_lru_cache(MEMORY_BYTES);
    // Write buffers are charged to the cache: one account of `MEMORY_BYTES`. Writers are not
    // stalled at the limit, a flush is started instead.
    let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
        WRITE_BUFFER_BYTES,
        false,
        cache.clone(),
    );
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_write_buffer_manager(&buffers);
    options.set_max_total_wal_size(LOG_BYTES_MAX);
    // A log that is missing, or shorter than it was when the next one began, is damage and no
    // smaller database.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_file_opening_threads(OPENING_THREADS);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // Recovery keeps RocksDB's default, point in time: after a power loss the tail of the log may
    // be torn anywhere, and everything up to the last synced write is before that.
    let families = Family::ALL.into_iter();
    let mut families: Vec<_> = families
        .map(|family| ColumnFamilyDescriptor::new(family.name(), family.options(layout, &cache)))
        .collect();
    // RocksDB insists on this family. It stays empty, but with default options it would have
    // RocksDB wait for 64 MiB of free space before it recovers from a full disk.
    let (unused, _) = common_options(&cache);
    families.push(ColumnFamilyDescriptor::new(
        DEFAULT_COLUMN_FAMILY_NAME,
        unused,
    ));
    (options, families)
}
