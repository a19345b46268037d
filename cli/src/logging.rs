//! Where log lines go. A command says by itself what a person needs to know, and logs only failures. A
//! daemon logs to stderr, which may be the journal; in the background to a bounded file in its home; and
//! in a terminal to both, where the terminal gets only warnings.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, IsTerminal as _, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync,
};

use shoal_api::ApiError;
use shoal_node::config::LogFormat;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::{args::Global, human, output};

/// Overrides every level, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER_VARIABLE: &str = "SHOAL_LOG";

/// One month of a node at level info; with the one before it, twice this on disk.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// What is logged where nothing else is asked for.
#[derive(Clone, Copy, Debug)]
enum Level {
    Failures,
    Warnings,
    Work,
    Debug,
    All,
}

/// Logs of a command: failures, unless more is asked for. Warnings of a node in this process are told by
/// [`crate::session::Session`].
pub(crate) fn for_command(global: &Global) {
    let format = global.log_format.map_or(LogFormat::Text, LogFormat::from);
    tracing_subscriber::registry()
        .with(to_stderr(global, format, Level::Failures))
        .init();
}

/// Whether a daemon that is not in the background logs to the file of its home, too: nobody keeps what a
/// terminal shows.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Logs of a daemon: what it does; into `file` when there is one, and then warnings to a terminal.
pub(crate) fn for_daemon(global: &Global, format: LogFormat, file: Option<LogFile>) {
    let least = match (&file, is_terminal()) {
        (None, _) => Some(Level::Work),
        (Some(_), true) => Some(Level::Warnings),
        // It is the file itself.
        (Some(_), false) => None,
    };
    let file = file.map(|file| {
        #[expect(clippy::disallowed_types, reason = "the one that tracing writes by")]
        let file = sync::Mutex::new(file);
        layer(format, false, file).with_filter(filter(global, Level::Work))
    });
    // The file first: what a layer has made of a span's fields is what the next one shows, and colours
    // do not belong into a file.
    tracing_subscriber::registry()
        .with(file)
        .with(least.map(|least| to_stderr(global, format, least)))
        .init();
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!(panic = %info, "a task panicked");
        default(info);
    }));
}

fn filter(global: &Global, least: Level) -> EnvFilter {
    let level = match (global.verbose, least) {
        _ if global.quiet => Level::Failures,
        (0, least) => least,
        // More than nothing begins with what is done.
        (1, Level::Failures | Level::Warnings) => Level::Work,
        (1, _) | (2, Level::Failures | Level::Warnings) => Level::Debug,
        _ => Level::All,
    };
    let (own, others) = match level {
        Level::Failures => ("error", "error"),
        Level::Warnings => ("warn", "error"),
        Level::Work => ("info", "warn"),
        Level::Debug => ("debug", "info"),
        Level::All => ("trace", "debug"),
    };
    // It calls an interface without multicast, a tunnel for one, an error.
    let mdns = if matches!(others, "error" | "warn") {
        "off"
    } else {
        others
    };
    // A directive is for all targets that begin with its name: `shoal` is every package of Shoal.
    let default = format!("{others},libp2p_mdns={mdns},shoal={own}");
    EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default))
}

fn to_stderr<S>(
    global: &Global,
    format: LogFormat,
    least: Level,
) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let ansi = output::use_color(global, &io::stderr());
    layer(format, ansi, io::stderr).with_filter(filter(global, least))
}

fn layer<S, W>(format: LogFormat, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer()
        .with_ansi(ansi && format == LogFormat::Text)
        .with_writer(writer);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().boxed(),
    }
}

/// A log file that is set aside when it is full, in place of the one before.
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl LogFile {
    /// Appends to the daemon's log in a home.
    pub(crate) fn open(home: &Path) -> io::Result<Self> {
        let path = Self::path(home);
        let file = append(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    /// Where the daemon's log is in a home.
    pub(crate) fn path(home: &Path) -> PathBuf {
        home.join("log").join("daemon.log")
    }

    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_extension("log.1"))?;
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes >= LOG_BYTES_MAX {
            self.rotate()?;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The log cannot be written.
pub(crate) fn unwritable(log: &Path, error: &io::Error) -> ApiError {
    let log = human::path(log);
    ApiError::of_io(error, format!("cannot write the daemon's log {log}")).hint(
        "choose a home of your own with --home or SHOAL_HOME, and see that its disk has space",
    )
}

/// Opens a log file of mode 0600 and makes its folder, and the home when this is the first thing in
/// it, with mode 0700.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_full_log_is_set_aside_once() {
        let home = tempfile::tempdir().unwrap();
        let path = LogFile::path(home.path());
        let line = vec![b'x'; 1 << 20];
        for _ in 0..2 {
            let mut log = LogFile::open(home.path()).unwrap();
            for _ in 0..12 {
                log.write_all(&line).unwrap();
            }
        }
        let folder = fs::read_dir(path.parent().unwrap()).unwrap();
        let sizes: Vec<u64> = folder
            .map(|e| e.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|&size| size <= LOG_BYTES_MAX), "{sizes:?}");
    }
}
