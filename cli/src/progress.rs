//! Progress on stderr, when there is a terminal to show it on. Fits 40 columns: what matters most
//! comes first.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use shoal_node::api::types::{
    FetchPhase, FetchProgress, FindProgress, GcPhase, GcProgress, ListProgress, SharePhase,
    ShareProgress, VerifyProgress,
};

use crate::{human, output::Output};

const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// A line that changes until it is dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Shows `message` until there is progress to show.
    pub(crate) fn start(output: &Output, message: &'static str) -> Self {
        if !output.shows_progress() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner()
            .with_message(message)
            .with_style(spinner());
        bar.enable_steady_tick(TICK_INTERVAL);
        Self(bar)
    }

    pub(crate) fn share(&self, progress: &ShareProgress) {
        match (progress.phase, progress.bytes_total) {
            (SharePhase::Walking, _) => self.say("looking for files".to_owned()),
            (SharePhase::Copying | SharePhase::Hashing, Some(total)) => {
                let message = share_message(progress, total);
                self.advance(progress.bytes, total, message);
            }
            // No guesses: until all files are counted there is no total.
            (SharePhase::Copying | SharePhase::Hashing, None) => {
                let rate = human::size(progress.rate);
                let files = human::count(progress.files, "file");
                self.say(format!("{rate}/s {} {files}", human::size(progress.bytes)));
            }
            (SharePhase::Committing, _) => self.say("writing the index".to_owned()),
            (SharePhase::Announcing, _) => self.say("announcing".to_owned()),
        }
    }

    pub(crate) fn fetch(&self, progress: &FetchProgress) {
        let asked = human::count(progress.asked.into(), "peer");
        match (progress.phase, progress.bytes_total) {
            (FetchPhase::Finding, _) => self.say(format!("looking for providers, asked {asked}")),
            (FetchPhase::Listing, _) => self.say("reading the tree".to_owned()),
            (FetchPhase::Landing, _) => self.say("moving into place".to_owned()),
            (FetchPhase::Fetching, Some(total)) => {
                let eta = time_left(progress.bytes, total, progress.rate);
                let rate = human::size(progress.rate);
                let sources = human::count(progress.sources.into(), "source");
                let files = match progress.files_total {
                    Some(total) if total > 1 => format!(" {}/{total} files", progress.files),
                    _ => String::new(),
                };
                let sizes = amounts(progress.bytes, total);
                let message = format!("{eta}{rate}/s {sizes} {sources}{files}");
                self.advance(progress.bytes, total, message);
            }
            (FetchPhase::Fetching, None) => self.say(human::size(progress.bytes)),
        }
    }

    pub(crate) fn verify(&self, progress: &VerifyProgress) {
        let (done, total) = (progress.bytes, progress.bytes_total);
        let bad = match progress.bad {
            0 => String::new(),
            bad => format!("{bad} BAD "),
        };
        let eta = time_left(done, total, progress.rate);
        let rate = human::size(progress.rate);
        let sizes = amounts(done, total);
        let name = human::escape(&progress.name);
        self.advance(done, total, format!("{bad}{eta}{rate}/s {sizes} {name}"));
    }

    pub(crate) fn gc(&self, progress: &GcProgress) {
        self.say(match progress.phase {
            GcPhase::Rows | GcPhase::Blocks => {
                format!("looked at {}", human::count(progress.rows, "row"))
            }
            GcPhase::Copies => "looking at copies".to_owned(),
            GcPhase::Compacting => "giving space back".to_owned(),
        });
    }

    pub(crate) fn list(&self, progress: &ListProgress) {
        let entries = match progress.entries {
            1 => "1 entry".to_owned(),
            entries => format!("{entries} entries"),
        };
        self.say(format!("reading the tree: {entries}"));
    }

    pub(crate) fn find(&self, progress: &FindProgress) {
        let asked = human::count(progress.asked.into(), "peer");
        let found = human::count(progress.providers.into(), "provider");
        self.say(format!("asked {asked}, found {found}"));
    }

    fn say(&self, message: String) {
        self.0.set_message(message);
        self.0.set_style(spinner());
    }

    fn advance(&self, done: u64, total: u64, message: String) {
        self.0.set_length(total);
        self.0.set_position(done);
        self.0.set_message(message);
        self.0.set_style(bar());
    }
}

fn share_message(progress: &ShareProgress, total: u64) -> String {
    let eta = time_left(progress.bytes, total, progress.rate);
    let rate = human::size(progress.rate);
    let sizes = amounts(progress.bytes, total);
    let files = match progress.files_total {
        Some(total) if total > 1 => format!(" {}/{total} files", progress.files),
        _ => String::new(),
    };
    let copying = match progress.phase {
        SharePhase::Copying => "copying ",
        _ => "",
    };
    format!("{copying}{eta}{rate}/s {sizes}{files}")
}

/// `12 s left `, or nothing while there is no rate to tell it by.
fn time_left(done: u64, total: u64, rate: u64) -> String {
    let left_ms = total
        .saturating_sub(done)
        .saturating_mul(1000)
        .checked_div(rate);
    left_ms.map_or(String::new(), |ms| format!("{} left ", human::duration(ms)))
}

fn amounts(done: u64, total: u64) -> String {
    format!("{}/{}", human::size(done), human::size(total))
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

const SPINNER: &str = "{spinner} {wide_msg}";
const BAR: &str = "[{bar:10}] {percent:>3}% {wide_msg}";

fn spinner() -> ProgressStyle {
    style(SPINNER)
}

fn bar() -> ProgressStyle {
    style(BAR).progress_chars("=> ")
}

/// The template's style; the tests see to it that the templates are valid.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        for template in [SPINNER, BAR] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
