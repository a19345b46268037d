//! What a run shows while it lasts: a few lines that are drawn anew, above them what happened.

use parking_lot::Mutex;
use shoal_testnet::run::{Happening, Live, RunNews};

use crate::{
    human,
    output::Output,
    progress::{bar, columns, cut},
};

/// The lines of a run, on a terminal; elsewhere only what happened.
pub(super) struct View {
    output: Output,
    draws: bool,
    drawn: Mutex<Vec<String>>,
}

impl View {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            draws: output.shows_progress(),
            drawn: Mutex::default(),
        }
    }

    pub(super) fn tell(&self, told: &RunNews<'_>) {
        match told {
            RunNews::Phase(phase) if self.draws => self.draw(&[format!("{phase} …")]),
            RunNews::Phase(phase) => self.output.note(phase),
            RunNews::Happened(happening) => self.say(&line(happening)),
            RunNews::Live(live) if self.draws => self.draw(&lines(live)),
            RunNews::Live(_) => {}
        }
    }

    /// A line that stays, above those that are drawn.
    fn say(&self, line: &str) {
        let drawn = self.drawn.lock();
        if self.draws {
            self.output.clear_progress();
        }
        self.output.note(line);
        if self.draws {
            self.output.draw_progress(&drawn);
        }
    }

    fn draw(&self, lines: &[String]) {
        let columns = columns();
        let lines: Vec<_> = lines.iter().map(|line| cut(line, columns)).collect();
        self.output.draw_progress(&lines);
        *self.drawn.lock() = lines;
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.draws {
            self.output.clear_progress();
        }
    }
}

/// ` 12.5 s  node-03 is killed`
fn line(happening: &Happening) -> String {
    let seconds = happening.done.as_secs_f64();
    let what = human::escape(&happening.what);
    match &happening.error {
        None => format!("{seconds:6.1} s  {what}"),
        Some(error) => {
            let error = error.lines().next().unwrap_or_default();
            format!(
                "{seconds:6.1} s  {what}: it failed: {}",
                human::escape(error)
            )
        }
    }
}

fn lines(live: &Live) -> Vec<String> {
    let elapsed = human::duration(u64::try_from(live.elapsed.as_millis()).unwrap_or(u64::MAX));
    let nodes = format!("{elapsed}: {} of {} nodes are up", live.up, live.nodes);
    let mut lines = vec![nodes];
    if live.fetches > 0 {
        let done = bar(live.fetched as u64, live.fetches as u64);
        let failed = match live.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        lines.push(format!(
            "{done}{} of {} fetches done, {} running{failed}, {}",
            live.fetched,
            live.fetches,
            live.fetching,
            human::size(live.bytes)
        ));
        lines.push(format!(
            "sent by owners {}, by others {}",
            human::size(live.sent_by_owners),
            human::size(live.sent_by_others)
        ));
    }
    if live.lookups > 0 {
        lines.push(human::count(live.lookups as u64, "lookup") + " done");
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_there_is_to_see_is_shown() {
        let mut live = Live {
            elapsed: Duration::from_secs(12),
            nodes: 9,
            up: 8,
            ..Live::default()
        };
        assert_eq!(lines(&live), ["12 s: 8 of 9 nodes are up"]);
        live.fetches = 8;
        live.fetched = 2;
        live.fetching = 5;
        live.failed = 1;
        live.bytes = 3 << 20;
        let lines = lines(&live);
        assert!(
            lines[1].ends_with("2 of 8 fetches done, 5 running, 1 failed, 3.0 MiB"),
            "{lines:?}"
        );
        assert_eq!(lines.len(), 3);
    }
}
