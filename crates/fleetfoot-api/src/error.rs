//! What an answer that is not a success says.

use serde::{Deserialize, Serialize};

/// What went wrong, as a word that programs can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is malformed.
    BadRequest,
    /// No token, or a wrong one.
    Unauthorized,
    /// This way in does not serve that request (a takeover over TCP).
    Forbidden,
    /// No such pool, instance, job or path.
    NotFound,
    /// The subject names several things.
    Ambiguous,
    /// The instance runs a job, and the request did not insist.
    Busy,
    /// The state of the thing does not allow it.
    Conflict,
    /// The daemon is starting or stopping, or something it depends on does not answer.
    Unavailable,
    /// A mistake of the daemon; its log says more.
    Internal,
    /// A code of a newer daemon.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// Every code a daemon of this version sends.
    pub const ALL: [Self; 9] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Ambiguous,
        Self::Busy,
        Self::Conflict,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The HTTP status it travels with.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Ambiguous | Self::Busy | Self::Conflict => 409,
            Self::Unavailable => 503,
            Self::Internal | Self::Unknown => 500,
        }
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// For programs.
    pub code: ErrorCode,
    /// One line for people.
    pub message: String,
    /// What to do about it, where there is something to do.
    #[serde(default)]
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_word_and_a_status() {
        for code in ErrorCode::ALL {
            let word = serde_json::to_string(&code).unwrap();
            assert_eq!(serde_json::from_str::<ErrorCode>(&word).unwrap(), code, "{word}");
            assert!((400..600).contains(&code.http_status()), "{word}");
        }
    }

    #[test]
    fn a_code_of_a_newer_daemon_is_read() {
        let body: ErrorBody =
            serde_json::from_str(r#"{"error":{"code":"moon_phase","message":"no"}}"#).unwrap();
        assert_eq!(body.error.code, ErrorCode::Unknown);
        assert_eq!(body.error.hint, None);
    }
}
