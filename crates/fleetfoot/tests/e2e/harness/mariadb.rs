//! A MariaDB of one test alone, which may kill it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{BOUND, component, eventually};

pub(crate) struct OwnMariaDb {
    script: String,
    /// Its user is nobody, who may not enter a test's own directory.
    dir: TempDir,
    port: u16,
    child: Child,
}

impl OwnMariaDb {
    /// Starts one.
    pub(crate) async fn start() -> Option<Self> {
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
        let child = spawn(&script, &dir, port);
        let server = Self { script, dir, port, child };
        server.answers().await;
        Some(server)
    }

    /// Where its tests' databases are made.
    pub(crate) fn url(&self) -> String {
        format!("mysql://fleetfoot:fleetfoot@127.0.0.1:{}/fleetfoot", self.port)
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
        self.child = spawn(&self.script, &self.dir, self.port);
        self.answers().await;
    }
}

fn spawn(script: &str, dir: &TempDir, port: u16) -> Child {
    let open = std::fs::File::options().create(true).append(true).open(dir.path().join("log"));
    let log = open.unwrap();
    let mut command = Command::new(script);
    command.arg(dir.path()).arg(port.to_string());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    command.kill_on_drop(true).spawn().unwrap()
}
