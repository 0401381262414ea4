//! A database server of one case's own, since it is ended and started again in the middle of its work.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::database::Kind;
use crate::eventually;

/// Neither server runs as root.
const NOBODY: u32 = 65534;
/// A server that was ended in the middle of its work reads its log first.
const STARTS: Duration = Duration::from_secs(120);

/// A server process with a directory of its own. It is killed when it falls.
pub(crate) struct Server {
    kind: Kind,
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

/// Debian keeps the programs of each version of PostgreSQL in a directory that is not in `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let plain = ["/usr/sbin", "/usr/bin"].map(PathBuf::from);
    let all = versions.chain(std::env::split_paths(&path)).chain(plain);
    all.map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn needed(kind: Kind) -> [&'static str; 2] {
    match kind {
        Kind::Postgres => ["initdb", "postgres"],
        Kind::Mariadb => ["mariadb-install-db", "mariadbd"],
    }
}

impl Server {
    /// Its programs are on this machine.
    pub(crate) fn is_there(kind: Kind) -> bool {
        needed(kind).into_iter().all(|name| program(name).is_some())
    }

    pub(crate) async fn start(kind: Kind) -> Self {
        let parent =
            std::env::var_os("FLEETFOOT_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = tempfile::Builder::new().prefix("s").tempdir_in(parent).unwrap();
        if rustix::process::getuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut server = Self { kind, dir, port: free_port(), child: None };
        server.initialize().await;
        server.begin().await;
        server
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, name: &str) -> Command {
        let program = program(name).unwrap();
        let mut command = if rustix::process::getuid().is_root() {
            let mut command = Command::new("setpriv");
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.dir.path()).env("HOME", "/nonexistent").stdin(Stdio::null());
        command
    }

    async fn initialize(&self) {
        let data = self.data();
        let mut command = self.command(needed(self.kind)[0]);
        match self.kind {
            Kind::Postgres => {
                command.arg("-D").arg(&data);
                command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
            }
            Kind::Mariadb => {
                command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
            }
        }
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if self.kind == Kind::Mariadb {
            let setup = "CREATE USER 'fleetfoot'@'127.0.0.1' IDENTIFIED BY 'fleetfoot';\n\
                         GRANT ALL ON *.* TO 'fleetfoot'@'127.0.0.1' WITH GRANT OPTION;\n";
            std::fs::write(self.setup(), setup).unwrap();
        }
    }

    fn setup(&self) -> PathBuf {
        self.dir.path().join("setup.sql")
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn begin(&mut self) {
        let (data, port) = (self.data(), self.port.to_string());
        let mut command = self.command(needed(self.kind)[1]);
        match self.kind {
            Kind::Postgres => {
                command.arg("-D").arg(&data).arg("-k").arg(self.dir.path());
                command.args(["-h", "127.0.0.1", "-p", &port, "-c", "max_connections=200"]);
            }
            Kind::Mariadb => {
                command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                command.arg(format!("--socket={}", self.dir.path().join("s").display()));
                command.arg(format!("--pid-file={}", self.dir.path().join("pid").display()));
                command.arg(format!("--port={port}")).arg("--bind-address=127.0.0.1");
                command.args(["--innodb-buffer-pool-size=32M", "--skip-name-resolve"]);
                // Only the first start finds it.
                if self.setup().exists() {
                    command.arg(format!("--init-file={}", self.setup().display()));
                }
            }
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
        self.child = Some(command.spawn().unwrap());
        let url = self.url();
        let answered = async {
            while answers(self.kind, &url).await.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let answered = tokio::time::timeout(STARTS, answered).await;
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        assert!(answered.is_ok(), "the database server does not answer: {log}");
        let _ = std::fs::remove_file(self.setup());
    }

    /// Ends it as a crash of its host would: nothing is finished, nobody is told.
    pub(crate) async fn crash(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        // Its children end when they notice; a start before that would be refused.
        kill_process(pid, Signal::KILL).unwrap();
        child.wait().await.unwrap();
        if self.kind == Kind::Postgres {
            let data = self.data();
            eventually("the server's children have ended", STARTS, || async {
                (!any_child_of(&data)).then_some(())
            })
            .await;
        }
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        let port = self.port;
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Kind::Mariadb => format!("mysql://fleetfoot:fleetfoot@127.0.0.1:{port}/mysql"),
        }
    }
}

/// A port that nobody gets who asks for any: it has to be free again when the server comes back.
fn free_port() -> u16 {
    const BELOW_THOSE: std::ops::Range<u16> = 26_000..32_000;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(BELOW_THOSE)).find(is_free).unwrap()
}

/// A process of this data directory is left.
fn any_child_of(data: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut homes = processes.filter_map(|it| std::fs::read_link(it.path().join("cwd")).ok());
    homes.any(|home| home == data)
}

async fn answers(kind: Kind, url: &str) -> Option<()> {
    match kind {
        Kind::Postgres => sqlx::postgres::PgPool::connect(url).await.ok()?.close().await,
        Kind::Mariadb => sqlx::mysql::MySqlPool::connect(url).await.ok()?.close().await,
    }
    Some(())
}
