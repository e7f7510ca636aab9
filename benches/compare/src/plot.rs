//! Plots as SVG, with bars and ranges, or with lines.

use crate::{
    entry::Kind,
    runner::{Line, Table},
};
use harness::{BoxError, stats::Spread};
use plotters::{
    backend::SVGBackend,
    coord::Shift,
    drawing::{DrawingArea, IntoDrawingArea},
    element::{Circle, PathElement, Rectangle, Text},
    style::{
        Color, IntoFont, RGBColor, TextStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};
use std::{collections::BTreeSet, path::Path};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A plot that was written.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    /// Its name in the folder.
    pub(crate) file: String,
}

/// Draws the first column of a table, in one plot or in one for each group.
pub(crate) fn write(table: &Table, folder: &Path) -> Result<Vec<Plot>, BoxError> {
    let bars: Vec<(&Line, Spread)> = table
        .lines
        .iter()
        .filter_map(|line| Some((line, spread(line)?)))
        .collect();
    if bars.is_empty() {
        return Ok(Vec::new());
    }
    let all = Plot {
        title: table.title.clone(),
        file: format!("{}.svg", table.id),
    };
    // Groups with a number are points of a line, which has more than one.
    let numbers: BTreeSet<usize> = bars.iter().map(|(line, _)| line.number).collect();
    if numbers.len() > 1 && !numbers.contains(&0) {
        draw_lines(table, &bars, &all, folder)?;
        return Ok(vec![all]);
    }
    let names: BTreeSet<&str> = bars.iter().map(|(line, _)| &*line.label).collect();
    if names.len() == bars.len() {
        draw_bars(table, &bars, &all, folder)?;
        return Ok(vec![all]);
    }
    // The same name in several groups would be ambiguous.
    let groups = bars.chunk_by(|(one, _), (next, _)| one.group == next.group);
    let plots = groups.map(|bars| {
        let group = &bars[0].0.group;
        let plot = Plot {
            title: format!("{}: {group}", table.title),
            file: format!("{}-{}.svg", table.id, slug(group)),
        };
        draw_bars(table, bars, &plot, folder)?;
        Ok(plot)
    });
    plots.collect()
}

/// What of a text can stand in the name of a file.
fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("-")
}

fn spread(line: &Line) -> Option<Spread> {
    Spread::of(line.column(0).into_iter().flatten())
}

fn draw_bars(
    table: &Table,
    bars: &[(&Line, Spread)],
    plot: &Plot,
    folder: &Path,
) -> Result<(), BoxError> {
    let height = TOP + BAR * i32::try_from(bars.len())? + BOTTOM;
    let file = folder.join(&plot.file);
    let area = SVGBackend::new(&file, (WIDTH as u32, height as u32)).into_drawing_area();
    background(&area, table, plot)?;
    let scale = Scale::new(
        bars.iter().map(|(_, spread)| spread.max),
        LEFT,
        WIDTH - RIGHT,
    );
    for tick in scale.ticks() {
        let x = scale.at(tick);
        area.draw(&PathElement::new(
            vec![(x, TOP - 4), (x, height - BOTTOM)],
            GRID,
        ))?;
        let label = text(12, MUTED, HPos::Center, VPos::Top);
        area.draw(&Text::new(plain(tick), (x, height - BOTTOM + 6), label))?;
    }
    for (index, (line, spread)) in (0..).zip(bars) {
        let (top, middle) = (TOP + BAR * index + 4, TOP + BAR * index + BAR / 2);
        let label = text(13, INK, HPos::Right, VPos::Center);
        area.draw(&Text::new(line.name(), (LEFT - 8, middle), label))?;
        let corners = [(LEFT, top), (scale.at(spread.median), top + BAR - 8)];
        area.draw(&Rectangle::new(corners, color(line).filled()))?;
        let (min, max) = (scale.at(spread.min), scale.at(spread.max));
        for path in [
            vec![(min, middle), (max, middle)],
            vec![(min, middle - 4), (min, middle + 4)],
            vec![(max, middle - 4), (max, middle + 4)],
        ] {
            area.draw(&PathElement::new(path, INK))?;
        }
        let label = text(12, INK, HPos::Left, VPos::Center);
        let value = value(spread.median, table.columns[0].digits);
        area.draw(&Text::new(value, (max + 7, middle), label))?;
    }
    area.present()?;
    Ok(())
}

/// A line for each server, over the numbers of the groups on a logarithmic axis.
fn draw_lines(
    table: &Table,
    points: &[(&Line, Spread)],
    plot: &Plot,
    folder: &Path,
) -> Result<(), BoxError> {
    let height = 420;
    let (bottom, right) = (height - BOTTOM - 10, WIDTH - 190);
    let file = folder.join(&plot.file);
    let area = SVGBackend::new(&file, (WIDTH as u32, height as u32)).into_drawing_area();
    background(&area, table, plot)?;
    let most = points
        .iter()
        .map(|(line, _)| line.number)
        .max()
        .unwrap_or(1)
        .max(2) as f64;
    let across = |number: usize| {
        let share = (number.max(1) as f64).ln() / most.ln();
        60 + ((right - 60) as f64 * share) as i32
    };
    let up = Scale::new(points.iter().map(|(_, spread)| spread.max), bottom, TOP);
    for tick in up.ticks() {
        let y = up.at(tick);
        area.draw(&PathElement::new(vec![(60, y), (right, y)], GRID))?;
        let label = text(12, MUTED, HPos::Right, VPos::Center);
        area.draw(&Text::new(plain(tick), (52, y), label))?;
    }
    let mut names: Vec<&str> = Vec::new();
    let mut numbers: Vec<usize> = Vec::new();
    for (line, _) in points {
        if !numbers.contains(&line.number) {
            numbers.push(line.number);
            let label = text(12, MUTED, HPos::Center, VPos::Top);
            let place = (across(line.number), bottom + 8);
            area.draw(&Text::new(line.number.to_string(), place, label))?;
        }
        if !names.contains(&&*line.label) {
            names.push(&line.label);
        }
    }
    for (index, name) in names.iter().enumerate() {
        let color = LINES[index % LINES.len()];
        let mine: Vec<_> = points
            .iter()
            .filter(|(line, _)| line.label == **name)
            .collect();
        let path: Vec<_> = mine
            .iter()
            .map(|(line, spread)| (across(line.number), up.at(spread.median)))
            .collect();
        for ((line, spread), point) in mine.iter().zip(&path) {
            let x = across(line.number) + index as i32 * 3 - 6;
            area.draw(&PathElement::new(
                vec![(x, up.at(spread.min)), (x, up.at(spread.max))],
                color.mix(0.5),
            ))?;
            area.draw(&Circle::new(*point, 3, color.filled()))?;
        }
        area.draw(&PathElement::new(path, color.stroke_width(2)))?;
        let y = TOP + 10 + 20 * i32::try_from(index)?;
        area.draw(&PathElement::new(
            vec![(right + 15, y), (right + 35, y)],
            color.stroke_width(3),
        ))?;
        let label = text(13, INK, HPos::Left, VPos::Center);
        area.draw(&Text::new((*name).to_owned(), (right + 42, y), label))?;
    }
    area.present()?;
    Ok(())
}

fn background(area: &Area<'_>, table: &Table, plot: &Plot) -> Result<(), BoxError> {
    area.fill(&WHITE)?;
    let title = text(16, INK, HPos::Left, VPos::Top);
    area.draw(&Text::new(plot.title.clone(), (16, 12), title))?;
    let label = format!(
        "{}: median and range, less is better",
        table.columns[0].title
    );
    let style = text(12, MUTED, HPos::Left, VPos::Top);
    area.draw(&Text::new(label, (16, 36), style))?;
    Ok(())
}

/// From zero to a round number above all values.
struct Scale {
    most: f64,
    step: f64,
    from: i32,
    to: i32,
}

impl Scale {
    fn new(values: impl Iterator<Item = f64>, from: i32, to: i32) -> Self {
        let max = values.fold(f64::MIN_POSITIVE, f64::max);
        let step = round_step(max / 5.0);
        let most = (max / step).ceil() * step;
        Self {
            most,
            step,
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> i32 {
        self.from + (f64::from(self.to - self.from) * value / self.most) as i32
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = (self.most / self.step).round() as u32;
        (0..=count).map(|index| f64::from(index) * self.step)
    }
}

/// 1, 2 or 5 times a power of ten, not less than `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(steps[3])
}

fn plain(tick: f64) -> String {
    let text = format!("{tick:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn value(value: f64, digits: usize) -> String {
    format!("{value:.digits$}")
}

const fn color(line: &Line) -> RGBColor {
    match (line.kind, line.forwards) {
        (Kind::Bare, false) => RGBColor(138, 146, 156),
        (Kind::Bare, true) => RGBColor(190, 196, 203),
        (Kind::Ours, false) => RGBColor(31, 111, 178),
        (Kind::Ours, true) => RGBColor(130, 180, 222),
        (Kind::Peer, false) => RGBColor(224, 164, 88),
        (Kind::Peer, true) => RGBColor(240, 208, 165),
    }
}

fn text(size: i32, color: RGBColor, h_pos: HPos, v_pos: VPos) -> TextStyle<'static> {
    TextStyle {
        font: ("sans-serif", size).into_font(),
        color: color.to_backend_color(),
        pos: Pos::new(h_pos, v_pos),
    }
}

const INK: RGBColor = RGBColor(34, 34, 34);
const MUTED: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(225, 225, 225);

const LINES: [RGBColor; 7] = [
    RGBColor(138, 146, 156),
    RGBColor(31, 111, 178),
    RGBColor(13, 59, 102),
    RGBColor(90, 170, 220),
    RGBColor(214, 120, 40),
    RGBColor(160, 80, 160),
    RGBColor(90, 150, 80),
];

const WIDTH: i32 = 860;
const LEFT: i32 = 210;
const RIGHT: i32 = 90;
const TOP: i32 = 66;
const BAR: i32 = 26;
const BOTTOM: i32 = 34;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_gives_its_plot_a_name_of_letters() {
        assert_eq!(slug("connect, one echo, close"), "connect-one-echo-close");
        assert_eq!(
            slug("plain, with axum's router"),
            "plain-with-axum-s-router"
        );
    }

    #[test]
    fn steps_are_round_and_ticks_reach_above_all_values() {
        for (least, step) in [
            (0.9, 1.0),
            (1.0, 1.0),
            (1.1, 2.0),
            (23.0, 50.0),
            (600.0, 1000.0),
        ] {
            assert!((round_step(least) - step).abs() < step * 1e-9, "{least}");
        }
        let scale = Scale::new([3.0, 47.0].into_iter(), 0, 500);
        let ticks: Vec<_> = scale.ticks().map(plain).collect();
        assert_eq!(ticks, ["0", "10", "20", "30", "40", "50"]);
        assert_eq!((scale.at(0.0), scale.at(50.0)), (0, 500));
    }
}
