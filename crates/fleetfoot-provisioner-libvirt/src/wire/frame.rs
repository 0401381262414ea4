//! Frames: a length, six words of header, a payload.

use super::xdr::{DecodeError, Reader, Writer};

/// Length word and header.
pub const HEADER_LEN: usize = 28;
/// The longest frame that libvirt itself allows.
pub const FRAME_MAX: usize = 32 << 20;

/// Which table of procedures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The driver's calls.
    Remote,
    /// What only QEMU has.
    Qemu,
    /// Pings.
    Keepalive,
    /// One that we do not speak.
    Other(u32),
}

impl Program {
    fn number(self) -> u32 {
        match self {
            Self::Remote => 0x2000_8086,
            Self::Qemu => 0x2000_8087,
            Self::Keepalive => 0x6b65_6570,
            Self::Other(number) => number,
        }
    }

    fn of(number: u32) -> Self {
        match number {
            0x2000_8086 => Self::Remote,
            0x2000_8087 => Self::Qemu,
            0x6b65_6570 => Self::Keepalive,
            other => Self::Other(other),
        }
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call.
    Call,
    /// Its answer.
    Reply,
    /// An event, or a keepalive.
    Event,
    /// Anything else: streams and descriptors, which we do not use.
    Other(u32),
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Self::Call => 0,
            Self::Reply => 1,
            Self::Event => 2,
            Self::Other(number) => number,
        }
    }
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The payload is the answer.
    Ok,
    /// The payload is an error.
    Error,
    /// Only in streams.
    Continue,
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which table of procedures.
    pub program: Program,
    /// Which procedure.
    pub procedure: i32,
    /// What it is.
    pub kind: Kind,
    /// Which call it answers.
    pub serial: u32,
    /// How it went.
    pub status: Status,
}

/// A frame without its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A call.
    #[must_use]
    pub fn call(program: Program, procedure: i32, serial: u32, payload: Vec<u8>) -> Self {
        let header = Header { program, procedure, kind: Kind::Call, serial, status: Status::Ok };
        Self { header, payload }
    }

    /// A keepalive.
    #[must_use]
    pub fn keepalive(procedure: i32) -> Self {
        let program = Program::Keepalive;
        let header =
            Header { program, procedure, kind: Kind::Event, serial: 0, status: Status::Ok };
        Self { header, payload: Vec::new() }
    }

    /// All its bytes, the length first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Header { program, procedure, kind, serial, status } = self.header;
        let length = u32::try_from(self.payload.len() + HEADER_LEN).unwrap_or(u32::MAX);
        Writer::new()
            .u32(length)
            .u32(program.number())
            .u32(1)
            .i32(procedure)
            .u32(kind.number())
            .u32(serial)
            .u32(match status {
                Status::Ok => 0,
                Status::Error => 1,
                Status::Continue => 2,
            })
            .bytes(&self.payload)
            .into_bytes()
    }

    /// Reads what follows the length word.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let program = Program::of(reader.u32()?);
        let _version = reader.u32()?;
        let procedure = reader.i32()?;
        let kind = match reader.u32()? {
            0 => Kind::Call,
            1 => Kind::Reply,
            2 => Kind::Event,
            other => Kind::Other(other),
        };
        let serial = reader.u32()?;
        let status = match reader.u32()? {
            0 => Status::Ok,
            1 => Status::Error,
            2 => Status::Continue,
            _ => return Err(DecodeError::BadValue),
        };
        let payload = bytes.get(HEADER_LEN - 4..).unwrap_or_default().to_vec();
        Ok(Self { header: Header { program, procedure, kind, serial, status }, payload })
    }
}

/// How many bytes follow a length word.
pub fn frame_len(word: [u8; 4]) -> Result<usize, DecodeError> {
    let length = u32::from_be_bytes(word) as usize;
    if length > FRAME_MAX {
        return Err(DecodeError::TooLong);
    }
    length.checked_sub(4).filter(|rest| *rest >= HEADER_LEN - 4).ok_or(DecodeError::Cut)
}
