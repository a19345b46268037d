//! Completes a command line for a shell.
//!
//! The script of a shell (`shoal completions SHELL`) runs this program with [`VARIABLE`] in its
//! environment and the words of the line as arguments, and shows what it prints. clap knows which word
//! can stand where; shares, transfers and peers come from the node that serves the home.
//!
//! A completion starts no node, opens no database and writes no file. It answers within
//! [`DEADLINE`], with less where the node is silent, and prints nothing at all when it fails.

mod bash;
mod found;
mod line;

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::{
    Shell,
    engine::ArgValueCompleter,
    env::{Elvish, EnvCompleter, Fish, Powershell, Zsh},
};

use self::bash::Bash;
use crate::{app, args::Cli, output};

/// The variable that asks for a completion, and names the shell. No configuration has this name.
const VARIABLE: &str = "_SHOAL_COMPLETE";

/// The command's name, for which a shell completes, and which it runs to do so.
const NAME: &str = "shoal";

/// A person who has pressed Tab waits this long at the most: a folder or a node may not answer.
const DEADLINE: Duration = Duration::from_secs(1);

/// The end of the zsh script, for when it is a file of the function path: zsh runs the file itself at
/// the first use, and what it defines from then on.
const ZSH_AUTOLOAD: &str = "
if [[ \"${funcstack[1]}\" == _shoal ]]; then
    _clap_dynamic_completer_shoal \"$@\"
fi
";

/// The shell that asks for a completion, if one does.
pub(crate) fn asked() -> Option<OsString> {
    env::var_os(VARIABLE)
}

/// Prints what may stand at the end of the line that is in the arguments.
pub(crate) fn answer(shell: &OsStr) -> ExitCode {
    // Nothing that goes wrong here is worth a line on the screen of a person who types.
    std::panic::set_hook(Box::new(|_| {}));
    let shell = shell.to_string_lossy().into_owned();
    let (sender, answer) = mpsc::sync_channel(1);
    // A thread that waits for longer is left behind, and ends with the process.
    let started = thread::Builder::new().spawn(move || {
        let completed = adapter(&shell).and_then(|adapter| complete(adapter).ok());
        let _ = sender.send(completed);
    });
    if started.is_ok()
        && let Ok(Some(text)) = answer.recv_timeout(DEADLINE)
    {
        output::to_shell(&text);
    }
    ExitCode::SUCCESS
}

/// The script that makes a shell ask.
pub(crate) fn script(shell: Shell) -> io::Result<String> {
    let name = shell.to_string();
    let adapter = adapter(&name).ok_or_else(|| io::Error::other("there is no script for it"))?;
    let mut script = Vec::new();
    adapter.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
    if shell == Shell::Zsh {
        script.extend_from_slice(ZSH_AUTOLOAD.as_bytes());
    }
    String::from_utf8(script).map_err(io::Error::other)
}

fn adapter(shell: &str) -> Option<&'static dyn EnvCompleter> {
    let adapter: &dyn EnvCompleter = match shell {
        "bash" => &Bash,
        "elvish" => &Elvish,
        "fish" => &Fish,
        "powershell" => &Powershell,
        "zsh" => &Zsh,
        _ => return None,
    };
    Some(adapter)
}

fn complete(adapter: &dyn EnvCompleter) -> io::Result<String> {
    let mut words: Vec<OsString> = env::args_os().skip_while(|word| word != "--").collect();
    // The program's own words end there.
    words.drain(..words.len().min(1));
    let mut text = Vec::new();
    let here = env::current_dir().ok();
    let mut command = command(home(&adapter_words(adapter, &words)));
    adapter.write_complete(&mut command, words, here.as_deref(), &mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// The words of the line, as the shell would give them to the command.
fn adapter_words(adapter: &dyn EnvCompleter, words: &[OsString]) -> Vec<String> {
    if adapter.name() == Bash.name() {
        return line::Line::parse(&words.first().map(lossy).unwrap_or_default()).words;
    }
    words
        .iter()
        .map(|word| line::unquoted(&lossy(word)))
        .collect()
}

fn lossy(word: &OsString) -> String {
    word.to_string_lossy().into_owned()
}

/// The home that a line names, or the one that counts without.
fn home(words: &[String]) -> Option<PathBuf> {
    let after = words.iter().skip_while(|word| *word != "--home").nth(1);
    let within = words.iter().find_map(|word| word.strip_prefix("--home="));
    let named = within.or(after.map(String::as_str)).map(PathBuf::from);
    let asked = named.or_else(|| env::var_os("SHOAL_HOME").map(PathBuf::from));
    app::home(asked.as_deref()).ok()
}

/// The definition of the command line, with those values that only a node knows.
fn command(home: Option<PathBuf>) -> Command {
    let command = Cli::command();
    match home {
        Some(home) => command.mut_subcommands(|command| with_values(command, &home)),
        None => command,
    }
}

fn with_values(command: Command, home: &Path) -> Command {
    let name = command.get_name().to_owned();
    command
        .mut_args(|arg| with_value(arg, &name, home))
        .mut_subcommands(|command| with_values(command, home))
}

/// An argument with the completer of what it takes: its value's name in the help says what that is.
fn with_value(arg: Arg, command: &str, home: &Path) -> Arg {
    let kind = arg.get_value_names().and_then(|names| names.first());
    let kind = kind.map(|name| name.as_str().to_owned());
    let home = home.to_owned();
    match kind.as_deref() {
        Some("SHARE") => arg.add(ArgValueCompleter::new(move |typed: &OsStr| {
            found::shares(&home, typed)
        })),
        Some("TRANSFER") => {
            let command = command.to_owned();
            arg.add(ArgValueCompleter::new(move |typed: &OsStr| {
                found::transfers(&home, &command, typed)
            }))
        }
        Some("MULTIADDR") if ["peer", "bootstrap"].contains(&arg.get_id().as_str()) => {
            arg.add(ArgValueCompleter::new(move |typed: &OsStr| {
                found::peers(&home, typed)
            }))
        }
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_is_the_one_that_the_line_names() {
        let check = |line: &str, expected: &str| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(home(&words), Some(PathBuf::from(expected)), "{line}");
        };
        check("shoal --home /a link ", "/a");
        check("shoal link --home=/b ", "/b");
        check("shoal --home /a --home=/b link ", "/b");
    }

    /// The number of arguments that are completed by what a node knows.
    fn completed(command: &Command) -> usize {
        let own = command.get_arguments();
        let own = own.filter(|arg| arg.get::<ArgValueCompleter>().is_some());
        own.count() + command.get_subcommands().map(completed).sum::<usize>()
    }

    #[test]
    fn commands_complete_what_a_node_knows() {
        let whole = command(Some("/home".into()));
        let shares = ["link", "ls", "rename", "unshare", "verify"];
        let others = ["pause", "resume", "cancel", "fetch", "daemon"];
        for name in shares.into_iter().chain(others) {
            let command = whole.find_subcommand(name).map(completed);
            assert_eq!(command, Some(1), "{name}");
        }
        assert_eq!(completed(&command(None)), 0);
    }
}
