//! Whole programs against each other: Shoal, the floor, and what else is installed, in one run; and
//! Shoal over emulated lines, killed, and with somebody who watches.
//!
//! Each work is done by all programs in turn, round after round, so that what a noisy machine does
//! meets all of them. What is quoted are medians and ratios of one run; a bar is a ratio, or a bound
//! that does not depend on another program. The table and the plots say what was missing and which
//! bars were reached. Nothing waits for the flush to disk.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program is there to print"
)]

mod beside;
mod first_byte;
mod kills;
mod large_file;
mod measure;
mod player;
mod programs;
mod report;
mod start;
mod swarm;
mod tree;
mod wan;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use self::{measure::Outcome, programs::Programs};

/// A benchmark ends with the first thing that does not work.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measure whole programs against each other on this machine
#[derive(Debug, Parser)]
struct Args {
    /// What to measure; may be given several times [default: everything]
    #[arg(long, value_name = "WORK")]
    only: Vec<Work>,
    /// Times that each program does each work
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The size of the one large file, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    file_mib: u64,
    /// A folder of many small files, like a Linux source tree; a made one when left out
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
    /// The floor, see docs/performance.md
    #[arg(long, env = "SHOAL_BENCH_FLOOR", value_name = "PROGRAM")]
    floor: Option<PathBuf>,
    /// Where the table and the plots go
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Where the data goes: a disk with room for five times the large file
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Share and fetch one large file
    File,
    /// Share and fetch a tree of many small files
    Tree,
    /// Eight fetchers of one origin on a thin line
    Swarm,
    /// Eight fetchers of four chunks, from an origin on a very thin line
    Thin,
    /// A fast fetcher beside slow and hostile ones of the same sharer
    Beside,
    /// The first verified byte of a large file over a long line
    FirstByte,
    /// A whole file over a long line, by TCP and by QUIC
    Wan,
    /// A player that reads what is fetched, while a provider dies
    Player,
    /// A daemon that is killed ten times while it fetches
    Kills,
    /// Start with a million indexed chunks
    Start,
}

/// What a work needs to know.
struct Bench {
    rounds: u32,
    file_mib: u64,
    tree: Option<PathBuf>,
    programs: Programs,
    dir: TempDir,
}

impl Bench {
    /// A place for something of the name.
    fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("shoal-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints, writes, and says whether every bar was reached.
fn run(args: &Args) -> Result<bool> {
    let dir = match &args.work {
        Some(dir) => tempfile::Builder::new()
            .prefix("shoal-bench-")
            .tempdir_in(dir)?,
        None => tempfile::Builder::new().prefix("shoal-bench-").tempdir()?,
    };
    let bench = Bench {
        rounds: args.rounds,
        file_mib: args.file_mib,
        tree: args.tree.as_deref().map(Path::canonicalize).transpose()?,
        programs: Programs::find(args.floor.clone()),
        dir,
    };
    for (program, why) in bench.programs.missing() {
        eprintln!("not measured: {program} ({why})");
    }
    fs::create_dir_all(&args.out)?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for work in Work::value_variants() {
        if args.only.is_empty() || args.only.contains(work) {
            outcomes.extend(measure(*work, &bench)?);
            // Kept after each work: a later one may fail.
            report::write(&args.out, &outcomes)?;
        }
    }
    print!("{}", report::table(&outcomes));
    println!(
        "\nIn {}: table.md and a plot of each work.",
        args.out.display()
    );
    Ok(outcomes
        .iter()
        .flat_map(|it| &it.bars)
        .all(|bar| bar.is_reached()))
}

fn measure(work: Work, bench: &Bench) -> Result<Vec<Outcome>> {
    match work {
        Work::File => large_file::measure(bench),
        Work::Tree => tree::measure(bench),
        Work::Swarm => swarm::measure(bench),
        Work::Thin => swarm::measure_thin(bench),
        Work::Beside => beside::measure(bench),
        Work::FirstByte => first_byte::measure(bench),
        Work::Wan => wan::measure(bench),
        Work::Player => player::measure(bench),
        Work::Kills => kills::measure(bench),
        Work::Start => start::measure(bench),
    }
}
