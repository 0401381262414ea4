//! GitHub Apps: the signed statement, the installation token, and clocks.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fleetfoot_github::{ConfigUrl, Connection, Credentials, ErrorKind, Http, HttpSettings};
use serde_json::json;

use crate::stub::{Asked, Stub, now_seconds, reply};

fn key() -> (String, KeyPair) {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = STANDARD.encode(key.as_der().unwrap().as_ref());
    let lines: Vec<&str> =
        der.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    (pem, key)
}

fn app(pem: &str) -> Credentials {
    Credentials::App {
        app_id_or_client_id: "Iv1.test".into(),
        installation_id: 42,
        private_key_pem: pem.into(),
    }
}

fn claims(asked: &Asked) -> serde_json::Value {
    let statement = asked.header("authorization").strip_prefix("Bearer ").unwrap();
    let payload = statement.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A GitHub whose clock is `behind` seconds behind this machine's, and which is strict about it.
async fn strict(behind: i64) -> Stub {
    Stub::start_behind(behind, move |asked, _| {
        let github_now = now_seconds() - behind;
        if !asked.is("POST", "/access_tokens") {
            return None;
        }
        let claims = claims(asked);
        let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        let is_valid = iat <= github_now && exp > github_now && exp <= github_now + 600;
        Some(if is_valid {
            reply(201, json!({"token": "ghs_installed", "expires_at": "2099-01-01T00:00:00Z"}))
        } else {
            reply(401, json!({"message": "'Issued at' claim ('iat') must be ..."}))
        })
    })
    .await
}

#[tokio::test]
async fn an_app_signs_gets_in_and_reuses_its_token() {
    let (pem, key) = key();
    let stub = Stub::start(|asked, _| {
        asked
            .is("GET", "/actions/runners")
            .then(|| reply(200, json!({"total_count": 0, "runners": []})))
    })
    .await;
    let connection = stub.connection_with(&app(&pem));
    connection.scale_set(1, "linux").await.unwrap();
    connection.list_runners().await.unwrap();
    let session = connection.open_session(7, "here").await.unwrap();
    session.poll(None, 1).await.unwrap();

    let asked = stub.asked("POST", "/app/installations/42/access_tokens");
    assert_eq!(asked.len(), 1, "sessions take the same way in");
    let claims = claims(&asked[0]);
    assert_eq!(claims["iss"], "Iv1.test");
    assert!((claims["iat"].as_i64().unwrap() - (now_seconds() - 60)).abs() <= 2);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 540);
    let statement = asked[0].header("authorization").strip_prefix("Bearer ").unwrap().to_owned();
    let (signed, signature) = statement.rsplit_once('.').unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&key);
    aws_lc_rs::signature::UnparsedPublicKey::new(
        &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256,
        public.as_ref(),
    )
    .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
    .unwrap();
    for asked in stub.asked("POST", "/registration-token") {
        assert_eq!(asked.header("authorization"), "Bearer ghs_installed");
    }
}

#[tokio::test]
async fn repositories_of_one_installation_share_its_token() {
    let (pem, _) = key();
    let stub = Stub::start(|asked, _| {
        asked
            .is("GET", "/actions/runners")
            .then(|| reply(200, json!({"total_count": 0, "runners": []})))
    })
    .await;
    let http = Http::new(HttpSettings::default()).unwrap();
    let base = stub.url().as_str().to_owned();
    let connections: Vec<_> = ["one", "two", "three"]
        .iter()
        .map(|name| ConfigUrl::parse(&format!("{base}/{name}")).unwrap())
        .map(|url| Connection::new(&http, &url, &app(&pem)).unwrap())
        .collect();
    for connection in &connections {
        connection.list_runners().await.unwrap();
    }
    assert_eq!(stub.asked("POST", "/access_tokens").len(), 1);
    // Another key is another identity, as after it was rotated.
    let (other, _) = key();
    let connection = Connection::new(&http, &stub.url(), &app(&other)).unwrap();
    connection.list_runners().await.unwrap();
    assert_eq!(stub.asked("POST", "/access_tokens").len(), 2);
}

#[tokio::test]
async fn clients_that_share_have_one_token_and_one_budget() {
    let (pem, _) = key();
    let stub = Stub::start(|asked, earlier| {
        let limited = || reply(429, "{}").header("retry-after", 60);
        (asked.is("POST", "/generatejitconfig") && earlier == 0).then(limited)
    })
    .await;
    let http = Http::new(HttpSettings::default()).unwrap();
    let sharing = HttpSettings { shared: http.shared().clone(), ..HttpSettings::default() };
    let beside = Http::new(sharing).unwrap();
    let apart = Http::new(HttpSettings::default()).unwrap();
    let connection = |http: &Http, credentials: &Credentials| {
        Connection::new(http, &stub.url(), credentials).unwrap()
    };
    let (one, two) = (connection(&http, &app(&pem)), connection(&beside, &app(&pem)));
    one.scale_set(1, "linux").await.unwrap();
    two.scale_set(1, "linux").await.unwrap();
    assert_eq!(stub.asked("POST", "/access_tokens").len(), 1);
    // The App's other name, as the other side's settings have it.
    let by_number = Credentials::App {
        app_id_or_client_id: "4711".into(),
        installation_id: 42,
        private_key_pem: pem.as_str().into(),
    };
    let (same, other) = (connection(&beside, &by_number), connection(&apart, &app(&pem)));
    let refused = one.jit_config(7, "r").await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::RateLimited { .. }), "{refused}");
    for (connection, is_exhausted) in [(&one, true), (&two, true), (&same, true), (&other, false)] {
        assert_eq!(connection.budget().is_exhausted(), is_exhausted);
    }
}

#[tokio::test]
async fn a_small_difference_of_clocks_is_corrected() {
    let (pem, _) = key();
    for behind in [200, -200] {
        let stub = strict(behind).await;
        let connection = stub.connection_with(&app(&pem));
        connection.scale_set(1, "linux").await.unwrap();
        connection.open_session(7, "here").await.unwrap();
    }
}

#[tokio::test]
async fn an_hour_is_one_clear_error() {
    let (pem, _) = key();
    for (behind, words) in [(3600, "60 min ahead of"), (-10_000, "2 h 46 min behind")] {
        let stub = strict(behind).await;
        let error = stub.connection_with(&app(&pem)).scale_set(1, "linux").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Clock { .. }), "{}", error.chain());
        assert!(error.chain().contains(words), "{}", error.chain());
        assert_eq!(stub.count("POST", "/access_tokens"), 1);
    }
}

#[tokio::test]
async fn a_wrong_key_or_installation_is_said_so() {
    let (pem, _) = key();
    for (status, words) in [(401, "id or private key is wrong"), (404, "no such installation")] {
        let stub = Stub::start(move |asked, _| {
            asked.is("POST", "/access_tokens").then(|| reply(status, ""))
        })
        .await;
        let error = stub.connection_with(&app(&pem)).check().await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unauthorized);
        assert!(error.chain().contains(words), "{}", error.chain());
    }
}

#[test]
fn an_app_that_cannot_sign_is_refused_before_any_request() {
    let http = Http::new(HttpSettings::default()).unwrap();
    let url = ConfigUrl::parse("https://github.com/acme").unwrap();
    let (pem, _) = key();
    let with = |id: &str, installation_id, pem: &str| Credentials::App {
        app_id_or_client_id: id.into(),
        installation_id,
        private_key_pem: pem.into(),
    };
    for (credentials, words) in [
        (with("", 42, &pem), "id is empty"),
        (with("1", 0, &pem), "installation id is missing"),
        (with("1", 42, ""), "private key is empty"),
        (with("1", 42, "garbage"), "not an RSA key in PEM"),
    ] {
        let error = Connection::new(&http, &url, &credentials).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Credentials);
        assert!(error.chain().contains(words), "{}", error.chain());
    }
}
