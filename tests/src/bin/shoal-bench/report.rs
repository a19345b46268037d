//! The table and the plots.

use std::{fmt::Write as _, fs, path::Path};

use plotters::{coord::ranged1d::SegmentValue, prelude::*};

use crate::{
    Result,
    measure::{Outcome, SHOAL, Series},
};

const SIZE: (u32, u32) = (720, 360);

/// Writes `table.md`, and a plot of each work.
pub(crate) fn write(dir: &Path, outcomes: &[Outcome]) -> Result<()> {
    fs::write(dir.join("table.md"), table(outcomes))?;
    for outcome in outcomes {
        plot(&dir.join(format!("{}.svg", outcome.name)), outcome)?;
    }
    Ok(())
}

/// Everything that was measured, as Markdown.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| work | program | median | range | runs | rate |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for outcome in outcomes {
        for series in &outcome.series {
            row(&mut text, outcome, series);
        }
    }
    text.push_str(
        "\n| bar | measured | must | beyond | reached |\n| --- | --- | --- | --- | --- |\n",
    );
    for bar in outcomes.iter().flat_map(|it| &it.bars) {
        let sign = if bar.at_least { ">=" } else { "<=" };
        let reached = match (bar.is_reached(), bar.is_beyond()) {
            (_, true) => "beyond",
            (true, _) => "yes",
            _ => "**no**",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {:.2} | {sign} {:.2} | {sign} {:.2} | {reached} |",
            bar.what, bar.value, bar.must, bar.beyond
        );
    }
    text
}

fn row(text: &mut String, outcome: &Outcome, series: &Series) {
    let (least, most) = series.range();
    let median = series.median();
    let rate = match outcome.mib {
        0.0 => String::new(),
        mib => format!("{:.0} MiB/s", mib / median),
    };
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "| {} | {} | {median:.2} s | {least:.2} to {most:.2} | {} | {rate} |",
        outcome.title,
        series.program,
        series.seconds.len()
    );
}

/// A bar for each program, with every run as a point.
fn plot(path: &Path, outcome: &Outcome) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let longest = outcome
        .series
        .iter()
        .map(|it| it.range().1)
        .fold(0.0, f64::max);
    let programs: Vec<&str> = outcome
        .series
        .iter()
        .map(|it| it.program.as_str())
        .collect();
    let last = i32::try_from(programs.len())?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&outcome.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(90)
        .build_cartesian_2d(0.0..longest * 1.05, (0..last - 1).into_segmented())?;
    let label = |value: &SegmentValue<i32>| match value {
        SegmentValue::CenterOf(n) => usize::try_from(*n)
            .ok()
            .and_then(|n| programs.get(n))
            .map_or(String::new(), ToString::to_string),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_desc("seconds")
        .y_labels(programs.len())
        .y_label_formatter(&label)
        .draw()?;
    for (n, series) in (0..).zip(&outcome.series) {
        let colour = if series.program == SHOAL {
            BLUE
        } else {
            RGBColor(150, 150, 150)
        };
        let (low, high) = (SegmentValue::Exact(n), SegmentValue::Exact(n + 1));
        let mut bar = Rectangle::new(
            [(0.0, low), (series.median(), high)],
            colour.mix(0.6).filled(),
        );
        bar.set_margin(8, 8, 0, 0);
        chart.draw_series(std::iter::once(bar))?;
        let runs = series.seconds.iter().map(|&seconds| {
            Circle::new(
                (seconds, SegmentValue::CenterOf(n)),
                3,
                BLACK.mix(0.6).filled(),
            )
        });
        chart.draw_series(runs)?;
    }
    root.present()?;
    Ok(())
}
