//! Keys of one runner.

use super::top::GITHUB;
use super::{DOCKER, Kind, LIBVIRT, PROCESS, SIMULATED, Section, TART, key, required};

/// `runners.<name>`.
pub(crate) static RUNNER: Section = Section {
    name: "runner",
    doc: "One pool of runners. Exactly one of docker, process, libvirt, tart and simulated.",
    keys: &[
        key(
            "url",
            Kind::Text,
            "the flag --url, then `url` at the top",
            "Repository, organization or enterprise that this pool registers at.",
        ),
        key(
            "token_file",
            Kind::Text,
            "",
            "Path of a file that holds a token for this pool; comes before every other token.",
        ),
        key(
            "github",
            Kind::Table(&GITHUB),
            "`github` at the top, key by key",
            "How this pool reaches GitHub and who it is there.",
        ),
        required(
            "labels",
            Kind::TextList,
            "Labels that jobs ask for with runs-on; upper and lower case count as equal.",
        ),
        key(
            "max_runners",
            Kind::Int,
            "2; 0 means the default too",
            "Most instances of this pool at once.",
        ),
        key("runner_group", Kind::Text, "Default", "Runner group at GitHub, by name."),
        key("min_idle", Kind::Int, "0", "Runners kept ready without a job."),
        key(
            "warm",
            Kind::Int,
            "0",
            "Environments kept made, without a credential and unknown to GitHub, beyond what jobs want.",
        ),
        key(
            "warm_ttl",
            Kind::Duration,
            "1h",
            "How long one of them may wait before it is replaced.",
        ),
        key(
            "idle_timeout",
            Kind::Duration,
            "5m",
            "How long a runner beyond `min_idle` may wait for a job before it is removed.",
        ),
        key(
            "start_timeout",
            Kind::Duration,
            "5m",
            "How long an instance may wait to be created, time spent waiting for a permit not counted.",
        ),
        key(
            "create_timeout",
            Kind::Duration,
            "10m",
            "How long creating an environment may take, image pull included.",
        ),
        key(
            "boot_timeout",
            Kind::Duration,
            "5m",
            "How long a runner may take from its launch until it is online at GitHub.",
        ),
        key(
            "stop_timeout",
            Kind::Duration,
            "2m",
            "How long one attempt to remove an environment may take; it is repeated until it succeeds.",
        ),
        key(
            "max_job_duration",
            Kind::Duration,
            "off",
            "A job that runs longer is ended. 0 is off. GitHub's own limit is 5 days.",
        ),
        key(
            "remains_max",
            Kind::Int,
            "10",
            "Ended environments that may wait to be removed; beyond it nothing is created.",
        ),
        key(
            "proxy",
            Kind::BoolOrTable(&PROXY),
            "false",
            "Pass a proxy into every instance: true for fleetfoot's own, or a mapping.",
        ),
        key(
            "ca_file",
            Kind::Text,
            "",
            "PEM file of certificate authorities to make known inside every instance.",
        ),
        key(
            "docker",
            Kind::Table(&DOCKER),
            "",
            "Run each job in a fresh container of Docker or Podman.",
        ),
        key(
            "process",
            Kind::Table(&PROCESS),
            "",
            "Run each job as a process in a clean directory.",
        ),
        key(
            "libvirt",
            Kind::Table(&LIBVIRT),
            "",
            "Run each job in a fresh virtual machine of libvirt.",
        ),
        key("tart", Kind::Table(&TART), "", "Run each job in a fresh virtual machine of Tart."),
        key(
            "simulated",
            Kind::Table(&SIMULATED),
            "",
            "Create nothing at all; for trials and measurements.",
        ),
    ],
};

/// `runners.<name>.proxy`.
pub(crate) static PROXY: Section = Section {
    name: "proxy",
    doc: "Proxy settings passed into instances as environment variables.",
    keys: &[
        key("http", Kind::Text, "", "Value of http_proxy and HTTP_PROXY."),
        key("https", Kind::Text, "", "Value of https_proxy and HTTPS_PROXY."),
        key("no_proxy", Kind::Text, "", "Value of no_proxy and NO_PROXY."),
    ],
};
