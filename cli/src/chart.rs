//! A history as a chart of characters: CPU, memory and waiting for a CPU, one above the other. Gaps stay gaps. Pure.

use jiff::Timestamp;
use procscope_proto::v1::{GetProcessHistoryResponse, HistoryPoint};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
    symbols::Marker,
    text::{Line, Span},
    widgets::{Axis, Chart, Dataset, GraphType, Widget as _},
};

use crate::{history, text, units, when};

/// Below so many lines a curve says less than a row of blocks.
const CURVE_HEIGHT_MIN: u16 = 5;
/// Columns of the figures at the left, so that all curves begin in one column.
const FIGURES_WIDTH: usize = 8;
/// What is greater was not measured, and there is no scale for it.
const FIGURE_MAX: f64 = 1e15;
/// A row of blocks, from little to much.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// In a row of blocks: nothing is known.
const GAP: char = '·';

/// Colours of a chart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    pub title: Style,
    pub axis: Style,
    /// CPU, memory, waiting.
    pub curves: [Style; 3],
}

/// One curve.
struct Curve {
    title: &'static str,
    values: Vec<Option<f64>>,
    figure: fn(f64) -> String,
}

impl Curve {
    fn most(&self) -> f64 {
        self.values.iter().flatten().copied().fold(0.0, f64::max)
    }

    /// `CPU %, 100 is one CPU: 12.3 at the end, 45.6 at most`.
    fn heading(&self) -> String {
        match self.values.iter().flatten().next_back() {
            Some(last) => format!(
                "{}: {} at the end, {} at most",
                self.title,
                (self.figure)(*last),
                (self.figure)(self.most())
            ),
            None => format!("{}: nothing is known", self.title),
        }
    }
}

fn curves(response: &GetProcessHistoryResponse) -> [Curve; 3] {
    let values = |value: &dyn Fn(&HistoryPoint) -> Option<f64>| {
        response
            .points
            .iter()
            .map(|point| value(point).filter(|value| !point.gap && (0.0..FIGURE_MAX).contains(value)))
            .collect()
    };
    [
        Curve {
            title: "CPU %, 100 is one CPU",
            values: values(&|point| point.avg_cpu_percent),
            figure: units::percent,
        },
        Curve {
            title: "RSS, mean of each step",
            values: values(&|point| point.avg_memory_mb),
            figure: units::mebibytes,
        },
        Curve {
            title: "WAIT %, ready without a CPU",
            values: values(&|point| history::wait_percent(point, response.step_ms)),
            figure: units::percent,
        },
    ]
}

/// Lines of at most `width` columns, for what is printed.
pub(crate) fn lines(response: &GetProcessHistoryResponse, width: usize, height: u16) -> Vec<String> {
    let area = Rect::new(0, 0, u16::try_from(width).unwrap_or(u16::MAX).min(400), height);
    let mut buffer = Buffer::empty(area);
    draw(&mut buffer, area, response, &Look::default());
    area.rows()
        .map(|row| {
            let cells: String = row
                .columns()
                .map(|cell| buffer[(cell.x, cell.y)].symbol())
                .collect();
            cells.trim_end().to_owned()
        })
        .collect()
}

/// Draws all three, as well as the room allows.
pub(crate) fn draw(buffer: &mut Buffer, area: Rect, response: &GetProcessHistoryResponse, look: &Look) {
    let curves = curves(response);
    if response.points.is_empty() || area.is_empty() {
        return;
    }
    let count = u16::try_from(curves.len()).unwrap_or(1);
    if area.height / count <= CURVE_HEIGHT_MIN {
        // Two lines each: what it is, and a row of blocks.
        let mut rows = area.rows();
        for (curve, style) in curves.iter().zip(look.curves) {
            for (line, style) in [(curve.heading(), look.title), (blocks(curve, area.width), style)] {
                if let Some(row) = rows.next() {
                    Line::styled(line, style).render(row, buffer);
                }
            }
        }
        return;
    }
    let areas: [Rect; 3] = Layout::vertical([Constraint::Fill(1); 3]).areas(area);
    let last = areas.len() - 1;
    for (index, (curve, area)) in curves.iter().zip(areas).enumerate() {
        let heading = Rect { height: 1, ..area };
        Line::styled(curve.heading(), look.title).render(heading, buffer);
        let below = Rect {
            y: area.y + 1,
            height: area.height - 1,
            ..area
        };
        draw_curve(
            buffer,
            below,
            response,
            curve,
            look,
            look.curves[index],
            index == last,
        );
    }
}

fn draw_curve(
    buffer: &mut Buffer,
    area: Rect,
    response: &GetProcessHistoryResponse,
    curve: &Curve,
    look: &Look,
    style: Style,
    times: bool,
) {
    let most = round_up(curve.most());
    let pieces = pieces(&curve.values);
    let datasets = pieces
        .iter()
        .map(|piece| {
            Dataset::default()
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(style)
                .data(piece)
        })
        .collect();
    let figure = |value: f64| {
        Span::raw(format!(
            "{:>FIGURES_WIDTH$}",
            text::fit(&(curve.figure)(value), FIGURES_WIDTH)
        ))
    };
    let mut across = Axis::default()
        .style(look.axis)
        .bounds([0.0, number(curve.values.len())]);
    if times {
        across = across.labels(time_labels(response));
    }
    let up = Axis::default().style(look.axis).bounds([0.0, most]).labels([
        figure(0.0),
        figure(most / 2.0),
        figure(most),
    ]);
    Chart::new(datasets)
        .x_axis(across)
        .y_axis(up)
        .legend_position(None)
        .render(area, buffer);
}

/// What is known in a row, as points in the middle of their steps; between two pieces lies a gap.
fn pieces(values: &[Option<f64>]) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    for (index, value) in values.iter().enumerate() {
        match value {
            Some(value) => piece.push((number(index) + 0.5, *value)),
            None if !piece.is_empty() => pieces.push(std::mem::take(&mut piece)),
            None => {}
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// A row of blocks as wide as the area; each shows the most of its steps.
fn blocks(curve: &Curve, width: u16) -> String {
    let (count, width) = (curve.values.len(), usize::from(width));
    let most = curve.most();
    let shown = width.min(count);
    (0..shown)
        .map(|column| {
            let steps = &curve.values[column * count / shown..(column + 1) * count / shown];
            let Some(value) = steps.iter().flatten().copied().reduce(f64::max) else {
                return GAP;
            };
            let place = BLOCKS
                .iter()
                .zip(1_u8..)
                .find(|(_, place)| value <= most * f64::from(*place) / 8.0);
            place.map_or(BLOCKS[7], |(block, _)| *block)
        })
        .collect()
}

/// Begin, middle and end of the time that the points cover.
fn time_labels(response: &GetProcessHistoryResponse) -> Vec<Span<'static>> {
    let time = |point: Option<&HistoryPoint>| point.and_then(|point| when::from_wire(point.time.as_ref()));
    let (Some(first), Some(last)) = (time(response.points.first()), time(response.points.last())) else {
        return Vec::new();
    };
    let step = std::time::Duration::from_millis(response.step_ms);
    let end = last.checked_add(step).unwrap_or(last);
    let length = end.duration_since(first);
    let format = if length.as_hours() >= 24 {
        "%m-%d %H:%M"
    } else {
        "%H:%M:%S"
    };
    let label = |instant: Timestamp| Span::raw(instant.strftime(format).to_string());
    let middle = first.checked_add(length / 2).unwrap_or(first);
    vec![label(first), label(middle), label(end)]
}

/// The next of 1, 2, 5, 10, 20, … so that figures at the left are short.
fn round_up(most: f64) -> f64 {
    if !(most > 0.0 && most.is_finite()) {
        return 1.0;
    }
    let unit = 10_f64.powf(most.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|times| times * unit)
        .find(|round| *round >= most)
        .unwrap_or(most)
}

/// A small count as a float.
fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(values: &[Option<f64>]) -> GetProcessHistoryResponse {
        let points = (0..).zip(values).map(|(second, value)| HistoryPoint {
            time: Some(prost_types::Timestamp {
                seconds: second * 10,
                nanos: 0,
            }),
            gap: value.is_none(),
            avg_cpu_percent: *value,
            avg_memory_mb: *value,
            cpu_seconds: value.map(|value| value / 10.0),
            runqueue_seconds: *value,
            ..HistoryPoint::default()
        });
        GetProcessHistoryResponse {
            points: points.collect(),
            step_ms: 10_000,
            ..GetProcessHistoryResponse::default()
        }
    }

    #[test]
    fn a_low_screen_gets_rows_of_blocks_with_their_gaps() {
        let values = [Some(0.0), Some(50.0), None, Some(100.0)];
        assert_eq!(
            lines(&response(&values), 60, 4),
            [
                "CPU %, 100 is one CPU: 100.0 at the end, 100.0 at most",
                "▁▄·█",
                "RSS, mean of each step: 100 MiB at the end, 100 MiB at most",
                "▁▄·█",
            ]
        );
    }

    #[test]
    fn curves_have_figures_and_times() {
        let values: Vec<Option<f64>> = (0..60).map(|step| Some(f64::from(step % 10) * 4.0)).collect();
        let lines = lines(&response(&values), 60, 24);
        assert!(
            lines[0].starts_with("CPU %, 100 is one CPU: 36.0 at the end"),
            "{lines:#?}"
        );
        assert!(lines[1].starts_with("    50.0│"), "{lines:#?}");
        assert!(
            lines[23].contains("00:00:00") && lines[23].contains("00:10:00"),
            "{lines:#?}"
        );
        assert!(lines.iter().any(|line| line.contains("50.0 MiB│")), "{lines:#?}");
    }

    #[test]
    fn no_line_crosses_a_gap() {
        let values: Vec<Option<f64>> = (0..60)
            .map(|step| Some(10.0).filter(|_| !(20..40).contains(&step)))
            .collect();
        assert_eq!(pieces(&values).iter().map(Vec::len).collect::<Vec<_>>(), [20, 20]);
        let lines = lines(&response(&values), 69, 24);
        let row = lines[1..7]
            .iter()
            .find(|line| line.chars().skip(9).any(|c| c != ' '))
            .unwrap();
        let middle: String = row.chars().skip(9 + 21).take(18).collect();
        assert_eq!(middle.trim(), "", "{lines:#?}");
    }

    #[test]
    fn figures_are_round() {
        for (most, round) in [
            (0.0, 1.0),
            (f64::NAN, 1.0),
            (0.3, 0.5),
            (1.0, 1.0),
            (36.0, 50.0),
            (101.0, 200.0),
        ] {
            assert!((round_up(most) - round).abs() < 1e-9, "{most}");
        }
    }

    proptest! {
        #[test]
        fn no_size_and_no_value_is_too_odd(
            values in proptest::collection::vec(proptest::option::of(prop_oneof![any::<f64>(), 0.0..1e9]), 0..50),
            width in 0_usize..120,
            height in 0_u16..40,
        ) {
            for line in lines(&response(&values), width, height) {
                prop_assert!(text::width(&line) <= width);
            }
        }
    }
}
