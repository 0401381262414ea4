//! Engines that are not behind a socket of this host: TCP with TLS, and ssh.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods
)]

#[allow(unreachable_pub)]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use fleetfoot_provisioner::{Provisioner, Severity};
use fleetfoot_provisioner_docker::{DockerEngine, DockerProvisioner, EngineSettings};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::{installation, pool, script, spec};
use tokio::net::{TcpListener, UnixStream};

fn openssl(directory: &Path, arguments: &str) -> bool {
    let mut command = Command::new("openssl");
    command
        .current_dir(directory)
        .args(arguments.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// ca.pem, and a certificate of it for 127.0.0.1 that serves both sides. False without openssl.
fn certificates(directory: &Path) -> bool {
    std::fs::write(directory.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let curve = "ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(
        directory,
        &format!("req -x509 -newkey {curve} -keyout ca.key -out ca.pem -subj /CN=test-ca"),
    ) && openssl(
        directory,
        &format!(
            "req -newkey {} -keyout key.pem -out csr -subj /CN=engine",
            curve.replace(" -days 2", "")
        ),
    ) && openssl(
        directory,
        "x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem",
    )
}

/// The engine's socket behind TLS that asks the client for its certificate.
async fn serve(directory: &Path, socket: PathBuf) -> u16 {
    let read = |name: &str| {
        CertificateDer::pem_file_iter(directory.join(name)).unwrap().map(Result::unwrap)
    };
    let mut roots = rustls::RootCertStore::empty();
    read("ca.pem").for_each(|certificate| roots.add(certificate).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    );
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            read("cert.pem").collect(),
            PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut engine = UnixStream::connect(socket).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut engine).await;
            });
        }
    });
    port
}

fn settings(host: String, variables: &[(&str, String)]) -> EngineSettings {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    EngineSettings { host: Some(host), variables: BTreeMap::from_iter(variables) }
}

/// Makes, lists and deletes a container there.
async fn works(engine: Arc<DockerEngine>, number: u32) {
    let provisioner = DockerProvisioner::new(engine, pool(), installation());
    let findings = provisioner.check().await;
    assert!(findings.iter().all(|it| it.severity != Severity::Error), "{findings:?}");
    let spec = spec(number);
    provisioner.create(&spec, Some(&script("sleep 100"))).await.unwrap();
    let listing = provisioner.list().await.unwrap();
    assert!(listing.environments.iter().any(|it| it.name == spec.name));
    provisioner.delete(&spec.name).await.unwrap();
}

#[tokio::test]
async fn an_engine_behind_tls_knows_both_certificates() {
    let Some(socket) = support::socket("docker") else { return };
    let directory = tempfile::tempdir().unwrap();
    if !certificates(directory.path()) {
        println!("SKIPPED: needs openssl");
        return;
    }
    support::import(&*support::engine(&socket).await).await;
    let port = serve(directory.path(), socket).await;
    let host = format!("tcp://127.0.0.1:{port}");
    let path = directory.path().display().to_string();
    let known = settings(host.clone(), &[("DOCKER_CERT_PATH", path)]);
    works(DockerEngine::connect(known).await.unwrap(), 40).await;

    let other = tempfile::tempdir().unwrap();
    assert!(certificates(other.path()));
    let stranger = settings(host, &[("DOCKER_CERT_PATH", other.path().display().to_string())]);
    let engine = DockerEngine::connect(stranger).await.unwrap();
    let error = DockerProvisioner::new(engine, pool(), installation()).list().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn an_engine_is_reached_by_ssh_as_the_command_does() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(socket) = support::socket("docker") else { return };
    if !Command::new("docker")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|it| it.success())
    {
        println!("SKIPPED: needs docker");
        return;
    }
    support::import(&*support::engine(&socket).await).await;
    let directory = tempfile::tempdir().unwrap();
    let (ssh, told) = (directory.path().join("ssh"), directory.path().join("told"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >{}\nexec docker -H unix://{} system dial-stdio\n",
        told.display(),
        socket.display()
    );
    std::fs::write(&ssh, script).unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().display().to_string();
    let engine = DockerEngine::connect(settings("ssh://me@far:2222".to_owned(), &[("PATH", path)]))
        .await
        .unwrap();
    works(engine, 41).await;
    let told = std::fs::read_to_string(told).unwrap();
    assert_eq!(
        told,
        "-o ConnectTimeout=30 -o BatchMode=yes -T -l me -p 2222 -- far docker system dial-stdio\n"
    );
}
