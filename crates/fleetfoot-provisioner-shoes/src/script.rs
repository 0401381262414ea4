//! The script that makes a machine a runner.
//!
//! Clouds limit what a machine is given at its start (16 KiB at one of them), and plugins pass it on as user data
//! or run it as a file: so the main script travels packed in a few lines that begin with `#!`.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::write::GzEncoder;
use flate2::{Compression, Crc};

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

/// The script of machines with the same settings. All of it but the credential is packed once: that takes a third of a
/// millisecond of processor time, and jobs come by the hundred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    settings: ScriptSettings,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Script {
    /// Packs what does not depend on the runner.
    #[must_use]
    pub fn new(settings: ScriptSettings) -> Self {
        let values = [
            ("RUNNER_VERSION", &*settings.version),
            ("RUNNER_USER", &*settings.user),
            ("RUNNER_BASE_DIRECTORY", &*settings.base_directory),
            ("RUNNER_DOWNLOADS", &*settings.downloads),
            ("RUNNER_CHECKSUMS", &*settings.checksums),
        ];
        let (before, after) = JIT.split_once("@JIT_CONFIG@").unwrap_or((JIT, ""));
        let (before, after) = (packed(&filled(before, &values)), packed(&filled(after, &values)));
        Self { settings, before, after }
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &ScriptSettings {
        &self.settings
    }

    /// The script for a runner that has a JIT config, in its envelope.
    #[must_use]
    pub fn jit(&self, jit_config: &str) -> String {
        let config = stored(quoted(jit_config).as_bytes());
        let packed = STANDARD.encode([&*self.before, &*config, &*self.after].concat());
        let path = format!("{}/main.sh", self.settings.base_directory);
        filled(ENVELOPE, &[("COMPRESSED_SCRIPT", &packed), ("MAIN_SCRIPT_PATH", &path)])
    }
}

/// One member of a gzip file. Members in a row unpack to what is in them in a row (RFC 1952, 2.2).
fn packed(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail; a script that were cut would not unpack.
    packed.write_all(text.as_bytes()).and_then(|()| packed.finish()).unwrap_or_default()
}

/// A member that holds its content as it is, in blocks of the format's greatest length (RFC 1951, 3.2.4).
fn stored(content: &[u8]) -> Vec<u8> {
    // No name, no time, made on Unix.
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let mut blocks = content.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        member.push(u8::from(blocks.peek().is_none()));
        member.extend(length.to_le_bytes());
        member.extend((!length).to_le_bytes());
        member.extend(block);
    }
    let mut sum = Crc::new();
    sum.update(content);
    member.extend(sum.sum().to_le_bytes());
    member.extend(sum.amount().to_le_bytes());
    member
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

    use flate2::read::MultiGzDecoder;

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
        MultiGzDecoder::new(packed.as_slice()).read_to_string(&mut main).unwrap();
        main
    }

    #[test]
    fn it_begins_as_plugins_expect_and_fits_into_user_data() {
        // As long as real ones are, and as hard to pack.
        let config: String = (0..6000).map(|_| fastrand::alphanumeric()).collect();
        let script = Script::new(settings()).jit(&config);
        assert!(unpacked(&script).contains(&format!("\nJIT_CONFIG='{config}'\n")));
        assert!(script.starts_with("#!/bin/bash\n"));
        assert!(script.contains("\nexport MAIN_SCRIPT_PATH='/tmp/main.sh'\n"));
        assert!(script.len() < 16 * 1024, "{}", script.len());
    }

    /// Longer than a block, and with what the shell would take for its own.
    #[test]
    fn a_credential_of_any_length_comes_out_as_it_is() {
        for length in [0, 1, 65_533, 65_534, 200_000] {
            let config = "it's ".repeat(length / 5 + 1)[..length].to_owned();
            let main = unpacked(&Script::new(settings()).jit(&config));
            assert!(main.contains(&format!("\nJIT_CONFIG={}\n", quoted(&config))), "{length}");
        }
    }

    #[test]
    fn it_has_what_it_needs_and_nothing_of_the_other_way() {
        let main = unpacked(&Script::new(settings()).jit("blob"));
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
        let main = unpacked(&Script::new(odd.clone()).jit("blob"));
        let line = main.lines().find(|it| it.starts_with("RUNNER_USER=")).unwrap();
        let print = format!("{line}; printf %s \"$RUNNER_USER\"");
        let shown = Command::new("bash").args(["-c", &print]).output().unwrap();
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), odd.user);
    }
}
