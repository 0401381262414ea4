//! XDR: everything big-endian in units of four bytes.

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end in the middle of a value.
    #[error("the answer is cut")]
    Cut,
    /// A length is beyond what the protocol allows.
    #[error("a length in the answer is beyond all bounds")]
    TooLong,
    /// A value that its type does not have.
    #[error("the answer has a value that it cannot have")]
    BadValue,
    /// Text that is not UTF-8.
    #[error("the answer has text that is not UTF-8")]
    NotText,
}

/// The longest string that is read: the protocol's own bound is 4 MiB.
const STRING_MAX: usize = 4 << 20;

/// Reads values from bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An array of fixed length, without padding of its own.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Cut)
    }

    /// An unsigned integer.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.bytes().map(u32::from_be_bytes)
    }

    /// An integer.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.bytes().map(i32::from_be_bytes)
    }

    /// A long unsigned integer.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.bytes().map(u64::from_be_bytes)
    }

    /// A string: length, bytes, padding.
    pub fn string(&mut self) -> Result<String, DecodeError> {
        let length = self.u32()? as usize;
        if length > STRING_MAX {
            return Err(DecodeError::TooLong);
        }
        let bytes = self.take(length)?;
        self.take((4 - length % 4) % 4)?;
        // Some daemons put text of the system's locale into error messages.
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Something that may be absent: 0 or 1 first.
    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u32()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(DecodeError::BadValue),
        }
    }

    /// A counted array of at most `count_max` items.
    pub fn array<T>(
        &mut self,
        count_max: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.u32()? as usize;
        if count > count_max {
            return Err(DecodeError::TooLong);
        }
        // Each item has four bytes at least: a count that lies costs no memory.
        let mut items = Vec::with_capacity(count.min(self.left() / 4));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }
}

/// Writes values.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// An array of fixed length.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// An unsigned integer.
    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// An integer.
    #[must_use]
    pub fn i32(self, value: i32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// A long integer.
    #[must_use]
    pub fn i64(self, value: i64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// A string. Lengths beyond 32 bits do not occur: frames are bounded.
    #[must_use]
    pub fn string(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let padding = [0; 3];
        let pad = (4 - text.len() % 4) % 4;
        self.u32(length).bytes(text.as_bytes()).bytes(padding.get(..pad).unwrap_or_default())
    }

    /// A string that may be absent.
    #[must_use]
    pub fn optional_string(self, text: Option<&str>) -> Self {
        match text {
            None => self.u32(0),
            Some(text) => self.u32(1).string(text),
        }
    }
}
