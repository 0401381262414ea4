//! The shapes that travel: GitHub's JSON, tolerant of what may be missing, null or new.

use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{ErrorKind, GithubError, Result};
use crate::http::Answer;

/// `{"count": n, "value": [...]}`.
#[derive(Debug, Deserialize)]
pub(crate) struct List<T> {
    #[serde(default = "Vec::new")]
    pub(crate) value: Vec<T>,
}

/// What the service, or GitHub's REST API, says when it refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Exception {
    #[serde(rename = "typeName", deserialize_with = "null_as_default")]
    pub(crate) type_name: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) message: String,
}

impl Exception {
    /// Reads a body that may be JSON, plain text, a proxy's HTML page or nothing.
    pub(crate) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(body).trim().to_owned();
            let is_page = text.starts_with('<');
            Self { type_name: String::new(), message: if is_page { String::new() } else { text } }
        })
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Token {
    pub(crate) token: SecretString,
    #[serde(default)]
    pub(crate) expires_at: Option<jiff::Timestamp>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RegistrationBody<'a> {
    pub(crate) url: &'a str,
    pub(crate) runner_event: &'a str,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AdminConnection {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) token: SecretString,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Group {
    pub(crate) id: i64,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) is_default_group: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LabelBody {
    #[serde(rename = "type", default, deserialize_with = "null_as_default")]
    pub(crate) kind: String,
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaleSetBody {
    pub(crate) id: i64,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) runner_group_id: i64,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) runner_group_name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) labels: Vec<LabelBody>,
}

/// What else is in a scale set: its counts.
#[derive(Debug, Deserialize)]
pub(crate) struct CountedSet {
    #[serde(default)]
    pub(crate) statistics: Option<crate::news::StatisticsBody>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewScaleSet<'a> {
    pub(crate) name: &'a str,
    pub(crate) runner_group_id: i64,
    pub(crate) labels: Vec<LabelBody>,
    /// Capital R, as the service has it.
    #[serde(rename = "RunnerSetting")]
    pub(crate) runner_setting: RunnerSetting,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunnerSetting {
    pub(crate) disable_update: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewJit<'a> {
    pub(crate) name: &'a str,
    pub(crate) work_folder: &'a str,
}

#[derive(Debug, Deserialize)]
pub(crate) struct JitBody {
    pub(crate) runner: Option<RunnerBody>,
    #[serde(rename = "encodedJITConfig", default)]
    pub(crate) config: SecretString,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunnerBody {
    pub(crate) id: i64,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) runner_scale_set_id: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RestRunners {
    pub(crate) total_count: usize,
    pub(crate) runners: Vec<RestRunner>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RestRunner {
    pub(crate) id: i64,
    pub(crate) name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) status: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) busy: bool,
}

/// One archive of the runner, as the downloads endpoint lists it.
#[derive(Debug, Deserialize)]
pub(crate) struct RestDownload {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) architecture: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) download_url: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) filename: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) sha256_checksum: String,
    #[serde(default)]
    pub(crate) temp_download_token: Option<SecretString>,
}

/// The notes of a release of `actions/runner`.
#[derive(Debug, Deserialize)]
pub(crate) struct RestRelease {
    #[serde(default)]
    pub(crate) published_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) body: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) assets: Vec<RestAsset>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RestAsset {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) browser_download_url: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RestGroups {
    #[serde(default)]
    pub(crate) runner_groups: Vec<RestGroup>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RestGroup {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) allows_public_repositories: Option<bool>,
}

/// Reads the JSON of a successful answer.
pub(crate) fn read<T: DeserializeOwned>(operation: &'static str, answer: &Answer) -> Result<T> {
    serde_json::from_slice(&answer.body).map_err(|source| {
        let detail = if answer.body.is_empty() { "it is empty" } else { "" };
        GithubError::with_source(operation, ErrorKind::Unusable, detail, source)
    })
}

/// Writes a body. Our own shapes always serialize.
pub(crate) fn write<T: Serialize>(operation: &'static str, body: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(body)
        .map_err(|source| GithubError::with_source(operation, ErrorKind::Settings, "", source))
}

pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_missing_fields_do_not_break_a_scale_set() {
        let set: ScaleSetBody = serde_json::from_str(
            r#"{"id":7,"name":"a","runnerGroupName":null,"labels":[{"name":"x","type":null}],"new":1}"#,
        )
        .unwrap();
        assert_eq!((set.id, set.labels[0].name.as_str()), (7, "x"));
    }

    #[test]
    fn a_refusal_is_read_whatever_it_is() {
        assert_eq!(Exception::read(br#"{"typeName":"A","message":"b"}"#).type_name, "A");
        assert_eq!(Exception::read(b"plain words\n").message, "plain words");
        assert_eq!(Exception::read(b"<html>proxy</html>").message, "");
        assert_eq!(Exception::read(b"").message, "");
    }
}
