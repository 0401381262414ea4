//! libvirt's RPC as bytes: frames, XDR, and the few payloads that we read.
//!
//! Everything here is pure. Reading is total: any bytes give a value or a [`DecodeError`], never a panic and
//! never more memory than the bytes themselves have.

mod frame;
mod payload;
mod xdr;

pub use frame::{FRAME_MAX, Frame, HEADER_LEN, Header, Kind, Program, Status, frame_len};
pub use payload::{Domain, LifecycleEvent, RemoteError};
pub use xdr::{DecodeError, Reader, Writer};

pub(crate) mod procedure {
    //! Numbers of procedures; they never change, new ones are appended.

    pub(crate) const CONNECT_OPEN: i32 = 1;
    pub(crate) const CONNECT_CLOSE: i32 = 2;
    pub(crate) const CONNECT_GET_VERSION: i32 = 4;
    pub(crate) const CONNECT_GET_CAPABILITIES: i32 = 7;
    pub(crate) const DOMAIN_CREATE_XML: i32 = 10;
    pub(crate) const DOMAIN_DESTROY: i32 = 12;
    pub(crate) const DOMAIN_GET_XML_DESC: i32 = 14;
    pub(crate) const DOMAIN_GET_INFO: i32 = 16;
    pub(crate) const DOMAIN_LOOKUP_BY_NAME: i32 = 23;
    pub(crate) const DOMAIN_LOOKUP_BY_UUID: i32 = 24;
    pub(crate) const DOMAIN_RESUME: i32 = 28;
    pub(crate) const DOMAIN_SUSPEND: i32 = 34;
    pub(crate) const NETWORK_LOOKUP_BY_NAME: i32 = 46;
    pub(crate) const DOMAIN_RESTORE: i32 = 54;
    pub(crate) const DOMAIN_SAVE: i32 = 55;
    pub(crate) const AUTH_LIST: i32 = 66;
    pub(crate) const DOMAIN_GET_STATE: i32 = 212;
    pub(crate) const DOMAIN_GET_METADATA: i32 = 265;
    pub(crate) const CONNECT_LIST_ALL_DOMAINS: i32 = 273;
    pub(crate) const EVENT_REGISTER_ANY: i32 = 316;
    pub(crate) const EVENT_LIFECYCLE: i32 = 318;
    pub(crate) const DOMAIN_SET_TIME: i32 = 338;

    /// Of the QEMU program.
    pub(crate) const QEMU_AGENT_COMMAND: i32 = 3;

    /// Of the keepalive program.
    pub(crate) const PING: i32 = 1;
    pub(crate) const PONG: i32 = 2;
}
