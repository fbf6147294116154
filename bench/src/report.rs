//! Figures for a person: medians, tables, and the bounds that they must keep.

use std::time::Duration;

/// What a bench found: its bounds that were exceeded, each in a line.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Empty: every bound is kept.
    pub(crate) exceeded: Vec<String>,
}

impl Verdict {
    /// Holds a figure against its bound and says both in words. What could not be measured keeps no bound.
    pub(crate) fn at_most(&mut self, what: &str, figure: f64, bound: f64, unit: &str) -> String {
        let kept = figure <= bound;
        if !kept {
            self.exceeded.push(format!(
                "{what}: {figure:.3} {unit} is more than its bound of {bound} {unit}"
            ));
        }
        format!(
            "{what}: {figure:.2} {unit}, bound {bound}{}",
            if kept { "" } else { "  EXCEEDED" }
        )
    }
}

/// The middle of some figures; NaN of none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = figures
        .iter()
        .copied()
        .filter(|figure| figure.is_finite())
        .collect();
    sorted.sort_by(f64::total_cmp);
    let len = sorted.len();
    match (len, sorted.get(len / 2)) {
        (_, None) => f64::NAN,
        (len, Some(upper)) if len % 2 == 0 => f64::midpoint(sorted[len / 2 - 1], *upper),
        (_, Some(middle)) => *middle,
    }
}

/// The figure that so many hundredths of some figures do not pass; NaN of none.
pub(crate) fn percentile(figures: &[f64], hundredths: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * hundredths).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// How much `y` grows with `x`, by least squares; NaN where `x` is always the same.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / float(points.len());
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let together: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let spread: f64 = points.iter().map(|(x, _y)| (x - mean_x).powi(2)).sum();
    together / spread
}

/// Nanoseconds for each of so many things.
pub(crate) fn each_ns(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e9 / float(count)
}

/// A count as what can be divided.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "counts here are far below the 53 bits that a float keeps"
)]
pub(crate) fn float(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_leaves_out_what_is_no_number() {
        assert!((median(&[3.0, f64::NAN, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_percentile_is_one_of_the_figures() {
        let figures: Vec<f64> = (1..=100_u32).rev().map(f64::from).collect();
        let of = |hundredths| percentile(&figures, hundredths);
        assert!((of(95) - 95.0).abs() < 1e-9 && (of(100) - 100.0).abs() < 1e-9 && (of(0) - 1.0).abs() < 1e-9);
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn a_slope_is_what_each_copy_adds() {
        assert!((slope(&[(0.0, 900.0), (4.0, 1300.0), (8.0, 1700.0)]) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_bound_is_kept_up_to_itself_and_never_by_what_could_not_be_measured() {
        let check = |figure| {
            let mut verdict = Verdict::default();
            verdict.at_most("x", figure, 1.5, "times");
            verdict.exceeded.is_empty()
        };
        assert_eq!([check(1.5), check(1.51), check(f64::NAN)], [true, false, false]);
    }
}
