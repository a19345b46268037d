//! Plots as SVG that a page can colour: every colour in it is one of a few, which the style of the
//! page replaces, in the light and in the dark.

use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
};

/// Wide enough for a column of text, in units of the page.
const WIDTH: u32 = 760;
const HEIGHT: u32 = 300;
/// What is drawn for it is four fifths as large, which is a little smaller than the text around.
const FONT: u32 = 17;

/// What is drawn with a colour of its own; [`Ink::rgb`] is what the style looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// Text and axes.
    Text,
    /// Lines to read values by.
    Grid,
    /// What owners do.
    Owner,
    /// What other nodes do.
    Peer,
    /// What nodes of the same region do.
    Near,
    /// What nodes that do wrong do.
    Evil,
    /// Something happened.
    Event,
}

impl Ink {
    fn rgb(self) -> RGBColor {
        match self {
            Self::Text => RGBColor(1, 1, 1),
            Self::Grid => RGBColor(1, 1, 2),
            Self::Owner => RGBColor(1, 1, 3),
            Self::Peer => RGBColor(1, 1, 4),
            Self::Near => RGBColor(1, 1, 5),
            Self::Evil => RGBColor(1, 1, 6),
            Self::Event => RGBColor(1, 1, 7),
        }
    }
}

/// An axis from zero to the largest value.
pub(super) struct Axis<'a> {
    /// What is measured, with its unit.
    pub(super) name: &'a str,
    /// The largest value.
    pub(super) max: f64,
    /// How a value is written.
    pub(super) write: fn(f64) -> String,
}

/// Points that belong together.
pub(super) struct Line {
    pub(super) ink: Ink,
    /// From left to right.
    pub(super) points: Vec<(f64, f64)>,
    /// Values hold until the next one.
    pub(super) stepped: bool,
}

/// A row of bars, one upon the other.
pub(super) struct Bars {
    /// What the row is of.
    pub(super) name: String,
    /// Each bar.
    pub(super) parts: Vec<(Ink, f64)>,
}

/// Lines over a common axis, with a mark where something happened. None when there is nothing to
/// draw.
pub(super) fn lines(x: &Axis<'_>, y: &Axis<'_>, lines: &[Line], marks: &[f64]) -> Option<String> {
    if lines.iter().all(|line| line.points.is_empty()) {
        return None;
    }
    svg(HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(range(x), range(y))?;
        mesh(&mut chart, x, y)?;
        let top = y.max.max(f64::MIN_POSITIVE) * 1.04;
        let marks = marks.iter();
        chart.draw_series(marks.map(|&at| {
            PathElement::new(vec![(at, 0.0), (at, top)], Ink::Event.rgb().stroke_width(1))
        }))?;
        chart.draw_series(lines.iter().map(|line| {
            let points = match line.stepped {
                true => stepped(&line.points),
                false => line.points.clone(),
            };
            PathElement::new(points, line.ink.rgb().stroke_width(2))
        }))?;
        Ok(())
    })
}

/// Rows of bars, one below the other. None when there is nothing to draw.
pub(super) fn bars(x: &Axis<'_>, rows: &[Bars]) -> Option<String> {
    /// A row with its name, and what is between two.
    const ROW: u32 = 20;
    if rows.is_empty() {
        return None;
    }
    let height = u32::try_from(rows.len()).ok()?.checked_mul(ROW)? + 64;
    svg(height, |area| {
        let count = rows.len();
        let last = f64_of(count);
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(110)
            .build_cartesian_2d(range(x), last..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .y_labels(0)
            .x_desc(x.name)
            .x_label_formatter(&|value| (x.write)(*value))
            .axis_style(Ink::Grid.rgb())
            .bold_line_style(Ink::Grid.rgb())
            .light_line_style(TRANSPARENT)
            .label_style(text_style())
            .draw()?;
        for (index, row) in rows.iter().enumerate() {
            let (top, low) = (f64_of(index) + 0.15, f64_of(index) + 0.85);
            let mut from = 0.0;
            for &(ink, length) in &row.parts {
                let bar = Rectangle::new([(from, top), (from + length, low)], ink.rgb().filled());
                chart.draw_series(std::iter::once(bar))?;
                from += length;
            }
            let (_, y) = chart.backend_coord(&(0.0, f64_of(index) + 0.28));
            area.draw_text(&row.name, &text_style(), (14, y))?;
        }
        Ok(())
    })
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn mesh(chart: &mut Chart<'_, '_>, x: &Axis<'_>, y: &Axis<'_>) -> Drawn {
    chart
        .configure_mesh()
        .x_desc(x.name)
        .y_desc(y.name)
        .x_label_formatter(&|value| (x.write)(*value))
        .y_label_formatter(&|value| (y.write)(*value))
        .y_labels(6)
        .axis_style(Ink::Grid.rgb())
        .bold_line_style(Ink::Grid.rgb())
        .light_line_style(TRANSPARENT)
        .label_style(text_style())
        .draw()?;
    Ok(())
}

fn text_style() -> TextStyle<'static> {
    ("sans-serif", FONT).into_font().color(&Ink::Text.rgb())
}

fn range(axis: &Axis<'_>) -> std::ops::Range<f64> {
    0.0..axis.max.max(f64::MIN_POSITIVE) * 1.04
}

/// Corners between points whose values hold until the next one.
fn stepped(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut corners = Vec::with_capacity(points.len() * 2);
    for &(x, y) in points {
        if let Some(&(_, before)) = corners.last() {
            corners.push((x, before));
        }
        corners.push((x, y));
    }
    corners
}

/// Draws into a string. A plot that cannot be drawn is left out of a report: it is no reason to
/// lose the rest.
fn svg(
    height: u32,
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Drawn,
) -> Option<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
    let drawn = draw(&area).is_ok() && area.present().is_ok();
    drop(area);
    // Within a page it is known what it is; without its name no page refers to another.
    drawn.then(|| text.replace(" xmlns=\"http://www.w3.org/2000/svg\"", ""))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 are drawn")]
pub(super) fn f64_of(count: usize) -> f64 {
    count as f64
}
