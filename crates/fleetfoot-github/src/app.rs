//! The signed statement with which a GitHub App asks for an installation token.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::clock::{CORRECTED_SECONDS_MAX, Clock};
use crate::error::{ErrorKind, GithubError, Result};

const OPERATION: &str = "sign for the GitHub App";
/// Back-dated against small differences of the clocks.
const ISSUED_BEFORE_SECONDS: i64 = 60;
/// GitHub accepts at most ten minutes.
const VALID_SECONDS: i64 = 9 * 60;

/// Signs for one App.
pub(crate) struct AppSigner {
    issuer: String,
    key: EncodingKey,
    clock: Arc<Clock>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iat: i64,
    exp: i64,
    iss: &'a str,
}

impl fmt::Debug for AppSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSigner").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl AppSigner {
    pub(crate) fn new(
        issuer: &str,
        private_key_pem: &SecretString,
        clock: Arc<Clock>,
    ) -> Result<Self> {
        let wrong = |detail: &str| GithubError::new(OPERATION, ErrorKind::Credentials, detail);
        if issuer.trim().is_empty() {
            return Err(wrong("the App's id is empty"));
        }
        let pem = private_key_pem.expose_secret().trim();
        if pem.is_empty() {
            return Err(wrong("the App's private key is empty"));
        }
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|source| {
            let detail = "the App's private key is not an RSA key in PEM";
            GithubError::with_source(OPERATION, ErrorKind::Credentials, detail, source)
        })?;
        let signer = Self { issuer: issuer.trim().to_owned(), key, clock };
        signer.sign()?;
        Ok(signer)
    }

    /// A statement that is valid now, by GitHub's clock if an answer has told it.
    pub(crate) fn sign(&self) -> Result<String> {
        if let Some(ahead_seconds) = self.clock.ahead_seconds()
            && ahead_seconds.abs() > CORRECTED_SECONDS_MAX
        {
            return Err(GithubError::new(OPERATION, ErrorKind::Clock { ahead_seconds }, ""));
        }
        let iat = self.clock.github_seconds() - ISSUED_BEFORE_SECONDS;
        let claims = Claims { iat, exp: iat + VALID_SECONDS, iss: &self.issuer };
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &self.key).map_err(|source| {
            let detail = "the App's private key cannot sign";
            GithubError::with_source(OPERATION, ErrorKind::Credentials, detail, source)
        })
    }
}
