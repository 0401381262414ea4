//! Certificates: trusted, not trusted, and none on the system.

use std::process::Command;
use std::sync::Arc;

use fleetfoot_github::{ConfigUrl, Connection, ErrorKind, Http, HttpSettings, Roots};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::stub::token;

const CHILD: &str = "FLEETFOOT_TEST_NO_ROOTS";

/// A GitHub that refuses every credential, over TLS; its port and its certificate.
async fn refusing() -> (u16, String) {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer =
                b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, key.cert.pem())
}

async fn check(port: u16, settings: HttpSettings) -> fleetfoot_github::GithubError {
    let http = Http::new(settings).unwrap();
    let url = ConfigUrl::parse(&format!("https://localhost:{port}/acme")).unwrap();
    Connection::new(&http, &url, &token("ghp")).unwrap().check().await.unwrap_err()
}

#[tokio::test]
async fn an_authority_must_be_trusted_and_can_be_added() {
    let (port, pem) = refusing().await;
    let error = check(port, HttpSettings::default()).await;
    assert_eq!(error.kind(), &ErrorKind::Certificate, "{}", error.chain());
    assert!(error.chain().contains("github.ca_file"), "{}", error.chain());

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let trusting = HttpSettings { extra_ca: Some(file.path().into()), ..HttpSettings::default() };
    let error = check(port, trusting).await;
    assert_eq!(error.kind(), &ErrorKind::Unauthorized, "{}", error.chain());
}

/// As in a container from scratch: the compiled-in authorities are taken, and the extra one too.
#[test]
fn a_system_without_authorities_falls_back() {
    let this = std::env::current_exe().unwrap();
    let status = Command::new(this)
        .args(["--exact", "tls::child_without_roots"])
        .env(CHILD, "1")
        .env("SSL_CERT_FILE", "/nonexistent/roots.pem")
        .env("SSL_CERT_DIR", "/nonexistent")
        .status()
        .unwrap();
    assert!(status.success());
}

/// Does nothing unless the test above calls it.
#[tokio::test]
async fn child_without_roots() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (port, pem) = refusing().await;
    let http = Http::new(HttpSettings::default()).unwrap();
    assert_eq!(http.roots(true).unwrap(), Roots::BuiltIn);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let extra = HttpSettings { extra_ca: Some(file.path().into()), ..HttpSettings::default() };
    assert_eq!(Http::new(extra.clone()).unwrap().roots(true).unwrap(), Roots::BuiltIn);
    assert_eq!(check(port, extra).await.kind(), &ErrorKind::Unauthorized);
}
