//! Signals as wishes: the first one stops in order, the second one at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What an operator wants of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Stop in order.
    Stop,
}

/// The signals as they come.
#[derive(Debug)]
pub(crate) struct Wishes {
    interrupt: Signal,
    terminate: Signal,
}

/// Begins to receive signals.
pub(crate) fn listen() -> io::Result<Wishes> {
    Ok(Wishes {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
    })
}

/// Begins to receive SIGHUP: the wish to read the configuration again.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

impl Wishes {
    /// The next wish.
    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.terminate.recv() => Wish::Stop,
        }
    }

    /// From now on a signal ends the process at once.
    pub(crate) fn exit_on_the_next(mut self) {
        fleetfoot_controller::Tasks::default().spawn("second signal", async move {
            let Wish::Stop = self.next().await;
            tracing::warn!("second signal, exiting at once");
            std::process::exit(1);
        });
    }
}
