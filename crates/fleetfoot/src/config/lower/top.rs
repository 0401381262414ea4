//! Lowering of what stands at the top of the file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::findings::Class;
use super::super::shape::Table;
use super::super::types::{
    AppSettings, GithubSettings, History, HostLimits, Listen, LogFormat, LogLevel, LogSettings,
    RunnerReleases,
};
use super::{Lowering, join};

impl Lowering<'_> {
    /// A `url` key. Only what could never work is refused; the rest is the github room's to judge.
    pub(super) fn url(&mut self, table: &Table, path: &str) -> Option<String> {
        let text = table.text("url")?;
        if let Ok(url) = url::Url::parse(text)
            && (!url.username().is_empty() || url.password().is_some())
        {
            self.unusable(table, path, "url", "a url must not carry a user or password");
            self.findings.suggest("put the token into a file and name it as `token_file`");
            return None;
        }
        Some(text.to_owned())
    }

    pub(super) fn listen(&mut self, file: &Table) -> Option<Listen> {
        let token_file = file.path("listen_token_file");
        let insecure = file.boolean("listen_insecure") == Some(true);
        let Some(text) = file.text("listen") else {
            for key in ["listen_token_file", "listen_insecure"] {
                if let Some(position) = file.key_position(key) {
                    let message = format!("`{key}` has no effect without `listen`");
                    self.findings.warning(Class::Conflict, key, Some(position), message);
                }
            }
            return None;
        };
        let Some(address) = listen_address(text) else {
            self.unusable(file, "", "listen", format!("`{text}` is not an address"));
            self.findings.suggest("write for example 9100, 127.0.0.1:9100 or [::1]:9100");
            return None;
        };
        if !address.ip().is_loopback() && !insecure {
            let message =
                format!("{address} can be reached from other machines and is not encrypted");
            self.unusable(file, "", "listen", message);
            self.findings
                .suggest("listen on 127.0.0.1 behind a TLS proxy, or set `listen_insecure: true`");
        }
        if !address.ip().is_loopback() && token_file.is_none() {
            let message = format!("{address} can be reached from other machines and needs a token");
            self.unusable(file, "", "listen", message);
            self.findings.suggest("set `listen_token_file`");
        }
        Some(Listen { address, token_file })
    }

    pub(super) fn host(&mut self, table: Option<&Table>) -> HostLimits {
        let Some(table) = table else {
            return HostLimits::default();
        };
        let defaults = HostLimits::default();
        HostLimits {
            max_instances: self.count(table, "host", "max_instances", 1),
            cpus: table.cpus("cpus"),
            memory: table.size("memory"),
            min_free_disk: table.disk_share("min_free_disk").unwrap_or(defaults.min_free_disk),
        }
    }

    pub(super) fn runner_releases(&mut self, table: Option<&Table>) -> RunnerReleases {
        let defaults = RunnerReleases::default();
        let Some(table) = table else { return defaults };
        RunnerReleases {
            dir: table.path("dir"),
            check_interval: table.duration("check_interval").unwrap_or(defaults.check_interval),
        }
    }

    pub(super) fn history(&mut self, table: Option<&Table>) -> History {
        let defaults = History::default();
        let Some(table) = table else { return defaults };
        let count = |this: &mut Self, key, min| this.count(table, "history", key, min);
        History {
            days: count(self, "days", 1).unwrap_or(defaults.days),
            events_max: count(self, "events_max", 1_000).unwrap_or(defaults.events_max),
            jobs_max: count(self, "jobs_max", 100).unwrap_or(defaults.jobs_max),
        }
    }

    pub(super) fn log(&mut self, table: Option<&Table>) -> LogSettings {
        let format = match table.and_then(|table| table.text("format")) {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Text,
        };
        let level = match table.and_then(|table| table.text("level")) {
            Some("error") => LogLevel::Error,
            Some("warn") => LogLevel::Warn,
            Some("debug") => LogLevel::Debug,
            Some("trace") => LogLevel::Trace,
            _ => LogLevel::Info,
        };
        LogSettings { format, level }
    }

    pub(super) fn github(&mut self, table: Option<&Table>, path: &str) -> GithubSettings {
        let Some(table) = table else {
            return GithubSettings::default();
        };
        for key in ["api_url", "proxy"] {
            self.http_url(table, path, key);
        }
        GithubSettings {
            app: table.table("app").and_then(|app| self.app(app, &join(path, "app"))),
            api_url: table.owned("api_url"),
            ca_file: table.path("ca_file"),
            proxy: table.owned("proxy"),
        }
    }

    fn http_url(&mut self, table: &Table, path: &str, key: &str) {
        let Some(text) = table.text(key) else {
            return;
        };
        match url::Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                self.unusable(
                    table,
                    path,
                    key,
                    format!("`{text}` is not an http or https address"),
                );
            }
            Ok(url) if url.password().is_some() => {
                self.unusable(table, path, key, "a password must not stand in this file");
                self.findings.suggest("put the whole address into the variable HTTPS_PROXY");
            }
            Ok(_) => {}
            Err(error) => {
                self.unusable(table, path, key, format!("`{text}` is not a URL: {error}"));
            }
        }
    }

    fn app(&mut self, table: &Table, path: &str) -> Option<AppSettings> {
        let id = self.positive(table, path, "id");
        let issuer = match (id, table.owned("client_id")) {
            (Some(_), Some(_)) => {
                let message = "both `id` and `client_id` are given";
                let position = table.key_position("client_id");
                self.findings
                    .error(Class::Conflict, path, position, message)
                    .suggest("keep one of the two");
                None
            }
            (Some(id), None) => Some(id.to_string()),
            (None, Some(client_id)) => Some(client_id),
            (None, None) => {
                if !self.reported(&join(path, "id")) {
                    let message = "an App needs `id` or `client_id`";
                    self.findings.error(Class::Value, path, Some(table.position), message);
                }
                None
            }
        };
        let installation = self.positive(table, path, "installation_id");
        let key = join(path, "installation_id");
        if installation.is_none() && !self.reported(&key) {
            let message = "`installation_id` is required";
            self.findings
                .error(Class::Value, key, Some(table.position), message)
                .suggest("it is the number at the end of the installation's settings page");
        }
        Some(AppSettings {
            issuer: issuer?,
            installation_id: installation?,
            private_key_file: table.path("private_key_file"),
        })
    }

    fn positive(&mut self, table: &Table, path: &str, key: &str) -> Option<u64> {
        let value = table.int(key)?;
        let positive = u64::try_from(value).ok().filter(|value| *value > 0);
        if positive.is_none() {
            self.unusable(table, path, key, format!("{value} is not a number that GitHub gives"));
        }
        positive
    }
}

/// `9100`, `:9100` (every address, as in Go), `localhost:9100`, `127.0.0.1:9100`, `[::1]:9100`.
fn listen_address(text: &str) -> Option<SocketAddr> {
    if let Ok(port) = text.parse::<u16>() {
        return Some((Ipv4Addr::LOCALHOST, port).into());
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let ip = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        "" | "*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        host => host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
            .parse()
            .ok()?,
    };
    Some((ip, port).into())
}
