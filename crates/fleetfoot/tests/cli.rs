//! The command line: what parses, what help says, and how the real program ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fleetfoot::cli::{self, Command as Word, Parsed, definition};
use fleetfoot::exit::Exit;

#[expect(clippy::disallowed_methods, reason = "these tests run the real program")]
fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetfoot"));
    command.env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command
}

fn run(home: &Path, args: &[&str]) -> Output {
    program(home).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn words(line: &str) -> Vec<OsString> {
    std::iter::once("fleetfoot").chain(line.split_whitespace()).map(OsString::from).collect()
}

fn parsed(line: &str) -> Word {
    match cli::parse(words(line)).unwrap_or_else(|error| panic!("{line}: {error}")) {
        Parsed::Command(command) => *command,
        Parsed::Print(text) => panic!("{line}: {text}"),
    }
}

#[test]
fn every_word_parses() {
    for line in [
        "run",
        "run --takeover --config a.yml --state-dir /s --strict",
        "demo",
        "demo --docker --output json",
        "check --config a.yml --strict --offline",
        "schema",
        "status --output json --state-dir /s",
        "why octo/app#7 --config a.yml",
        "logs linux-00000001 -n 5",
        "drain linux --wait --timeout 60",
        "resume linux",
        "stop linux-00000001 --force",
        "store check --output json",
        "store backup /b/one.sqlite --force",
        "store restore /b/one.sqlite --state-dir /s",
        "sim serve",
        "simulate --seeds 10 --seed 7 --trace --faults crash,jit --hours 0.5 --output json",
        "bench --output json",
        "version --output json",
        "completions bash",
    ] {
        parsed(line);
    }
    let Word::Drain(drain) = parsed("drain linux --wait --timeout 60") else { panic!("no drain") };
    assert!(drain.wait && drain.pool == "linux");
    assert_eq!(drain.timeout.unwrap().as_secs(), 60);
    let Word::Stop(stop) = parsed("stop x") else { panic!("no stop") };
    assert!(!stop.force, "force is never a default");
}

#[test]
fn a_wrong_line_is_one_line_and_a_hint() {
    let table = [
        ("", "a command is missing", "fleetfoot demo"),
        ("stats", "unrecognized subcommand 'stats'", "'status'"),
        ("status --outptu json", "unexpected argument '--outptu' found", "'--output'"),
        ("status --output yaml", "invalid value 'yaml' for '--output <FORMAT>'", ""),
        (
            "why",
            "the following required arguments were not provided: <JOB|RUNNER|POOL>",
            "usage: fleetfoot why",
        ),
        (
            "drain linux --timeout 5",
            "the following required arguments were not provided: --wait",
            "",
        ),
        ("drain linux --wait --timeout soon", "invalid value 'soon'", ""),
        ("run extra", "unexpected argument 'extra' found", "usage: fleetfoot run"),
    ];
    for (line, message, hint) in table {
        let error = cli::parse(words(line)).unwrap_err();
        assert_eq!(error.exit, Exit::Usage, "{line}");
        assert!(error.to_string().contains(message), "{line}: {error}");
        assert!(error.hint().unwrap().contains(hint), "{line}: {:?}", error.hint());
        assert!(!error.to_string().contains('\n'), "{line}");
    }
}

/// Words whose arguments are their own files' business.
const ELSEWHERE: [&str; 3] = ["demo", "sim", "bench"];

#[test]
fn help_of_every_command() {
    let mut command = definition().term_width(100);
    command.build();
    let mut shown = command.render_help().to_string();
    for word in command.get_subcommands_mut() {
        if word.is_hide_set() || ELSEWHERE.contains(&word.get_name()) {
            continue;
        }
        let help = word.render_help();
        shown.push_str(&format!("\n--- {}\n{help}", word.get_name()));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots/cli__help_of_every_command.snap");
    if std::env::var_os("FLEETFOOT_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, kept, "changed on purpose? run with FLEETFOOT_UPDATE_SNAPSHOTS=1");
}

#[test]
fn every_argument_says_what_it_is() {
    fn walk(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} {}", argument.get_id());
        }
        command.get_subcommands().for_each(|word| walk(word, &path));
    }
    let mut command = definition();
    command.build();
    walk(&command, "");
    command.debug_assert();
}

#[test]
fn the_program_ends_as_its_codes_say() {
    let home = tempfile::tempdir().unwrap();
    let broken = home.path().join("broken.yml");
    std::fs::write(&broken, "runners: [\n").unwrap();
    let broken = broken.to_str().unwrap();
    let table: &[(&[&str], i32, &str)] = &[
        (&[], 64, "a command is missing"),
        (&["frobnicate"], 64, "unrecognized subcommand"),
        (
            &["status", "--state-dir", "/does/not/exist"],
            1,
            "no state of fleetfoot can be read in /does/not/exist",
        ),
        (&["why", "x", "--state-dir", "/does/not/exist"], 1, "no state of fleetfoot"),
        (&["drain", "x", "--state-dir", "/does/not/exist"], 1, "no state of fleetfoot"),
        (&["status", "--config", "missing.yml"], 78, "missing.yml"),
        (&["status", "--config", broken], 78, "broken.yml"),
        (&["run", "--config", "missing.yml"], 78, "missing.yml"),
    ];
    for (args, code, part) in table {
        let output = run(home.path(), args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}: stdout is data");
        assert!(said.contains(part), "{args:?}: {said}");
        let own = said.lines().filter(|line| line.starts_with("fleetfoot: ")).count();
        assert_eq!(own, 1, "{args:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
    }
}

#[test]
fn help_and_versions_are_data() {
    let home = tempfile::tempdir().unwrap();
    for args in [&["--help"][..], &["--version"], &["version"], &["status", "--help"], &["schema"]]
    {
        let output = run(home.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
    let version = run(home.path(), &["version", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&version.stdout).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(home.path(), &["completions", shell]);
        assert!(text(&script.stdout).contains("drain"), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let home = tempfile::tempdir().unwrap();
    let mut child = program(home.path())
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}
