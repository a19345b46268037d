//! `shoal logs`: what the daemon of the home has logged, and with `--follow` what it logs.
//!
//! Where that is, the process of the daemon shows: the log file of the home, the journal of systemd, or
//! another file that its standard error goes to. Without a daemon it is the log file of the last one.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Serialize;
use shoal_api::{ApiError, ErrorCode};
use shoal_testnet::LogLines;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::sleep,
};

use crate::{app::App, args::DaemonLogsArgs, holder::Holder, human, logging::LogFile};

/// As often as a person can read on.
const FOLLOW_POLL: Duration = Duration::from_millis(200);

/// A line of `shoal logs --json`.
#[derive(Serialize)]
struct Line<'a> {
    line: &'a str,
}

/// Where the log is.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// The log file of the home, and the one that was set aside.
    Home,
    /// Another file.
    File(PathBuf),
    /// The journal, with the options that select the daemon's unit.
    Journal(Vec<String>),
    /// Nobody keeps it; the process that writes it.
    Unkept(u32),
}

pub(crate) async fn run(app: &App, args: &DaemonLogsArgs) -> Result<(), ApiError> {
    let print = |line: &str| {
        app.output.result(&Line { line }, |text| {
            text.line(human::escape_message(line));
        });
    };
    let source = source(&app.home);
    let opened = match &source {
        Source::Journal(options) => return journal(app, args, options, print).await,
        Source::Unkept(pid) => return Err(unkept(*pid)),
        Source::Home => LogLines::open(&app.home),
        Source::File(path) => LogLines::of_file(path),
    };
    let path = match source {
        Source::File(path) => path,
        _ => LogFile::path(&app.home),
    };
    let mut lines = opened.map_err(|error| unread(&path, &error))?;
    if let Some(last) = args.lines {
        let last = last_lines(&mut lines, last).map_err(|error| unread(&path, &error))?;
        last.iter().for_each(|line| print(line));
        if !args.follow {
            return Ok(());
        }
    }
    let shown = show(app, &mut lines, args.follow, print).await;
    shown.map_err(|error| unread(&path, &error))
}

/// Prints lines until there are no more; the following ones, too, until Ctrl-C, if that is asked for.
///
/// # Errors
/// When the log cannot be read.
pub(super) async fn show(
    app: &App,
    lines: &mut LogLines,
    follow: bool,
    print: impl Fn(&str),
) -> io::Result<()> {
    loop {
        while let Some(line) = lines.next_line()? {
            print(&line);
            if app.interrupt.is_cancelled() || app.output.is_closed() {
                return Ok(());
            }
        }
        if !follow {
            return Ok(());
        }
        // Ctrl-C is how following ends; nothing is left undone.
        tokio::select! {
            () = app.interrupt.cancelled() => return Ok(()),
            () = sleep(FOLLOW_POLL) => {}
        }
    }
}

/// The last lines that are there now.
fn last_lines(lines: &mut LogLines, count: usize) -> io::Result<VecDeque<String>> {
    let mut last = VecDeque::new();
    while let Some(line) = lines.next_line()? {
        last.push_back(line);
        if last.len() > count {
            last.pop_front();
        }
    }
    Ok(last)
}

/// Prints what the journal has of the daemon's unit.
async fn journal(
    app: &App,
    args: &DaemonLogsArgs,
    options: &[String],
    print: impl Fn(&str),
) -> Result<(), ApiError> {
    let failed = |error: &io::Error| {
        ApiError::of_io(error, "cannot read the journal with journalctl").hint(format!(
            "systemd runs the daemon, and its journal has the log: journalctl {}",
            options.join(" ")
        ))
    };
    let mut command = Command::new("journalctl");
    command.args(options).args(["--no-pager", "--output=cat"]);
    match args.lines {
        Some(lines) => command.arg(format!("--lines={lines}")),
        None => command.arg("--boot"),
    };
    if args.follow {
        command.arg("--follow");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error))?;
    let Some(stdout) = child.stdout.take() else {
        return Ok(());
    };
    let mut lines = BufReader::new(stdout).lines();
    while let Some(next) = app.interrupt.run_until_cancelled(lines.next_line()).await {
        match next.map_err(|error| failed(&error))? {
            Some(line) => print(&line),
            None => break,
        }
        if app.output.is_closed() {
            break;
        }
    }
    if app.interrupt.is_cancelled() || app.output.is_closed() {
        return Ok(());
    }
    let ended = child.wait().await.map_err(|error| failed(&error))?;
    match ended.success() {
        true => Ok(()),
        false => Err(failed(&io::Error::other(format!("it ended with {ended}")))),
    }
}

/// Where the log of the daemon on a home is.
fn source(home: &Path) -> Source {
    let Ok(Holder::Process(held)) = Holder::of(home) else {
        return Source::Home;
    };
    let process = PathBuf::from(format!("/proc/{}", held.pid));
    let read = |file: &str| fs::read(process.join(file)).unwrap_or_default();
    let Ok(stderr) = fs::read_link(process.join("fd/2")) else {
        return Source::Home;
    };
    if let Some(socket) = socket(&stderr)
        && is_journal(&read("environ"), socket)
    {
        return match unit_options(&String::from_utf8_lossy(&read("cgroup"))) {
            Some(options) => Source::Journal(options),
            None => Source::Journal(vec![format!("_PID={}", held.pid)]),
        };
    }
    // A daemon in a terminal or in the background keeps its own.
    let log = LogFile::path(home);
    let folder = log.parent().and_then(|folder| folder.canonicalize().ok());
    let is_own = folder.is_some_and(|folder| stderr.starts_with(folder));
    let is_terminal = stderr.starts_with("/dev/pts") || stderr.starts_with("/dev/tty");
    match stderr.is_file() {
        _ if is_own || is_terminal => Source::Home,
        true => Source::File(stderr),
        false => Source::Unkept(held.pid),
    }
}

/// The inode of a socket that a link in `/proc/PID/fd` names.
fn socket(link: &Path) -> Option<&str> {
    let name = link.to_str()?.strip_prefix("socket:[")?;
    name.strip_suffix(']')
}

/// Whether systemd has connected this socket to the journal: it says so in `JOURNAL_STREAM`, with device
/// and inode (systemd.exec(5)).
fn is_journal(environment: &[u8], socket: &str) -> bool {
    let mut variables = environment.split(|byte| *byte == 0);
    let stream = variables.find_map(|it| it.strip_prefix(b"JOURNAL_STREAM="));
    let stream = stream.and_then(|it| std::str::from_utf8(it).ok());
    let inode = stream.and_then(|it| it.split_once(':'));
    inode.is_some_and(|(_, inode)| inode == socket)
}

/// The options of journalctl for the unit that a process belongs to, by its cgroup.
fn unit_options(cgroup: &str) -> Option<Vec<String>> {
    let path = cgroup.lines().find_map(|line| line.splitn(3, ':').nth(2))?;
    let (above, unit) = path.trim_end().rsplit_once('/')?;
    if !unit.ends_with(".service") && !unit.ends_with(".scope") {
        return None;
    }
    let unit = format!("--unit={unit}");
    Some(match above.contains("/user@") {
        true => vec!["--user".to_owned(), unit],
        false => vec![unit],
    })
}

fn unread(path: &Path, error: &io::Error) -> ApiError {
    let path = human::path(path);
    if error.kind() == io::ErrorKind::NotFound {
        let message = format!("there is no log yet: {path} does not exist");
        return ApiError::new(ErrorCode::PathNotFound, message).hint(
            "a daemon writes it: `shoal daemon --detach` starts one; systemd's journal has the log of \
             a service that has ended: journalctl --user --unit=shoal",
        );
    }
    ApiError::of_io(error, format!("cannot read the log {path}"))
}

fn unkept(pid: u32) -> ApiError {
    let message = format!(
        "nobody keeps the log of the daemon (process {pid}): its standard error is no file, no \
         terminal and not the journal"
    );
    ApiError::new(ErrorCode::PathNotFound, message).hint(
        "look where it was started; `shoal daemon --detach` and `shoal service install` keep the log",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_its_socket() {
        let environment = b"HOME=/root\0JOURNAL_STREAM=9:4711\0X=1\0";
        let check = |link: &str, expected: bool| {
            let found = socket(Path::new(link));
            let found = found.is_some_and(|it| is_journal(environment, it));
            assert_eq!(found, expected, "{link}");
        };
        check("socket:[4711]", true);
        check("socket:[471]", false);
        check("/dev/pts/3", false);
        assert!(!is_journal(b"", "4711"));
    }

    #[test]
    fn the_unit_is_the_last_part_of_the_cgroup() {
        let check = |cgroup: &str, expected: Option<&[&str]>| {
            let expected: Option<Vec<String>> =
                expected.map(|it| it.iter().map(|&word| word.to_owned()).collect());
            assert_eq!(unit_options(cgroup), expected, "{cgroup}");
        };
        check(
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/shoal.service\n",
            Some(&["--user", "--unit=shoal.service"]),
        );
        check(
            "0::/system.slice/shoald.service\n",
            Some(&["--unit=shoald.service"]),
        );
        check("0::/\n", None);
        check("", None);
    }
}
