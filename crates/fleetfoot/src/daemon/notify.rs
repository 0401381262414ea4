//! What a service manager is told: ready, reloading, stopping, and that we live.
//!
//! systemd names a datagram socket in `NOTIFY_SOCKET` (sd_notify(3)); without it nothing is said. A message that cannot be sent
//! is not worth an error: the manager's own time limits stand.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The way to the service manager, if one waits to be told.
#[derive(Debug, Clone, Default)]
pub(super) struct Notify {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let variable = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let pid = variable("WATCHDOG_PID");
        let ours = pid.is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = variable("WATCHDOG_USEC").filter(|_| ours);
        Self::at(&address, watchdog.map(Duration::from_micros))
    }

    fn at(address: &OsString, watchdog: Option<Duration>) -> Self {
        match connect(address) {
            Ok(socket) => Self { socket: Some(Arc::new(socket)), watchdog },
            Err(error) => {
                tracing::warn!(%error, "service manager cannot be told");
                Self::default()
            }
        }
    }

    /// Started: pools are served, the control socket answers.
    pub(super) fn ready(&self) {
        self.say("READY=1\n");
    }

    /// Reading the configuration again; [`ready`](Self::ready) ends it.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\n"));
    }

    /// On the way out.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\n");
    }

    /// Tells the watchdog, for as long as this is polled, that the runtime still turns.
    pub(super) async fn stay_alive(&self) -> std::convert::Infallible {
        let Some(period) = self.watchdog.filter(|_| self.socket.is_some()) else {
            return std::future::pending().await;
        };
        let mut interval = tokio::time::interval(period / 2);
        loop {
            interval.tick().await;
            self.say("WATCHDOG=1\n");
        }
    }

    fn say(&self, message: &str) {
        if let Some(socket) = &self.socket {
            // See the module: its own time limits stand.
            let _ = socket.send(message.as_bytes()).is_ok();
        }
    }
}

fn connect(address: &OsString) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&abstract_address(name)?)?,
        None => socket.connect(address)?,
    }
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let read = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_hears_every_state_by_path_and_by_abstract_name() {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("notify");
        let name = format!("@fleetfoot-notify-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let address = abstract_address(&name.as_bytes()[1..]).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (manager, address) in [(by_path, path.into_os_string()), (by_name, name.into())] {
            let notify = Notify::at(&address, Some(Duration::from_secs(10)));
            notify.ready();
            assert_eq!(heard(&manager), "READY=1\n");
            notify.reloading();
            assert!(heard(&manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));
            let alive = tokio::time::timeout(Duration::from_secs(11), notify.stay_alive()).await;
            assert!(alive.is_err());
            for _ in 0..3 {
                assert_eq!(heard(&manager), "WATCHDOG=1\n");
            }
            notify.stopping();
            assert_eq!(heard(&manager), "STOPPING=1\n");
        }
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let notify = Notify::at(&"/nowhere/notify".into(), None);
        notify.ready();
        assert!(notify.socket.is_none());
    }
}
