//! Bodies as clients send and get them.
//!
//! Read as Go reads JSON: names of fields in any case, of a repeated field the last, unknown ones ignored, `null`
//! as if absent, and nothing behind the first value. Written as Go writes it.

use std::fmt::{self, Write as _};

use fleetfoot_core::{ResourceType, Timestamp};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::names;
use crate::target::{Mode, Target};

/// What a client says of a target. What it may not say is looked at and left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetBody {
    /// `scope`; empty if it is absent.
    pub scope: String,
    /// `resource_type`; unknown if it is absent.
    pub resource_type: ResourceType,
    /// `provider_url`; `None` if it is absent or null.
    pub provider_url: Option<String>,
    /// `mode`, a field of ours.
    pub mode: Said<Mode>,
    /// `max_runners`, a field of ours.
    pub max_runners: Said<u32>,
}

/// What a field of ours says, which clients of the original do not send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Said<T> {
    /// It is absent or null: as before.
    #[default]
    Nothing,
    /// It is the empty text: as for all.
    AsForAll,
    /// It is this.
    This(T),
}

impl<T: Copy> Said<T> {
    /// What holds now, after what held before.
    #[must_use]
    pub fn after(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Nothing => before,
            Self::AsForAll => None,
            Self::This(value) => Some(value),
        }
    }
}

/// The body cannot be read: its answer is 400 `json decode error`, whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("json decode error")]
pub struct DecodeError;

/// Reads the body of a creation or an update.
///
/// # Errors
///
/// If it is no JSON, or a field has another type than it has in the original.
pub fn target(body: &[u8]) -> Result<TargetBody, DecodeError> {
    let mut read = TargetBody::default();
    for (name, value) in fields(body)? {
        match name.to_ascii_lowercase().as_str() {
            "scope" => take(&value, |it| read.scope = it.to_owned())?,
            "resource_type" => take(&value, |it| read.resource_type = of_word(it))?,
            "provider_url" => {
                read.provider_url = None;
                take(&value, |it| read.provider_url = Some(it.to_owned()))?;
            }
            "id" => check(&value, |it| names::uuid(it).is_some())?,
            "github_token" | "ghe_domain" | "runner_user" | "status" => take(&value, |_| ())?,
            "created_at" | "updated_at" | "token_expired_at" => check(&value, is_rfc3339)?,
            "status_description" => description(&value)?,
            "mode" => read.mode = said(&value, |it| Mode::of(it.as_str()?))?,
            "max_runners" => {
                read.max_runners = said(&value, |it| u32::try_from(it.as_u64()?).ok())?;
            }
            _ => {}
        }
    }
    Ok(read)
}

fn said<T>(value: &Value, read: impl FnOnce(&Value) -> Option<T>) -> Result<Said<T>, DecodeError> {
    if value.is_null() {
        return Ok(Said::Nothing);
    }
    if value.as_str() == Some("") {
        return Ok(Said::AsForAll);
    }
    read(value).map(Said::This).ok_or(DecodeError)
}

fn of_word(word: &str) -> ResourceType {
    word.parse().unwrap_or_default()
}

/// Reads `{"debug":bool}` or `{"strict":bool}`: a field that is missing is false.
///
/// # Errors
///
/// If it is no JSON, or the field is no truth value.
pub fn switch(body: &[u8], field: &str) -> Result<bool, DecodeError> {
    let mut on = false;
    for (name, value) in fields(body)? {
        if name.eq_ignore_ascii_case(field) && !value.is_null() {
            on = value.as_bool().ok_or(DecodeError)?;
        }
    }
    Ok(on)
}

/// Takes a text; null is as if absent.
fn take(value: &Value, take: impl FnOnce(&str)) -> Result<(), DecodeError> {
    if !value.is_null() {
        take(value.as_str().ok_or(DecodeError)?);
    }
    Ok(())
}

fn check(value: &Value, is_good: impl FnOnce(&str) -> bool) -> Result<(), DecodeError> {
    let is_good = value.is_null() || value.as_str().is_some_and(is_good);
    is_good.then_some(()).ok_or(DecodeError)
}

/// A text as we show it, or the object that the published client sends.
fn description(value: &Value) -> Result<(), DecodeError> {
    let Some(object) = value.as_object() else { return take(value, |_| ()) };
    let is_good = object.iter().all(|(name, value)| {
        value.is_null()
            || match name.to_ascii_lowercase().as_str() {
                "string" => value.is_string(),
                "valid" => value.is_boolean(),
                _ => true,
            }
    });
    is_good.then_some(()).ok_or(DecodeError)
}

/// `2006-01-02T15:04:05Z` with an optional fraction, and an offset in place of the letter.
fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u32> {
        let digits = bytes.get(from..to)?;
        digits.iter().all(u8::is_ascii_digit).then_some(())?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    let is_at = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    let shape = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !shape.into_iter().all(|(at, byte)| is_at(at, byte)) {
        return false;
    }
    let parts = [(0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19)];
    let [Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)] =
        parts.map(|(from, to)| number(from, to))
    else {
        return false;
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return false,
    };
    let Some(rest) = text.get(19..) else { return false };
    let zone = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|it: char| it.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
    };
    let is_moment = (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60;
    is_moment && (zone == "Z" || is_offset(zone))
}

fn is_offset(zone: &str) -> bool {
    let [b'+' | b'-', hour @ .., b':', tens, ones] = zone.as_bytes() else { return false };
    let number = |digits: &[u8]| -> Option<u32> {
        digits.iter().all(u8::is_ascii_digit).then_some(())?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    let (hours, minutes) = (number(hour), number(&[*tens, *ones]));
    hour.len() == 2 && hours.is_some_and(|it| it < 24) && minutes.is_some_and(|it| it < 60)
}

/// The fields of the first value, in order, repeated ones as often as they come. `null` has none.
fn fields(body: &[u8]) -> Result<Vec<(String, Value)>, DecodeError> {
    // Go takes broken text for text with a mark in it.
    let body = String::from_utf8_lossy(body);
    // Its decoder stops behind the word, whatever comes there.
    if body.trim_start_matches([' ', '\t', '\r', '\n']).starts_with("null") {
        return Ok(Vec::new());
    }
    let mut values = serde_json::Deserializer::from_str(&body).into_iter::<Fields>();
    match values.next() {
        Some(Ok(Fields(fields))) => Ok(fields),
        Some(Err(_)) | None => Err(DecodeError),
    }
}

struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Fields, E> {
        Ok(Fields(Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let is_known = KNOWN.iter().any(|it| name.eq_ignore_ascii_case(it));
            if is_known && fields.len() < FIELDS_MAX {
                fields.push((name, map.next_value()?));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Fields(fields))
    }
}

/// Fields that are read. Of all others only the form counts: their numbers may be too large and their depth is theirs.
const KNOWN: [&str; 16] = [
    "scope",
    "resource_type",
    "provider_url",
    "id",
    "github_token",
    "ghe_domain",
    "runner_user",
    "status",
    "status_description",
    "created_at",
    "updated_at",
    "token_expired_at",
    "mode",
    "max_runners",
    "debug",
    "strict",
];

/// Nobody has a reason to send more.
const FIELDS_MAX: usize = 1000;

/// A target as clients get it, with the newline that ends each answer.
#[must_use]
pub fn of_target(target: &Target) -> String {
    let mut text = String::new();
    write_target(&mut text, target);
    text.push('\n');
    text
}

/// Several, in the order given.
#[must_use]
pub fn of_targets(targets: &[Target]) -> String {
    let mut text = String::from("[");
    for (at, target) in targets.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        write_target(&mut text, target);
    }
    text.push_str("]\n");
    text
}

/// An error as clients get it.
#[must_use]
pub fn of_error(words: &str) -> String {
    format!("{{\"error\":{}}}\n", quoted(words))
}

fn write_target(text: &mut String, target: &Target) {
    // Writing to a text does not fail.
    let _ = write!(
        text,
        "{{\"id\":\"{}\",\"scope\":{},\"token_expired_at\":\"{}\",\"resource_type\":\"{}\",\
         \"provider_url\":{},\"status\":{},\"status_description\":{},\"created_at\":\"{}\",\
         \"updated_at\":\"{}\"",
        target.id,
        quoted(&target.scope),
        moment(target.token_expired_at),
        target.resource_type,
        quoted(target.provider_url.as_deref().unwrap_or_default()),
        quoted(target.status.word()),
        quoted(target.status_description.as_deref().unwrap_or_default()),
        moment(target.created_at),
        moment(target.updated_at),
    );
    // Only of a target of which somebody said them: others look as they always did.
    if let Some(mode) = target.mode {
        let _ = write!(text, ",\"mode\":\"{}\"", mode.word());
    }
    if let Some(limit) = target.max_runners {
        let _ = write!(text, ",\"max_runners\":{limit}");
    }
    text.push('}');
}

/// In UTC, by the second.
fn moment(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.0.div_euclid(1000)).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A text in JSON that may stand in a page: what could begin a tag is written as a number.
fn quoted(text: &str) -> String {
    let plain = Value::from(text).to_string();
    let mut safe = String::with_capacity(plain.len());
    for it in plain.chars() {
        match it {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(safe, "\\u{:04x}", u32::from(it));
            }
            _ => safe.push(it),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Status;
    use crate::target::tests::target as example;

    fn read(body: &str) -> Result<TargetBody, DecodeError> {
        target(body.as_bytes())
    }

    #[test]
    fn the_published_clients_whole_structure_is_taken() {
        let body = r#"{"id":"00000000-0000-0000-0000-000000000000","scope":"acme/repo","github_token":"",
            "token_expired_at":"0001-01-01T00:00:00Z","ghe_domain":null,"resource_type":"nano","runner_user":null,
            "provider_url":null,"status":"","status_description":{"String":"","Valid":false},
            "created_at":"0001-01-01T00:00:00Z","updated_at":"0001-01-01T00:00:00Z"}"#;
        let read = read(body).unwrap();
        assert_eq!((read.scope.as_str(), read.resource_type), ("acme/repo", ResourceType::Nano));
        assert_eq!(read.provider_url, None);
    }

    #[test]
    fn what_get_answers_may_be_posted_back() {
        let mut it = example("acme", Status::Active);
        it.provider_url = Some("https://a".to_owned());
        let read = read(&of_target(&it)).unwrap();
        assert_eq!(
            (read.scope.as_str(), read.provider_url.as_deref()),
            ("acme", Some("https://a"))
        );
    }

    #[test]
    fn json_is_read_as_go_reads_it() {
        let scope = |body: &str| read(body).map(|it| it.scope);
        for (body, expected) in [
            (r#"{"SCOPE":"a"}"#, "a"),
            (r#"{"scope":"a","Scope":"b"}"#, "b"),
            (r#"{"scope":"a","scope":null}"#, "a"),
            (r#"{"scope":"a"} and rubbish"#, "a"),
            (r#"  null  "#, ""),
            ("nullify", ""),
            (r#"{"unknown":[1,{}]}"#, ""),
            (r#"{"scope":null}"#, ""),
            (r#"{"unknown":1e999,"scope":"a"}"#, "a"),
        ] {
            assert_eq!(scope(body).as_deref(), Ok(expected), "{body}");
        }
        let deep =
            format!("{{\"unknown\":{}{},\"scope\":\"a\"}}", "[".repeat(900), "]".repeat(900));
        assert_eq!(scope(&deep).as_deref(), Ok("a"));
        for body in ["", "[]", "5", "\"a\"", "{", r#"{"scope":5}"#, r#"{"scope":"a"#, "{'scope':1}"]
        {
            assert_eq!(scope(body), Err(DecodeError), "{body}");
        }
        assert_eq!(read(r#"{"provider_url":"x","provider_url":null}"#).unwrap().provider_url, None);
        assert_eq!(read(r#"{"provider_url":""}"#).unwrap().provider_url.as_deref(), Some(""));
        assert_eq!(
            read(r#"{"resource_type":"huge"}"#).unwrap().resource_type,
            ResourceType::Unknown
        );
    }

    #[test]
    fn ignored_fields_have_their_types_all_the_same() {
        for good in [
            r#"{"id":"3D3AB4CD-98D8-4D2B-8A1C-0D2B44B2B0A1"}"#,
            r#"{"id":"3d3ab4cd98d84d2b8a1c0d2b44b2b0a1"}"#,
            r#"{"id":"{3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1}"}"#,
            r#"{"id":"urn:uuid:3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1"}"#,
            r#"{"created_at":"2024-02-29T23:59:59.123+09:00"}"#,
            r#"{"status_description":"said"}"#,
            r#"{"status_description":{"string":"x"}}"#,
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in [
            r#"{"resource_type":1}"#,
            r#"{"id":""}"#,
            r#"{"id":"x"}"#,
            r#"{"id":5}"#,
            r#"{"github_token":5}"#,
            r#"{"runner_user":{}}"#,
            r#"{"created_at":""}"#,
            r#"{"created_at":"2024-02-30T00:00:00Z"}"#,
            r#"{"created_at":"2024-02-20 00:00:00Z"}"#,
            r#"{"created_at":"2024-02-20T24:00:00Z"}"#,
            r#"{"created_at":"2024-02-20T00:00:00.Z"}"#,
            r#"{"created_at":"2024-02-20T00:00:00"}"#,
            r#"{"created_at":"2024-02-20T00:00:00+0900"}"#,
            r#"{"updated_at":5}"#,
            r#"{"status_description":5}"#,
            r#"{"status_description":{"Valid":"yes"}}"#,
        ] {
            assert_eq!(read(bad), Err(DecodeError), "{bad}");
        }
    }

    #[test]
    fn fields_of_ours_are_there_only_where_somebody_said_them() {
        let mut it = example("acme", Status::Active);
        assert!(of_target(&it).ends_with("\"updated_at\":\"2023-11-14T22:13:21Z\"}\n"));
        (it.mode, it.max_runners) = (Some(Mode::Webhook), Some(3));
        let text = of_target(&it);
        assert!(text.ends_with(",\"mode\":\"webhook\",\"max_runners\":3}\n"), "{text}");
        let back = read(&text).unwrap();
        let both = (Said::This(Mode::Webhook), Said::This(3));
        assert_eq!((back.mode, back.max_runners), both);
        let plain = read("{}").unwrap();
        assert_eq!((plain.mode, plain.max_runners), (Said::Nothing, Said::Nothing));
        let cleared = read(r#"{"mode":"","max_runners":""}"#).unwrap();
        assert_eq!((cleared.mode, cleared.max_runners), (Said::AsForAll, Said::AsForAll));
        for bad in [r#"{"mode":"push"}"#, r#"{"max_runners":-1}"#, r#"{"max_runners":"3"}"#] {
            assert_eq!(read(bad), Err(DecodeError), "{bad}");
        }
        assert_eq!(Said::Nothing.after(Some(3)), Some(3));
        assert_eq!((Said::AsForAll.after(Some(3)), Said::This(0).after(Some(3))), (None, Some(0)));
    }

    #[test]
    fn a_switch_that_is_missing_is_off() {
        for (body, on) in [
            (r#"{"strict":true}"#, Ok(true)),
            (r#"{"STRICT":true}"#, Ok(true)),
            ("{}", Ok(false)),
            ("null", Ok(false)),
            (r#"{"strict":null}"#, Ok(false)),
            (r#"{"strict":"true"}"#, Err(DecodeError)),
            ("nonsense", Err(DecodeError)),
        ] {
            assert_eq!(switch(body.as_bytes(), "strict"), on, "{body}");
        }
    }

    #[test]
    fn answers_have_their_fields_in_order_and_no_token() {
        let mut it = example("a<b>&c", Status::Error);
        it.status_description = Some("failed \"here\"".to_owned());
        let expected = "{\"id\":\"3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1\",\"scope\":\"a\\u003cb\\u003e\\u0026c\",\
            \"token_expired_at\":\"2023-11-14T22:13:20Z\",\"resource_type\":\"nano\",\"provider_url\":\"\",\
            \"status\":\"error\",\"status_description\":\"failed \\\"here\\\"\",\
            \"created_at\":\"2023-11-14T22:13:20Z\",\"updated_at\":\"2023-11-14T22:13:21Z\"}";
        assert_eq!(of_target(&it), format!("{expected}\n"));
        assert_eq!(of_targets(&[it.clone(), it]), format!("[{expected},{expected}]\n"));
        assert_eq!(of_targets(&[]), "[]\n");
        assert_eq!(of_error("a & b"), "{\"error\":\"a \\u0026 b\"}\n");
    }
}
