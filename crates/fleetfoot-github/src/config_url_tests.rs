use super::*;

fn parse(text: &str) -> Result<ConfigUrl, ConfigUrlError> {
    ConfigUrl::parse_with(text, false)
}

fn org(name: &str) -> Scope {
    Scope::Organization { organization: name.into() }
}

fn repository(owner: &str, name: &str) -> Scope {
    Scope::Repository { owner: owner.into(), repository: name.into() }
}

#[test]
fn the_grammar() {
    for (text, scope, api) in [
        ("https://github.com/acme", org("acme"), "https://api.github.com/x"),
        ("https://github.com/acme/", org("acme"), "https://api.github.com/x"),
        ("https://www.github.com/acme", org("acme"), "https://api.github.com/x"),
        ("https://GitHub.com/acme", org("acme"), "https://api.github.com/x"),
        ("https://github.com/acme/app", repository("acme", "app"), "https://api.github.com/x"),
        ("https://github.com/acme?a=b#c", org("acme"), "https://api.github.com/x"),
        (
            "https://github.com/enterprises/big",
            Scope::Enterprise { enterprise: "big".into() },
            "https://api.github.com/x",
        ),
        ("https://github.com/enterprises", org("enterprises"), "https://api.github.com/x"),
        ("http://github.localhost/acme", org("acme"), "http://api.github.localhost/x"),
        ("https://acme.ghe.com/acme", org("acme"), "https://api.acme.ghe.com/x"),
        ("https://ghe.com/acme", org("acme"), "https://ghe.com/api/v3/x"),
        ("https://git.acme.example/o/r", repository("o", "r"), "https://git.acme.example/api/v3/x"),
        ("http://127.0.0.1:4100/acme", org("acme"), "http://127.0.0.1:4100/api/v3/x"),
        ("http://[::1]:4100/acme", org("acme"), "http://[::1]:4100/api/v3/x"),
        ("https://github.com:8443/acme", org("acme"), "https://api.github.com:8443/x"),
    ] {
        let url = parse(text).expect(text);
        assert_eq!(url.scope(), &scope, "{text}");
        assert_eq!(url.api("/x").as_str(), api, "{text}");
    }
}

#[test]
fn the_environment_forces_ghes() {
    let url = ConfigUrl::parse_with("https://github.com/acme", true).unwrap();
    assert_eq!(url.api("/x").as_str(), "https://github.com/api/v3/x");
    assert!(url.is_ghes());
    // Even then a token does not go to github.com in the clear.
    assert!(ConfigUrl::parse_with("http://github.com/acme", true).is_err());
}

#[test]
fn what_is_sent_is_what_was_given_less_a_slash() {
    assert_eq!(parse("https://github.com/acme/").unwrap().as_str(), "https://github.com/acme");
    assert_eq!(parse("https://github.com/a?b=c").unwrap().as_str(), "https://github.com/a?b=c");
}

#[test]
fn refusals() {
    let path = |url: &str| {
        format!(
            "failed to parse githubConfigURL: \"{url}\": invalid config URL, should point to an enterprise, org, or repository"
        )
    };
    for bad in [
        "https://github.com",
        "https://github.com/",
        "https://github.com//",
        "https://github.com/a/b/c",
        "https://github.com//b",
        "https://github.com/a//b",
        "https://github.com/a/../b",
        "https://github.com/enterprises/a/b",
    ] {
        assert_eq!(parse(bad).unwrap_err().to_string(), path(bad));
    }
    // The reasons are Go's, but for a host that is missing.
    for (bad, reason) in [
        (" https://github.com/acme", "first path segment in URL cannot contain colon"),
        ("https://github.com:port/acme", "invalid port \":port\" after host"),
        ("https://[::1]:x/acme", "invalid port \":x\" after host"),
        ("https://git hub.com/acme", "invalid character \" \" in host name"),
        ("https://github.com/%zz", "invalid URL escape \"%zz\""),
        ("https://github.com/a%2", "invalid URL escape \"%2\""),
        ("https://github.com/a\nb", "net/url: invalid control character in URL"),
        ("https://:80/acme", "empty host"),
    ] {
        let text = parse(bad).unwrap_err().to_string();
        assert_eq!(
            text,
            format!(
                "failed to parse githubConfigURL: failed to parse URL: parse {bad:?}: {reason}"
            )
        );
    }
    assert!(parse("https://github.com/acme?x=%zz").is_ok());
    for (bad, example) in [
        ("acme", "acme"),
        ("acme/app", "acme/app"),
        ("github.com/acme", "acme"),
        ("ftp://github.com/acme", "acme"),
        ("", ""),
    ] {
        let text = parse(bad).unwrap_err().to_string();
        assert!(text.ends_with(&format!("https://github.com/{example})")), "{text}");
    }
    for bad in ["http://github.com/acme", "http://www.github.com./acme", "http://x.ghe.com/acme"] {
        let text = parse(bad).unwrap_err().to_string();
        assert!(text.contains("needs https://"), "{text}");
    }
}

#[test]
fn pages_of_runs() {
    let url = parse("http://127.0.0.1:4100/acme?x=1").unwrap();
    assert_eq!(url.run_page("acme", "app", 7), "http://127.0.0.1:4100/acme/app/actions/runs/7");
}

#[test]
fn a_server_under_a_path_is_asked_under_it() {
    let url = ConfigUrl::under("https://gate.example/github/", "acme/app").unwrap();
    assert_eq!(url.as_str(), "https://gate.example/github/acme/app");
    assert_eq!(url.scope().to_string(), "repository acme/app");
    assert_eq!(url.api_base(), "https://gate.example/github/api/v3");
    assert_eq!(url.api("/orgs/acme").as_str(), "https://gate.example/github/api/v3/orgs/acme");
    let page = url.run_page("acme", "app", 7);
    assert_eq!(page, "https://gate.example/github/acme/app/actions/runs/7");
    for base in ["https://ghe.example.com", "https://github.com"] {
        let plain = ConfigUrl::under(base, "acme").unwrap();
        assert_eq!(plain, ConfigUrl::parse(&format!("{base}/acme")).unwrap());
    }
    for scope in ["", "a/b/c", "../x"] {
        assert!(ConfigUrl::under("https://gate.example/github", scope).is_err(), "{scope}");
    }
}
