//! The last bytes of what was written.

/// Keeps the last `limit` bytes; older ones are dropped, and a write is never short.
#[derive(Debug)]
pub(crate) struct Tail {
    limit: usize,
    bytes: Vec<u8>,
}

impl Tail {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, bytes: Vec::new() }
    }

    /// Takes all of `chunk`; says how much that was.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> usize {
        let fresh = &chunk[chunk.len().saturating_sub(self.limit)..];
        let kept = self.limit - fresh.len();
        let old = self.bytes.len().saturating_sub(kept);
        self.bytes.drain(..old);
        self.bytes.extend_from_slice(fresh);
        chunk.len()
    }

    /// What is kept, trimmed, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_bytes_over_several_writes_and_reports_full_lengths() {
        let mut tail = Tail::new(16);
        assert_eq!(tail.write(b"short"), 5);
        assert_eq!(tail.text(), "short");

        let mut exact = Tail::new(16);
        assert_eq!(exact.write(b"0123456789abcdef"), 16);
        assert_eq!(exact.text(), "0123456789abcdef");

        let mut several = Tail::new(16);
        assert_eq!(several.write(b"0123456789"), 10);
        assert_eq!(several.write(b"abcdefghij"), 10);
        assert_eq!(several.text(), "456789abcdefghij");
        assert_eq!(several.write(&[b'x'; 40]), 40);
        assert_eq!(several.text(), "x".repeat(16));
        assert_eq!(several.write(b""), 0);
        assert_eq!(several.text(), "x".repeat(16));
    }
}
