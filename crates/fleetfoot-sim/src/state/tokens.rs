//! Who is calling: personal access tokens, App assertions, and the tokens the box hands out.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::config::{App, Installation, Token};

use super::State;

/// Tokens handed out: what for, and until when.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    admin: HashMap<String, (i64, u64)>,
    registration: HashMap<String, (i64, u64)>,
    installation: HashMap<String, (i64, u64)>,
}

/// Who makes a REST call.
#[derive(Debug, Clone)]
pub(crate) enum Principal {
    Token(Token),
    Installation(Installation),
}

/// Why a REST call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RestDenied {
    Unauthorized(&'static str),
    Forbidden(&'static str),
    NotFound,
}

#[derive(Debug, Deserialize)]
struct Assertion {
    #[serde(default)]
    iss: serde_json::Value,
    #[serde(default)]
    iat: i64,
    #[serde(default)]
    exp: i64,
}

/// Real registration tokens live an hour.
const REGISTRATION_TTL_US: u64 = 3_600_000_000;
/// Tokens of each kind that are kept before the expired ones are let go, and then the oldest.
const TOKENS_MAX: usize = 4096;
/// Drift the assertion check forgives, and the longest life of an assertion.
const DRIFT_S: i64 = 5;
const ASSERTION_LIFE_MAX_S: i64 = 600;

impl Tokens {
    pub(crate) fn expire_admin(&mut self, tenant: Option<i64>) {
        self.admin.retain(|_, (of, _)| tenant.is_some_and(|tenant| tenant != *of));
    }

    pub(crate) fn expire_registration(&mut self) {
        self.registration.clear();
    }

    pub(crate) fn expire_installation(&mut self) {
        self.installation.clear();
    }
}

/// Keeps one more token, within bounds.
fn keep(tokens: &mut HashMap<String, (i64, u64)>, token: String, what: (i64, u64), now: u64) {
    if tokens.len() >= TOKENS_MAX {
        tokens.retain(|_, (_, until)| *until > now);
    }
    if tokens.len() >= TOKENS_MAX {
        let oldest = tokens.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            tokens.remove(&oldest);
        }
    }
    tokens.insert(token, what);
}

impl State {
    fn bearer(authorization: Option<&str>) -> Option<&str> {
        let (scheme, token) = authorization?.split_once(' ')?;
        let known = ["bearer", "token", "remoteauth"];
        known.iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(token.trim())
    }

    /// Who this REST call comes from.
    pub(crate) fn principal(&self, authorization: Option<&str>) -> Result<Principal, RestDenied> {
        let token = Self::bearer(authorization)
            .ok_or(RestDenied::Unauthorized("Requires authentication"))?;
        if let Some(known) = self.settings.tokens.iter().find(|known| known.token == token) {
            return Ok(Principal::Token(known.clone()));
        }
        let (installation, until) = self
            .tokens
            .installation
            .get(token)
            .ok_or(RestDenied::Unauthorized("Bad credentials"))?;
        if self.now_us() >= *until {
            return Err(RestDenied::Unauthorized("Bad credentials"));
        }
        self.settings
            .app
            .iter()
            .flat_map(|app| &app.installations)
            .find(|known| known.id == *installation)
            .cloned()
            .map(Principal::Installation)
            .ok_or(RestDenied::Unauthorized("Bad credentials"))
    }

    /// Whether nothing public has this name: a person is no organization, and of an App's selected repositories
    /// those that are not among them are as good as absent.
    pub(crate) fn is_missing(&self, scope: &str) -> bool {
        let owner = scope.split('/').next().unwrap_or(scope);
        let installations = self.settings.app.iter().flat_map(|app| &app.installations);
        let mut of_owner = installations.filter(|it| it.account.eq_ignore_ascii_case(owner));
        let is_repository = scope.contains('/');
        of_owner.any(|it| {
            let listed =
                |known: &Vec<String>| known.iter().any(|it| it.eq_ignore_ascii_case(scope));
            if is_repository {
                it.repositories.as_ref().is_some_and(|it| !listed(it))
            } else {
                it.is_user
            }
        })
    }

    /// Whether this caller may administer the runners of a scope.
    pub(crate) fn may_administer(&self, who: &Principal, scope: &str) -> Result<(), RestDenied> {
        match who {
            Principal::Token(token) => {
                let reached = token.scopes.is_empty()
                    || token.scopes.iter().any(|known| known.eq_ignore_ascii_case(scope));
                if !reached {
                    return Err(RestDenied::NotFound);
                }
                if token.insufficient {
                    return Err(RestDenied::Forbidden(
                        "Resource not accessible by personal access token",
                    ));
                }
                Ok(())
            }
            Principal::Installation(installation) => {
                let account = scope.strip_prefix("enterprises/").unwrap_or(scope);
                let (account, permission) = match account.split_once('/') {
                    Some((owner, _)) => (owner, "administration"),
                    None => (account, "organization_self_hosted_runners"),
                };
                if !installation.account.eq_ignore_ascii_case(account) {
                    return Err(RestDenied::NotFound);
                }
                if installation.granted().get(permission).map(String::as_str) != Some("write") {
                    return Err(RestDenied::Forbidden("Resource not accessible by integration"));
                }
                Ok(())
            }
        }
    }

    /// Checks the assertion an App signs its requests with.
    pub(crate) fn app_assertion(&self, authorization: Option<&str>) -> Result<App, RestDenied> {
        const UNREADABLE: RestDenied =
            RestDenied::Unauthorized("A JSON web token could not be decoded");
        let jwt = Self::bearer(authorization).ok_or(UNREADABLE)?;
        let app =
            self.settings.app.clone().ok_or(RestDenied::Unauthorized("Integration not found"))?;
        let claims = match &app.public_key_pem {
            Some(pem) => {
                let key = DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| UNREADABLE)?;
                let mut validation = Validation::new(Algorithm::RS256);
                validation.validate_exp = false;
                validation.validate_aud = false;
                validation.required_spec_claims.clear();
                jsonwebtoken::decode::<Assertion>(jwt, &key, &validation)
                    .map_err(|_| UNREADABLE)?
                    .claims
            }
            None => jwt
                .split('.')
                .nth(1)
                .and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok())
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .ok_or(UNREADABLE)?,
        };
        let issuer = match claims.iss.as_str() {
            Some(text) => text.to_owned(),
            None => claims.iss.to_string(),
        };
        if issuer != app.client_id && issuer != app.id.to_string() {
            return Err(RestDenied::Unauthorized("Integration not found"));
        }
        let now = self.wall_s();
        if claims.iat > now + DRIFT_S {
            return Err(RestDenied::Unauthorized(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            ));
        }
        if claims.exp <= now {
            return Err(RestDenied::Unauthorized(
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
            ));
        }
        if claims.exp > now + ASSERTION_LIFE_MAX_S + DRIFT_S {
            return Err(RestDenied::Unauthorized(
                "'Expiration time' claim ('exp') is too far in the future",
            ));
        }
        Ok(app)
    }

    /// The box's wall clock in seconds, skew included.
    pub(crate) fn wall_s(&self) -> i64 {
        i64::try_from(self.now_us() / 1_000_000).unwrap_or(i64::MAX) + self.settings.clock_skew_s
    }

    /// A token for an installation, and when it ends (box microseconds).
    pub(crate) fn installation_token(&mut self, installation: i64) -> (String, u64) {
        let until = self.now_us() + self.settings.installation_token_ttl_ms * 1000;
        let token = self.secret("ghs");
        let now = self.now_us();
        keep(&mut self.tokens.installation, token.clone(), (installation, until), now);
        (token, until)
    }

    /// A registration token for a scope, and when it ends.
    pub(crate) fn registration_token(&mut self, scope: &str) -> (String, u64) {
        let tenant = self.tenant(scope);
        let until = self.now_us() + REGISTRATION_TTL_US;
        let token = self.secret("AREG");
        let now = self.now_us();
        keep(&mut self.tokens.registration, token.clone(), (tenant, until), now);
        (token, until)
    }

    /// Exchanges a registration token for the tenant and its admin token.
    pub(crate) fn admin_token(&mut self, authorization: Option<&str>) -> Option<(i64, String)> {
        let now = self.now_us();
        let (tenant, until) = *self.tokens.registration.get(Self::bearer(authorization)?)?;
        if now >= until {
            return None;
        }
        let ttl_us = self.settings.admin_token_ttl_ms * 1000;
        let expires_s = (now + ttl_us) / 1_000_000;
        let id = self.secret("admin");
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"RS256","typ":"JWT"}"#);
        let claims = URL_SAFE_NO_PAD
            .encode(format!(r#"{{"iss":"fleetfoot-box","exp":{expires_s},"jti":"{id}"}}"#));
        let token = format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(b"box"));
        keep(&mut self.tokens.admin, token.clone(), (tenant, now + ttl_us), now);
        Some((tenant, token))
    }

    /// Whether an admin token is good for a tenant.
    pub(crate) fn is_admin(&self, authorization: Option<&str>, tenant: i64) -> bool {
        Self::bearer(authorization)
            .and_then(|token| self.tokens.admin.get(token))
            .is_some_and(|(of, until)| *of == tenant && self.now_us() < *until)
    }
}
