//! Ctrl-C: the first ends in order, the second at once. SIGTERM and a terminal that closes end in order,
//! however often they say so: service managers and `shoal stop` know nothing of each other.

use std::fs;

use shoal_api::{ApiError, ErrorCode};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What signals have asked for so far.
pub(crate) struct Signals {
    /// The command is to end.
    pub(crate) interrupt: CancellationToken,
    /// It is to end because its terminal closed (SIGHUP); fires before `interrupt` does.
    pub(crate) hangup: CancellationToken,
}

/// The tokens that the first signals cancel. Needs a runtime; the watch lasts as long as the
/// process.
pub(crate) fn watch() -> Result<Signals, ApiError> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    // Under `nohup` the end of the terminal is nobody's business.
    let mut hangup = match ignores_hangup() {
        true => None,
        false => Some(listen(SignalKind::hangup())?),
    };
    let signals = Signals {
        interrupt: CancellationToken::new(),
        hangup: CancellationToken::new(),
    };
    let (ends, closed) = (signals.interrupt.clone(), signals.hangup.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {
                    ends.cancel();
                    continue;
                }
                () = next(&mut hangup) => {
                    // The kernel and the shell both say so.
                    closed.cancel();
                    ends.cancel();
                    continue;
                }
            }
            if ends.is_cancelled() {
                std::process::exit(i32::from(ErrorCode::Interrupted.exit()));
            }
            ends.cancel();
        }
    });
    Ok(signals)
}

fn listen(kind: SignalKind) -> Result<Signal, ApiError> {
    let failed = |error| ApiError::of_io(&error, "cannot watch for signals");
    signal(kind).map_err(failed)
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this process was started to ignore SIGHUP. Where the system does not say so in `/proc`,
/// the signal is left alone.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status");
    status.map_or(true, |status| has_hangup(&status).unwrap_or(true))
}

/// Whether the mask of ignored signals in a proc_pid_status(5) has SIGHUP, signal 1 of the lowest bit.
fn has_hangup(status: &str) -> Option<bool> {
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_seen() {
        let check = |status: &str, expected| assert_eq!(has_hangup(status), expected, "{status}");
        check(
            "Name:\tx\nSigBlk:\t01\nSigIgn:\t0000000000001000\n",
            Some(false),
        );
        check(
            "Name:\tx\nSigBlk:\t00\nSigIgn:\t0000000000001001\n",
            Some(true),
        );
        check("SigIgn:\tx", None);
        check("", None);
    }
}
