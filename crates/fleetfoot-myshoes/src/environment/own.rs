//! Variables that the original does not have. Each one unset is the original's behaviour.

use std::path::PathBuf;

use super::Mistake;

/// What they say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// `MYSHOES_API_TOKEN_FILE`: requests must carry the token that stands in it.
    pub api_token_file: Option<PathBuf>,
    /// `MYSHOES_READ_ONLY`: targets and switches are only looked at.
    pub is_read_only: bool,
    /// `SCALESET_EXTRA_LABELS`: what jobs may ask for besides, with commas.
    pub extra_labels: Vec<String>,
    /// `PLUGIN_SHA256`: what the plugin must be.
    pub plugin_sha256: Option<String>,
    /// `PLUGIN_PROCESS_PER_CALL`: a new process of the plugin for each call.
    pub plugin_per_call: bool,
    /// `PLUGIN_AUTO_MTLS`: TLS between us and the plugin.
    pub plugin_auto_mtls: bool,
    /// `MYSHOES_STORE_TOKENS`: installation tokens are written into the original's table, as it does.
    pub stores_tokens: bool,
    /// `MYSHOES_METRICS_BY_RUNNER`: whether series have the ids of runners and runs; unsaid, they have under the
    /// original's name.
    pub by_runner: Option<bool>,
    /// `MYSHOES_HISTORY_DAYS`: the original's rows of runners that were deleted longer ago are removed.
    pub history_days: Option<u32>,
    /// `STANDBY_PORT`: where health is told while another one holds the lock.
    pub standby_port: Option<u16>,
    /// `RUNNER_DOWNLOAD_URL`: where machines get the runner, if not from github.com.
    pub runner_downloads: Option<String>,
}

/// Reads them.
///
/// # Errors
///
/// The first that cannot be used.
pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Own, Mistake> {
    let text = |variable: &str| get(variable).filter(|text| !text.is_empty());
    let is = |variable: &str| text(variable).is_some_and(|text| text == "true");
    let labels = text("SCALESET_EXTRA_LABELS").unwrap_or_default();
    let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty());
    Ok(Own {
        api_token_file: text("MYSHOES_API_TOKEN_FILE").map(PathBuf::from),
        is_read_only: is("MYSHOES_READ_ONLY"),
        extra_labels: labels.map(str::to_owned).collect(),
        plugin_sha256: text("PLUGIN_SHA256").map(sha256).transpose()?,
        plugin_per_call: is("PLUGIN_PROCESS_PER_CALL"),
        plugin_auto_mtls: is("PLUGIN_AUTO_MTLS"),
        stores_tokens: is("MYSHOES_STORE_TOKENS"),
        by_runner: text("MYSHOES_METRICS_BY_RUNNER").and_then(|text| text.parse().ok()),
        history_days: text("MYSHOES_HISTORY_DAYS").map(history_days).transpose()?,
        standby_port: text("STANDBY_PORT").map(standby_port).transpose()?,
        runner_downloads: text("RUNNER_DOWNLOAD_URL")
            .map(|url| url.trim_end_matches('/').to_owned()),
    })
}

fn sha256(text: String) -> Result<String, Mistake> {
    let is_sum = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_sum {
        return Ok(text.to_ascii_lowercase());
    }
    let message = "is no checksum: use the 64 hexadecimal digits of sha256sum".to_owned();
    Err(Mistake { variable: "PLUGIN_SHA256", message })
}

fn history_days(text: String) -> Result<u32, Mistake> {
    let days = text.parse().ok().filter(|days| (1..=36_500).contains(days));
    days.ok_or_else(|| Mistake {
        variable: "MYSHOES_HISTORY_DAYS",
        message: format!("`{text}` is no number of days: use 1 or more"),
    })
}

fn standby_port(text: String) -> Result<u16, Mistake> {
    text.parse().map_err(|_| Mistake {
        variable: "STANDBY_PORT",
        message: format!("`{text}` is no port: use 0 to 65535"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_all_is_as_the_original_has_it() {
        assert_eq!(read(|_| None), Ok(Own::default()));
        assert_eq!(read(|_| Some(String::new())), Ok(Own::default()));
    }

    #[test]
    fn each_is_read_and_a_mistake_names_its_variable() {
        let of = |name: &'static str, value: &'static str| {
            read(move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert_eq!(of("SCALESET_EXTRA_LABELS", " gpu ,,big").unwrap().extra_labels, ["gpu", "big"]);
        assert!(of("MYSHOES_READ_ONLY", "true").unwrap().is_read_only);
        assert!(!of("MYSHOES_READ_ONLY", "yes").unwrap().is_read_only);
        assert!(of("MYSHOES_STORE_TOKENS", "true").unwrap().stores_tokens);
        for (word, by_runner) in [("false", Some(false)), ("true", Some(true)), ("no", None)] {
            assert_eq!(of("MYSHOES_METRICS_BY_RUNNER", word).unwrap().by_runner, by_runner);
        }
        assert_eq!(of("MYSHOES_HISTORY_DAYS", "90").unwrap().history_days, Some(90));
        for wrong in ["0", "-1", "x", "99999999"] {
            let mistake = of("MYSHOES_HISTORY_DAYS", wrong).unwrap_err();
            assert_eq!(mistake.variable, "MYSHOES_HISTORY_DAYS", "{wrong}");
        }
        assert_eq!(of("STANDBY_PORT", "8081").unwrap().standby_port, Some(8081));
        assert_eq!(of("STANDBY_PORT", "x").unwrap_err().variable, "STANDBY_PORT");
        assert_eq!(of("PLUGIN_SHA256", "abc").unwrap_err().variable, "PLUGIN_SHA256");
        let url = of("RUNNER_DOWNLOAD_URL", "https://mirror/").unwrap().runner_downloads;
        assert_eq!(url.as_deref(), Some("https://mirror"));
    }
}
