//! Where log lines go: stderr, or a bounded file for a daemon in the background.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync,
};

use shoal_api::ApiError;
use shoal_node::config::LogFormat;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{args::Global, human, output};

/// Overrides every level, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER_VARIABLE: &str = "SHOAL_LOG";

/// One month of a node at level info; with the one before it, twice this on disk.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// Logs of a command: what went wrong, unless more is asked for.
pub(crate) fn for_command(global: &Global) {
    let format = global.log_format.map_or(LogFormat::Text, LogFormat::from);
    init(
        filter(global, 0),
        format,
        output::use_color(global, &io::stderr()),
        io::stderr,
    );
}

/// Logs of a daemon: what it does; into `file` when there is one.
pub(crate) fn for_daemon(global: &Global, format: LogFormat, file: Option<LogFile>) {
    let filter = filter(global, 1);
    match file {
        Some(file) => {
            #[expect(clippy::disallowed_types, reason = "the one that tracing writes by")]
            let file = sync::Mutex::new(file);
            init(filter, format, false, file);
        }
        None => init(
            filter,
            format,
            output::use_color(global, &io::stderr()),
            io::stderr,
        ),
    }
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!(panic = %info, "a task panicked");
        default(info);
    }));
}

fn filter(global: &Global, base: u8) -> EnvFilter {
    let (own, others) = match (global.quiet, base + global.verbose) {
        (true, _) => ("error", "error"),
        (_, 0) => ("warn", "error"),
        (_, 1) => ("info", "warn"),
        (_, 2) => ("debug", "info"),
        _ => ("trace", "debug"),
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

fn init<W>(filter: EnvFilter, format: LogFormat, ansi: bool, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi && format == LogFormat::Text)
        .with_writer(writer);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
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
