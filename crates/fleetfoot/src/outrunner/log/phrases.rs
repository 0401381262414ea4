//! Which of the original's messages each of our phrases is.

/// One of our phrases.
#[derive(Debug)]
pub struct Phrase {
    /// The fixed phrase that fleetfoot logs.
    pub native: &'static str,
    /// What the original shows for it.
    pub shown: Shown,
}

/// What the original shows.
#[derive(Debug)]
pub enum Shown {
    /// Nothing: it has no such line, and ours would only repeat another one.
    Nothing,
    /// A line.
    Line(Line),
}

/// One of the original's lines.
#[derive(Debug)]
pub struct Line {
    /// `INFO`, `WARN` or `ERROR`.
    pub level: &'static str,
    /// The message that alert rules match.
    pub message: &'static str,
    /// The group before every key; empty for none.
    pub group: &'static str,
    /// Whether our `pool`, where it is known, comes first as `scaleSet`.
    pub scale_set: bool,
    /// Our field and the original's key, in its order; an absent one prints as `key=`.
    pub fields: &'static [(&'static str, &'static str)],
    /// When our field is `true`, this is added to the message.
    pub suffix_if: Option<(&'static str, &'static str)>,
}

/// The entry of a phrase.
#[must_use]
pub fn find(native: &str) -> Option<&'static Phrase> {
    PHRASES.iter().find(|phrase| phrase.native == native)
}

const fn line(
    native: &'static str,
    level: &'static str,
    message: &'static str,
    group: &'static str,
    fields: &'static [(&'static str, &'static str)],
) -> Phrase {
    Phrase {
        native,
        shown: Shown::Line(Line {
            level,
            message,
            group,
            scale_set: true,
            fields,
            suffix_if: None,
        }),
    }
}

/// A line of the program itself, before any worker.
const fn program(
    native: &'static str,
    message: &'static str,
    fields: &'static [(&'static str, &'static str)],
) -> Phrase {
    Phrase {
        native,
        shown: Shown::Line(Line {
            level: "INFO",
            message,
            group: "",
            scale_set: false,
            fields,
            suffix_if: None,
        }),
    }
}

const fn nothing(native: &'static str) -> Phrase {
    Phrase { native, shown: Shown::Nothing }
}

const NAME: &[(&str, &str)] = &[("instance", "name")];
const NAME_ERROR: &[(&str, &str)] = &[("instance", "name"), ("error", "error")];

const TART_END: &[(&str, &str)] =
    &[("instance", "name"), ("error", "error"), ("stderr", "stderr"), ("log", "log")];

/// All phrases that are not shown as they are.
pub static PHRASES: &[Phrase] = &[
    program("configuration loaded", "Loaded config", &[("runners", "runners")]),
    program("connection created", "Created scaleset client", &[("url", "url")]),
    line("looking for scale set", "INFO", "Looking for scale set", "", &[]),
    line("creating scale set", "INFO", "Creating scale set", "", &[]),
    line("updating scale set labels", "INFO", "Updating scale set labels", "", &[]),
    line("scale set ready", "INFO", "Scale set ready", "", &[("scale_set_id", "id")]),
    line("listening", "INFO", "Listening for jobs", "", &[("max_runners", "maxRunners")]),
    line(
        "runner registered",
        "INFO",
        "Spawning runner",
        "scaler",
        &[("instance", "name"), ("runner_id", "runnerID")],
    ),
    line(
        "job started",
        "INFO",
        "Job started",
        "scaler",
        &[("instance", "runnerName"), ("request_id", "requestId")],
    ),
    line(
        "job completed",
        "INFO",
        "Job completed",
        "scaler",
        &[("instance", "runnerName"), ("result", "result")],
    ),
    Phrase {
        native: "instance launched",
        shown: Shown::Line(Line {
            level: "INFO",
            message: "Runner provisioned",
            group: "scaler",
            scale_set: true,
            fields: NAME,
            suffix_if: Some(("job_assigned", " (job already assigned)")),
        }),
    },
    nothing("instance idle"),
    line("instance start failed", "ERROR", "Failed to start runner", "scaler", NAME_ERROR),
    line("instance stopping", "INFO", "Stopping runner", "scaler", NAME),
    line("deregistration failed", "WARN", "Failed to deregister runner", "scaler", NAME_ERROR),
    line("all instances left", "INFO", "All runners shut down", "scaler", &[]),
    line(
        "shutdown timed out",
        "WARN",
        "Shutdown timed out, some runners may not be fully cleaned up",
        "scaler",
        &[],
    ),
    line(
        "container started",
        "INFO",
        "Container started",
        "docker",
        &[("instance", "name"), ("image", "image"), ("container", "id")],
    ),
    line(
        "docker host detected",
        "INFO",
        "Auto-detected Docker host",
        "docker",
        &[("host", "host")],
    ),
    line(
        "runner started in machine",
        "INFO",
        "Runner started in VM",
        "libvirt",
        &[("instance", "name"), ("pid", "pid")],
    ),
    line(
        "cleaning up orphaned machine",
        "INFO",
        "Cleaning up orphaned VM",
        "libvirt",
        &[("instance", "name")],
    ),
    line(
        "cleaning up orphaned tart vm",
        "INFO",
        "Cleaning up orphaned VM",
        "tart",
        &[("instance", "name")],
    ),
    line("tart vm exited with error", "ERROR", "Tart vm exited with error", "tart", TART_END),
    line(
        "tart runner exited with error",
        "ERROR",
        "Tart runner exited with error",
        "tart",
        TART_END,
    ),
    line("failed to start tart vm", "ERROR", "Failed to start tart vm", "tart", NAME_ERROR),
    line("failed to start tart runner", "ERROR", "Failed to start tart runner", "tart", NAME_ERROR),
    line(
        "failed to create stderr log, running without capture",
        "WARN",
        "Failed to create stderr log, running without capture",
        "tart",
        NAME_ERROR,
    ),
    program("shut down cleanly", "Shut down cleanly", &[]),
];
