//! What was asked of GitHub, under the original's names and, by fewer labels, under ours.
//!
//! | The original's | Ours |
//! | --- | --- |
//! | `path` is the shape of a path of the REST API | `operation` is what a call is for, the scale set service's included |
//!
//! Neither has a label that grows with scopes, runners or jobs.

use std::collections::BTreeMap;

use super::Shown;
use super::page::{Labels, Page, one};

/// Upper ends of the buckets of durations, in seconds, as the original has them.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Calls of one kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShownCalls {
    /// What they are for.
    pub operation: &'static str,
    /// The shape of their path.
    pub path: String,
    /// `GET` and the like.
    pub method: String,
    /// Of the REST API; otherwise of the scale set service.
    pub is_rest: bool,
    /// By class of status, or `error`.
    pub ended: BTreeMap<&'static str, ShownDurations>,
    /// Those without an answer, by what became of them.
    pub errors: BTreeMap<&'static str, u64>,
    /// On the wire now.
    pub in_flight: u64,
    /// Questions of this kind that were answered from memory, without a call.
    pub hits: u64,
}

/// Durations of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ShownDurations {
    /// Each bucket alone, and above all of them one more.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// In seconds.
    pub sum: f64,
}

impl ShownDurations {
    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        for (all, more) in self.buckets.iter_mut().zip(other.buckets) {
            *all += more;
        }
        self.sum += other.sum;
    }
}

/// What GitHub last said of the calls that a scope's credential has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShownLimit {
    /// The scope.
    pub scope: String,
    /// In one window.
    pub limit: u32,
    /// Left in this one.
    pub remaining: u32,
}

/// The same kinds of numbers under two sets of names and labels.
#[derive(Default)]
struct Sums {
    ended: BTreeMap<Labels, ShownDurations>,
    errors: BTreeMap<Labels, u64>,
    in_flight: BTreeMap<Labels, u64>,
}

impl Sums {
    fn of<'a>(
        calls: impl Iterator<Item = &'a ShownCalls>,
        name: impl Fn(&ShownCalls) -> (&'static str, String),
    ) -> Self {
        let mut sums = Self::default();
        for call in calls {
            let labels: Labels = vec![name(call), ("method", call.method.clone())];
            let with = |name: &'static str, value: &str| {
                let mut labels = labels.clone();
                labels.push((name, value.to_owned()));
                labels
            };
            for (class, durations) in &call.ended {
                sums.ended.entry(with("status_class", class)).or_default().add(durations);
            }
            for (kind, count) in &call.errors {
                *sums.errors.entry(with("error_type", kind)).or_default() += count;
            }
            *sums.in_flight.entry(labels).or_default() += call.in_flight;
        }
        sums
    }

    fn write(&self, page: &mut Page, [requests, durations, errors, in_flight]: [&str; 4]) {
        let ended = self.ended.iter().map(|(labels, it)| (labels.clone(), float(it.count())));
        page.metric(requests, "counter", ended);
        let ended = self.ended.iter().map(|(labels, it)| {
            let buckets: &[u64] = &it.buckets;
            (labels.clone(), buckets, it.sum)
        });
        page.histogram(durations, &BUCKETS, ended);
        let failed = self.errors.iter().map(|(labels, count)| (labels.clone(), float(*count)));
        page.metric(errors, "counter", failed);
        let open = self.in_flight.iter().map(|(labels, count)| (labels.clone(), float(*count)));
        page.metric(in_flight, "gauge", open);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count that loses its last digit is a count")]
fn float(count: u64) -> f64 {
    count as f64
}

pub(super) fn write(page: &mut Page, shown: &Shown) {
    let rest = || shown.calls.iter().filter(|call| call.is_rest);
    let names = [
        "myshoes_github_api_requests_total",
        "myshoes_github_api_request_duration_seconds",
        "myshoes_github_api_errors_total",
        "myshoes_github_api_inflight",
    ];
    Sums::of(rest(), |call| ("path", call.path.clone())).write(page, names);
    let mut results: BTreeMap<Labels, u64> = BTreeMap::new();
    for call in rest().filter(|call| call.method == "GET") {
        let asked: u64 = call.ended.values().map(ShownDurations::count).sum();
        for (result, count) in [("hit", call.hits), ("miss", asked)] {
            let mut labels = one("path", &call.path);
            labels.extend([("method", call.method.clone()), ("result", result.to_owned())]);
            *results.entry(labels).or_default() += count;
        }
    }
    let results = results.into_iter().map(|(labels, count)| (labels, float(count)));
    page.metric("myshoes_github_api_cache_total", "counter", results.filter(|(_, it)| *it > 0.0));
    let names = [
        "fleetfoot_github_requests_total",
        "fleetfoot_github_request_duration_seconds",
        "fleetfoot_github_request_errors_total",
        "fleetfoot_github_requests_in_flight",
    ];
    Sums::of(shown.calls.iter(), |call| ("operation", call.operation.to_owned()))
        .write(page, names);
    let limits = |name: &str, page: &mut Page, value: fn(&ShownLimit) -> u32| {
        let series = shown.limits.iter().map(|it| (one("scope", &it.scope), f64::from(value(it))));
        page.metric(name, "gauge", series);
    };
    limits("myshoes_memory_github_rate_limit_remaining", page, |it| it.remaining);
    limits("myshoes_memory_github_rate_limit_limiting", page, |it| it.limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_shown_under_both_names_with_their_labels() {
        let mut buckets = [0; BUCKETS.len() + 1];
        (buckets[3], buckets[11]) = (2, 1);
        let call = ShownCalls {
            operation: "list runners",
            path: "/orgs/{name}/actions/runners".to_owned(),
            method: "GET".to_owned(),
            is_rest: true,
            ended: [("2xx", ShownDurations { buckets, sum: 12.5 })].into(),
            errors: [("canceled", 1)].into(),
            in_flight: 4,
            hits: 9,
        };
        let service = ShownCalls {
            operation: "poll",
            path: "/_apis/x".to_owned(),
            is_rest: false,
            ..call.clone()
        };
        let limits = vec![ShownLimit { scope: "acme".to_owned(), limit: 5000, remaining: 17 }];
        let shown = Shown { calls: vec![call, service], limits, ..Shown::default() };
        let mut page = Page::default();
        write(&mut page, &shown);
        let page = page.text();
        let path = "path=\"/orgs/{name}/actions/runners\",method=\"GET\"";
        for (kind, line) in [
            ("counter", format!("myshoes_github_api_requests_total{{{path},status_class=\"2xx\"}} 3")),
            ("counter", format!("myshoes_github_api_errors_total{{{path},error_type=\"canceled\"}} 1")),
            ("gauge", format!("myshoes_github_api_inflight{{{path}}} 4")),
            ("counter", format!("myshoes_github_api_cache_total{{{path},result=\"miss\"}} 3")),
            ("counter", format!("myshoes_github_api_cache_total{{{path},result=\"hit\"}} 9")),
            ("gauge", "myshoes_memory_github_rate_limit_remaining{scope=\"acme\"} 17".to_owned()),
            ("gauge", "myshoes_memory_github_rate_limit_limiting{scope=\"acme\"} 5000".to_owned()),
            (
                "counter",
                "fleetfoot_github_requests_total{operation=\"poll\",method=\"GET\",status_class=\"2xx\"} 3"
                    .to_owned(),
            ),
            (
                "counter",
                "fleetfoot_github_request_errors_total{operation=\"poll\",method=\"GET\",error_type=\"canceled\"} 1"
                    .to_owned(),
            ),
            (
                "gauge",
                "fleetfoot_github_requests_in_flight{operation=\"list runners\",method=\"GET\"} 4".to_owned(),
            ),
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n---\n{page}");
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name}\n{page}");
        }
        let durations = "myshoes_github_api_request_duration_seconds";
        let labels = format!("{path},status_class=\"2xx\"");
        assert!(page.contains(&format!("# TYPE {durations} histogram\n")), "{page}");
        for line in [
            format!("{durations}_bucket{{{labels},le=\"0.025\"}} 0"),
            format!("{durations}_bucket{{{labels},le=\"0.05\"}} 2"),
            format!("{durations}_bucket{{{labels},le=\"10\"}} 2"),
            format!("{durations}_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("{durations}_sum{{{labels}}} 12.5"),
            format!("{durations}_count{{{labels}}} 3"),
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n---\n{page}");
        }
        assert!(!page.contains("path=\"/_apis"), "the service is not the REST API\n{page}");
    }
}
