//! Frames and values: what is written is read, and no bytes at all make the reader panic.
#![allow(clippy::unwrap_used)]

use fleetfoot_provisioner_libvirt::wire::{
    Domain, FRAME_MAX, Frame, HEADER_LEN, Header, Kind, LifecycleEvent, Program, Reader,
    RemoteError, Status, Writer, frame_len,
};
use proptest::prelude::*;
use uuid::Uuid;

/// A frame taken off the wire of libvirt 9.0: the reply to AUTH_LIST, no login.
const AUTH_REPLY: &[u8] = &[
    0, 0, 0, 36, 0x20, 0, 0x80, 0x86, 0, 0, 0, 1, 0, 0, 0, 66, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0,
    0, //
    0, 0, 0, 1, 0, 0, 0, 0,
];

#[test]
fn a_frame_of_the_daemon_is_read() {
    let length = frame_len(*AUTH_REPLY.first_chunk().unwrap()).unwrap();
    assert_eq!(length, AUTH_REPLY.len() - 4);
    let frame = Frame::parse(&AUTH_REPLY[4..]).unwrap();
    assert_eq!(
        frame.header,
        Header {
            program: Program::Remote,
            procedure: 66,
            kind: Kind::Reply,
            serial: 7,
            status: Status::Ok
        }
    );
    assert_eq!(Reader::new(&frame.payload).array(20, Reader::i32), Ok(vec![0]));
    assert_eq!(frame.to_bytes(), AUTH_REPLY);
}

#[test]
fn lengths_that_lie_are_refused() {
    assert!(frame_len([0, 0, 0, 3]).is_err());
    assert!(frame_len([0, 0, 0, 27]).is_err());
    assert!(frame_len(u32::try_from(FRAME_MAX + 1).unwrap().to_be_bytes()).is_err());
    assert_eq!(frame_len([0, 0, 0, 28]), Ok(HEADER_LEN - 4));
    // A string, an array and an optional that say more than there is.
    assert!(Reader::new(&[0xff; 8]).string().is_err());
    assert!(Reader::new(&[0, 0, 1, 0, 1]).string().is_err());
    assert!(Reader::new(&[0xff; 64]).array(usize::MAX, Reader::u32).is_err());
    assert!(Reader::new(&[0, 0, 0, 2]).optional(Reader::u32).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = Frame::parse(&bytes) {
            let payload = frame.payload.as_slice();
            let _ = RemoteError::read(&mut Reader::new(payload));
            let _ = LifecycleEvent::read(&mut Reader::new(payload));
        }
        let mut reader = Reader::new(&bytes);
        let _ = Domain::read(&mut reader);
        let _ = RemoteError::read(&mut Reader::new(&bytes));
        let _ = LifecycleEvent::read(&mut Reader::new(&bytes));
        let _ = Reader::new(&bytes).array(1 << 20, Domain::read);
        let _ = Reader::new(&bytes).optional(Reader::string);
    }

    /// Small numbers are likely lengths: bytes that look like XDR go deeper.
    #[test]
    fn no_words_panic(words in proptest::collection::vec(0u32..12, 0..60)) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let _ = Domain::read(&mut Reader::new(&bytes));
        let _ = RemoteError::read(&mut Reader::new(&bytes));
        let _ = LifecycleEvent::read(&mut Reader::new(&bytes));
        let _ = Reader::new(&bytes).array(1 << 20, Domain::read);
    }

    #[test]
    fn frames_come_back(procedure in any::<i32>(), serial in any::<u32>(), payload in proptest::collection::vec(any::<u8>(), 0..64)) {
        let frame = Frame::call(Program::Qemu, procedure, serial, payload);
        let bytes = frame.to_bytes();
        prop_assert_eq!(frame_len(*bytes.first_chunk().unwrap()), Ok(bytes.len() - 4));
        prop_assert_eq!(Frame::parse(&bytes[4..]), Ok(frame));
    }

    #[test]
    fn values_come_back(name in ".{0,40}", id in any::<i32>(), uuid in any::<u128>(), text in proptest::option::of(".{0,20}")) {
        let domain = Domain { name, uuid: Uuid::from_u128(uuid), id };
        let bytes = domain.write(Writer::new()).optional_string(text.as_deref()).i64(i64::from(id)).into_bytes();
        prop_assert_eq!(bytes.len() % 4, 0);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(Domain::read(&mut reader), Ok(domain));
        prop_assert_eq!(reader.optional(Reader::string), Ok(text));
        prop_assert_eq!(reader.u64(), Ok(u64::from_ne_bytes(i64::from(id).to_ne_bytes())));
        prop_assert_eq!(reader.left(), 0);
    }

    #[test]
    fn cut_values_are_errors(name in "[a-z]{1,20}", cut in 1usize..20) {
        let bytes = Domain { name, uuid: Uuid::nil(), id: 1 }.write(Writer::new()).into_bytes();
        let short = &bytes[..bytes.len().saturating_sub(cut)];
        prop_assert!(Domain::read(&mut Reader::new(short)).is_err());
    }
}
