//! Bytes of a daemon as they come: frames, and what each payload may be. Nothing panics, nothing is read that is not
//! there, and what was read and is written again is read as the same.
#![no_main]

use fleetfoot_provisioner_libvirt::wire::{
    DecodeError, Domain, Frame, HEADER_LEN, LifecycleEvent, Reader, RemoteError, Writer, frame_len,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<4>() {
        let Ok(length) = frame_len(*word) else { break };
        assert!(length >= HEADER_LEN - 4);
        let Some((body, next)) = after.split_at_checked(length) else { break };
        if let Ok(frame) = Frame::parse(body) {
            assert_eq!(frame.payload.len(), length + 4 - HEADER_LEN);
            let written = frame.to_bytes();
            let (length_again, body_again) = written.split_first_chunk::<4>().expect("a length");
            assert_eq!(frame_len(*length_again), Ok(length));
            assert_eq!(Frame::parse(body_again).as_ref(), Ok(&frame));
            payload(&frame.payload);
        }
        rest = next;
    }
    payload(bytes);
});

/// Whatever a payload is taken for.
fn payload(bytes: &[u8]) {
    one(bytes, Domain::read, |it| it.write(Writer::new()));
    one(bytes, LifecycleEvent::read, |it| {
        it.domain.write(Writer::new().i32(0)).i32(it.event).i32(it.detail)
    });
    one(bytes, RemoteError::read, |it| {
        Writer::new().i32(it.code).i32(0).optional_string(Some(&it.message))
    });
    one(
        bytes,
        |reader| reader.optional(Reader::string),
        |it| Writer::new().optional_string(it.as_deref()),
    );
    // A list of domains, as it is read: at most as many as the client takes.
    one(
        bytes,
        |reader| reader.array(16_384, Domain::read),
        |all| {
            let count = u32::try_from(all.len()).expect("a count");
            all.iter().fold(Writer::new().u32(count), |to, it| it.write(to))
        },
    );
    one(
        bytes,
        |reader| reader.array(20, Reader::i32),
        |all| {
            let count = u32::try_from(all.len()).expect("a count");
            all.iter().fold(Writer::new().u32(count), |to, it| to.i32(*it))
        },
    );
    let mut reader = Reader::new(bytes);
    while reader.u64().is_ok() {}
    assert!(reader.left() < 8);
    if let Ok(event) = LifecycleEvent::read(&mut Reader::new(bytes)) {
        let _ = event.ending();
    }
    if let Ok(error) = RemoteError::read(&mut Reader::new(bytes)) {
        assert!(!error.to_string().is_empty());
    }
}

/// Reads one, and holds it against what is read of it once it is written again.
fn one<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    read: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
    write: impl Fn(&T) -> Writer,
) {
    let mut reader = Reader::new(bytes);
    let before = reader.left();
    let value = read(&mut reader);
    assert!(reader.left() <= before);
    let Ok(value) = value else { return };
    let written = write(&value).into_bytes();
    assert_eq!(written.len() % 4, 0);
    let mut again = Reader::new(&written);
    assert_eq!(read(&mut again).as_ref(), Ok(&value));
    assert_eq!(again.left(), 0);
}
