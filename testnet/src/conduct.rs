//! From a scenario to its report: the network is started, run on, judged and taken down.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures::{
    FutureExt as _,
    future::{LocalBoxFuture, Shared},
};
use shoal_node::config::{self, Config};

use crate::{
    Error, Setup, Testnet, Transport, capacity,
    report::{Compared, Report},
    run::{
        Action, Driver, InProcess, Network, Processes, Record, RunNews, Script, engine,
        evil::Evils,
        files::{self, Original},
        verdict,
    },
    scenario::{Mode, Scenario, Setting},
};

/// How a scenario is run.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// What the nodes are.
    pub mode: Mode,
    /// What they listen on, where each is a process; TCP by itself.
    pub transport: Option<Transport>,
    /// Where their homes are, and what they share and fetch; it is made, and goes at the end.
    pub dir: &'a Path,
    /// What the nodes run.
    pub program: &'a Path,
    /// Where the report is written; it is made.
    pub out: &'a Path,
    /// The nodes run on, with what they fetched.
    pub keep: bool,
}

/// Runs a scenario, and writes its report.
///
/// Nothing is started before it is known that the scenario can be run here; fails it, or is it
/// `interrupted`, all that was started is taken down.
///
/// # Errors
/// When it cannot be run, or its report not be written. What does not hold is in the report.
pub fn conduct<'a>(
    scenario: &'a Scenario,
    options: &'a Options<'a>,
    interrupted: LocalBoxFuture<'a, ()>,
    tell: &'a (dyn Fn(RunNews<'_>) + Sync),
) -> LocalBoxFuture<'a, Result<Report, Error>> {
    Box::pin(run(scenario, options, interrupted.shared(), tell))
}

/// That somebody has had enough.
type Interrupted<'a> = Shared<LocalBoxFuture<'a, ()>>;

async fn run(
    scenario: &Scenario,
    options: &Options<'_>,
    interrupted: Interrupted<'_>,
    tell: &(dyn Fn(RunNews<'_>) + Sync),
) -> Result<Report, Error> {
    if options.mode == Mode::InProcess && options.transport.is_some() {
        return Err(Error::NoSockets);
    }
    check_mode(scenario, options.mode)?;
    let script = Script::draw(scenario)?;
    verdict::check(scenario, &script)?;
    check_space(&script, options.dir)?;
    fs::create_dir_all(options.out).map_err(Error::io("make the folder", options.out))?;
    let out = options.out.canonicalize();
    let out = out.map_err(Error::io("use the folder", options.out))?;
    let compared = scenario.compared();
    let run = |scenario, is_last| Run {
        scenario,
        script: &script,
        options,
        out: &out,
        tell,
        is_last,
    };
    let mut other = None;
    if let Some((compare, compared)) = scenario.compare.as_ref().zip(compared.as_ref()) {
        tell(RunNews::Phase("running what it is compared with"));
        let (report, record) = run(compared, false)
            .begin(None, interrupted.clone())
            .await?;
        other = Some((Compared::of(compare, report), record));
    }
    let reported = run(scenario, true).begin(other, interrupted).await?;
    Ok(reported.0)
}

/// Whether the nodes of a scenario can be what they are to be.
fn check_mode(scenario: &Scenario, mode: Mode) -> Result<(), Error> {
    let needs = |what| Err(Error::NeedsOneProcess { what });
    match mode {
        Mode::InProcess => Ok(()),
        Mode::Process if !scenario.members.sites().0.is_empty() => {
            needs("a line or a local network that nodes share")
        }
        Mode::Process if !scenario.settings.is_empty() => needs("the settings of a scenario"),
        Mode::Process if scenario.compare.is_some() => needs("a comparison"),
        Mode::Process => Ok(()),
    }
}

/// What the configuration of each node begins as.
fn configuration(settings: &[Setting], home: &Path) -> Result<Config, Error> {
    let variables = settings.iter().map(Setting::variable);
    let config = Config::load(home, variables, config::Overrides::default());
    config.map_err(|error| Error::Settings(error.to_string()))
}

/// What is run, and how.
struct Run<'a> {
    scenario: &'a Scenario,
    script: &'a Script,
    options: &'a Options<'a>,
    out: &'a Path,
    tell: &'a (dyn Fn(RunNews<'_>) + Sync),
    /// Whether it leaves files: one that another is compared with leaves none.
    is_last: bool,
}

/// The run that another one is compared with.
type Other = Option<(Compared, Record)>;

impl Run<'_> {
    /// Starts a network, and runs the scenario there.
    async fn begin(
        &self,
        other: Other,
        interrupted: Interrupted<'_>,
    ) -> Result<(Report, Record), Error> {
        (self.tell)(RunNews::Phase("starting the nodes"));
        let Options {
            transport,
            dir,
            program,
            ..
        } = *self.options;
        let (nodes, patience) = (self.scenario.members.honest(), self.scenario.limit);
        let plan = self.script.network.clone();
        match self.options.mode {
            Mode::Process => {
                let setup = Setup {
                    nodes,
                    transport: transport.unwrap_or_default(),
                    links: plan,
                };
                let up = Testnet::up_as(dir, setup, program, interrupted.clone().boxed_local());
                let network = Processes::new(up.await?, patience).await?;
                self.on(network, other, interrupted).await
            }
            Mode::InProcess => {
                let config = configuration(&self.scenario.settings, dir)?;
                let stop = interrupted.clone();
                let network = InProcess::up(dir, nodes, plan, config, patience, stop).await?;
                self.on(network, other, interrupted).await
            }
        }
    }

    /// Runs it on a network that is up, and takes that down.
    async fn on<N: Network>(
        &self,
        network: N,
        other: Other,
        interrupted: impl Future<Output = ()> + Clone,
    ) -> Result<(Report, Record), Error> {
        let is_last = self.is_last;
        let reported = match self.make(&network, interrupted.clone()).await {
            Ok(originals) => tokio::select! {
                biased;
                () = interrupted => Err(Error::Interrupted),
                reported = self.report(&network, originals, other) => reported,
            },
            Err(error) => Err(error),
        };
        match reported {
            Ok(report) if self.options.keep && is_last => network.keep().await.map(|()| report),
            Ok(report) => {
                (self.tell)(RunNews::Phase("ending the nodes"));
                network.down().await.map(|()| report)
            }
            Err(cause) => {
                let phase = "ending the nodes; another Ctrl-C would leave them running";
                (self.tell)(RunNews::Phase(phase));
                Err(network.down_after(cause).await)
            }
        }
    }

    async fn make<D: Driver>(
        &self,
        driver: &D,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Vec<Original>, Error> {
        (self.tell)(RunNews::Phase("making what is shared"));
        files::make(self.script, driver.files(), interrupted).await
    }

    /// Runs the script, judges, and writes the report if it is the last one.
    async fn report<D: Driver>(
        &self,
        driver: &D,
        originals: Vec<Original>,
        other: Other,
    ) -> Result<(Report, Record), Error> {
        let Self {
            scenario,
            script,
            options,
            out,
            tell,
            is_last,
        } = self;
        let evils = Evils::start(driver, scenario, &originals).await?;
        let record = engine::run(driver, scenario, script, originals, tell).await?;
        let (compared, other) = other.unzip();
        let verdicts = verdict::verdicts(scenario, script, &record, other.as_ref())?;
        let mut report = Report::of(scenario, options.mode, script, &record, &verdicts);
        report.compared = compared;
        report.add_deeds(evils.deeds());
        evils.end(scenario).await?;
        if *is_last {
            report.keep_logs(&verdicts, out, |node| driver.log(node));
            report.write(script, out)?;
        }
        Ok((report, record))
    }
}

/// Whether the originals and all copies have room; a copy that is being fetched takes as much as
/// one that is there.
fn check_space(script: &Script, dir: &Path) -> Result<(), Error> {
    let copies = script.steps.iter().filter_map(|step| match step.action {
        Action::Fetch { item, .. } => Some(script.items[item].bytes),
        _ => None,
    });
    let originals = script.items.iter().map(|item| item.bytes);
    let needed = originals.chain(copies).fold(0, u64::saturating_add);
    let existing: PathBuf = dir.ancestors().find(|it| it.exists()).unwrap_or(dir).into();
    match capacity::disk_bytes(&existing) {
        Some(free) if free < needed => Err(Error::Space {
            dir: existing,
            needed,
            free,
        }),
        _ => Ok(()),
    }
}
