//! A file of the original program in fleetfoot's own words: the same pools, with what one may want to add and what
//! behaves otherwise, as comments.

use std::fmt::Write as _;
use std::path::Path;

use super::findings::{Class, Report};
use super::schema::BACKENDS;
use super::shape::{Placed, Table, Value};
use super::units::{DiskShare, show_duration};
use super::{Config, Findings, Flavor, LoadOptions, lower, read_table};

/// What is said of every file.
const HEAD: &str = "\
# Behaves otherwise than under outrunner:
#  - SIGTERM and SIGINT end no job: what runs goes on, and the next start takes it up. `fleetfoot drain POOL --wait`
#    empties a pool first.
#  - Idle runners that no job wants go after `idle_timeout` (5m); outrunner kept them for ever.
#  - Failed starts are spaced out, 5 s to 5 minutes; one scale set that GitHub refuses does not end the others.
#  - This file is read again when it changes, not only on SIGHUP.
#  - Log lines, exit codes and the default of --config are fleetfoot's own; called `outrunner` they are the original's.
";

/// What may be added at the top.
const TOP_HINTS: &str = "
# Worth adding:
# listen: 127.0.0.1:9100      # /healthz, /readyz and /metrics
# host:                       # limits of this machine over all pools
#   max_instances: 8
#   min_free_disk: 10%
";

/// What may be added to every runner.
const RUNNER_HINTS: [&str; 3] = [
    "# min_idle: 1              # runners that wait ready without a job",
    "# max_job_duration: 6h     # end jobs that run longer; outrunner had no such limit",
    "# github: { app: { id: 1, installation_id: 2, private_key_file: /path } }   # an App instead of a token",
];

/// Writes a file of the original anew. What it did by its name alone, such as the JIT config as an argument, is
/// written out where the runner's command may need it.
///
/// # Errors
/// The report, if the file has a mistake.
pub fn import_outrunner(bytes: &[u8], path: &Path) -> Result<String, Report> {
    let options = LoadOptions { flavor: Flavor::Outrunner, ..LoadOptions::default() };
    let mut findings = Findings::default();
    let (text, table) = read_table(bytes, false, &mut findings);
    let config = lower::lower(path, table.as_ref(), &options, &mut findings);
    let report = Report::new(path, text, findings.list);
    let (Some(file), Some(config)) = (table, config) else { return Err(report) };
    if !report.is_ok() {
        return Err(report);
    }
    let mut out = Writer::default();
    out.text(&format!(
        "# Made by `fleetfoot import outrunner {}`.\n#\n{HEAD}",
        path.display().to_string().escape_debug()
    ));
    leftovers(&mut out, &report);
    out.text("\n");
    top(&mut out, &file);
    out.text(TOP_HINTS);
    out.text("\nrunners:\n");
    runners(&mut out, &file, &config);
    Ok(out.text)
}

/// What of the file is not in the new one.
fn leftovers(out: &mut Writer, report: &Report) {
    let lost: Vec<String> = report
        .warnings()
        .filter(|finding| matches!(finding.class, Class::UnknownKey | Class::Conflict))
        .map(|finding| format!("#  - {}\n", finding.one_line(&report.file)))
        .collect();
    if !lost.is_empty() {
        out.text("#\n# Left out, as outrunner left it out:\n");
        lost.iter().for_each(|line| out.text(line));
    }
}

fn top(out: &mut Writer, file: &Table) {
    let (first, rest): (Vec<&str>, Vec<&str>) =
        file.entries.keys().copied().partition(|key| matches!(*key, "url" | "token_file"));
    for key in ["url", "token_file"].iter().filter(|key| first.contains(key)).chain(&rest) {
        if let Some(placed) = file.entries.get(key).filter(|_| *key != "runners") {
            out.entry(0, key, &placed.value);
        }
    }
    if !file.entries.contains_key("takeover") {
        out.text(
            "\n# What outrunner left running is taken up: busy ones kept, the rest removed.\n",
        );
        out.text("# Remove this after the first start.\ntakeover: true\n");
    }
}

fn runners(out: &mut Writer, file: &Table, config: &Config) {
    let Some(Value::Named(named)) = file.entries.get("runners").map(|placed| &placed.value) else {
        return;
    };
    for (name, table) in named {
        let (Some(table), Some(runner)) = (table, config.runner(&name.value)) else { continue };
        out.line(1, &format!("{}:", quoted(&name.value)));
        let kind = runner.backend.kind();
        for (key, placed) in &table.entries {
            if !BACKENDS.contains(key) && *key != "max_runners" {
                out.entry(2, key, &placed.value);
            }
        }
        out.line(2, &format!("max_runners: {}", runner.max_runners));
        let Some(Placed { value: Value::Table(backend), .. }) = table.entries.get(kind) else {
            continue;
        };
        out.line(2, &format!("{kind}:"));
        for (key, placed) in &backend.entries {
            out.entry(3, key, &placed.value);
        }
        credential(out, kind, backend);
        hints(out, kind);
        for hint in RUNNER_HINTS {
            out.line(2, hint);
        }
    }
}

/// How the JIT config goes in: the original's form stays where the command is not GitHub's own script.
fn credential(out: &mut Writer, kind: &str, backend: &Table) {
    if backend.entries.contains_key("jit") {
        return;
    }
    let command = match backend.entries.get("runner_cmd").map(|placed| &placed.value) {
        Some(Value::Text(command)) => command.as_str(),
        _ => "run.sh",
    };
    let script = command.rsplit(['/', '\\']).next().unwrap_or(command);
    let (word, hidden) = match kind {
        "docker" => ("env", "a variable"),
        "libvirt" => ("input", "standard input"),
        _ => ("stdin", "standard input"),
    };
    if matches!(script, "run.sh" | "run.cmd") {
        out.line(
            3,
            &format!("# The JIT config goes in as {hidden}; outrunner's form, which other"),
        );
        out.line(
            3,
            &format!("# users of the host can read, is `jit: argument` instead of {word}."),
        );
    } else {
        out.line(3, &format!("# As outrunner; `{word}` hides it from the process list, if"));
        out.line(3, &format!("# {} can take it as {hidden}.", quoted(command)));
        out.line(3, "jit: argument");
    }
}

fn hints(out: &mut Writer, kind: &str) {
    let lines: &[&str] = match kind {
        "docker" => &[
            "# cpus: 2                # limits per container; outrunner had none",
            "# memory: 4GiB",
            "# pids: 4096",
            "# pull: always           # outrunner pulled an image once and never again",
            "# runner_release: latest # for images without a runner",
        ],
        "libvirt" => &[
            "# type: auto             # kvm if it works here, else emulated",
            "# overlay_dir: /srv/overlays   # instead of /tmp; QEMU's user must reach it",
        ],
        _ => &[],
    };
    for line in lines {
        out.line(3, line);
    }
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn line(&mut self, depth: usize, line: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{:1$}{line}", "", depth * 2);
    }

    fn entry(&mut self, depth: usize, key: &str, value: &Value) {
        match value {
            Value::Table(table) => {
                self.line(depth, &format!("{key}:"));
                for (key, placed) in &table.entries {
                    self.entry(depth + 1, key, &placed.value);
                }
            }
            Value::Tables(tables) => {
                self.line(depth, &format!("{key}:"));
                for table in tables {
                    self.item(depth + 1, table);
                }
            }
            Value::TextMap(pairs) => {
                self.line(depth, &format!("{key}:"));
                for (name, value) in pairs {
                    let line = format!("{}: {}", quoted(&name.value), quoted(&value.value));
                    self.line(depth + 1, &line);
                }
            }
            Value::Text(_)
            | Value::Int(_)
            | Value::Bool(_)
            | Value::Duration(_)
            | Value::Size(_)
            | Value::DiskShare(_)
            | Value::Cpus(_)
            | Value::TextList(_)
            | Value::Named(_) => self.line(depth, &format!("{key}: {}", inline(value))),
        }
    }

    /// One mapping of a list, its first key behind the dash.
    fn item(&mut self, depth: usize, table: &Table) {
        let mut lead = "- ";
        for (key, placed) in &table.entries {
            self.line(depth, &format!("{lead}{key}: {}", inline(&placed.value)));
            lead = "  ";
        }
    }
}

/// A value on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Int(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Duration(duration) => show_duration(*duration),
        Value::Size(bytes) => bytes.to_string(),
        Value::DiskShare(DiskShare::Percent(percent)) => format!("{percent}%"),
        Value::DiskShare(DiskShare::Bytes(bytes)) => bytes.to_string(),
        Value::Cpus(cpus) => format!("{}m", cpus.millis),
        Value::TextList(list) => {
            let items: Vec<String> = list.iter().map(|item| quoted(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        // Not on one line, and never asked for here.
        Value::TextMap(_) | Value::Table(_) | Value::Tables(_) | Value::Named(_) => "{}".to_owned(),
    }
}

/// A text as YAML reads it back, whatever is in it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    let is_url = text.starts_with("https://") && text.chars().all(|c| plain(c) || c == ':');
    if is_url || (begins && !word && text.chars().all(plain)) {
        return text.to_owned();
    }
    // JSON's strings are YAML's, but for a few characters that it leaves as they are.
    serde_json::Value::String(text.to_owned()).to_string()
}
