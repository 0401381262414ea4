//! Which URL and which credential each runner uses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use fleetfoot::config::credentials::{
    Credential, CredentialSource, Flags, Resolution, ResolveError, Surroundings, resolve,
};
use fleetfoot::config::store::{self, StoreUrlError};
use fleetfoot::config::{Config, LoadOptions, parse};
use secrecy::{ExposeSecret, SecretString};

#[derive(Default, Clone)]
struct Fake {
    variables: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, &'static [u8]>,
}

impl Surroundings for Fake {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).map(OsString::from)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.files.get(path.to_str().unwrap());
        found.map(|bytes| bytes.to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn read(text: &str) -> Config {
    let (config, report) = parse(text.as_bytes(), Path::new("f.yml"), &LoadOptions::default());
    assert!(report.is_ok(), "{}", report.render());
    config.unwrap()
}

fn flags(url: &str, token: &str) -> Flags {
    Flags { url: url.to_owned(), token: SecretString::from(token.to_owned()) }
}

fn one(resolution: Resolution) -> Result<(String, CredentialSource, String), ResolveError> {
    if let Some((_, error)) = resolution.failures.into_iter().next() {
        return Err(error);
    }
    let resolved = resolution.runners.into_iter().next().unwrap();
    let secret = match resolved.credential {
        Credential::Token(token) => token.expose_secret().to_owned(),
        Credential::App { key, .. } => key.expose_secret().to_owned(),
    };
    Ok((resolved.url, resolved.source, secret))
}

const RUNNER: &str = "runners: {a: {labels: [x], docker: {image: i}}}\n";

/// Checklist 13.
#[test]
fn urls_in_the_order_of_the_original() {
    let mut config = read(&format!("url: global\n{RUNNER}"));
    config.runners[0].url = Some("own".to_owned());
    let surroundings = Fake::default();
    let url = |config: &Config, flag: &str| {
        one(resolve(config, &flags(flag, "t"), &surroundings)).map(|r| r.0)
    };
    assert_eq!(url(&config, "flag").unwrap(), "own");
    config.runners[0].url = None;
    assert_eq!(url(&config, "flag").unwrap(), "flag");
    assert_eq!(url(&config, "").unwrap(), "global");
    config.url = None;
    let error = url(&config, "").unwrap_err();
    assert_eq!(error.to_string(), "no URL provided (use --url flag or url in config)");
}

/// Checklist 14 and 16: each source taken away gives the next.
#[test]
fn tokens_in_the_order_of_the_original() {
    let mut config = read(&format!("url: u\ntoken_file: /global\n{RUNNER}"));
    config.runners[0].token_file = Some(PathBuf::from("/own"));
    let mut surroundings = Fake {
        variables: [("GITHUB_TOKEN", " env "), ("CREDENTIALS_DIRECTORY", "/creds")].into(),
        files: [
            ("/own", &b"\n own\xc2\xa0\n"[..]),
            ("/creds/github-token", b"systemd\n"),
            ("/global", b"global"),
        ]
        .into(),
    };
    let mut flag = "flag";
    let mut found = Vec::new();
    for step in 0..5 {
        let (_, source, token) = one(resolve(&config, &flags("", flag), &surroundings)).unwrap();
        found.push((source, token));
        match step {
            0 => config.runners[0].token_file = None,
            1 => flag = "",
            2 => drop(surroundings.variables.insert("GITHUB_TOKEN", "")),
            3 => drop(surroundings.variables.remove("CREDENTIALS_DIRECTORY")),
            _ => config.token_file = None,
        }
    }
    assert_eq!(
        found,
        [
            (CredentialSource::RunnerFile("/own".into()), "own".to_owned()),
            (CredentialSource::Flag, "flag".to_owned()),
            (CredentialSource::Environment, " env ".to_owned()),
            (
                CredentialSource::SystemdCredential("/creds/github-token".into()),
                "systemd".to_owned()
            ),
            (CredentialSource::File("/global".into()), "global".to_owned()),
        ]
    );
    let error = one(resolve(&config, &flags("", flag), &surroundings)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no token provided (use --token, GITHUB_TOKEN env var, systemd-creds, or token_file in config)"
    );
}

/// Checklist 15 and 16: the texts of files that are missing or empty.
#[test]
fn bad_token_files_are_named() {
    let own = "runners: {a: {labels: [x], token_file: /t, docker: {image: i}}}\nurl: u\n";
    let global = format!("url: u\ntoken_file: /t\n{RUNNER}");
    let with = |bytes: Option<&'static [u8]>| Fake {
        files: bytes.map(|bytes| ("/t", bytes)).into_iter().collect(),
        ..Fake::default()
    };
    let missing = "open /t: no such file or directory";
    let table: Vec<(&str, Option<&'static [u8]>, String)> = vec![
        (own, None, format!("read runner token_file \"/t\": {missing}")),
        (&global, None, format!("read token_file \"/t\": {missing}")),
        (own, Some(b""), "token_file \"/t\" is empty".to_owned()),
        (&global, Some(b" \n\t"), "token_file \"/t\" is empty".to_owned()),
        (
            &global,
            Some(b"a\nb"),
            "token_file \"/t\" is not a token: there is a line break or control character in it"
                .to_owned(),
        ),
        (
            &global,
            Some(b"\xef\xbb\xbfa"),
            "token_file \"/t\" is not a token: it begins with a byte order mark".to_owned(),
        ),
        (&global, Some(b"\xff\xfe"), "token_file \"/t\" is not a token: it is not text".to_owned()),
    ];
    for (text, bytes, expected) in table {
        let flag = if text == own { "flag" } else { "" }; // even --token does not help an own file
        let error = one(resolve(&read(text), &flags("", flag), &with(bytes))).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn an_unreadable_systemd_credential_is_skipped_aloud() {
    let config = read(&format!("url: u\ntoken_file: /t\n{RUNNER}  \n"));
    let surroundings = Fake {
        variables: [("CREDENTIALS_DIRECTORY", "/creds")].into(),
        files: [("/t", &b"t"[..])].into(),
    };
    let resolution = resolve(&config, &Flags::default(), &surroundings);
    assert_eq!(
        resolution.warnings,
        [
            "systemd credential github-token is skipped: open /creds/github-token: no such file or directory"
        ]
    );
    assert_eq!(one(resolution).unwrap().2, "t");
}

const PEM: &[u8] = b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";

#[test]
fn an_app_comes_where_it_is_written() {
    let app = "{app: {id: 7, installation_id: 8, private_key_file: /k}}";
    let own = read(&format!(
        "url: u\nrunners: {{a: {{labels: [x], github: {app}, docker: {{image: i}}}}}}\n"
    ));
    let global = read(&format!("url: u\ngithub: {app}\n{RUNNER}"));
    let surroundings =
        Fake { variables: [("GITHUB_TOKEN", "env")].into(), files: [("/k", PEM)].into() };
    let source = |config: &Config, token: &str| {
        one(resolve(config, &flags("", token), &surroundings)).unwrap().1
    };
    assert!(matches!(source(&own, "flag"), CredentialSource::App { .. }));
    assert_eq!(source(&global, "flag"), CredentialSource::Flag);
    let found = source(&global, "");
    assert_eq!(found.to_string(), "GitHub App 7 (installation 8)");
}

#[test]
fn the_key_of_an_app_may_be_a_systemd_credential() {
    let config =
        read(&format!("url: u\ngithub: {{app: {{client_id: Iv1, installation_id: 8}}}}\n{RUNNER}"));
    let mut surroundings = Fake::default();
    let error = one(resolve(&config, &Flags::default(), &surroundings)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no private key for GitHub App Iv1 (set private_key_file, or the systemd credential github-app-key)"
    );
    surroundings.variables.insert("CREDENTIALS_DIRECTORY", "/creds");
    surroundings.files.insert("/creds/github-app-key", b"no key");
    let error = one(resolve(&config, &Flags::default(), &surroundings)).unwrap_err();
    assert!(error.to_string().ends_with("it is not a private key in PEM form"), "{error}");
    surroundings.files.insert("/creds/github-app-key", PEM);
    let (_, _, key) = one(resolve(&config, &Flags::default(), &surroundings)).unwrap();
    assert!(key.starts_with("-----BEGIN"));
}

/// Checklist 17: equal URL and source share a connection.
#[test]
fn equal_runners_share_a_connection() {
    let config = read(
        "url: https://github.com/o\nrunners:\n  a: {labels: [x], docker: {image: i}}\n  b: {labels: [x], url: 'https://github.com/o/', docker: {image: i}}\n  c: {labels: [x], token_file: /c, docker: {image: i}}\n  d: {labels: [x], url: https://github.com/p, docker: {image: i}}\n",
    );
    let surroundings = Fake { files: [("/c", &b"flag"[..])].into(), ..Fake::default() };
    let resolution = resolve(&config, &flags("", "flag"), &surroundings);
    let keys: Vec<_> = resolution.runners.iter().map(|r| r.connection.clone()).collect();
    assert_eq!(keys.len(), 4);
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[0], keys[2]);
    assert_ne!(keys[0], keys[3]);
    assert_eq!(resolution.runners[1].url, "https://github.com/o/");
}

#[test]
fn one_bad_runner_leaves_the_others() {
    let config = read(
        "url: u\nrunners:\n  a: {labels: [x], token_file: /none, docker: {image: i}}\n  b: {labels: [x], docker: {image: i}}\n",
    );
    let resolution = resolve(&config, &flags("", "t"), &Fake::default());
    assert_eq!(resolution.runners.len(), 1);
    assert_eq!(resolution.failures[0].0, "a");
}

#[test]
fn a_rotated_token_is_read_again() {
    let config = read(&format!("url: u\ntoken_file: /t\n{RUNNER}"));
    let mut surroundings = Fake { files: [("/t", &b"s3cret"[..])].into(), ..Fake::default() };
    let resolution = resolve(&config, &Flags::default(), &surroundings);
    surroundings.files.insert("/t", b"two");
    let again = resolution.runners[0].source.read(&Flags::default(), &surroundings).unwrap();
    let Credential::Token(token) = again else { panic!() };
    assert_eq!(token.expose_secret(), "two");
    assert!(!format!("{:?}", resolution.runners).contains("s3cret"), "a secret is never shown");
}

#[test]
fn the_address_of_the_store_by_reference_only() {
    let config = read(&format!("url: u\nstore_url_file: /file\n{RUNNER}"));
    let mut surroundings = Fake {
        variables: [("FLEETFOOT_STORE_URL", "mysql://env"), ("CREDENTIALS_DIRECTORY", "/creds")]
            .into(),
        files: [
            ("/creds/store-url", b"postgres://credential\n".as_slice()),
            ("/file", b" mariadb://u:hunter2@h/x \n"),
        ]
        .into(),
    };
    let found = |surroundings: &Fake| {
        let found = store::find(&config, surroundings).unwrap().unwrap();
        (found.source, found.url.expose_secret().to_owned())
    };
    assert_eq!(found(&surroundings), ("FLEETFOOT_STORE_URL".into(), "mysql://env".into()));
    surroundings.variables.remove("FLEETFOOT_STORE_URL");
    let (source, url) = found(&surroundings);
    assert_eq!(
        (source.as_str(), url.as_str()),
        ("the systemd credential store-url", "postgres://credential")
    );
    surroundings.files.remove("/creds/store-url");
    let (source, url) = found(&surroundings);
    assert_eq!(
        (source.as_str(), url.as_str()),
        ("`store_url_file` /file", "mariadb://u:hunter2@h/x")
    );
    let shown = format!("{:?}", store::find(&config, &surroundings).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");

    surroundings.files.insert("/file", b"hunter2");
    let error = store::find(&config, &surroundings).unwrap_err();
    assert!(matches!(error, StoreUrlError::Unusable { .. }));
    assert!(error.to_string().contains("/file") && !error.to_string().contains("hunter2"));
    surroundings.files.remove("/file");
    let error = store::find(&config, &surroundings).unwrap_err();
    assert!(matches!(error, StoreUrlError::File { .. }), "{error}");
    let none = read(&format!("url: u\n{RUNNER}"));
    assert!(store::find(&none, &surroundings).unwrap().is_none());
}
