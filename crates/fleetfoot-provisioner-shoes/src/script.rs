//! The script that makes a machine a runner.
//!
//! Clouds limit what a machine is given at its start (16 KiB at one of them), and plugins pass it on as user data
//! or run it as a file: so the main script travels packed in a few lines that begin with `#!`.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

const ENVELOPE: &str = include_str!("script/envelope.sh");
const JIT: &str = include_str!("script/jit.sh");

/// Where the runner's releases are.
pub const DOWNLOADS: &str = "https://github.com/actions/runner/releases/download";

/// What a machine is told, besides its credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptSettings {
    /// The release of the runner, `v2.330.0`.
    pub version: String,
    /// SHA-256 of its archives, `linux-x64 <hex>` a line; nothing is compared for a platform that is not named.
    pub checksums: String,
    /// The user that runs the runner.
    pub user: String,
    /// The directory in which it is unpacked.
    pub base_directory: String,
    /// Where archives are downloaded: `<downloads>/<version>/<archive>`.
    pub downloads: String,
}

/// The script for a runner that has a JIT config, in its envelope.
#[must_use]
pub fn jit(settings: &ScriptSettings, jit_config: &str) -> String {
    let main = filled(
        JIT,
        &[
            ("JIT_CONFIG", jit_config),
            ("RUNNER_VERSION", &settings.version),
            ("RUNNER_USER", &settings.user),
            ("RUNNER_BASE_DIRECTORY", &settings.base_directory),
            ("RUNNER_DOWNLOADS", &settings.downloads),
            ("RUNNER_CHECKSUMS", &settings.checksums),
        ],
    );
    enveloped(&main, &settings.base_directory)
}

/// Packs a main script.
fn enveloped(main: &str, base_directory: &str) -> String {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail; a script that were cut would not unpack.
    let packed = packed.write_all(main.as_bytes()).and_then(|()| packed.finish());
    let packed = STANDARD.encode(packed.unwrap_or_default());
    let path = format!("{base_directory}/main.sh");
    filled(ENVELOPE, &[("COMPRESSED_SCRIPT", &packed), ("MAIN_SCRIPT_PATH", &path)])
}

/// Each `@NAME@` replaced by its value as one word of the shell.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("=@") {
        let Some((name, after)) = after.split_once('@') else { break };
        let value = values.iter().find(|it| it.0 == name).map(|it| it.1).unwrap_or_default();
        text.push_str(before);
        text.push('=');
        text.push_str(&quoted(value));
        rest = after;
    }
    text.push_str(rest);
    text
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::Command;

    use flate2::read::GzDecoder;

    use super::*;

    fn settings() -> ScriptSettings {
        ScriptSettings {
            version: "v2.330.0".to_owned(),
            checksums: "linux-x64 abc".to_owned(),
            user: "runner".to_owned(),
            base_directory: "/tmp".to_owned(),
            downloads: DOWNLOADS.to_owned(),
        }
    }

    fn unpacked(script: &str) -> String {
        let line = script.lines().find(|it| it.starts_with("export COMPRESSED_SCRIPT=")).unwrap();
        let packed = line.split_once('\'').unwrap().1.trim_end_matches('\'');
        let mut main = String::new();
        let packed = STANDARD.decode(packed).unwrap();
        GzDecoder::new(packed.as_slice()).read_to_string(&mut main).unwrap();
        main
    }

    #[test]
    fn it_begins_as_plugins_expect_and_fits_into_user_data() {
        // As long as real ones are, and as hard to pack.
        let config: String = (0..6000).map(|_| fastrand::alphanumeric()).collect();
        let script = jit(&settings(), &config);
        assert!(unpacked(&script).contains(&format!("\nJIT_CONFIG='{config}'\n")));
        assert!(script.starts_with("#!/bin/bash\n"));
        assert!(script.contains("\nexport MAIN_SCRIPT_PATH='/tmp/main.sh'\n"));
        assert!(script.len() < 16 * 1024, "{}", script.len());
    }

    #[test]
    fn it_has_what_it_needs_and_nothing_of_the_other_way() {
        let main = unpacked(&jit(&settings(), "blob"));
        for needed in [
            "\nJIT_CONFIG='blob'\n",
            "\nRUNNER_VERSION='v2.330.0'\n",
            "\nRUNNER_USER='runner'\n",
            "\nRUNNER_BASE_DIRECTORY='/tmp'\n",
            "--jitconfig",
        ] {
            assert!(main.contains(needed), "{needed}");
        }
        for other in ["config.sh", "RUNNER_TOKEN", "RunnerService.js", "--ephemeral", "--once"] {
            assert!(!main.contains(other), "{other}");
        }
    }

    #[test]
    fn values_stay_values() {
        let odd = ScriptSettings { user: "a'; touch /tmp/x; '@X@$(id)".to_owned(), ..settings() };
        let main = unpacked(&jit(&odd, "blob"));
        let line = main.lines().find(|it| it.starts_with("RUNNER_USER=")).unwrap();
        let print = format!("{line}; printf %s \"$RUNNER_USER\"");
        let shown = Command::new("bash").args(["-c", &print]).output().unwrap();
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), odd.user);
    }
}
