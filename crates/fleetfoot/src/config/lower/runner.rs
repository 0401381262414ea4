//! Lowering of runners.

use std::path::Path;
use std::time::Duration;

use super::super::Flavor;
use super::super::findings::{Class, Position};
use super::super::keys;
use super::super::schema::BACKENDS;
use super::super::shape::{Placed, Table, Value};
use super::super::suggest::nearest;
use super::super::types::{GithubSettings, InstanceProxy, RunnerConfig, Timeouts};
use super::{Lowering, join};

/// A runner is named `<pool>-<8 hex digits>`, and GitHub allows 64 characters.
const NAME_MAX: usize = 64 - 9;

/// An environment that nobody wanted for so long is made anew: what is in it gets old.
const WARM_TTL: Duration = Duration::from_secs(60 * 60);

impl Lowering<'_> {
    pub(super) fn no_runners(&mut self, path: &Path, position: Option<Position>) {
        let message =
            format!("no runners configured (uncomment the runners section in {})", path.display());
        self.findings.error(Class::NoRunners, "runners", position, message);
    }

    pub(super) fn runners(
        &mut self,
        path: &Path,
        file: &Table,
        github: &GithubSettings,
    ) -> Vec<RunnerConfig> {
        let mut named: Vec<&(Placed<String>, Option<Table>)> =
            file.named("runners").iter().collect();
        if named.is_empty() && !self.reported("runners") {
            self.no_runners(path, file.key_position("runners"));
        }
        named.sort_by(|left, right| left.0.value.cmp(&right.0.value));
        let mut out = Vec::new();
        for (name, table) in named {
            self.name(name);
            let path = join("runners", &name.value);
            let empty = Table::empty(name.position);
            let table = table.as_ref().unwrap_or(&empty);
            out.extend(self.runner(name, table, &path, github));
        }
        out
    }

    fn name(&mut self, name: &Placed<String>) {
        let text = &name.value;
        let path = join("runners", text);
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if !first || !text.chars().all(rest) {
            let message = format!("the name `{}` cannot be used", text.escape_debug());
            self.findings
                .error(Class::Value, path, Some(name.position), message)
                .suggest("use letters, digits, `_`, `.` and `-`, and begin with a letter or digit");
        } else if text.len() > NAME_MAX {
            let message = format!("the name `{text}` is longer than {NAME_MAX} characters");
            self.findings
                .error(Class::Value, path, Some(name.position), message)
                .suggest("GitHub allows 64 characters for a runner, and we add 9");
        }
    }

    fn runner(
        &mut self,
        name: &Placed<String>,
        table: &Table,
        path: &str,
        github: &GithubSettings,
    ) -> Option<RunnerConfig> {
        let labels = self.labels(name, table, path);
        let own = self.github(table.table("github"), &join(path, "github"));
        let own_app = own.app.is_some();
        let written = self.count(table, path, "max_runners", 0).unwrap_or(0);
        let max_runners = if written == 0 { self.options.default_max_runners } else { written };
        let backend = self.backend(name, table, path);
        let runner = RunnerConfig {
            name: name.value.clone(),
            position: name.position,
            url: self.url(table, path),
            token_file: table.path("token_file"),
            github: GithubSettings {
                app: own.app.or_else(|| github.app.clone()),
                api_url: own.api_url.or_else(|| github.api_url.clone()),
                ca_file: own.ca_file.or_else(|| github.ca_file.clone()),
                proxy: own.proxy.or_else(|| github.proxy.clone()),
            },
            own_app,
            labels,
            max_runners,
            runner_group: table.owned("runner_group"),
            min_idle: self.count(table, path, "min_idle", 0).unwrap_or(0),
            warm: self.count(table, path, "warm", 0).unwrap_or(0),
            warm_ttl: table.duration("warm_ttl").unwrap_or(WARM_TTL),
            timeouts: self.timeouts(table, path),
            max_job_duration: table.duration("max_job_duration").filter(|d| !d.is_zero()),
            remains_max: self.count(table, path, "remains_max", 1).unwrap_or(10),
            proxy: proxy(table),
            ca_file: table.path("ca_file"),
            backend: backend?,
        };
        self.together(&runner, table, path);
        Some(runner)
    }

    /// What no single key of a runner can say.
    fn together(&mut self, runner: &RunnerConfig, table: &Table, path: &str) {
        if runner.min_idle > runner.max_runners {
            let message = format!(
                "`min_idle` {} is more than the {} that `max_runners` allows",
                runner.min_idle, runner.max_runners
            );
            self.unusable(table, path, "min_idle", message);
        }
        if runner.warm > runner.max_runners {
            let message = format!(
                "`warm` {} is more than the {} that `max_runners` allows",
                runner.warm, runner.max_runners
            );
            self.unusable(table, path, "warm", message);
        }
        if runner.warm > 0 && !runner.backend.binds_late() {
            let message = "`warm` needs a backend that makes an environment first and launches its runner later: docker, libvirt, tart or process (not libvirt with `jit: seed`)";
            self.unusable(table, path, "warm", message.to_owned());
        }
        if runner.warm_ttl < Duration::from_secs(60) {
            let message = "`warm_ttl` must be at least 1m".to_owned();
            self.unusable(table, path, "warm_ttl", message);
        }
        if runner.own_app && runner.token_file.is_some() {
            let message = "both `github.app` and `token_file` are given; the App is used";
            let position = table.key_position("token_file");
            self.findings
                .warning(Class::Conflict, join(path, "token_file"), position, message)
                .suggest("remove one of the two");
        }
        if let Some(limit) = runner.max_job_duration
            && limit < Duration::from_secs(60)
        {
            let message = "jobs are ended after less than a minute";
            let position = table.position_of("max_job_duration");
            self.findings
                .warning(Class::Value, join(path, "max_job_duration"), position, message)
                .suggest("write a unit: 6h, 90m");
        }
    }

    fn labels(&mut self, name: &Placed<String>, table: &Table, path: &str) -> Vec<String> {
        let path = join(path, "labels");
        let written = table.list("labels");
        if written.is_empty() && !self.reported(&path) {
            let message = format!("runner \"{}\": labels are required", name.value);
            let position = table.key_position("labels").unwrap_or(name.position);
            self.findings
                .error(Class::Labels, path.as_str(), Some(position), message)
                .suggest("add for example `labels: [self-hosted, linux]`");
        }
        let mut labels: Vec<String> = Vec::new();
        for label in written {
            let position = Some(label.position);
            let text = &label.value;
            if text.trim().is_empty() {
                self.findings.error(
                    Class::Value,
                    path.as_str(),
                    position,
                    "a label must not be empty",
                );
            } else if text.contains(',') || text.trim() != text {
                let message = format!("the label `{text}` can never be asked for");
                self.findings
                    .warning(Class::Value, path.as_str(), position, message)
                    .suggest("write one list entry per label, without blanks around it");
                labels.push(text.clone());
            } else if labels.iter().any(|known| known.eq_ignore_ascii_case(text)) {
                let message = format!("the label `{text}` is given twice");
                self.findings.warning(Class::Conflict, path.as_str(), position, message);
            } else {
                labels.push(text.clone());
            }
        }
        labels
    }

    fn timeouts(&mut self, table: &Table, path: &str) -> Timeouts {
        let defaults = Timeouts::default();
        let mut positive = |key: &str, default: Duration| {
            let value = table.duration(key).unwrap_or(default);
            if value.is_zero() {
                self.unusable(table, path, key, format!("`{key}` must be more than 0"));
            }
            value
        };
        Timeouts {
            start: positive("start_timeout", defaults.start),
            create: positive("create_timeout", defaults.create),
            boot: positive("boot_timeout", defaults.boot),
            stop: positive("stop_timeout", defaults.stop),
            idle: table.duration("idle_timeout").unwrap_or(defaults.idle),
        }
    }

    /// Finds the one backend of a runner; under the original's name the first of several wins.
    pub(super) fn chosen<'t>(
        &mut self,
        name: &Placed<String>,
        table: &'t Table,
        path: &str,
    ) -> Option<(&'static str, &'t Table)> {
        let found: Vec<(&'static str, &Table)> = BACKENDS
            .iter()
            .filter_map(|kind| table.table(kind).map(|inner| (*kind, inner)))
            .collect();
        let written = BACKENDS.iter().any(|kind| self.reported(&join(path, kind)));
        match found.as_slice() {
            [] if written => None,
            [] => {
                let message =
                    format!("runner \"{}\": must specify docker, libvirt, or tart", name.value);
                self.findings.error(Class::Backend, path, Some(name.position), message);
                let hint = table
                    .key_positions
                    .keys()
                    .find(|key| BACKENDS.contains(key))
                    .map(|key| format!("`{key}` is there but empty"))
                    .or_else(|| self.misspelt_backend(path))
                    .unwrap_or_else(|| "`process` is the fourth choice".to_owned());
                self.findings.suggest(hint);
                None
            }
            [one] => Some(*one),
            [first, second, ..] => {
                let position = table.key_position(second.0);
                let kinds: Vec<&str> = found.iter().map(|(kind, _)| *kind).collect();
                let message = format!("several backends are given: {}", kinds.join(", "));
                match self.options.flavor {
                    Flavor::Native => {
                        self.findings.error(Class::Conflict, path, position, message);
                        self.findings.suggest("keep exactly one");
                    }
                    Flavor::Outrunner => {
                        self.findings.warning(Class::Conflict, path, position, message);
                        self.findings.suggest(format!("`{}` is used; remove the others", first.0));
                    }
                }
                Some(*first)
            }
        }
    }

    /// Whether an unknown key of this runner looks like a backend.
    fn misspelt_backend(&self, path: &str) -> Option<String> {
        self.findings.list.iter().find_map(|finding| {
            let key = finding.path.strip_prefix(path)?.strip_prefix('.')?;
            let near = nearest(key, BACKENDS)?;
            (finding.class == Class::UnknownKey && keys::RUNNER.key(key).is_none())
                .then(|| format!("did you mean `{near}` where `{key}` stands?"))
        })
    }
}

fn proxy(table: &Table) -> Option<InstanceProxy> {
    match table.value("proxy") {
        Some(Value::Bool(true)) => Some(InstanceProxy::Ours),
        Some(Value::Table(inner)) => Some(InstanceProxy::Explicit {
            http: inner.owned("http"),
            https: inner.owned("https"),
            no_proxy: inner.owned("no_proxy"),
        }),
        _ => None,
    }
}
