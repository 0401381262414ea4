//! The calls that this room makes, each with its own types.

use std::time::Duration;

use uuid::Uuid;

use super::{CallError, Connection};
use crate::wire::{DecodeError, Domain, Program, Reader, RemoteError, Writer, procedure};

/// More domains than this are no answer.
const DOMAINS_MAX: usize = 16_384;
/// No login.
const AUTH_NONE: i32 = 0;
/// Metadata in an element of our namespace.
const METADATA_ELEMENT: i32 = 2;

/// Which domains to list: all bits of one kind together mean that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListFlags(u32);

impl ListFlags {
    /// Every domain.
    pub const ALL: Self = Self(0);
    /// Those that vanish when they stop, which is how the original and we make them.
    pub const TRANSIENT: Self = Self(8);
}

/// What an agent said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentAnswer {
    /// Its JSON.
    Said(String),
    /// It is not there (yet), or does not answer in time.
    Silent(String),
    /// It is there and refuses the command.
    Refused(String),
}

/// Agrees on no login and opens the driver.
pub(crate) async fn initialize(connection: &Connection, uri: &str) -> Result<(), CallError> {
    let answer = connection.call(Program::Remote, procedure::AUTH_LIST, Vec::new()).await?;
    let kinds = Reader::new(&answer).array(20, Reader::i32)?;
    if !kinds.is_empty() && !kinds.contains(&AUTH_NONE) {
        let kinds = kinds.iter().map(|kind| match kind {
            1 => "SASL".to_owned(),
            2 => "polkit".to_owned(),
            other => format!("kind {other}"),
        });
        return Err(CallError::Login(kinds.collect::<Vec<_>>().join(", ")));
    }
    let payload = Writer::new().optional_string(Some(uri)).u32(0).into_bytes();
    connection.call(Program::Remote, procedure::CONNECT_OPEN, payload).await?;
    Ok(())
}

impl Connection {
    async fn remote(&self, number: i32, payload: Writer) -> Result<Vec<u8>, CallError> {
        self.call(Program::Remote, number, payload.into_bytes()).await
    }

    async fn on_domain(&self, number: i32, domain: &Domain) -> Result<Vec<u8>, CallError> {
        self.remote(number, domain.write(Writer::new())).await
    }

    /// The driver's version, as 1000000 * major + 1000 * minor + release.
    pub async fn version(&self) -> Result<u64, CallError> {
        let answer = self.remote(procedure::CONNECT_GET_VERSION, Writer::new()).await?;
        Ok(Reader::new(&answer).u64()?)
    }

    /// What the host can do, as XML.
    pub async fn capabilities(&self) -> Result<String, CallError> {
        let answer = self.remote(procedure::CONNECT_GET_CAPABILITIES, Writer::new()).await?;
        Ok(Reader::new(&answer).string()?)
    }

    /// Says goodbye.
    pub async fn close(&self) -> Result<(), CallError> {
        self.remote(procedure::CONNECT_CLOSE, Writer::new()).await.map(drop)
    }

    /// The domains there are.
    pub async fn domains(&self, flags: ListFlags) -> Result<Vec<Domain>, CallError> {
        let payload = Writer::new().i32(1).u32(flags.0);
        let answer = self.remote(procedure::CONNECT_LIST_ALL_DOMAINS, payload).await?;
        let mut reader = Reader::new(&answer);
        let domains = reader.array(DOMAINS_MAX, Domain::read)?;
        let counted = reader.u32()?;
        // A list that is not what it counted is no list.
        if usize::try_from(counted).ok() != Some(domains.len()) {
            return Err(DecodeError::BadValue.into());
        }
        Ok(domains)
    }

    /// The domain of this name.
    pub async fn domain_named(&self, name: &str) -> Result<Option<Domain>, CallError> {
        let payload = Writer::new().string(name);
        found(self.remote(procedure::DOMAIN_LOOKUP_BY_NAME, payload).await)
    }

    /// The domain of this UUID.
    pub async fn domain_of(&self, uuid: Uuid) -> Result<Option<Domain>, CallError> {
        let payload = Writer::new().bytes(uuid.as_bytes());
        found(self.remote(procedure::DOMAIN_LOOKUP_BY_UUID, payload).await)
    }

    /// Makes and starts a domain that vanishes when it stops.
    pub async fn create(&self, xml: &str) -> Result<Domain, CallError> {
        let payload = Writer::new().string(xml).u32(0);
        let answer = self.remote(procedure::DOMAIN_CREATE_XML, payload).await?;
        Ok(Domain::read(&mut Reader::new(&answer))?)
    }

    /// Pulls the plug. True if it was there.
    pub async fn destroy(&self, domain: &Domain) -> Result<bool, CallError> {
        gone(self.on_domain(procedure::DOMAIN_DESTROY, domain).await)
    }

    /// Stops its processors.
    pub async fn suspend(&self, domain: &Domain) -> Result<(), CallError> {
        self.on_domain(procedure::DOMAIN_SUSPEND, domain).await.map(drop)
    }

    /// Lets its processors go on.
    pub async fn resume(&self, domain: &Domain) -> Result<(), CallError> {
        self.on_domain(procedure::DOMAIN_RESUME, domain).await.map(drop)
    }

    /// Writes its memory to a file; the domain is gone then.
    pub async fn save(&self, domain: &Domain, file: &str) -> Result<(), CallError> {
        let payload = domain.write(Writer::new()).string(file);
        self.remote(procedure::DOMAIN_SAVE, payload).await.map(drop)
    }

    /// Starts a domain from a file that [`save`](Self::save) wrote.
    pub async fn restore(&self, file: &str) -> Result<(), CallError> {
        self.remote(procedure::DOMAIN_RESTORE, Writer::new().string(file)).await.map(drop)
    }

    /// Its state and the reason for it.
    pub async fn state(&self, domain: &Domain) -> Result<Option<(i32, i32)>, CallError> {
        let payload = domain.write(Writer::new()).u32(0);
        let answer = match self.remote(procedure::DOMAIN_GET_STATE, payload).await {
            Err(error) if error.is_no_domain() => return Ok(None),
            other => other?,
        };
        let mut reader = Reader::new(&answer);
        Ok(Some((reader.i32()?, reader.i32()?)))
    }

    /// How much time its processors have had since its start.
    pub async fn processor_time(&self, domain: &Domain) -> Result<Duration, CallError> {
        let answer = self.on_domain(procedure::DOMAIN_GET_INFO, domain).await?;
        let mut reader = Reader::new(&answer);
        // State, memory (the most and now), number of processors.
        let _ = (reader.u32()?, reader.u64()?, reader.u64()?, reader.u32()?);
        Ok(Duration::from_nanos(reader.u64()?))
    }

    /// Sets the guest's clock through its agent.
    pub async fn set_time(&self, domain: &Domain, since_epoch: Duration) -> Result<(), CallError> {
        let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        let payload =
            domain.write(Writer::new()).i64(seconds).u32(since_epoch.subsec_nanos()).u32(0);
        self.remote(procedure::DOMAIN_SET_TIME, payload).await.map(drop)
    }

    /// Its description.
    pub async fn xml(&self, domain: &Domain) -> Result<Option<String>, CallError> {
        let payload = domain.write(Writer::new()).u32(0);
        match self.remote(procedure::DOMAIN_GET_XML_DESC, payload).await {
            Err(error) if error.is_no_domain() => Ok(None),
            other => Ok(Some(Reader::new(&other?).string()?)),
        }
    }

    /// The metadata of a namespace; `None` if it has none, or is gone.
    pub async fn metadata(
        &self,
        domain: &Domain,
        namespace: &str,
    ) -> Result<Option<String>, CallError> {
        let payload = domain
            .write(Writer::new())
            .i32(METADATA_ELEMENT)
            .optional_string(Some(namespace))
            .u32(0);
        match self.remote(procedure::DOMAIN_GET_METADATA, payload).await {
            Err(error)
                if error.is_no_domain() || error.code() == Some(RemoteError::NO_METADATA) =>
            {
                Ok(None)
            }
            other => Ok(Some(Reader::new(&other?).string()?)),
        }
    }

    /// Whether there is a network of this name.
    pub async fn has_network(&self, name: &str) -> Result<bool, CallError> {
        let payload = Writer::new().string(name);
        match self.remote(procedure::NETWORK_LOOKUP_BY_NAME, payload).await {
            Err(error) if error.code() == Some(RemoteError::NO_NETWORK) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Asks the daemon to tell of every domain's life.
    pub(crate) async fn listen(&self) -> Result<(), CallError> {
        // Event 0, of no particular domain.
        let payload = Writer::new().i32(0).u32(0);
        self.remote(procedure::EVENT_REGISTER_ANY, payload).await.map(drop)
    }

    /// Sends a command to the guest's agent.
    pub async fn agent(
        &self,
        domain: &Domain,
        command: &str,
        answer_max: Duration,
    ) -> Result<AgentAnswer, CallError> {
        let seconds = i32::try_from(answer_max.as_secs().max(1)).unwrap_or(i32::MAX);
        let payload = domain.write(Writer::new()).string(command).i32(seconds).u32(0);
        let payload = payload.into_bytes();
        match self.call(Program::Qemu, procedure::QEMU_AGENT_COMMAND, payload).await {
            Ok(answer) => {
                let said = Reader::new(&answer).optional(Reader::string)?;
                Ok(AgentAnswer::Said(said.unwrap_or_default()))
            }
            Err(CallError::Refused(error)) => agent_error(error),
            Err(error) => Err(error),
        }
    }
}

fn agent_error(error: RemoteError) -> Result<AgentAnswer, CallError> {
    match error.code {
        RemoteError::AGENT_UNRESPONSIVE | RemoteError::AGENT_UNSYNCED => {
            Ok(AgentAnswer::Silent(error.to_string()))
        }
        RemoteError::AGENT_COMMAND_FAILED => Ok(AgentAnswer::Refused(error.to_string())),
        _ if error.message.contains("guest agent command") => {
            Ok(AgentAnswer::Refused(error.to_string()))
        }
        _ if error.message.contains("guest agent") => Ok(AgentAnswer::Silent(error.to_string())),
        _ => Err(CallError::Refused(error)),
    }
}

fn found(answer: Result<Vec<u8>, CallError>) -> Result<Option<Domain>, CallError> {
    match answer {
        Err(error) if error.is_no_domain() => Ok(None),
        other => Ok(Some(Domain::read(&mut Reader::new(&other?))?)),
    }
}

fn gone(answer: Result<Vec<u8>, CallError>) -> Result<bool, CallError> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.is_no_domain() => Ok(false),
        // It stopped between the look and the call.
        Err(CallError::Refused(error))
            if error.code == RemoteError::INVALID && error.message.contains("not running") =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
