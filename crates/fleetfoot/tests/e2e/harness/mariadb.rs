//! A MariaDB of one test alone, which may kill it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{BOUND, component, eventually};

pub(crate) struct OwnMariaDb {
    script: String,
    /// Its user is nobody, who may not enter a test's own directory.
    dir: TempDir,
    port: u16,
    options: Vec<String>,
    child: Child,
}

impl OwnMariaDb {
    /// Starts one.
    pub(crate) async fn start() -> Option<Self> {
        Self::with(|_| Vec::new()).await
    }

    /// Starts one whose sessions are in this zone unless they say otherwise.
    pub(crate) async fn in_zone(zone: &str) -> Option<Self> {
        let option = format!("--default-time-zone={zone}");
        Self::with(|_| vec![option]).await
    }

    /// Starts one whose certificate an authority of the test's own has signed: `authority.pem`.
    pub(crate) async fn with_tls() -> Option<(Self, PathBuf)> {
        let server = Self::with(certificates).await?;
        let authority = server.dir.path().join("authority.pem");
        Some((server, authority))
    }

    async fn with(options: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        let script = component("mariadb", "FLEETFOOT_TEST_MARIADBD")?;
        let parent =
            std::env::var_os("FLEETFOOT_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = tempfile::Builder::new()
            .prefix("m")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in(parent)
            .unwrap();
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let options = options(dir.path());
        let child = spawn(&script, &dir, port, &options);
        let server = Self { script, dir, port, options, child };
        server.answers().await;
        Some(server)
    }

    /// Where its tests' databases are made.
    pub(crate) fn url(&self) -> String {
        format!("mysql://fleetfoot:fleetfoot@127.0.0.1:{}/fleetfoot", self.port)
    }

    /// As lines of a log name it.
    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn answers(&self) {
        eventually("the database answers", BOUND, || async {
            let asked = sqlx::mysql::MySqlPool::connect(&self.url()).await.ok()?;
            asked.close().await;
            Some(())
        })
        .await;
    }

    /// SIGKILL, as a crash.
    pub(crate) async fn kill(&mut self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        tokio::time::timeout(BOUND, self.child.wait()).await.expect("mariadbd ends").unwrap();
    }

    /// Starts it again, with all that it had.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(&self.script, &self.dir, self.port, &self.options);
        self.answers().await;
    }
}

/// An authority, and a server's certificate and key, as the server's options name them.
fn certificates(dir: &Path) -> Vec<String> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    write("authority.pem", authority.pem());
    vec![
        format!("--ssl-cert={}", write("server.pem", certificate.pem())),
        format!("--ssl-key={}", write("key.pem", key.serialize_pem())),
    ]
}

fn spawn(script: &str, dir: &TempDir, port: u16, options: &[String]) -> Child {
    let open = std::fs::File::options().create(true).append(true).open(dir.path().join("log"));
    let log = open.unwrap();
    let mut command = Command::new(script);
    command.arg(dir.path()).arg(port.to_string()).args(options);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    command.kill_on_drop(true).spawn().unwrap()
}
