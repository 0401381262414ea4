//! The original's command line, read the way its flag library reads it.
//!
//! Flags may stand anywhere before `--`; of a flag given twice the last counts; names are not
//! abbreviated; other words are ignored, except that a first word `completion` is a command. An
//! error anywhere in the flags comes before `--help`, and `--help` before `--version`.

use secrecy::SecretString;

/// The file that is read without `--config`.
pub const USUAL_FILE: &str = "/etc/outrunner/config.yml";

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// Run.
    Run(Options),
    /// Print [`help`] on standard output, exit 0.
    Help,
    /// Print [`version_line`] on standard output, exit 0.
    Version,
    /// Print a completion script on standard output, exit 0.
    Completion(Shell),
    /// Print [`completion_help`] on standard output, exit 0; that of one shell, if one is named.
    CompletionHelp(Option<Shell>),
}

/// The flags of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--config`.
    pub config: String,
    /// `--url`; empty is absent.
    pub url: String,
    /// `--token`; empty is absent.
    pub token: SecretString,
    /// `--max-runners`, as given.
    pub max_runners: i64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            config: USUAL_FILE.to_owned(),
            url: String::new(),
            token: SecretString::default(),
            max_runners: 2,
        }
    }
}

impl Options {
    /// The limit, if GitHub's protocol can carry it.
    ///
    /// # Errors
    /// The text to print after `Error: `.
    pub fn max_runners(&self) -> Result<u32, String> {
        let fits = u32::try_from(self.max_runners).ok();
        fits.filter(|limit| *limit <= i32::MAX.unsigned_abs()).ok_or_else(|| {
            format!("--max-runners must be between 0 and {}, not {}", i32::MAX, self.max_runners)
        })
    }
}

/// A shell that completion scripts exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
    /// PowerShell
    PowerShell,
}

impl Shell {
    fn from_word(word: &str) -> Option<Shell> {
        match word {
            "bash" => Some(Shell::Bash),
            "zsh" => Some(Shell::Zsh),
            "fish" => Some(Shell::Fish),
            "powershell" => Some(Shell::PowerShell),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
            Shell::PowerShell => "powershell",
        }
    }
}

/// A command line that cannot be understood: print `Error: <text>` on standard error, exit 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Reads the words after the program's name.
///
/// # Errors
/// [`UsageError`] with the flag library's text.
pub fn parse(words: &[String]) -> Result<Invocation, UsageError> {
    if let Some(at) =
        first_word(words).filter(|at| words.get(*at).is_some_and(|w| w == "completion"))
    {
        return completion(words, at);
    }
    let mut flags = Flags { options: Options::default(), help: false, version: false };
    read(words, ROOT, &mut |name, value| flags.set(name, value))?;
    Ok(if flags.help {
        Invocation::Help
    } else if flags.version {
        Invocation::Version
    } else {
        Invocation::Run(flags.options)
    })
}

/// `outrunner version <version>`
#[must_use]
pub fn version_line(version: &str) -> String {
    format!("outrunner version {version}")
}

/// What `--help` prints.
#[must_use]
pub fn help() -> &'static str {
    "\
Runs GitHub Actions jobs on this machine, each in an environment of its own (fleetfoot under the name outrunner)

Usage:
  outrunner [flags]

Flags:
      --config string     path of the configuration file (default \"/etc/outrunner/config.yml\")
  -h, --help              help for outrunner
      --max-runners int   limit for runners that set none (default 2)
      --token string      personal access token (better: GITHUB_TOKEN, a systemd credential, or token_file)
      --url string        repository or organization URL
  -v, --version           version for outrunner
"
}

/// What `completion` without a shell prints, and with `--help`.
#[must_use]
pub fn completion_help(shell: Option<Shell>) -> String {
    let Some(shell) = shell.map(Shell::word) else {
        return "\
Generate the autocompletion script for outrunner for the specified shell.
See each sub-command's help for details on how to use the generated script.

Usage:
  outrunner completion [command]

Available Commands:
  bash        Generate the autocompletion script for bash
  fish        Generate the autocompletion script for fish
  powershell  Generate the autocompletion script for powershell
  zsh         Generate the autocompletion script for zsh

Flags:
  -h, --help   help for completion

Use \"outrunner completion [command] --help\" for more information about a command.
"
        .to_owned();
    };
    // Of the four, bash alone shows no flags in its line of usage.
    let flags = if shell == "bash" { "" } else { " [flags]" };
    format!(
        "\
Generate the autocompletion script for {}.

Usage:
  outrunner completion {shell}{flags}

Flags:
  -h, --help              help for {shell}
      --no-descriptions   disable completion descriptions
",
        if shell == "powershell" { shell.to_owned() } else { format!("the {shell} shell") }
    )
}

/// A flag: long name, shorthand, and whether it stands without a value.
type Declared = (&'static str, Option<char>, bool);

const ROOT: &[Declared] = &[
    ("config", None, false),
    ("help", Some('h'), true),
    ("max-runners", None, false),
    ("token", None, false),
    ("url", None, false),
    ("version", Some('v'), true),
];

const COMPLETION: &[Declared] = &[("help", Some('h'), true), ("no-descriptions", None, true)];

struct Flags {
    options: Options,
    help: bool,
    version: bool,
}

impl Flags {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "config" => self.options.config = value.to_owned(),
            "url" => self.options.url = value.to_owned(),
            "token" => self.options.token = SecretString::from(value.to_owned()),
            "max-runners" => self.options.max_runners = go_int(value)?,
            "help" => self.help = go_bool(value)?,
            _ => self.version = go_bool(value)?,
        }
        Ok(())
    }
}

fn completion(words: &[String], at: usize) -> Result<Invocation, UsageError> {
    let mut rest: Vec<String> = words.to_vec();
    rest.remove(at);
    let shell_at = first_word(&rest);
    let shell = shell_at.and_then(|at| rest.get(at)).and_then(|word| Shell::from_word(word));
    if let (Some(at), Some(_)) = (shell_at, shell) {
        rest.remove(at);
    }
    let mut help = false;
    read(&rest, COMPLETION, &mut |name, value| {
        let value = go_bool(value)?;
        help |= name == "help" && value;
        Ok(())
    })?;
    Ok(match shell {
        Some(shell) if !help => Invocation::Completion(shell),
        Some(_) | None => Invocation::CompletionHelp(shell),
    })
}

/// Where the first word that is no flag and no flag's value stands. No flag that goes without a value is known yet when
/// this is asked (help and version come later), so the word behind any flag counts as its value.
fn first_word(words: &[String]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if word == "--" {
            return None;
        }
        let has_value = !word.contains('=')
            && (word.starts_with("--") || word.len() == 2 && word.starts_with('-'));
        if has_value {
            // The last word is not looked at any more behind a flag.
            if words.len() <= at + 2 {
                return None;
            }
            at += 1;
        } else if !word.starts_with('-') && !word.is_empty() {
            return Some(at);
        }
        at += 1;
    }
    None
}

type Set<'a> = &'a mut dyn FnMut(&str, &str) -> Result<(), String>;

fn read(words: &[String], declared: &[Declared], set: Set<'_>) -> Result<(), UsageError> {
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            return Ok(());
        }
        if let Some(long) = word.strip_prefix("--") {
            read_long(word, long, &mut rest, declared, set)?;
        } else if word.len() > 1
            && let Some(short) = word.strip_prefix('-')
        {
            read_short(short, declared, set)?;
        }
    }
    Ok(())
}

fn read_long(
    word: &str,
    long: &str,
    rest: &mut std::slice::Iter<'_, String>,
    declared: &[Declared],
    set: Set<'_>,
) -> Result<(), UsageError> {
    if long.starts_with(['-', '=']) {
        return Err(UsageError(format!("bad flag syntax: {word}")));
    }
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    let Some((name, short, alone)) = declared.iter().find(|flag| flag.0 == name) else {
        return Err(UsageError(format!("unknown flag: --{name}")));
    };
    let value = match value {
        Some(value) => value,
        None if *alone => "true",
        None => match rest.next() {
            Some(value) => value,
            None => return Err(UsageError(format!("flag needs an argument: --{name}"))),
        },
    };
    apply(name, *short, value, set)
}

/// All shorthands are switches, so they may stand together: `-hv`, `-v=false`.
fn read_short(short: &str, declared: &[Declared], set: Set<'_>) -> Result<(), UsageError> {
    let mut rest = short;
    while let Some(letter) = rest.chars().next() {
        let Some((name, short, _)) = declared.iter().find(|flag| flag.1 == Some(letter)) else {
            let shown = format!("unknown shorthand flag: {} in -{rest}", go_quote(letter));
            return Err(UsageError(shown));
        };
        let tail = rest.get(letter.len_utf8()..).unwrap_or("");
        match tail.strip_prefix('=') {
            Some(value) if !value.is_empty() => return apply(name, *short, value, set),
            Some(_) | None => apply(name, *short, "true", set)?,
        }
        rest = tail;
    }
    Ok(())
}

fn apply(name: &str, short: Option<char>, value: &str, set: Set<'_>) -> Result<(), UsageError> {
    set(name, value).map_err(|reason| {
        let flag = short.map_or_else(|| format!("--{name}"), |s| format!("-{s}, --{name}"));
        UsageError(format!("invalid argument {value:?} for \"{flag}\" flag: {reason}"))
    })
}

/// As Go quotes the first byte of what it does not know.
fn go_quote(letter: char) -> String {
    let mut bytes = [0; 4];
    let first = letter.encode_utf8(&mut bytes).as_bytes().first().copied().unwrap_or_default();
    match first {
        0..0x20 if !matches!(first, b'\t' | b'\n' | b'\r') => format!("'\\x{first:02x}'"),
        _ => format!("{:?}", char::from(first)),
    }
}

/// An int of Go in base 0: `0x10`, `010`, `0o10`, `0b1`, underscores between digits.
fn go_int(text: &str) -> Result<i64, String> {
    let failed = |why: &str| format!("strconv.ParseInt: parsing {text:?}: {why}");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0b", 2), ("0o", 8)];
    let prefixed = prefixes.iter().find_map(|(p, radix)| Some((lower.strip_prefix(p)?, *radix)));
    let (digits, radix, had_prefix) = match prefixed {
        Some((digits, radix)) => (digits, radix, true),
        None if lower.len() > 1 && lower.starts_with('0') => {
            (lower.get(1..).unwrap_or(""), 8, true)
        }
        None => (lower.as_str(), 10, false),
    };
    let underscores_fit = !digits.ends_with('_')
        && !digits.contains("__")
        && (had_prefix || !digits.starts_with('_'));
    let plain = digits.replace('_', "");
    if plain.is_empty() || !underscores_fit || !plain.chars().all(|c| c.is_digit(radix)) {
        return Err(failed("invalid syntax"));
    }
    let value = i128::from_str_radix(&plain, radix).map_err(|_| failed("value out of range"))?;
    let value = if negative { -value } else { value };
    i64::try_from(value).map_err(|_| failed("value out of range"))
}

fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

#[cfg(test)]
mod tests;
