//! From a method and a path to what is asked for.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::http::Method;

use crate::faults::Endpoint;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// The scale set service of one tenant.
    Service {
        tenant: i64,
        route: ServiceRoute,
    },
    /// REST below an organization, repository or enterprise.
    Rest {
        scope: String,
        route: RestRoute,
    },
    /// REST beside them.
    Api(ApiRoute),
    /// What stand-in runners call.
    Agent(AgentRoute),
    /// The control API, by the rest of its path.
    Control(Vec<String>),
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServiceRoute {
    RunnerGroups,
    ScaleSets,
    ScaleSet { set: i64 },
    GenerateJitConfig { set: i64 },
    Sessions { set: i64 },
    Session { set: i64, session: String },
    AcquireJobs { set: i64 },
    Agents,
    Agent { runner: i64 },
    Queue { set: i64, session: String },
    Message { set: i64, session: String, message: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RestRoute {
    About,
    Installation,
    RegistrationToken,
    Runners,
    Runner {
        runner: i64,
    },
    GenerateJitConfig,
    Downloads,
    /// The notes of a release, of `actions/runner` alone.
    Release {
        tag: String,
    },
    Groups,
    Group {
        group: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApiRoute {
    Meta,
    RateLimit,
    App,
    Installations,
    Repositories,
    Installation {
        id: i64,
    },
    AccessToken {
        id: i64,
    },
    AdminConnection,
    User,
    /// An archive of the runner: where GitHub says it is, and where that leads.
    Archive {
        name: String,
        moved: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentRoute {
    Connect,
    Poll,
    Leave,
    Start { job: u64 },
    Wait { job: u64 },
    Complete { job: u64 },
}

impl Route {
    pub(crate) fn parse(method: &Method, path: &str) -> Self {
        let path = path.strip_prefix("/api/v3").unwrap_or(path);
        let segments: Vec<Cow<'_, str>> =
            path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let parts: Vec<&str> = segments.iter().map(Cow::as_ref).collect();
        let found = match parts.as_slice() {
            ["_box", ..] => {
                Some(Self::Control(parts[1..].iter().map(|&part| part.to_owned()).collect()))
            }
            ["_runner", rest @ ..] => agent(rest).map(Self::Agent),
            ["tenant", tenant, rest @ ..] => tenant
                .parse()
                .ok()
                .and_then(|tenant| service(rest).map(|route| Self::Service { tenant, route })),
            ["orgs", org, rest @ ..] => rest_route(method, (*org).to_owned(), rest),
            ["repos", owner, repo, rest @ ..] => {
                rest_route(method, format!("{owner}/{repo}"), rest)
            }
            ["enterprises", name, rest @ ..] => {
                rest_route(method, format!("enterprises/{name}"), rest)
            }
            rest => api(rest).map(Self::Api),
        };
        found.unwrap_or(Self::Unknown)
    }

    /// The scale set it is about, if the path says so.
    pub(crate) fn scale_set(&self) -> Option<i64> {
        match self {
            Self::Service { route, .. } => route.scale_set(),
            Self::Rest { .. }
            | Self::Api(_)
            | Self::Agent(_)
            | Self::Control(_)
            | Self::Unknown => None,
        }
    }

    /// The runner it is about, if the path says so.
    pub(crate) fn runner(&self) -> Option<i64> {
        match self {
            Self::Service { route: ServiceRoute::Agent { runner }, .. }
            | Self::Rest { route: RestRoute::Runner { runner }, .. } => Some(*runner),
            Self::Service { .. }
            | Self::Rest { .. }
            | Self::Api(_)
            | Self::Agent(_)
            | Self::Control(_)
            | Self::Unknown => None,
        }
    }

    /// The message it is about.
    pub(crate) fn message(&self) -> Option<i64> {
        match self {
            Self::Service { route: ServiceRoute::Message { message, .. }, .. } => Some(*message),
            Self::Service { .. }
            | Self::Rest { .. }
            | Self::Api(_)
            | Self::Agent(_)
            | Self::Control(_)
            | Self::Unknown => None,
        }
    }

    pub(crate) fn endpoint(&self, method: &Method) -> Endpoint {
        let removes = method == Method::DELETE;
        match self {
            Self::Service { route, .. } => route.endpoint(method),
            Self::Rest { route, .. } => match route {
                RestRoute::RegistrationToken => Endpoint::RegistrationToken,
                RestRoute::Runner { .. } if removes => Endpoint::RestRemoveRunner,
                RestRoute::Runners | RestRoute::Runner { .. } => Endpoint::RestGetRunners,
                RestRoute::GenerateJitConfig => Endpoint::RestGenerateJitConfig,
                RestRoute::Downloads | RestRoute::Release { .. } => Endpoint::RunnerReleases,
                RestRoute::About
                | RestRoute::Installation
                | RestRoute::Groups
                | RestRoute::Group { .. } => Endpoint::RestOther,
            },
            Self::Api(ApiRoute::AccessToken { .. }) => Endpoint::AccessToken,
            Self::Api(ApiRoute::AdminConnection) => Endpoint::AdminConnection,
            Self::Api(ApiRoute::Archive { .. }) => Endpoint::RunnerReleases,
            Self::Api(_) => Endpoint::RestOther,
            Self::Agent(AgentRoute::Connect) => Endpoint::RunnerConnect,
            Self::Agent(AgentRoute::Poll) => Endpoint::RunnerPoll,
            Self::Agent(_) => Endpoint::RunnerJob,
            Self::Control(_) => Endpoint::Control,
            Self::Unknown => Endpoint::Unknown,
        }
    }
}

impl ServiceRoute {
    pub(crate) fn scale_set(&self) -> Option<i64> {
        match self {
            Self::ScaleSet { set }
            | Self::GenerateJitConfig { set }
            | Self::Sessions { set }
            | Self::Session { set, .. }
            | Self::AcquireJobs { set }
            | Self::Queue { set, .. }
            | Self::Message { set, .. } => Some(*set),
            Self::RunnerGroups | Self::ScaleSets | Self::Agents | Self::Agent { .. } => None,
        }
    }

    fn endpoint(&self, method: &Method) -> Endpoint {
        let (posts, patches, removes) =
            (method == Method::POST, method == Method::PATCH, method == Method::DELETE);
        match self {
            Self::RunnerGroups => Endpoint::RunnerGroups,
            Self::ScaleSets if posts => Endpoint::CreateScaleSet,
            Self::ScaleSet { .. } if patches => Endpoint::UpdateScaleSet,
            Self::ScaleSet { .. } if removes => Endpoint::DeleteScaleSet,
            Self::ScaleSets | Self::ScaleSet { .. } => Endpoint::GetScaleSet,
            Self::GenerateJitConfig { .. } => Endpoint::GenerateJitConfig,
            Self::Sessions { .. } => Endpoint::CreateSession,
            Self::Session { .. } if removes => Endpoint::DeleteSession,
            Self::Session { .. } => Endpoint::RefreshSession,
            Self::AcquireJobs { .. } => Endpoint::AcquireJobs,
            Self::Agent { .. } if removes => Endpoint::RemoveRunner,
            Self::Agents | Self::Agent { .. } => Endpoint::GetRunner,
            Self::Queue { .. } => Endpoint::GetMessage,
            Self::Message { .. } => Endpoint::DeleteMessage,
        }
    }
}

fn service(parts: &[&str]) -> Option<ServiceRoute> {
    Some(match parts {
        ["_apis", "runtime", "runnergroups"] => ServiceRoute::RunnerGroups,
        ["_apis", "runtime", "runnerscalesets"] => ServiceRoute::ScaleSets,
        ["_apis", "runtime", "runnerscalesets", set, rest @ ..] => {
            let set = set.parse().ok()?;
            match rest {
                [] => ServiceRoute::ScaleSet { set },
                ["generatejitconfig"] => ServiceRoute::GenerateJitConfig { set },
                ["sessions"] => ServiceRoute::Sessions { set },
                ["sessions", session] => {
                    ServiceRoute::Session { set, session: (*session).to_owned() }
                }
                ["acquirejobs"] => ServiceRoute::AcquireJobs { set },
                _ => return None,
            }
        }
        ["_apis", "distributedtask", "pools", _, "agents"] => ServiceRoute::Agents,
        ["_apis", "distributedtask", "pools", _, "agents", id] => {
            ServiceRoute::Agent { runner: id.parse().ok()? }
        }
        ["queue", set, session] => {
            ServiceRoute::Queue { set: set.parse().ok()?, session: (*session).to_owned() }
        }
        ["queue", set, session, message] => ServiceRoute::Message {
            set: set.parse().ok()?,
            session: (*session).to_owned(),
            message: message.parse().ok()?,
        },
        _ => return None,
    })
}

fn rest_route(method: &Method, scope: String, parts: &[&str]) -> Option<Route> {
    let posts = method == Method::POST;
    let route = match parts {
        [] => RestRoute::About,
        ["installation"] => RestRoute::Installation,
        ["actions", "runners"] => RestRoute::Runners,
        ["actions", "runners", "registration-token" | "remove-token"] if posts => {
            RestRoute::RegistrationToken
        }
        ["actions", "runners", "generate-jitconfig"] if posts => RestRoute::GenerateJitConfig,
        ["actions", "runners", "downloads"] => RestRoute::Downloads,
        ["releases", "tags", tag] => RestRoute::Release { tag: (*tag).to_owned() },
        ["actions", "runners", id] => RestRoute::Runner { runner: id.parse().ok()? },
        ["actions", "runner-groups"] => RestRoute::Groups,
        ["actions", "runner-groups", id] => RestRoute::Group { group: id.parse().ok()? },
        _ => return None,
    };
    Some(Route::Rest { scope, route })
}

fn api(parts: &[&str]) -> Option<ApiRoute> {
    Some(match parts {
        ["meta"] => ApiRoute::Meta,
        ["rate_limit"] => ApiRoute::RateLimit,
        ["user"] => ApiRoute::User,
        ["app"] => ApiRoute::App,
        ["app", "installations"] => ApiRoute::Installations,
        ["installation", "repositories"] => ApiRoute::Repositories,
        ["app", "installations", id] => ApiRoute::Installation { id: id.parse().ok()? },
        ["app", "installations", id, "access_tokens"] => {
            ApiRoute::AccessToken { id: id.parse().ok()? }
        }
        ["actions", "runner-registration"] => ApiRoute::AdminConnection,
        ["actions", "runner", "releases", "download", _, name] => {
            ApiRoute::Archive { name: (*name).to_owned(), moved: false }
        }
        ["release-assets", name] => ApiRoute::Archive { name: (*name).to_owned(), moved: true },
        _ => return None,
    })
}

fn agent(parts: &[&str]) -> Option<AgentRoute> {
    Some(match parts {
        ["connect"] => AgentRoute::Connect,
        ["poll"] => AgentRoute::Poll,
        ["leave"] => AgentRoute::Leave,
        ["jobs", job, "start"] => AgentRoute::Start { job: job.parse().ok()? },
        ["jobs", job, "wait"] => AgentRoute::Wait { job: job.parse().ok()? },
        ["jobs", job, "complete"] => AgentRoute::Complete { job: job.parse().ok()? },
        _ => return None,
    })
}

/// The pairs of a query; a key given twice keeps its last value.
pub(crate) fn query(text: &str) -> HashMap<String, String> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| decode(&text.replace('+', " ")).into_owned();
            (decoded(key), decoded(value))
        })
        .collect()
}

/// Undoes percent encoding; what is no encoding stays.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .filter(|_| *byte == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_their_encoding() {
        let query = query("agentName=a%20b%2Bc+d&name=%C3%BC&odd=%zz&flag");
        assert_eq!(query["agentName"], "a b+c d");
        assert_eq!(query["name"], "ü");
        assert_eq!((query["odd"].as_str(), query["flag"].as_str()), ("%zz", ""));
    }

    #[test]
    fn rest_is_found_with_and_without_its_prefix() {
        let path = "/repos/acme/app/actions/runners/7";
        for prefix in ["", "/api/v3"] {
            let route = Route::parse(&Method::DELETE, &format!("{prefix}{path}"));
            let wanted = RestRoute::Runner { runner: 7 };
            assert_eq!(route, Route::Rest { scope: "acme/app".to_owned(), route: wanted });
            assert_eq!(route.endpoint(&Method::DELETE), Endpoint::RestRemoveRunner);
            assert_eq!(route.endpoint(&Method::GET), Endpoint::RestGetRunners);
        }
        let unknown = Route::parse(&Method::GET, "/tenant/1/_apis/runtime/nothing");
        assert_eq!(unknown, Route::Unknown);
    }
}
