//! The file that libvirt saves a machine's memory to: its head is rewritten, its memory stays as it is.
//!
//! ```text
//! 0 magic · 16 version · 20 length · 24 was running · 28 format · 32 cookie · 92 XML 0 [cookie 0] zeros · memory
//! ```
//!
//! libvirt's own calls refuse another name and UUID for what was saved; a head that says them is read like any
//! other. Numbers are in this host's order. The length stays, so that the memory does not move.

use std::ops::Range;

const MAGIC: &[u8; 16] = b"LibvirtQemudSave";
/// Before the XML.
pub(crate) const FIXED_LEN: usize = 92;
/// A head is 64 KiB and the description at most.
const DATA_MAX: usize = 4 << 20;
const VERSION: u32 = 2;
const LENGTH_AT: Range<usize> = 20..24;
const RUNNING_AT: Range<usize> = 24..28;
const COOKIE_AT: Range<usize> = 32..36;

/// A head that cannot be read or rewritten.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SavedError {
    #[error("it is no saved machine of libvirt, or not a whole one")]
    NotSaved,
    #[error("it was saved in a form that is not known here (version {version}, format {format})")]
    Unknown { version: u32, format: u32 },
    #[error("the description of the machine does not fit into it")]
    TooLong,
}

/// The head of a saved machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    /// The description that the machine was saved with.
    pub(crate) xml: String,
    cookie: Option<String>,
}

fn number(bytes: &[u8], at: Range<usize>) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at)?.try_into().ok()?))
}

/// How long the head is, out of its first [`FIXED_LEN`] bytes.
pub(crate) fn head_len(fixed: &[u8]) -> Result<usize, SavedError> {
    if fixed.get(..16) != Some(MAGIC.as_slice()) {
        return Err(SavedError::NotSaved);
    }
    let version = number(fixed, 16..20).ok_or(SavedError::NotSaved)?;
    let format = number(fixed, 28..32).ok_or(SavedError::NotSaved)?;
    if version != VERSION || format != 0 {
        return Err(SavedError::Unknown { version, format });
    }
    let length = number(fixed, LENGTH_AT).ok_or(SavedError::NotSaved)?;
    let length = usize::try_from(length).map_err(|_| SavedError::NotSaved)?;
    if length == 0 || length > DATA_MAX {
        return Err(SavedError::NotSaved);
    }
    Ok(FIXED_LEN + length)
}

impl Head {
    /// Reads a whole head.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, SavedError> {
        let fixed = bytes.get(..FIXED_LEN).ok_or(SavedError::NotSaved)?;
        if head_len(fixed)? != bytes.len() {
            return Err(SavedError::NotSaved);
        }
        let text = |from: usize| {
            let rest = bytes.get(from..).ok_or(SavedError::NotSaved)?;
            let end = rest.iter().position(|byte| *byte == 0).ok_or(SavedError::NotSaved)?;
            let text = rest.get(..end).ok_or(SavedError::NotSaved)?;
            String::from_utf8(text.to_vec()).map_err(|_| SavedError::NotSaved)
        };
        let xml = text(FIXED_LEN)?;
        let at = number(fixed, COOKIE_AT).ok_or(SavedError::NotSaved)?;
        let at = usize::try_from(at).map_err(|_| SavedError::NotSaved)?;
        let cookie = if at == 0 { None } else { Some(text(FIXED_LEN.saturating_add(at))?) };
        Ok(Self { bytes, xml, cookie })
    }

    /// The head with another description, of the same length. What is restored from it runs.
    pub(crate) fn rewritten(&self, xml: &str) -> Result<Vec<u8>, SavedError> {
        let mut bytes = self.bytes.get(..FIXED_LEN).ok_or(SavedError::NotSaved)?.to_vec();
        let mut put = |at: Range<usize>, value: u32| {
            if let Some(place) = bytes.get_mut(at) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
        };
        put(RUNNING_AT, 1);
        let cookie_at = u32::try_from(xml.len() + 1).map_err(|_| SavedError::TooLong)?;
        put(COOKIE_AT, if self.cookie.is_some() { cookie_at } else { 0 });
        bytes.extend_from_slice(xml.as_bytes());
        bytes.push(0);
        if let Some(cookie) = &self.cookie {
            bytes.extend_from_slice(cookie.as_bytes());
            bytes.push(0);
        }
        if bytes.len() > self.bytes.len() {
            return Err(SavedError::TooLong);
        }
        bytes.resize(self.bytes.len(), 0);
        Ok(bytes)
    }

    /// How long it is: the memory begins there.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(xml: &str, cookie: Option<&str>, spare: usize) -> Vec<u8> {
        let mut data = xml.as_bytes().to_vec();
        data.push(0);
        let cookie_at = if cookie.is_some() { data.len() } else { 0 };
        if let Some(cookie) = cookie {
            data.extend_from_slice(cookie.as_bytes());
            data.push(0);
        }
        data.resize(data.len() + spare, 0);
        let mut bytes = MAGIC.to_vec();
        for value in [VERSION as usize, data.len(), 0, 0, cookie_at] {
            bytes.extend_from_slice(&u32::try_from(value).unwrap().to_ne_bytes());
        }
        bytes.resize(FIXED_LEN, 0);
        bytes.extend_from_slice(&data);
        bytes
    }

    #[test]
    fn another_description_leaves_length_and_cookie_and_sets_it_running() {
        for cookie in [None, Some("<cookie/>")] {
            let old = Head::parse(head("<domain>a</domain>", cookie, 64)).unwrap();
            assert_eq!(old.xml, "<domain>a</domain>");
            let new = old.rewritten("<domain>a longer one</domain>").unwrap();
            assert_eq!(new.len(), old.len());
            assert_eq!(number(&new, RUNNING_AT), Some(1));
            let new = Head::parse(new).unwrap();
            assert_eq!(
                (new.xml.as_str(), new.cookie.as_deref()),
                ("<domain>a longer one</domain>", cookie)
            );
        }
    }

    #[test]
    fn what_is_not_whole_or_not_known_is_refused() {
        let good = head("<d/>", Some("<c/>"), 8);
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Head::parse(bytes)
        };
        // Unfinished, another version, compressed.
        assert_eq!(changed(12, b'P'), Err(SavedError::NotSaved));
        assert!(matches!(changed(16, 3), Err(SavedError::Unknown { version: 3, .. })));
        assert!(matches!(changed(28, 1), Err(SavedError::Unknown { format: 1, .. })));
        assert_eq!(changed(20, 1), Err(SavedError::NotSaved));
        let old = Head::parse(good.clone()).unwrap();
        assert_eq!(old.rewritten(&"x".repeat(40)), Err(SavedError::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(change in proptest::collection::vec((0usize..140, any::<u8>()), 0..8), cut in 0usize..140) {
            let mut bytes = head("<domain/>", Some("<c/>"), 30);
            for (at, value) in change {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Ok(head) = Head::parse(bytes) {
                let _ = head.rewritten("<domain>b</domain>");
            }
        }
    }
}
