//! What `fleetfoot check` asks GitHub about a connection.

use std::time::SystemTime;

use crate::admin::is_clock_off;
use crate::config_url::Scope;
use crate::connection::Connection;
use crate::error::{ErrorKind, Result};
use crate::http::Answer;

/// What a look at GitHub found. That there is one means: it can be reached, the credential is
/// accepted and may register runners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// Address of the scale set service.
    pub service: String,
    /// When the token ends, if GitHub says so.
    pub token_expires_at: Option<SystemTime>,
    /// A permission that is missing for something less than registering: listing runners.
    pub missing_permission: Option<String>,
    /// Seconds by which this machine's clock is ahead of GitHub's.
    pub clock_ahead_seconds: Option<i64>,
    /// Whether that is so much that App tokens would be refused.
    pub is_clock_off: bool,
}

impl Connection {
    /// Looks whether everything is there that running pools needs: one token exchange and one
    /// listing. What makes running impossible is an error.
    pub async fn check(&self) -> Result<CheckReport> {
        const OPERATION: &str = "check the connection";
        let service = self.admin().reach(OPERATION).await?;
        let (path, permission) = self.probe();
        let answer = self.admin().rest(OPERATION, &path).await?;
        let missing = matches!(answer.status, 403 | 404) && answer.rate_limit("").is_none();
        let clock_ahead_seconds = self.clock_skew();
        Ok(CheckReport {
            service,
            token_expires_at: expiration(&answer),
            missing_permission: missing.then_some(permission),
            clock_ahead_seconds,
            is_clock_off: clock_ahead_seconds.is_some_and(is_clock_off),
        })
    }

    fn probe(&self) -> (String, String) {
        let scope: &Scope = self.url().scope();
        let path = format!("{}/actions/runners?per_page=1", scope.rest_path());
        (path, scope.permission().to_owned())
    }
}

impl ErrorKind {
    /// Whether the reason lies here, in the configuration or this machine, rather than at GitHub
    /// or on the way.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized
                | Self::Forbidden { .. }
                | Self::Credentials
                | Self::Settings
                | Self::Clock { .. }
                | Self::Certificate
        )
    }
}

/// `github-authentication-token-expiration: 2026-12-31 23:59:59 UTC`, or with an offset.
fn expiration(answer: &Answer) -> Option<SystemTime> {
    let text = answer.header("github-authentication-token-expiration")?;
    let (local, zone) = (text.get(..19)?, text.get(19..)?.trim());
    let local: jiff::civil::DateTime = local.parse().ok()?;
    let offset = match zone {
        "" | "UTC" | "Z" => jiff::tz::Offset::UTC,
        _ => {
            let (hours, minutes) = (zone.get(..3)?, zone.get(3..)?.trim_start_matches(':'));
            let hours: i32 = hours.parse().ok()?;
            let minutes: i32 = minutes.parse().ok()?;
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            jiff::tz::Offset::from_seconds(hours * 3600 + sign * minutes * 60).ok()?
        }
    };
    Some(offset.to_timestamp(local).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_githubs_expiration_header() {
        let seconds = |text: &str| {
            let name = "github-authentication-token-expiration".parse().unwrap();
            let headers = [(name, text.parse().unwrap())].into_iter().collect();
            let answer = Answer { status: 200, headers, body: Vec::new() };
            let end = expiration(&answer)?;
            Some(end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(seconds("2026-01-01 00:00:00 UTC"), Some(1_767_225_600));
        assert_eq!(seconds("2026-01-01 02:00:00 +0200"), Some(1_767_225_600));
        assert_eq!(seconds("2025-12-31 18:30:00 -05:30"), Some(1_767_225_600));
        assert_eq!(seconds("soon"), None);
    }
}
