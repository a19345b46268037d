//! Progress on stderr, when there is a terminal to show it on.
//!
//! One line where it fits, two where the terminal is narrow; what matters most comes first. It is
//! drawn when the daemon has something to say, and the cursor rests on its first column: so what a
//! terminal echoes (`^C`), another line is printed over, or the end of the command, is drawn over
//! or cleared with it. Nothing of it stays on the screen.

use std::{cell::Cell, io};

use shoal_api::types::{
    Audience, FetchPhase, FetchProgress, FindProgress, GcPhase, GcProgress, ListProgress,
    SharePhase, ShareProgress, VerifyProgress,
};

use crate::{human, output::Output};

/// A line that changes until it is dropped.
pub(crate) struct Bar {
    /// None when nobody looks.
    output: Option<Output>,
    drawn: Cell<usize>,
}

impl Bar {
    /// Shows `message` until there is progress to show.
    pub(crate) fn start(output: &Output, message: &'static str) -> Self {
        let bar = Self {
            output: output.shows_progress().then_some(*output),
            drawn: Cell::new(0),
        };
        bar.say(message);
        bar
    }

    pub(crate) fn share(&self, progress: &ShareProgress) {
        match (progress.phase, progress.bytes_total) {
            (SharePhase::Walking, _) => self.say("looking for files"),
            (SharePhase::Copying | SharePhase::Hashing, Some(total)) => {
                let facts = [
                    copying(progress.phase),
                    time_left(progress.bytes, total, progress.rate),
                    rate(progress.rate),
                    human::amounts(progress.bytes, total),
                    files(progress.files, progress.files_total),
                ];
                self.advance(progress.bytes, total, &facts);
            }
            // No guesses: until all files are counted there is no total.
            (SharePhase::Copying | SharePhase::Hashing, None) => {
                let rate = rate(progress.rate);
                let files = human::count(progress.files, "file");
                self.say(&format!("{rate}, {}, {files}", human::size(progress.bytes)));
            }
            (SharePhase::Committing, _) => self.say("writing the index"),
            (SharePhase::Announcing, _) => self.say("announcing"),
        }
    }

    pub(crate) fn fetch(&self, progress: &FetchProgress) {
        let asked = human::count(progress.asked.into(), "peer");
        let waits = progress.waiting_ms.map(waits);
        match (progress.phase, progress.bytes_total) {
            (FetchPhase::Finding, _) => self.say(&format!("looking for providers, asked {asked}")),
            (FetchPhase::Listing, _) => self.say(waits.as_deref().unwrap_or("reading the tree")),
            (FetchPhase::Landing, _) => self.say("moving into place"),
            (FetchPhase::Fetching, Some(total)) => {
                let left = match progress.eta_ms {
                    // All facts are to fit on two lines.
                    None if columns() < NARROW_COLUMNS => "? left".to_owned(),
                    eta => time_to_come(eta),
                };
                let facts = [
                    waits.unwrap_or_default(),
                    left,
                    rate(progress.rate),
                    human::amounts(progress.bytes, total),
                    human::count(progress.sources.into(), "source"),
                    files(progress.files, progress.files_total),
                ];
                self.advance(progress.bytes, total, &facts);
            }
            (FetchPhase::Fetching, None) if progress.bytes == 0 && progress.sources == 0 => {
                self.say(&waits.unwrap_or_else(|| format!("looking for providers, asked {asked}")));
            }
            // A single block: how long it is is known when it is here.
            (FetchPhase::Fetching, None) => {
                let facts = [
                    waits,
                    Some(rate(progress.rate)),
                    Some(human::size(progress.bytes)),
                    Some(human::count(progress.sources.into(), "source")),
                ];
                let facts: Vec<String> = facts.into_iter().flatten().collect();
                self.say(&facts.join(", "));
            }
        }
    }

    /// Who fetches what this node shares.
    pub(crate) fn audience(&self, audience: &Audience) {
        let fetching = match audience.fetching {
            0 => String::new(),
            fetching => format!(
                "{} now at {}",
                human::count(fetching, "peer"),
                rate(audience.rate)
            ),
        };
        let facts = [
            fetching,
            match audience.peers.iter().find(|peer| peer.fetching) {
                Some(peer) if audience.fetching == 1 => format!("{}%", peer.percent),
                _ => String::new(),
            },
            format!("{} sent", human::size(audience.sent_bytes)),
            match audience.copies {
                0 => String::new(),
                1 => "1 has all of it".to_owned(),
                copies => format!("{copies} have all of it"),
            },
        ];
        let facts: Vec<_> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
        self.say(&facts.join(", "));
    }

    pub(crate) fn verify(&self, progress: &VerifyProgress) {
        let (done, total) = (progress.bytes, progress.bytes_total);
        let bad = match progress.bad {
            0 => String::new(),
            bad => format!("{bad} BAD"),
        };
        let facts = [
            bad,
            time_left(done, total, progress.rate),
            rate(progress.rate),
            human::amounts(done, total),
            human::escape(&progress.name),
        ];
        self.advance(done, total, &facts);
    }

    pub(crate) fn gc(&self, progress: &GcProgress) {
        match progress.phase {
            GcPhase::Rows | GcPhase::Blocks => {
                let rows = human::count(progress.rows, "row");
                self.say(&format!("looked at {rows}"));
            }
            GcPhase::Copies => self.say("looking at copies"),
            GcPhase::Compacting => self.say("giving space back"),
        }
    }

    pub(crate) fn list(&self, progress: &ListProgress) {
        let entries = match progress.entries {
            1 => "1 entry".to_owned(),
            entries => format!("{entries} entries"),
        };
        self.say(&format!("reading the tree: {entries}"));
    }

    pub(crate) fn find(&self, progress: &FindProgress) {
        let asked = human::count(progress.asked.into(), "peer");
        let found = human::count(progress.providers.into(), "provider");
        self.say(&format!("asked {asked}, found {found}"));
    }

    fn say(&self, message: &str) {
        let drawn = self.drawn.get();
        self.draw(|columns| {
            let line = format!("{} {message}", SPINNER[drawn % SPINNER.len()]);
            (cut(&line, columns), String::new())
        });
    }

    fn advance(&self, done: u64, total: u64, facts: &[String]) {
        self.draw(|columns| {
            let (first, second) = in_lines(facts, columns);
            (cut(&(bar(done, total) + &first), columns), second)
        });
    }

    fn draw(&self, lines: impl FnOnce(usize) -> (String, String)) {
        let Some(output) = &self.output else {
            return;
        };
        self.drawn.set(self.drawn.get().wrapping_add(1));
        let (first, second) = lines(columns());
        match second.as_str() {
            "" => output.draw_progress(&[first]),
            _ => output.draw_progress(&[first, second]),
        }
    }
}

/// Says that a fetch waits, and that it goes on, where no bar does.
pub(crate) struct Waiting {
    /// None where a bar says it.
    output: Option<Output>,
    patience_ms: u64,
    waits: Cell<bool>,
}

impl Waiting {
    pub(crate) fn new(output: &Output, patience_ms: u64) -> Self {
        Self {
            output: (!output.shows_progress()).then_some(*output),
            patience_ms,
            waits: Cell::new(false),
        }
    }

    /// Looks at how far it is.
    pub(crate) fn see(&self, progress: &FetchProgress) {
        let waits = progress.waiting_ms.is_some();
        let Some(output) = &self.output else {
            return;
        };
        match (self.waits.replace(waits), waits) {
            (false, true) => output.note(format_args!(
                "No provider delivers anything now. The fetch waits up to {} for one.",
                human::duration(self.patience_ms)
            )),
            (true, false) => output.note("The fetch goes on."),
            _ => {}
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(output) = &self.output {
            output.clear_progress();
        }
    }
}

/// `[===>      ]  38% `.
pub(crate) fn bar(done: u64, total: u64) -> String {
    let mut filled = "=".repeat(part(done, total, 10));
    if filled.len() < 10 {
        filled.push('>');
    }
    format!("[{filled:10}] {:>3}% ", percent(done, total))
}

/// How many of a hundred parts are done, rounded down; all of them where there is nothing to do.
pub(crate) fn percent(done: u64, total: u64) -> usize {
    part(done, total, 100)
}

fn part(done: u64, total: u64, whole: u64) -> usize {
    let done = u128::from(done.min(total));
    let part = (done * u128::from(whole)).checked_div(total.into());
    usize::try_from(part.unwrap_or(whole.into())).unwrap_or_default()
}

/// `12 s left`, as the daemon reckons.
pub(crate) fn time_to_come(eta_ms: Option<u64>) -> String {
    match eta_ms {
        Some(ms) => format!("{} left", human::roughly(ms)),
        None => "time left unknown".to_owned(),
    }
}

pub(crate) fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

fn copying(phase: SharePhase) -> String {
    match phase {
        SharePhase::Copying => "copying".to_owned(),
        _ => String::new(),
    }
}

/// `12 s left`, or nothing while there is no rate to tell it by.
fn time_left(done: u64, total: u64, rate: u64) -> String {
    let left = total.saturating_sub(done).saturating_mul(1000);
    left.checked_div(rate)
        .map_or(String::new(), |ms| format!("{} left", human::duration(ms)))
}

fn rate(rate: u64) -> String {
    format!("{}/s", human::size(rate))
}

/// What a fetch says that waits for a provider.
pub(crate) fn waits(ms: u64) -> String {
    format!("waits for a provider, no byte for {}", human::duration(ms))
}

/// `3/10 files`; nothing when there is one, for then it is all about that.
fn files(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) if total > 1 => format!("{done}/{total} files"),
        _ => String::new(),
    }
}

/// The facts that there are, in their order: as many as fit beside the bar, the rest below it.
fn in_lines(facts: &[String], columns: usize) -> (String, String) {
    let mut lines = (String::new(), String::new());
    for fact in facts.iter().filter(|fact| !fact.is_empty()) {
        let comma = |line: &str| if line.is_empty() { "" } else { ", " };
        let with = format!("{}{}{fact}", lines.0, comma(&lines.0));
        if lines.1.is_empty() && BAR_COLUMNS + with.chars().count() <= columns {
            lines.0 = with;
        } else {
            lines.1 += &format!("{}{fact}", comma(&lines.1));
        }
    }
    (lines.0, cut(&lines.1, columns))
}

/// How wide the terminal is; the usual width where it does not say.
pub(crate) fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    match size.map_or(0, |size| size.ws_col) {
        0 => 80,
        columns => columns.into(),
    }
}

/// What turns while there is nothing to count, one step for each time it is drawn.
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// A terminal with fewer columns has no room for what is not known.
const NARROW_COLUMNS: usize = 60;
/// What the bar takes before the facts.
const BAR_COLUMNS: usize = "[==========] 100% ".len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_one_width() {
        let check = |done, total, expected: &str| {
            assert_eq!(bar(done, total), expected, "{done} of {total}");
            assert_eq!(expected.len(), BAR_COLUMNS);
        };
        check(0, 100, "[>         ]   0% ");
        check(38, 100, "[===>      ]  38% ");
        check(99, 100, "[=========>]  99% ");
        check(100, 100, "[==========] 100% ");
        check(u64::MAX, u64::MAX, "[==========] 100% ");
        check(0, 0, "[==========] 100% ");
        check(7, 3, "[==========] 100% ");
    }

    #[test]
    fn what_does_not_fit_beside_the_bar_goes_below_it() {
        let facts = ["12 s left", "", "5.2 MiB/s", "29.0/64.0 MiB", "2 sources"];
        let facts = facts.map(str::to_owned);
        let check = |columns, first: &str, second: &str| {
            let expected = (first.to_owned(), second.to_owned());
            assert_eq!(in_lines(&facts, columns), expected, "{columns}");
        };
        check(80, "12 s left, 5.2 MiB/s, 29.0/64.0 MiB, 2 sources", "");
        check(40, "12 s left, 5.2 MiB/s", "29.0/64.0 MiB, 2 sources");
        check(20, "", "12 s left, 5.2 MiB/s");
    }

    #[test]
    fn the_time_that_a_fetch_takes_is_told_or_unknown() {
        assert_eq!(time_to_come(Some(0)), "0.0 s left");
        assert_eq!(time_to_come(Some(12_300)), "12 s left");
        assert_eq!(time_to_come(None), "time left unknown");
    }

    #[test]
    fn time_is_told_once_there_is_a_rate() {
        assert_eq!(time_left(10, 100, 0), "");
        assert_eq!(time_left(10, 100, 3), "30 s left");
        assert_eq!(time_left(100, 10, 3), "0.0 s left");
    }
}
