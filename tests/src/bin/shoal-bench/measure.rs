//! Rounds, and what they say.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::Result;

/// What one program took for one work, run by run.
pub(crate) struct Series {
    pub(crate) program: String,
    pub(crate) seconds: Vec<f64>,
}

impl Series {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        }
    }

    /// The shortest and the longest.
    pub(crate) fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted[0], sorted[sorted.len() - 1])
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// One work by all programs.
pub(crate) struct Outcome {
    /// What was done.
    pub(crate) title: String,
    /// For the names of files.
    pub(crate) name: &'static str,
    /// What moved, so that rates can be told; 0 when that says nothing.
    pub(crate) mib: f64,
    pub(crate) series: Vec<Series>,
    pub(crate) bars: Vec<Bar>,
}

impl Outcome {
    /// The median of a program that was measured.
    pub(crate) fn median(&self, program: &str) -> Option<f64> {
        let series = self.series.iter().find(|it| it.program == program);
        series.map(Series::median)
    }

    /// Asks that Shoal takes at most `times` as long as another, if that was measured.
    pub(crate) fn within(&mut self, other: &str, must: f64, beyond: f64) {
        let (Some(shoal), Some(other_took)) = (self.median(SHOAL), self.median(other)) else {
            return;
        };
        self.bars.push(Bar {
            what: format!("{}: time of {other}", self.title),
            value: shoal / other_took,
            must,
            beyond,
            at_least: false,
        });
    }

    /// Asks that Shoal reaches `must` times the speed of another, if that was measured.
    pub(crate) fn faster(&mut self, other: &str, must: f64, beyond: f64) {
        let (Some(shoal), Some(other_took)) = (self.median(SHOAL), self.median(other)) else {
            return;
        };
        self.bars.push(Bar {
            what: format!("{}: speed of {other}", self.title),
            value: other_took / shoal,
            must,
            beyond,
            at_least: true,
        });
    }
}

/// The name of this project's own program.
pub(crate) const SHOAL: &str = "shoal";

/// A figure with what it must reach, and what would be better still.
pub(crate) struct Bar {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) must: f64,
    pub(crate) beyond: f64,
    /// Larger is better.
    pub(crate) at_least: bool,
}

impl Bar {
    pub(crate) fn is_reached(&self) -> bool {
        self.is_past(self.must)
    }

    pub(crate) fn is_beyond(&self) -> bool {
        self.is_past(self.beyond)
    }

    fn is_past(&self, bound: f64) -> bool {
        match self.at_least {
            true => self.value >= bound,
            false => self.value <= bound,
        }
    }
}

/// A program that does the work when called, and says how long that took.
pub(crate) struct Contender<'a> {
    pub(crate) program: &'a str,
    pub(crate) work: Box<dyn FnMut() -> Result<Duration> + 'a>,
}

/// Has all of them do the work in turn: once uncounted, since the first touch of memory and disk is
/// slow, then `rounds` times.
pub(crate) fn in_turn(
    title: &str,
    rounds: u32,
    mut contenders: Vec<Contender<'_>>,
) -> Result<Vec<Series>> {
    let named = contenders.iter().map(|it| Series {
        program: it.program.to_owned(),
        seconds: Vec::new(),
    });
    let mut series: Vec<Series> = named.collect();
    for round in 0..=rounds {
        for (contender, series) in contenders.iter_mut().zip(&mut series) {
            let took =
                (contender.work)().map_err(|error| format!("{}: {error}", contender.program))?;
            eprintln!("{title}: {} {:.2} s", contender.program, took.as_secs_f64());
            if round > 0 {
                series.seconds.push(took.as_secs_f64());
            }
        }
    }
    Ok(series)
}

/// How long something takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let start = Instant::now();
    let made = work()?;
    Ok((start.elapsed(), made))
}

/// The most memory that a process has had, in MiB (`VmHWM`).
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.ok_or("no VmHWM in /proc")?.parse()?;
    Ok(kib / 1024.0)
}
