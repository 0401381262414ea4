//! Daemons of other hosts: a real one that listens for TLS, with an authority made here; and `ssh`, by a real sshd on
//! this host's loopback interface, and by a stand-in that runs the command.
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

use fleetfoot_provisioner::{Event, Provisioner};
use fleetfoot_provisioner_libvirt::rpc::{CallError, Connection, ListFlags};
use fleetfoot_provisioner_libvirt::{Address, LibvirtEngine, LibvirtProvisioner};
use futures_util::StreamExt as _;
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

/// An sshd of the test's own, and what its client needs. It ends with the test.
struct Sshd {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Sshd {
    /// `None` after it said what is missing.
    fn start() -> Option<Self> {
        let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"];
        let program = program.into_iter().find(|path| Path::new(path).exists());
        let (Some(program), true) = (program, has("ssh") && has("ssh-keygen")) else {
            println!("SKIPPED: needs sshd");
            return None;
        };
        if !has("nc") && !has("socat") {
            println!("SKIPPED: needs socat or nc");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("s").tempdir_in("/tmp").unwrap();
        let at = directory.path();
        for key in ["host", "mine", "stranger"] {
            let path = at.join(key);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"])
                .arg(path)
                .status();
            assert!(made.unwrap().success());
        }
        std::fs::copy(at.join("mine.pub"), at.join("authorized")).unwrap();
        if !has("nc") {
            write_program(&at.join("nc"), "#!/bin/sh\nexec socat - \"UNIX-CONNECT:$2\"\n");
        }
        // Free a moment ago; nobody else takes it in between, as a rule.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let here = at.display();
        let conf = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {here}/host\nAuthorizedKeysFile {here}/authorized\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nSetEnv PATH={here}:/usr/local/bin:/usr/bin:/bin\n"
        );
        std::fs::write(at.join("sshd.conf"), conf).unwrap();
        let host = std::fs::read_to_string(at.join("host.pub")).unwrap();
        std::fs::write(at.join("known"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        let client = format!(
            "#!/bin/sh\nexec ssh -F /dev/null -o UserKnownHostsFile={here}/known -o GlobalKnownHostsFile=/dev/null \
             -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o IdentityAgent=none \"$@\"\n"
        );
        write_program(&at.join("client"), &client);
        // Where root's sshd keeps its unprivileged part.
        let _ = std::fs::create_dir_all("/run/sshd");
        let child = Self::spawn(program, at);
        Some(Self { child, port, directory })
    }

    fn spawn(program: &str, at: &Path) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(at.join("log")).unwrap();
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(at.join("sshd.conf"));
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    async fn listens(&self) {
        eventually("sshd listens", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
        })
        .await;
    }

    fn address(&self, key: &str, socket: &Path) -> String {
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let here = self.directory.path().display();
        format!(
            "qemu+ssh://{}@127.0.0.1:{}/system?socket={}&keyfile={here}/{key}&command={here}/client",
            String::from_utf8(user).unwrap().trim(),
            self.port,
            socket.display(),
        )
    }

    /// Ends the processes that serve its sessions, by the marks of this sshd.
    fn end_sessions(&self) {
        let own = self.child.id().to_string();
        let found = Command::new("pgrep").args(["-P", &own]).output().unwrap().stdout;
        for pid in String::from_utf8(found).unwrap().split_whitespace() {
            assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.end_sessions();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    found.unwrap().status.success()
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A machine's whole life through a real `ssh` to a real sshd; a session that breaks in the middle costs nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_live_through_a_real_sshd() {
    let Some(bench) = support::bench() else { return };
    let Some(sshd) = Sshd::start() else { return };
    sshd.listens().await;
    let address = sshd.address("mine", &bench.socket);
    let spoken = speaks(&address).await;
    assert!(spoken.is_ok(), "{spoken:?} {}", sshd.log());
    // A key that nobody there knows ends it at once, and nobody is asked.
    let refused = speaks(&sshd.address("stranger", &bench.socket)).await;
    assert!(matches!(refused, Err(CallError::Lost(_))), "{refused:?}");
    // Neither does it speak to a host that it does not know.
    let known = sshd.directory.path().join("known");
    let own = std::fs::read_to_string(&known).unwrap();
    let stranger = std::fs::read_to_string(sshd.directory.path().join("stranger.pub")).unwrap();
    std::fs::write(&known, format!("[127.0.0.1]:{} {stranger}", sshd.port)).unwrap();
    assert!(matches!(speaks(&address).await, Err(CallError::Lost(_))));
    std::fs::write(&known, own).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let engine = LibvirtEngine::open(
        Address::parse(&address).unwrap(),
        &directory.path().join("records"),
        support::installation(),
    )
    .unwrap();
    let pool = support::pool(&bench.guest, directory.path());
    let provisioner = LibvirtProvisioner::new(engine, pool);
    let mut events = provisioner.watch().await.unwrap();
    let spec = support::spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    sshd.end_sessions();
    let text = "while [ ! -e /tmp/go ]; do sleep 0.2; done; exit 5";
    let resynced = tokio::time::timeout(support::BOUND, events.next()).await.unwrap();
    assert_eq!(resynced, Some(Event::Resynced));
    provisioner.launch(&spec, &handle, &support::script(text)).await.unwrap();
    let command = r#"{"execute":"guest-exec","arguments":{"path":"/bin/touch","arg":["/tmp/go"]}}"#;
    let (ok, told) =
        virsh(&bench.socket, &["qemu-agent-command", spec.name.as_str(), command]).await;
    assert!(ok, "{told}");
    let ended = tokio::time::timeout(support::BOUND, events.next()).await.unwrap();
    let Some(Event::Ended { name, exit }) = ended else { panic!("{ended:?}") };
    assert_eq!((name, exit.code), (spec.name.clone(), Some(5)));
    provisioner.delete(&spec.name).await.unwrap();
    assert!(!support::domains(&bench.socket).await.iter().any(|it| it == spec.name.as_str()));
}
