//! `shoal testnet run`: a scenario, and whether what it asserts holds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use futures::FutureExt as _;
use serde::Serialize;
use shoal_api::{ApiError, ErrorCode};
use shoal_testnet::{
    Error,
    conduct::{Options, conduct},
    report::{Assertion, REPORT_HTML, REPORT_JSON, Report, Totals},
    scenario::{FILE_BYTES_MAX, Overrides, SHIPPED, Scenario, Shipped},
};

use super::{dir_option, live::View, program};
use crate::{app::App, args::RunArgs, human, output::Text};

/// The result of `shoal testnet run --json`: the report without its long lists.
#[derive(Serialize)]
struct Ran<'a> {
    scenario: &'a str,
    seed: u64,
    mode: &'a str,
    passed: bool,
    elapsed_ms: u64,
    cut_off: bool,
    nodes: usize,
    assertions: &'a [Assertion],
    totals: &'a Totals,
    /// Where the whole of it is.
    report: PathBuf,
    /// For people.
    html: PathBuf,
    /// Where the nodes run on, with `--keep`.
    kept: Option<PathBuf>,
}

/// A line of `shoal testnet scenarios --json`.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    description: String,
    nodes: usize,
    mode: String,
}

/// The result of `shoal testnet scenarios --json`.
#[derive(Serialize)]
struct List {
    scenarios: Vec<Listed>,
}

pub(super) async fn run(app: &App, dir: &Path, args: &RunArgs) -> Result<ExitCode, ApiError> {
    let scenario = read(args)?;
    let mode = args.mode.or(scenario.mode).unwrap_or_default();
    let default = PathBuf::from(format!("{}-report", scenario.name));
    let out = args.out.clone().unwrap_or(default);
    let options = Options {
        mode,
        transport: args.transport.or(scenario.transport),
        dir,
        program: &program()?,
        out: &out,
        keep: args.keep,
    };
    let view = View::new(app.output);
    let interrupt = app.interrupt.clone();
    let interrupted = async move { interrupt.cancelled().await }.boxed_local();
    let report = conduct(&scenario, &options, interrupted, &|told| view.tell(&told)).await;
    drop(view);
    let report = report?;
    let kept = args.keep.then(|| dir.to_owned());
    Ok(show(app, &report, &out, kept))
}

/// Lists the scenarios that come with this program.
pub(super) fn list(app: &App) -> Result<(), ApiError> {
    let listed = SHIPPED.into_iter().map(|shipped| {
        let scenario = Scenario::read(shipped.name, shipped.text, &Overrides::default());
        let scenario = scenario.map_err(Error::from)?;
        Ok(Listed {
            name: shipped.name,
            nodes: scenario.members.len(),
            mode: scenario.mode.unwrap_or_default().to_string(),
            description: scenario.description,
        })
    });
    let list = List {
        scenarios: listed.collect::<Result<_, ApiError>>()?,
    };
    app.output.result(&list, |text| {
        for scenario in &list.scenarios {
            let name = text.bold(format_args!("{:13}", scenario.name));
            let nodes = human::count(scenario.nodes as u64, "node");
            text.line(format_args!("{name} {} ({nodes})", scenario.description));
        }
    });
    app.output.note("Run one: shoal testnet run NAME");
    Ok(())
}

/// A folder that no other run uses at the same time.
pub(super) fn own_dir() -> PathBuf {
    std::env::temp_dir().join(format!("shoal-run-{}", std::process::id()))
}

/// The scenario that is named: one that comes with this program, or a file.
fn read(args: &RunArgs) -> Result<Scenario, ApiError> {
    let overrides = Overrides {
        nodes: args.nodes,
        seed: args.seed,
        scale: args.scale,
    };
    let name = args.scenario.as_str();
    let scenario = match Shipped::find(name) {
        Some(shipped) => Scenario::read(shipped.name, shipped.text, &overrides),
        None => Scenario::read(name, &read_file(Path::new(name))?, &overrides),
    };
    Ok(scenario.map_err(Error::from)?)
}

fn read_file(path: &Path) -> Result<String, ApiError> {
    let read = || {
        if fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(std::io::Error::other(format!(
                "larger than {FILE_BYTES_MAX} bytes"
            )));
        }
        fs::read_to_string(path)
    };
    read().map_err(|error| {
        let shown = human::path(path);
        let names: Vec<_> = SHIPPED.iter().map(|it| it.name).collect();
        ApiError::of_io(&error, format!("cannot read the scenario {shown}"))
            .hint(format!("name a TOML file, or one of {}", names.join(", ")))
    })
}

fn show(app: &App, report: &Report, out: &Path, kept: Option<PathBuf>) -> ExitCode {
    let ran = Ran {
        scenario: &report.scenario,
        seed: report.seed,
        mode: &report.mode,
        passed: report.passed,
        elapsed_ms: report.elapsed_ms,
        cut_off: report.cut_off,
        nodes: report.nodes.len(),
        assertions: &report.assertions,
        totals: &report.totals,
        report: out.join(REPORT_JSON),
        html: out.join(REPORT_HTML),
        kept,
    };
    let code = match failure(report) {
        None => {
            app.output.result(&ran, |text| lines(text, &ran));
            ExitCode::SUCCESS
        }
        Some(error) => app
            .output
            .failed_result(&ran, &error, |text| lines(text, &ran)),
    };
    if let Some(dir) = &ran.kept {
        app.output.note(format_args!(
            "The nodes run on. End them: shoal testnet down{}",
            dir_option(dir)
        ));
    }
    code
}

fn failure(report: &Report) -> Option<ApiError> {
    let failed: Vec<_> = report.assertions.iter().filter(|it| !it.held).collect();
    let first = failed.first()?;
    let (count, all) = (failed.len(), report.assertions.len());
    let what = match (count, all) {
        (1, 1) => "the assertion does not hold".to_owned(),
        _ => format!("{count} of {all} assertions do not hold"),
    };
    let message = format!("{what}: `{}`", first.that);
    let error = ApiError::new(ErrorCode::NotHeld, message);
    Some(match first.logs.first() {
        Some(log) => error.hint(format!("see the report, and {}", log.display())),
        None => error.hint("see the report"),
    })
}

fn lines(text: &mut Text, ran: &Ran<'_>) {
    for assertion in ran.assertions {
        let Assertion {
            that,
            at_ms,
            held,
            expected,
            seen,
            because,
            logs,
        } = assertion;
        let when = at_ms.map_or(String::new(), |ms| format!(" at {}", human::duration(ms)));
        if *held {
            text.line(format_args!(
                "holds   {that}{when} {}",
                text.dim(format_args!("({seen})"))
            ));
            continue;
        }
        text.line(format_args!(
            "{} {that}{when}: expected {expected}, seen {seen}",
            text.alert("broken ")
        ));
        if !because.is_empty() {
            text.line(format_args!("        {}", human::escape(because)));
        }
        for log in logs {
            text.line(format_args!("        see {}", human::path(log)));
        }
    }
    let totals = ran.totals;
    let took = human::duration(ran.elapsed_ms);
    let verdict = if ran.passed { "passed" } else { "failed" };
    text.line(format_args!(
        "{} {verdict} in {took}: {} of {} fetches identical, {} from owners, {} from others",
        text.bold(ran.scenario),
        totals.identical,
        totals.fetches,
        human::size(totals.from_owners_bytes),
        human::size(totals.from_peers_bytes)
    ));
    if totals.lookups > 0 {
        text.line(format_args!(
            "{} of {} lookups named a provider",
            totals.lookups_found, totals.lookups
        ));
    }
    text.line(format_args!("report: {}", human::path(&ran.html)));
}
