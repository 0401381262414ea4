//! The payloads that are more than a number or a string.

use std::fmt;

use uuid::Uuid;

use super::xdr::{DecodeError, Reader, Writer};

/// A domain as calls name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Its UUID, by which the daemon finds it.
    pub uuid: Uuid,
    /// Its number while it runs, else -1.
    pub id: i32,
}

impl Domain {
    /// Reads one.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = reader.string()?;
        let uuid = Uuid::from_bytes(reader.bytes()?);
        Ok(Self { name, uuid, id: reader.i32()? })
    }

    /// Writes it.
    #[must_use]
    pub fn write(&self, writer: Writer) -> Writer {
        writer.string(&self.name).bytes(self.uuid.as_bytes()).i32(self.id)
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.id >= 0
    }
}

/// The daemon's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    /// Its number.
    pub code: i32,
    /// Its words.
    pub message: String,
}

impl RemoteError {
    /// Operation failed.
    pub const OPERATION_FAILED: i32 = 9;
    /// System error.
    pub const SYSTEM: i32 = 38;
    /// No such domain.
    pub const NO_DOMAIN: i32 = 42;
    /// No such network.
    pub const NO_NETWORK: i32 = 43;
    /// Not in this state.
    pub const INVALID: i32 = 55;
    /// No metadata of that kind.
    pub const NO_METADATA: i32 = 80;
    /// The agent does not answer.
    pub const AGENT_UNRESPONSIVE: i32 = 86;
    /// The agent answered, but not within its time.
    pub const AGENT_UNSYNCED: i32 = 97;
    /// The agent refuses the command.
    pub const AGENT_COMMAND_FAILED: i32 = 107;

    /// Reads one.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = reader.i32()?;
        let _domain = reader.i32()?;
        let message = reader.optional(Reader::string)?;
        Ok(Self { code, message: message.unwrap_or_default() })
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return write!(f, "libvirt error {}", self.code);
        }
        let message = self.message.trim().replace('\n', " ");
        write!(f, "{message} (libvirt error {})", self.code)
    }
}

/// What happened to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// To which.
    pub domain: Domain,
    /// What: 2 started, 5 stopped, 8 crashed, …
    pub event: i32,
    /// How.
    pub detail: i32,
}

impl LifecycleEvent {
    /// Reads one.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let _callback = reader.i32()?;
        let domain = Domain::read(reader)?;
        Ok(Self { domain, event: reader.i32()?, detail: reader.i32()? })
    }

    /// Whether the domain is gone, and in what words.
    #[must_use]
    pub fn ending(&self) -> Option<&'static str> {
        match (self.event, self.detail) {
            (5, 0) => Some("the machine shut down"),
            (5, 1) => Some("the machine was destroyed"),
            (5, 2) | (8, _) => Some("the machine crashed"),
            (5, 5) => Some("the machine failed"),
            (5, _) => Some("the machine stopped"),
            _ => None,
        }
    }
}
