//! Registry credentials: a file in the form of Docker's `config.json`, given to the engine as it wants them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;

#[derive(Deserialize, Default)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credsStore", default)]
    store: Option<String>,
    #[serde(rename = "credHelpers", default)]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

/// Credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("cannot read registry credentials from {}: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("registry credentials in {} cannot be understood: {why}", path.display())]
    Odd { path: PathBuf, why: String },
    #[error("registry credentials for {registry} are with a credential helper, which is not supported; put them in {}", path.display())]
    Helper { path: PathBuf, registry: String },
}

/// The header value for pulls of `image`; `None` if the file has nothing for its registry.
pub(crate) fn header(
    path: &Path,
    image: &str,
    must_exist: bool,
) -> Result<Option<String>, AuthError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(_) if !must_exist => return Ok(None),
        Err(cause) => return Err(AuthError::Read { path: path.to_owned(), cause }),
    };
    let odd = |why: String| AuthError::Odd { path: path.to_owned(), why };
    let mut file: File = serde_json::from_str(&text).map_err(|error| odd(error.to_string()))?;
    let registry = registry_of(image);
    let found = keys_of(registry).into_iter().find_map(|key| file.auths.remove_entry(&key));
    let Some((address, entry)) = found.filter(|(_, entry)| !entry.is_empty()) else {
        if must_exist && (file.store.is_some() || file.helpers.contains_key(registry)) {
            return Err(AuthError::Helper { path: path.to_owned(), registry: registry.to_owned() });
        }
        return Ok(None);
    };
    let value = if entry.identitytoken.is_empty() {
        let (username, password) =
            entry.pair().ok_or_else(|| odd(format!("`auth` of {address}")))?;
        serde_json::json!({ "username": username, "password": password, "serveraddress": address })
    } else {
        serde_json::json!({ "identitytoken": entry.identitytoken, "serveraddress": address })
    };
    // base64url with padding: engines silently pull anonymously when they meet `+` or `/`.
    Ok(Some(URL_SAFE.encode(value.to_string())))
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.auth.is_empty() && self.username.is_empty() && self.identitytoken.is_empty()
    }

    fn pair(&self) -> Option<(String, String)> {
        if self.auth.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let text = String::from_utf8(STANDARD.decode(self.auth.trim()).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
    }
}

/// The registry in an image reference.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        Some(_) | None => "docker.io",
    }
}

fn keys_of(registry: &str) -> Vec<String> {
    if registry == "docker.io" {
        return [
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "registry-1.docker.io",
        ]
        .map(str::to_owned)
        .to_vec();
    }
    vec![
        registry.to_owned(),
        format!("https://{registry}"),
        format!("https://{registry}/v1/"),
        format!("https://{registry}/v2/"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(text: &str, image: &str) -> Result<Option<serde_json::Value>, AuthError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let header = header(&path, image, true)?;
        Ok(header.map(|header| serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap()))
    }

    #[test]
    fn credentials_are_found_by_registry() {
        let auth = STANDARD.encode("me:pass:word");
        let file = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}},"ghcr.io":{{"username":"u","password":"p"}},"r:5000":{{"identitytoken":"t"}}}}}}"#
        );
        for image in ["busybox", "library/busybox:1", "docker.io/x/y"] {
            let value = header_of(&file, image).unwrap().unwrap();
            assert_eq!(
                (value["username"].as_str(), value["password"].as_str()),
                (Some("me"), Some("pass:word")),
                "{image}"
            );
        }
        assert_eq!(header_of(&file, "ghcr.io/a/b@sha256:0").unwrap().unwrap()["username"], "u");
        assert_eq!(header_of(&file, "r:5000/a").unwrap().unwrap()["identitytoken"], "t");
        assert_eq!(header_of(&file, "quay.io/a/b").unwrap(), None);
    }

    #[test]
    fn the_header_is_base64url() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, r#"{"auths":{"r.io":{"username":"u","password":"a>b?c~~~???>>>"}}}"#)
            .unwrap();
        let header = header(&path, "r.io/x", true).unwrap().unwrap();
        assert!(!header.contains(['+', '/']), "{header}");
        assert!(header.contains(['-', '_']), "{header}");
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        assert!(matches!(header_of("nonsense", "x"), Err(AuthError::Odd { .. })));
        assert!(matches!(
            header_of(r#"{"credsStore":"desktop"}"#, "x"),
            Err(AuthError::Helper { .. })
        ));
        assert!(matches!(
            header_of(r#"{"auths":{"r.io":{"auth":"!"}}}"#, "r.io/x"),
            Err(AuthError::Odd { .. })
        ));
        assert!(matches!(header(Path::new("/nowhere"), "x", true), Err(AuthError::Read { .. })));
        assert!(matches!(header(Path::new("/nowhere"), "x", false), Ok(None)));
    }
}
