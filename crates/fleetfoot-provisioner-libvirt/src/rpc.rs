//! Talking to a libvirt daemon: one connection, its calls, its events.
//!
//! ```text
//! call ─▶ [slot of 4] ─▶ frame ─▶ daemon          reader ─▶ reply: to whoever asked
//!                                                        ├▶ event: to everybody who listens
//!                                                        └▶ ping: answered at once
//! ```
//!
//! A call that is dropped keeps its slot until the daemon has answered: what was sent may still happen, and
//! the daemon stops reading from a client that has more than five calls open, pings included.

mod calls;
mod connection;
mod remote;
mod transport;

use std::io;

use crate::wire::{DecodeError, RemoteError};

pub use calls::{AgentAnswer, ListFlags};
pub use connection::Connection;
pub use remote::Remote;
pub use transport::{Address, AddressError};

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The daemon cannot be reached.
    #[error("cannot reach libvirt at {address}")]
    Connect {
        /// Where it was looked for.
        address: String,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The connection broke, or nothing came any more: the call may have happened.
    #[error("the connection to libvirt broke: {0}")]
    Lost(String),
    /// The daemon refused.
    #[error("{0}")]
    Refused(RemoteError),
    /// The daemon's answer makes no sense.
    #[error("libvirt answered something unknown")]
    Odd(#[source] DecodeError),
    /// The daemon wants a login that we do not have.
    #[error("libvirt wants a login ({0}); allow the socket to this user")]
    Login(String),
}

impl CallError {
    /// The number of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Refused(error) => Some(error.code),
            Self::Connect { .. } | Self::Lost(_) | Self::Odd(_) | Self::Login(_) => None,
        }
    }

    /// Whether there is no such domain.
    #[must_use]
    pub fn is_no_domain(&self) -> bool {
        self.code() == Some(RemoteError::NO_DOMAIN)
    }
}

impl From<DecodeError> for CallError {
    fn from(error: DecodeError) -> Self {
        Self::Odd(error)
    }
}
