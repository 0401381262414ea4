//! The conformance list's first dozen, as far as reading goes.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;

use super::*;
use crate::dsn::Address;

fn key(label: &str) -> String {
    STANDARD.encode(format!(
        "Bag Attributes\n-----BEGIN {label}-----\nMIIE\n-----END {label}-----\n-----BEGIN X-----\n"
    ))
}

/// Only what is required, with some variables set, or unset by `-`.
fn with(changes: &[(&str, &str)]) -> Result<(Settings, Vec<Note>), Mistake> {
    let mut variables: BTreeMap<String, String> = [
        ("GITHUB_APP_ID", "7"),
        ("GITHUB_APP_SECRET", "hush"),
        ("GITHUB_PRIVATE_KEY_BASE64", &key("RSA PRIVATE KEY")),
        ("MYSQL_URL", "u:p@tcp(db:3306)/myshoes"),
        ("PLUGIN", "/opt/shoes-test"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for (name, value) in changes {
        if *value == "-" {
            variables.remove(*name);
        } else {
            variables.insert((*name).to_owned(), (*value).to_owned());
        }
    }
    read(|name| variables.get(name).cloned(), |path| path == "/opt/shoes-test")
}

fn settings(changes: &[(&str, &str)]) -> Settings {
    with(changes).unwrap().0
}

#[test]
fn defaults_hold_with_only_what_is_required() {
    let (it, notes) = with(&[]).unwrap();
    assert_eq!((it.port, it.app.id, it.debug, it.strict), (8080, 7, false, true));
    assert_eq!((it.max_connections, it.max_deleting), (50, 1));
    assert_eq!((it.runner_user.as_str(), it.runner_base_directory.as_str()), ("runner", "/tmp"));
    assert_eq!(
        (it.webhook, it.runner_version.clone()),
        (Webhook::WorkflowJob, RunnerVersion::Latest)
    );
    assert_eq!((it.github_url.as_str(), it.is_enterprise_server()), ("https://github.com", false));
    let scale_set = ScaleSet {
        switch: Switch::Unsaid,
        runner_group: "default".to_owned(),
        max_runners: 10,
        name_prefix: "myshoes".to_owned(),
    };
    assert_eq!(it.scale_set, scale_set);
    assert_eq!(it.plugin, Plugin::Path("/opt/shoes-test".into()));
    assert_eq!(it.plugin_output, PathBuf::from("."));
    assert!(
        it.app.private_key.expose_secret().starts_with("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n")
    );
    assert!(it.app.private_key.expose_secret().ends_with("-----END RSA PRIVATE KEY-----\n"));
    assert_eq!(notes, [Note::Info("Docker Hub metrics is disabled".to_owned())]);
}

#[test]
fn empty_is_unset() {
    let it = settings(&[("PORT", ""), ("STRICT", ""), ("RUNNER_VERSION", ""), ("GITHUB_URL", "")]);
    assert_eq!((it.port, it.strict, it.runner_version), (8080, true, RunnerVersion::Latest));
}

#[test]
fn each_mistake_names_its_variable() {
    for (variable, value, words) in [
        ("PORT", "abc", "`abc` is no port"),
        ("PORT", " 80", "` 80` is no port"),
        ("PORT", "65536", "65536 is no port"),
        ("PORT", "-1", "-1 is no port"),
        ("GITHUB_APP_ID", "-", "is not set"),
        ("GITHUB_APP_ID", "x", "`x` is no whole number"),
        ("GITHUB_APP_SECRET", "", "is not set"),
        ("GITHUB_PRIVATE_KEY_BASE64", "", "is not set"),
        ("GITHUB_PRIVATE_KEY_BASE64", "???", "is not base64"),
        ("GITHUB_PRIVATE_KEY_BASE64", "aGVsbG8", "is not base64"),
        ("GITHUB_PRIVATE_KEY_BASE64", "aGVsbG8=", "holds no PEM"),
        ("MODE_WEBHOOK_TYPE", "foo", "foo is invalid webhook type"),
        ("GITHUB_URL", "github.com", "is no address"),
        ("GITHUB_URL", "ftp://github.com", "is no address"),
        ("RUNNER_VERSION", "foo", "is no version"),
        ("SCALESET_MAX_RUNNERS", "x", "`x` is no whole number"),
        ("SCALESET_MAX_RUNNERS", "-1", "-1 is out of range"),
        ("MAX_CONNECTIONS_TO_BACKEND", "0", "0 is out of range: use at least 1"),
        ("MAX_CONCURRENCY_DELETING", "0", "0 is out of range: use at least 1"),
        ("PLUGIN", "-", "is not set"),
        ("PLUGIN", "/does/not/exist", "unsupported fetch schema (scheme: )"),
        ("PLUGIN", "ftp://host/plugin", "unsupported fetch schema (scheme: ftp)"),
        ("MYSQL_URL", "nothing", "the slash before the database's name is missing"),
    ] {
        let mistake = with(&[(variable, value)]).unwrap_err();
        assert_eq!(mistake.variable, variable, "{mistake}");
        let text = mistake.to_string();
        assert!(text.contains(words) && !text.contains('\n'), "{variable}={value}: {text}");
    }
    let certificate = with(&[("GITHUB_PRIVATE_KEY_BASE64", &key("CERTIFICATE"))]).unwrap_err();
    assert!(certificate.message.contains("holds a CERTIFICATE"), "{certificate}");
    let first = with(&[("PLUGIN", "-"), ("MYSQL_URL", "-"), ("GITHUB_APP_ID", "-")]).unwrap_err();
    assert_eq!(first.variable, "GITHUB_APP_ID", "the App comes before the plugin");
}

#[test]
fn numbers_may_have_a_sign() {
    assert_eq!(settings(&[("PORT", "+8081")]).port, 8081);
    assert_eq!(settings(&[("PORT", "0")]).port, 0);
    assert_eq!(settings(&[("GITHUB_APP_ID", "-3")]).app.id, -3);
    assert_eq!(settings(&[("SCALESET_MAX_RUNNERS", "0")]).scale_set.max_runners, 0);
}

#[test]
fn booleans_have_one_word() {
    assert!(settings(&[("STRICT", "FALSE")]).strict);
    assert!(!settings(&[("STRICT", "false")]).strict);
    assert!(!settings(&[("DEBUG", "1")]).debug);
    assert!(settings(&[("DEBUG", "true")]).debug);
    for (word, switch) in [
        ("true", Switch::On),
        ("false", Switch::Off),
        ("yes", Switch::Unsaid),
        ("True", Switch::Unsaid),
        ("", Switch::Unsaid),
    ] {
        assert_eq!(settings(&[("SCALESET_ENABLED", word)]).scale_set.switch, switch, "{word}");
    }
}

#[test]
fn five_variables_go_before_the_address() {
    let five = [
        ("MYSQL_HOST", "h"),
        ("MYSQL_PORT", "3307"),
        ("MYSQL_USER", "root"),
        ("MYSQL_PASSWORD", ""),
        ("MYSQL_DATABASE", "d"),
    ];
    let it = settings(&five);
    assert_eq!(
        (it.database.clone().unwrap().address, it.database.as_ref().unwrap().database.as_str()),
        (Address::Tcp("h".to_owned(), 3307), "d")
    );
    let odd = with(&[&five[..], &[("MYSQL_PORT", "")]].concat()).unwrap_err();
    assert_eq!((odd.variable, odd.message.as_str()), ("MYSQL_PORT", "`` is no port"));
    let four = &five[..4];
    assert_eq!(settings(four).database.unwrap().database, "myshoes", "four are not five");
    let empty = settings(&[four, &[("MYSQL_DATABASE", "")]].concat());
    assert_eq!(empty.database.unwrap().database, "", "present is enough");
    assert!(
        with(&five)
            .unwrap()
            .1
            .iter()
            .any(|note| matches!(note, Note::Info(text) if text.contains("MYSQL_HOST")))
    );
}

#[test]
fn github_com_has_one_spelling() {
    for url in ["https://github.com", "https://github.com/", "https://GitHub.com"] {
        assert!(!settings(&[("GITHUB_URL", url)]).is_enterprise_server(), "{url}");
    }
    let it = settings(&[("GITHUB_URL", "https://ghe.example.com/")]);
    assert_eq!(it.github_url, "https://ghe.example.com");
    assert!(it.is_enterprise_server());
}

#[test]
fn old_deliveries_are_warned_of() {
    let (it, notes) = with(&[("MODE_WEBHOOK_TYPE", "check_run")]).unwrap();
    assert_eq!(it.webhook, Webhook::CheckRun);
    assert!(matches!(&notes[0], Note::Warning(text) if text.contains("deprecated")), "{notes:?}");
    let (it, notes) = with(&[("PROVIDE_DOCKER_HUB_METRICS", "true")]).unwrap();
    assert!(matches!(it.docker_hub, DockerHub::Anonymous) && matches!(&notes[0], Note::Warning(_)));
    let hub = [
        ("PROVIDE_DOCKER_HUB_METRICS", "true"),
        ("DOCKER_HUB_USERNAME", "u"),
        ("DOCKER_HUB_PASSWORD", "p"),
    ];
    assert!(matches!(settings(&hub).docker_hub, DockerHub::User(user, _) if user == "u"));
    let directory = with(&[("RUNNER_BASE_DIRECTORY", "/srv")]).unwrap().1;
    assert!(directory.contains(&Note::Info("use runner base directory is /srv".to_owned())));
}

#[test]
fn a_plugin_may_be_somewhere_else() {
    let url = "https://example.com/a/shoes-x";
    assert_eq!(settings(&[("PLUGIN", url)]).plugin, Plugin::Url(Url::parse(url).unwrap()));
}

#[test]
fn no_secret_shows_in_debug_output() {
    let shown = format!("{:?}", settings(&[]));
    assert!(
        !shown.contains("hush") && !shown.contains("MIIE") && !shown.contains("u:p"),
        "{shown}"
    );
}
