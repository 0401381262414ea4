//! Prometheus' text.

use std::fmt::Write as _;

use super::help::help;

/// One metric after the other, each with all its series.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn metric<'a>(
        &mut self,
        name: &str,
        kind: &str,
        series: impl IntoIterator<Item = (Vec<(&'a str, String)>, f64)>,
    ) {
        let mut lines = String::new();
        for (labels, value) in series {
            let labels = joined(labels);
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            // Writing to a text does not fail.
            let _ = writeln!(lines, "{name}{labels} {value}");
        }
        if !lines.is_empty() {
            self.family(name, kind, &lines);
        }
    }

    /// A histogram: each of its series with the counts of its buckets, each alone and one above them all, and its sum.
    pub(super) fn histogram<'a>(
        &mut self,
        name: &str,
        ends: &[f64],
        series: impl IntoIterator<Item = (Labels, &'a [u64], f64)>,
    ) {
        let mut lines = String::new();
        for (labels, buckets, sum) in series {
            let labels = joined(labels);
            let mut below = 0;
            for (end, count) in ends.iter().zip(buckets) {
                below += count;
                let _ = writeln!(lines, "{name}_bucket{{{labels},le=\"{end}\"}} {below}");
            }
            let count = buckets.iter().sum::<u64>();
            let _ = writeln!(lines, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(lines, "{name}_sum{{{labels}}} {sum}");
            let _ = writeln!(lines, "{name}_count{{{labels}}} {count}");
        }
        if !lines.is_empty() {
            self.family(name, "histogram", &lines);
        }
    }

    fn family(&mut self, name: &str, kind: &str, lines: &str) {
        if let Some(help) = help(name) {
            let _ = writeln!(self.0, "# HELP {name} {help}");
        }
        let _ = write!(self.0, "# TYPE {name} {kind}\n{lines}");
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}

pub(super) type Labels = Vec<(&'static str, String)>;

fn joined<'a>(labels: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs = labels.into_iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(&value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) fn one(name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    vec![(name, value.to_owned())]
}
