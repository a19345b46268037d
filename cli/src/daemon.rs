//! The daemon of a home as commands see it: a client that says when the daemon is silent, and what
//! the system says of its process.

use std::{fs, io};

use shoal_api::{
    ApiError, HomeLock,
    client::{Client, Silence},
};

use crate::{app::App, human, output::Output};

/// The daemon of the home; a person is told when it does not answer, and when it does again.
pub(crate) async fn connect(app: &App) -> Result<Client, ApiError> {
    let output = app.output;
    let client = Client::connect(&app.home).await?;
    Ok(client.on_silence(move |silence| told(&output, silence)))
}

fn told(output: &Output, silence: Silence) {
    match silence {
        Silence::Begins { process } => {
            let who = who(process);
            output.warning(&format!(
                "{who} does not answer; this command waits for it, and Ctrl-C ends that"
            ));
        }
        Silence::Ends => output.note("The daemon answers again."),
    }
}

/// The process that holds the home of this app, with what the system says of it.
pub(crate) fn holder(app: &App) -> String {
    who(HomeLock::holder(&app.home).ok().flatten())
}

/// The lock of the home cannot be looked at.
pub(crate) fn no_look(app: &App, error: &io::Error) -> ApiError {
    let lock = HomeLock::file(&app.home);
    ApiError::of_io(
        error,
        format!("cannot look at the lock {}", human::path(&lock)),
    )
    .hint("choose a home of your own with --home or SHOAL_HOME")
}

/// `the daemon (process 12, which is stopped: …)`.
fn who(process: Option<u32>) -> String {
    let Some(pid) = process else {
        return "the daemon".to_owned();
    };
    match state(pid) {
        Some(b'T' | b't') => {
            format!("the daemon (process {pid}, which is stopped: `kill -CONT {pid}` continues it)")
        }
        Some(b'D') => format!("the daemon (process {pid}, which waits for a disk)"),
        _ => format!("the daemon (process {pid})"),
    }
}

/// The state of a process as the kernel has it, by its letter in proc_pid_stat(5); none where there
/// is no such file.
fn state(pid: u32) -> Option<u8> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything but its last parenthesis.
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(name_end + 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_process_is_a_letter() {
        let own = state(std::process::id());
        assert!(own.is_none_or(|state| b"RSD".contains(&state)), "{own:?}");
        assert_eq!(state(u32::MAX), None);
    }
}
