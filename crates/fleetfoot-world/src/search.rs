//! Looks for secrets in a file, a piece at a time: the store of a long world is large.

use std::io::Read;

use memchr::memmem::find;

/// Bytes of a piece.
const PIECE: usize = 256 * 1024;

/// One of the secrets is in there; what cannot be read holds nothing.
pub(crate) fn holds_any(mut file: impl Read, secrets: &[String]) -> bool {
    let longest = secrets.iter().map(String::len).max().unwrap_or(0);
    let (mut piece, mut kept) = (vec![0; PIECE + longest], 0);
    loop {
        let Ok(read) = file.read(&mut piece[kept..]) else { return false };
        if read == 0 {
            return false;
        }
        let seen = &piece[..kept + read];
        if secrets.iter().any(|secret| find(seen, secret.as_bytes()).is_some()) {
            return true;
        }
        // What begins at the end of this piece ends in the next one.
        let end = kept + read;
        kept = end.min(longest.saturating_sub(1));
        piece.copy_within(end - kept..end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a thousand bytes at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let most = into.len().min(1000);
            self.0.read(&mut into[..most])
        }
    }

    #[test]
    fn a_secret_is_found_wherever_it_is_and_nothing_else() {
        let secrets = ["a secret".to_owned(), "xyz".to_owned()];
        for at in [0, 1, PIECE - 3, PIECE + 5, 2 * PIECE + 2, 3 * PIECE] {
            let mut bytes = vec![b'.'; 3 * PIECE + 100];
            assert!(!holds_any(bytes.as_slice(), &secrets));
            bytes[at..at + 8].copy_from_slice(b"a secret");
            assert!(holds_any(bytes.as_slice(), &secrets), "{at}");
            assert!(holds_any(Slow(&bytes), &secrets[..1]), "{at}");
        }
        assert!(!holds_any(std::io::empty(), &secrets));
    }
}
