//! A measured figure, and how figures are shown.

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::Output;
use crate::commands::output::table;

/// One figure. Its JSON form is what scripts rely on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    row: &'static str,
    metric: String,
    unit: &'static str,
    value: f64,
    bare: Option<f64>,
    ratio: Option<f64>,
    n: usize,
    #[serde(skip)]
    goal: Option<String>,
}

impl Figure {
    /// A figure without anything beside it.
    pub(super) fn new(
        row: &'static str,
        metric: impl Into<String>,
        unit: &'static str,
        value: f64,
        n: usize,
    ) -> Self {
        Self {
            row,
            metric: metric.into(),
            unit,
            value: rounded(value),
            bare: None,
            ratio: None,
            n,
            goal: None,
        }
    }

    /// Puts the bare minimum of the same work beside it.
    pub(super) fn beside(mut self, bare: f64) -> Self {
        self.bare = Some(rounded(bare));
        self.ratio = (bare > 0.0).then(|| rounded(self.value / bare));
        self
    }

    /// Says what it should be, for people.
    pub(super) fn goal(mut self, text: impl Into<String>) -> Self {
        self.goal = Some(text.into());
        self
    }

    #[cfg(test)]
    pub(super) fn ratio(&self) -> Option<f64> {
        self.ratio
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The nearest rank of unsorted values; 0 without any.
pub(super) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// The middle one.
pub(super) fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// Microseconds, as far apart as `from` and `to` are, in milliseconds.
pub(super) fn apart_ms(from_us: u64, to_us: u64) -> f64 {
    let ms = |us: u64| f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1000.0;
    if to_us >= from_us { ms(to_us - from_us) } else { -ms(from_us - to_us) }
}

/// A count as a number to calculate with.
pub(super) fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Microseconds since 1970.
pub(super) fn now_us() -> u64 {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Prints all of them: a JSON list, or a table.
pub(super) fn print(figures: &[Figure], output: Output) -> Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string(figures).context("cannot write JSON")?,
        Output::Text => text(figures),
    };
    writeln!(std::io::stdout(), "{}", text.trim_end()).context("cannot write to standard output")
}

fn text(figures: &[Figure]) -> String {
    let shown =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value}"));
    let rows: Vec<Vec<String>> = figures
        .iter()
        .map(|figure| {
            vec![
                figure.row.to_owned(),
                figure.metric.clone(),
                shown(Some(figure.value)),
                shown(figure.bare),
                shown(figure.ratio),
                figure.unit.to_owned(),
                figure.n.to_string(),
                figure.goal.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table(&["ROW", "METRIC", "VALUE", "BARE", "RATIO", "UNIT", "N", "TO REACH"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_the_shape_that_scripts_rely_on() {
        let figure = Figure::new("start", "p50", "ms", 3.0, 100).beside(2.0).goal("less");
        let json = r#"{"row":"start","metric":"p50","unit":"ms","value":3.0,"bare":2.0,"ratio":1.5,"n":100}"#;
        assert_eq!(serde_json::to_string(&figure).unwrap(), json);
        let alone = Figure::new("binary", "size", "MiB", 17.25, 1);
        let json = r#"{"row":"binary","metric":"size","unit":"MiB","value":17.25,"bare":null,"ratio":null,"n":1}"#;
        assert_eq!(serde_json::to_string(&alone).unwrap(), json);
        assert_eq!(alone.beside(0.0).ratio(), None);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert!((percentile(&[], 50) - 0.0).abs() < f64::EPSILON);
        assert!((percentile(&[3.0, 1.0, 2.0], 50) - 2.0).abs() < f64::EPSILON);
        assert!((percentile(&[3.0, 1.0, 2.0], 95) - 3.0).abs() < f64::EPSILON);
        assert!((apart_ms(3_000, 1_500) + 1.5).abs() < f64::EPSILON);
    }
}
