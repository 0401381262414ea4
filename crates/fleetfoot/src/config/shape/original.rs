//! What the original's YAML library says of a value of a wrong type.

use super::super::scalar::{Meaning, untagged};
use super::super::tree::{Data, Node};

/// Longer values are cut to this many bytes, and then shown with three dots.
const SHOWN_MAX: usize = 10;
const SHOWN_CUT: usize = 7;

/// `cannot unmarshal !!str `abc` into int`; `due` is our word for what should stand there.
pub(super) fn cannot(node: &Node, due: &str, path: &[String]) -> String {
    format!("cannot unmarshal {} into {}", shown(node), of_type(due, path))
}

fn shown(node: &Node) -> String {
    let tag = |plain: &'static str| match node.tag.as_deref() {
        None | Some("!") => plain.to_owned(),
        Some(own) if own.starts_with('!') => own.to_owned(),
        Some(known) => format!("!!{known}"),
    };
    match &node.data {
        Data::Sequence(_) => tag("!!seq"),
        Data::Mapping(_) | Data::Loop => tag("!!map"),
        Data::Scalar { text, plain } => {
            let tag = tag(if *plain { of_plain(text) } else { "!!str" });
            if text.len() <= SHOWN_MAX {
                return format!("{tag} `{text}`");
            }
            let begin = String::from_utf8_lossy(text.as_bytes().get(..SHOWN_CUT).unwrap_or(&[]));
            format!("{tag} `{begin}...`")
        }
    }
}

/// The tag of plain text. A number too large for an integer counts as a fraction there, a date as a date.
fn of_plain(text: &str) -> &'static str {
    match untagged(text) {
        Meaning::Null => "!!null",
        Meaning::Bool(_) => "!!bool",
        Meaning::Int(_) | Meaning::Uint(_) => "!!int",
        Meaning::Float(_) => "!!float",
        Meaning::Text if is_date(text) => "!!timestamp",
        Meaning::Text => "!!str",
    }
}

/// `2001-01-01`, with or without a time behind it.
fn is_date(text: &str) -> bool {
    let form = |wanted: &str, text: &str| {
        text.len() == wanted.len()
            && text.bytes().zip(wanted.bytes()).all(|(is, wanted)| match wanted {
                b'0' => is.is_ascii_digit(),
                _ => is == wanted,
            })
    };
    let (day, time) = text.split_at_checked(10).unwrap_or((text, ""));
    form("0000-00-00", day) && (time.is_empty() || time.starts_with(['T', 't', ' ']))
}

/// The name that the value's type has there.
fn of_type(due: &str, path: &[String]) -> &'static str {
    let is_of = |backend: &str| path.iter().any(|step| step == backend);
    let last = path.iter().rev().find(|step| !step.starts_with('[')).map_or("", String::as_str);
    match (due, path.len(), last) {
        ("a whole number", ..) => "int",
        ("true or false", ..) => "bool",
        ("a list", _, "mounts") if is_of("tart") => "[]outrunner.TartMount",
        ("a list", _, "mounts") => "[]outrunner.DockerMount",
        ("a list", ..) => "[]string",
        ("a mapping", 0, _) => "outrunner.Config",
        ("a mapping", 1, _) => "map[string]outrunner.RunnerConfig",
        ("a mapping", 2, _) => "outrunner.RunnerConfig",
        ("a mapping", _, "docker") => "outrunner.DockerImage",
        ("a mapping", _, "libvirt") => "outrunner.LibvirtImage",
        ("a mapping", _, "tart") => "outrunner.TartImage",
        ("a mapping", _, "mount") => "outrunner.LibvirtMount",
        ("a mapping", _, "mounts") if is_of("tart") => "outrunner.TartMount",
        ("a mapping", _, "mounts") => "outrunner.DockerMount",
        _ => "string",
    }
}
