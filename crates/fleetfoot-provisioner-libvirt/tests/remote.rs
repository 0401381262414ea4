//! Daemons of other hosts: a real one that listens for TLS, with an authority made here; and `ssh`, by a stand-in
//! that runs the command on this host.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fleetfoot_provisioner_libvirt::Address;
use fleetfoot_provisioner_libvirt::rpc::{CallError, Connection, ListFlags};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use support::{eventually, virsh};

const URI: &str = "qemu:///system";

/// Asks for the version and the domains.
async fn speaks(address: &str) -> Result<(), CallError> {
    let connection = Connection::open(&Address::parse(address).unwrap(), URI).await?;
    assert!(connection.version().await? > 1_000_000);
    connection.domains(ListFlags::ALL).await.map(drop)
}

/// An authority.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "the authority of a test");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), certificate)
}

/// A certificate and its key in `directory`.
fn issue(authority: &Issuer<'_, KeyPair>, directory: &Path, kind: &str) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![match kind {
        "server" => ExtendedKeyUsagePurpose::ServerAuth,
        _ => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(directory.join(format!("{kind}cert.pem")), certificate.pem()).unwrap();
    std::fs::write(directory.join(format!("{kind}key.pem")), key.serialize_pem()).unwrap();
}

/// A daemon that listens for TLS; it ends with this.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_daemon_is_reached_by_tls() {
    let Some(bench) = support::bench() else { return };
    let directory = tempfile::Builder::new().prefix("t").tempdir_in("/tmp").unwrap();
    let keys = directory.path().join("keys");
    let strangers = directory.path().join("strangers");
    for place in [&keys, &strangers] {
        std::fs::create_dir(place).unwrap();
    }
    let (issuer, certificate) = authority();
    for kind in ["server", "client"] {
        issue(&issuer, &keys, kind);
    }
    let (other, other_certificate) = authority();
    issue(&other, &strangers, "client");
    for place in [&keys, &strangers] {
        std::fs::write(place.join("cacert.pem"), &certificate).unwrap();
    }
    // Free a moment ago; nobody else takes it in between, as a rule.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = keys.display();
    let conf = format!(
        "listen_tls = 1\nlisten_tcp = 0\nlisten_addr = \"127.0.0.1\"\ntls_port = \"{port}\"\nauth_tls = \"none\"\n\
         ca_file = \"{at}/cacert.pem\"\ncert_file = \"{at}/servercert.pem\"\nkey_file = \"{at}/serverkey.pem\"\n"
    );
    let own = directory.path().join("d");
    std::fs::create_dir(&own).unwrap();
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let child = Command::new(&bench.script)
        .arg(&own)
        .env("LIBVIRTD_CONF", conf)
        .env("LIBVIRTD_ARGS", "--listen")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let _daemon = Daemon(child);
    let socket = own.join("libvirt-sock");
    eventually("the daemon answers", || async { virsh(&socket, &["version"]).await.0 }).await;
    let address =
        |keys: &Path| format!("qemu+tls://localhost:{port}/system?pkipath={}", keys.display());
    let spoken = speaks(&address(&keys)).await;
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(spoken.is_ok(), "{spoken:?} {log}");
    // A certificate of somebody else's authority is not taken, and neither is theirs by us.
    let refused = speaks(&address(&strangers)).await;
    assert!(matches!(refused, Err(CallError::Connect { .. })), "{refused:?}");
    std::fs::write(keys.join("cacert.pem"), other_certificate).unwrap();
    let refused = speaks(&address(&keys)).await;
    assert!(matches!(refused, Err(CallError::Connect { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_daemon_is_reached_by_ssh() {
    let Some(bench) = support::bench() else { return };
    let directory = tempfile::tempdir().unwrap();
    let ssh = directory.path().join("ssh");
    // What stands behind `--` and the host is given to a shell, as `sshd` does; `nc` may be missing here.
    let nc = directory.path().join("nc");
    std::fs::write(&nc, "#!/bin/sh\nexec socat - \"UNIX-CONNECT:$2\"\n").unwrap();
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >{0}/words\nwhile [ \"$1\" != -- ]; do shift; done\n\
         PATH=$PATH:{0} exec sh -c \"$3\"\n",
        directory.path().display()
    );
    std::fs::write(&ssh, text).unwrap();
    for program in [&ssh, &nc] {
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let has = |program: &str| {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        found.unwrap().status.success()
    };
    if !has("socat") && !has("nc") {
        println!("SKIPPED: needs socat or nc");
        return;
    }
    let address = format!(
        "qemu+ssh://me@kvm:2222/system?socket={}&command={}",
        bench.socket.display(),
        ssh.display()
    );
    speaks(&address).await.unwrap();
    let words = std::fs::read_to_string(directory.path().join("words")).unwrap();
    let wanted = "-T\n-e\nnone\n-o\nBatchMode=yes\n-p\n2222\n-l\nme\n--\nkvm\nsh -c ";
    assert!(words.starts_with(wanted), "{words}");
    // Nobody is there: the connection ends at once instead of waiting.
    std::fs::write(&ssh, "#!/bin/sh\nexit 255\n").unwrap();
    assert!(matches!(speaks(&address).await, Err(CallError::Lost(_))));
}
