//! What was asked of GitHub, counted: by the call's name, its method, and the shape of its path.
//!
//! Names and numbers of a path are not counted apart (`/repos/{owner}/{repo}/actions/runners`), so there are as many
//! counts as there are calls in this room, however many scopes and runners there are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Request;
use tokio::time::Instant;

use crate::error::{ErrorKind, Result};
use crate::http::Answer;

/// Upper ends of the buckets of durations, in seconds; above the last one there is one more.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// More kinds of calls than this room makes, and more than a server in between can make up.
const KINDS_MAX: usize = 200;

/// A kind of call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallKind {
    /// What it is for, in this room's words.
    pub operation: &'static str,
    /// The shape of its path.
    pub path: String,
    /// `GET` and the like.
    pub method: String,
    /// GitHub's REST API; otherwise the scale set service.
    pub is_rest: bool,
}

/// Durations of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Durations {
    /// How many ended in each of [`BUCKETS`], each alone; the last one is for what took longer.
    pub buckets: [u64; BUCKETS.len() + 1],
    /// Their sum, in seconds.
    pub sum: f64,
}

impl Durations {
    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BUCKETS.iter().position(|end| seconds <= *end).unwrap_or(BUCKETS.len());
        self.buckets[at] += 1;
        self.sum += seconds;
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// How calls of one kind went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallCounts {
    /// By `2xx`, `3xx`, `4xx`, `5xx` and `error`.
    pub ended: BTreeMap<&'static str, Durations>,
    /// Those without an answer, by what became of them: `canceled`, `timeout`, `transport`.
    pub errors: BTreeMap<&'static str, u64>,
    /// On the wire now.
    pub in_flight: u64,
}

/// All that was asked over the clients of a process. Cheap to clone; clones count together.
#[derive(Clone, Default)]
pub struct Calls {
    counts: Arc<Mutex<BTreeMap<CallKind, CallCounts>>>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl Calls {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<CallKind, CallCounts>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts of this moment.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<CallKind, CallCounts> {
        self.locked().clone()
    }

    /// Counts a call from now until it ends or is dropped.
    pub(crate) fn begin(&self, operation: &'static str, request: &Request) -> Begun {
        let (path, is_service) = shape(request.url().path());
        let method = request.method().as_str().to_owned();
        let mut kind = CallKind { operation, path, method, is_rest: !is_service };
        let mut counts = self.locked();
        if counts.len() >= KINDS_MAX && !counts.contains_key(&kind) {
            kind.path = "other".to_owned();
        }
        counts.entry(kind.clone()).or_default().in_flight += 1;
        Begun { calls: self.clone(), kind, since: Instant::now(), ended: false }
    }
}

/// A call that is on the wire.
#[derive(Debug)]
pub(crate) struct Begun {
    calls: Calls,
    kind: CallKind,
    since: Instant,
    ended: bool,
}

impl Begun {
    pub(crate) fn end(mut self, answer: &Result<Answer>) {
        let (class, error) = match answer {
            Ok(answer) => (class(answer.status), None),
            Err(error) if matches!(error.kind(), ErrorKind::Timeout) => ("error", Some("timeout")),
            Err(_) => ("error", Some("transport")),
        };
        self.note(class, error);
    }

    fn note(&mut self, class: &'static str, error: Option<&'static str>) {
        self.ended = true;
        let mut counts = self.calls.locked();
        let Some(count) = counts.get_mut(&self.kind) else { return };
        count.in_flight = count.in_flight.saturating_sub(1);
        count.ended.entry(class).or_default().observe(self.since.elapsed());
        if let Some(error) = error {
            *count.errors.entry(error).or_default() += 1;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.ended {
            self.note("error", Some("canceled"));
        }
    }
}

fn class(status: u16) -> &'static str {
    match status {
        ..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    }
}

/// A path without what differs from one scope, runner or session to the next; and whether it is one of the scale
/// set service, whose own root says nothing.
fn shape(path: &str) -> (String, bool) {
    let service = path.find("/_apis/");
    let path = service.map_or(path, |at| &path[at..]);
    let mut out = String::new();
    // What the next parts are, where the one before says it.
    let mut names: &[&str] = &[];
    for part in path.split('/').filter(|part| !part.is_empty()) {
        out.push('/');
        if let Some((name, rest)) = names.split_first() {
            out.push_str(name);
            names = rest;
            continue;
        }
        names = match part {
            "repos" => &["{owner}", "{repo}"],
            "orgs" | "enterprises" => &["{name}"],
            "sessions" => &["{id}"],
            _ => &[],
        };
        out.push_str(if is_number(part) { "{id}" } else { part });
    }
    (out, service.is_some())
}

fn is_number(part: &str) -> bool {
    let is_uuid = part.len() == 36 && part.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-');
    is_uuid || part.bytes().all(|it| it.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use reqwest::Method;

    use super::*;

    #[test]
    fn a_path_has_the_shape_of_its_kind() {
        for (path, expected, is_service) in [
            ("/orgs/acme/actions/runners", "/orgs/{name}/actions/runners", false),
            ("/orgs/repos/actions/runners", "/orgs/{name}/actions/runners", false),
            (
                "/repos/orgs/app/actions/runners/12",
                "/repos/{owner}/{repo}/actions/runners/{id}",
                false,
            ),
            ("/api/v3/repos/a/b", "/api/v3/repos/{owner}/{repo}", false),
            ("/app/installations/7/access_tokens", "/app/installations/{id}/access_tokens", false),
            (
                "/tenant/x/_apis/runtime/runnerscalesets/5/sessions/3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1",
                "/_apis/runtime/runnerscalesets/{id}/sessions/{id}",
                true,
            ),
        ] {
            assert_eq!(shape(path), (expected.to_owned(), is_service));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_counted_by_how_they_end() {
        let calls = Calls::default();
        let request = || Request::new(Method::GET, "https://x/orgs/acme".parse().unwrap());
        let answer = |status| {
            Ok(Answer { status, headers: reqwest::header::HeaderMap::new(), body: Vec::new() })
        };
        let first = calls.begin("look", &request());
        tokio::time::advance(Duration::from_millis(30)).await;
        first.end(&answer(204));
        calls.begin("look", &request()).end(&answer(503));
        drop(calls.begin("look", &request()));
        let open = calls.begin("look", &request());
        let counts = calls.counts();
        assert_eq!(counts.len(), 1);
        let (kind, count) = counts.first_key_value().unwrap();
        assert_eq!((kind.path.as_str(), kind.is_rest, count.in_flight), ("/orgs/{name}", true, 1));
        assert_eq!(count.ended["2xx"].buckets[3], 1);
        assert_eq!((count.ended["5xx"].count(), count.ended["error"].count()), (1, 1));
        assert_eq!(count.errors, [("canceled", 1)].into());
        drop(open);
        for number in 0..2 * KINDS_MAX {
            let url = format!("https://x/made/up-{number}").parse().unwrap();
            calls.begin("look", &Request::new(Method::GET, url)).end(&answer(200));
        }
        assert!(calls.counts().len() <= KINDS_MAX + 1);
    }
}
