//! From parsed arguments to an exit code: which command runs.

use std::{process::ExitCode, time::Duration};

use shoal_api::ApiError;

use crate::{
    app::{self, App},
    args::{Cli, Command, DbCommand, Global},
    commands::{self, transfers},
    interrupt::{self, Signals},
    limits, logging,
    output::Output,
    reach::Tell,
};

/// Work on blocking threads that is still running when the command is over gets this long.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

/// Runs the command and says how it went.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let output = Output::new(&cli.global);
    match run_command(cli, output) {
        Ok(code) => output.ended(code),
        Err(error) => output.error(&error),
    }
}

fn run_command(cli: Cli, output: Output) -> Result<ExitCode, ApiError> {
    let home = app::home(cli.global.home.as_deref())?;
    limits::check_command()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| ApiError::of_io(&error, "cannot start"))?;
    let result = runtime.block_on(async {
        let Signals { interrupt, hangup } = interrupt::watch()?;
        let app = App {
            home,
            output,
            interrupt,
            hangup,
        };
        dispatch(&app, cli.global, cli.command).await
    });
    runtime.shutdown_timeout(RUNTIME_GRACE);
    result
}

async fn dispatch(app: &App, global: Global, command: Command) -> Result<ExitCode, ApiError> {
    if let Command::Daemon(args) = command {
        commands::daemon::run(app, &global, args).await?;
        return Ok(ExitCode::SUCCESS);
    }
    logging::for_command(&global);
    match command {
        Command::Verify(args) => return commands::verify::run(app, args).await,
        Command::Db(DbCommand::Check(args)) => return commands::db::check(app, &args).await,
        Command::Testnet(args) => return commands::testnet::run(app, args).await,
        Command::Pause(args) => return transfers::tell(app, args, Tell::Pause).await,
        Command::Resume(args) => return transfers::tell(app, args, Tell::Resume).await,
        Command::Cancel(args) => return transfers::tell(app, args, Tell::Cancel).await,
        Command::Daemon(_) => Ok(()),
        Command::Stop(args) => commands::stop::run(app, &args).await,
        Command::Status(args) => commands::status::run(app, &args).await,
        Command::Logs(args) => commands::logs::run(app, &args).await,
        Command::Share(args) => commands::share::run(app, args).await,
        Command::Fetch(args) => commands::fetch::run(app, args).await,
        Command::Transfers => transfers::list(app).await,
        Command::Ls(args) => commands::ls::run(app, args).await,
        Command::Show(args) => commands::ls::show(app, args).await,
        Command::Link(args) => commands::link::run(app, args).await,
        Command::Rename(args) => commands::rename::run(app, args).await,
        Command::Unshare(args) => commands::unshare::run(app, args).await,
        Command::Find(args) => commands::find::run(app, args).await,
        Command::Peers => commands::peers::list(app).await,
        Command::Connect(args) => commands::peers::connect(app, args).await,
        Command::Limits(args) => commands::limits::run(app, args).await,
        Command::Replicas(command) => commands::replicas::run(app, command).await,
        Command::Id => commands::peers::id(app).await,
        Command::Service(command) => commands::service::run(app, command).await,
        Command::Gc(args) => commands::gc::run(app, args).await,
        Command::Config(args) => commands::config::run(app, args).await,
        Command::Completions(args) => commands::definition::completions(app, &args),
        Command::Man(args) => commands::definition::man(app, &args),
    }?;
    Ok(ExitCode::SUCCESS)
}
