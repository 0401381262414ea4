//! Keys at the top of the file.

use super::{Kind, RUNNER, Section, key, required};

/// The whole file.
pub(crate) static TOP: Section = Section {
    name: "file",
    doc: "A fleetfoot configuration file. A file of the program outrunner is one, unchanged.",
    keys: &[
        key(
            "url",
            Kind::Text,
            "",
            "Repository, organization or enterprise that runners register at, for every runner without a `url` of its own, such as https://github.com/my-org.",
        ),
        key(
            "token_file",
            Kind::Text,
            "",
            "Path of a file that holds a personal access token, relative to the working directory. The flag --token, the variable GITHUB_TOKEN and the systemd credential github-token come first.",
        ),
        required(
            "runners",
            Kind::Named(&RUNNER),
            "The pools of runners: name to settings. The name is the scale set's name at GitHub and the beginning of every instance's name; letters, digits, `_`, `.` and `-`, at most 55 of them.",
        ),
        key(
            "state_dir",
            Kind::Text,
            "$STATE_DIRECTORY, /var/lib/fleetfoot if writable, else $XDG_STATE_HOME/fleetfoot",
            "Directory for the store, the lock, the control socket and process instances.",
        ),
        key(
            "store_url_file",
            Kind::Text,
            "SQLite in `state_dir`",
            "Path of a file that holds the address of a database which several controllers share: postgres://user:password@host/name, or mysql:// for MySQL and MariaDB. The variable FLEETFOOT_STORE_URL and the systemd credential store-url come first.",
        ),
        key(
            "takeover",
            Kind::Bool,
            "false; true under the name outrunner",
            "Whether containers that the original program outrunner left behind are taken up: ended ones removed, busy ones kept until their job is done.",
        ),
        key(
            "listen",
            Kind::Text,
            "not served",
            "Address for /healthz, /readyz and /metrics: `9100` or `127.0.0.1:9100` for this machine alone. Any other address also needs `listen_token_file` and `listen_insecure: true`.",
        ),
        key(
            "listen_token_file",
            Kind::Text,
            "",
            "Path of a file that holds the bearer token which callers of `listen` must send.",
        ),
        key(
            "listen_insecure",
            Kind::Bool,
            "false",
            "Permit `listen` on an address other than loopback although it is not encrypted; put a TLS proxy in front.",
        ),
        key(
            "runner_releases",
            Kind::Table(&RELEASES),
            "",
            "Releases of GitHub's runner that are kept on this host, for backends with `runner_release`.",
        ),
        key("history", Kind::Table(&HISTORY), "", "How much of the past is kept."),
        key("host", Kind::Table(&HOST), "", "Limits of this machine over all pools."),
        key(
            "github",
            Kind::Table(&GITHUB),
            "",
            "How to reach GitHub and who we are there, for every runner without a `github` of its own.",
        ),
        key(
            "myshoes",
            Kind::Table(&MYSHOES),
            "",
            "Targets of the program myshoes beside the pools: its REST API, its plugins, its database.",
        ),
        key("log", Kind::Table(&LOG), "", "What fleetfoot writes to standard error."),
    ],
};

/// `myshoes`.
pub(crate) static MYSHOES: Section = Section {
    name: "myshoes",
    doc: "Targets of the program myshoes beside the pools, by that program's variables.",
    keys: &[
        key(
            "env_file",
            Kind::Text,
            "",
            "Path of an environment file of the original, with lines NAME=value; secrets belong there.",
        ),
        key(
            "variables",
            Kind::TextMap,
            "",
            "Variables of the original. They come before those of `env_file`, and these before those of the process; plugins get them all. Secrets may not stand here.",
        ),
    ],
};

/// `runner_releases`.
pub(crate) static RELEASES: Section = Section {
    name: "runner_releases",
    doc: "Releases of GitHub's runner that are kept unpacked on this host.",
    keys: &[
        key(
            "dir",
            Kind::Text,
            "runners in `state_dir`",
            "Directory of the releases, each named by its version. A container engine must see it under the same path.",
        ),
        key(
            "check_interval",
            Kind::Duration,
            "6h",
            "How often GitHub is asked for a newer release; 0 asks only while a pool has none at all.",
        ),
    ],
};

/// `history`.
pub(crate) static HISTORY: Section = Section {
    name: "history",
    doc: "How much of the past is kept; what is beyond any of these goes, oldest first.",
    keys: &[
        key(
            "days",
            Kind::Int,
            "30",
            "Days that events, ended instances and finished jobs are kept.",
        ),
        key("events_max", Kind::Int, "100000", "Most events; a job makes about ten."),
        key("jobs_max", Kind::Int, "20000", "Most finished jobs, and most ended instances."),
    ],
};

/// `host`.
pub(crate) static HOST: Section = Section {
    name: "host",
    doc: "Limits of this machine over all pools.",
    keys: &[
        key("max_instances", Kind::Int, "unlimited", "Most instances at once over all pools."),
        key(
            "cpus",
            Kind::Cpus,
            "unlimited",
            "Processors that instances may be given in all; counts the `cpus` of each backend.",
        ),
        key(
            "memory",
            Kind::Size,
            "unlimited",
            "Memory that instances may be given in all; counts the `memory` of each backend.",
        ),
        key(
            "min_free_disk",
            Kind::DiskShare,
            "5%",
            "Nothing is created while less than this is free on the disk of `state_dir`; a size or a percentage, 0 to switch it off.",
        ),
    ],
};

/// `github`, at the top and in a runner.
pub(crate) static GITHUB: Section = Section {
    name: "github",
    doc: "How to reach GitHub and who we are there.",
    keys: &[
        key("app", Kind::Table(&APP), "", "A GitHub App as the credential, instead of a token."),
        key(
            "api_url",
            Kind::Text,
            "derived from `url`",
            "Base of the REST API where it cannot be derived, such as https://ghes.example/api/v3.",
        ),
        key(
            "ca_file",
            Kind::Text,
            "",
            "PEM file of certificate authorities to trust besides the system's.",
        ),
        key(
            "proxy",
            Kind::Text,
            "the variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY",
            "HTTP proxy for calls to GitHub, such as http://proxy.example:3128. Without a password; put one into the variable HTTPS_PROXY.",
        ),
    ],
};

/// `github.app`.
pub(crate) static APP: Section = Section {
    name: "app",
    doc: "A GitHub App: one of `id` and `client_id`, the installation, and its private key.",
    keys: &[
        key("id", Kind::Int, "", "The App's number. Give this or `client_id`."),
        key(
            "client_id",
            Kind::Text,
            "",
            "The App's client id, such as Iv23liAbCdEf. Give this or `id`.",
        ),
        required(
            "installation_id",
            Kind::Int,
            "The number of the App's installation in the organization or account.",
        ),
        key(
            "private_key_file",
            Kind::Text,
            "the systemd credential github-app-key",
            "Path of the App's private key in PEM form.",
        ),
    ],
};

/// `log`.
pub(crate) static LOG: Section = Section {
    name: "log",
    doc: "What fleetfoot writes to standard error.",
    keys: &[
        key("format", Kind::Choice(&["text", "json"]), "text", "Form of a line."),
        key(
            "level",
            Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
            "info",
            "The least important line that is written.",
        ),
    ],
};
