//! An identifier type per kind of thing, so that one cannot be passed for another.

use std::fmt;
use std::sync::Arc;

/// A text that cannot serve as the wanted kind of name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("name is empty")]
    Empty,
    /// The text is longer than backends and GitHub accept.
    #[error("name `{0}` is longer than 64 characters")]
    TooLong(String),
    /// The text has a character that containers, files or XML cannot carry.
    #[error(
        "name `{0}` has a character outside [A-Za-z0-9_.-], or does not begin with a letter or digit"
    )]
    Character(String),
}

fn checked(text: &str) -> Result<Arc<str>, NameError> {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return Err(NameError::Empty) };
    if text.len() > 64 {
        return Err(NameError::TooLong(text.to_owned()));
    }
    let fits = first.is_ascii_alphanumeric()
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if fits { Ok(Arc::from(text)) } else { Err(NameError::Character(text.to_owned())) }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it as a name.
            pub fn new(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a pool: the key under `runners`, the scale set's name, the prefix of instance names.
    PoolName
);
name_type!(
    /// The name of an instance: one spelling at GitHub, at the backend and in the store. Never reused.
    InstanceName
);
name_type!(
    /// The random identity of one installation of fleetfoot, carried by everything it makes.
    InstallationId
);

impl InstanceName {
    /// The name of an instance of `pool` with the given suffix, in the form `<pool>-<8 hex digits>`.
    #[must_use]
    pub fn of_pool(pool: &PoolName, suffix: u32) -> Self {
        Self(Arc::from(format!("{pool}-{suffix:08x}")))
    }

    /// Whether it is `<pool>-<8 lower-case hex digits>` to the letter, as the original names its instances, too.
    /// A similar name is not enough: it may be an image, or another pool's.
    #[must_use]
    pub fn is_of_pool(&self, pool: &PoolName) -> bool {
        let suffix = self.as_str().strip_prefix(pool.as_str()).and_then(|it| it.strip_prefix('-'));
        suffix.is_some_and(|hex| {
            hex.len() == 8 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    }

    /// The name with a uuid of these bits, in the form `myshoes-<uuid>`.
    #[must_use]
    pub fn of_uuid(bits: u128) -> Self {
        let hex = format!("{bits:032x}");
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Self(Arc::from(format!("myshoes-{}", parts.join("-"))))
    }
}

/// GitHub's identifier of a job (`jobId` in messages; opaque text).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Arc<str>);

impl JobId {
    /// Takes any text: the identifier is GitHub's, not ours to judge.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for JobId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// GitHub's number of a scale set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScaleSetId(pub i64);

/// GitHub's number of a registered runner. Never our key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunnerId(pub i64);

impl fmt::Display for ScaleSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RunnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_of_a_pool() {
        let pool = PoolName::new("linux").unwrap();
        for (name, wanted) in [
            ("linux-0123abcd", true),
            ("linux-0123ABCD", false),
            ("linux-arm64-0123abcd", false),
            ("linux-0123abcde", false),
            ("linux-0123abc", false),
            ("linux0123abcd", false),
            ("linux-runner", false),
            ("linux-setup", false),
            ("linux-other", false),
            ("linux", false),
            ("windows-0123abcd", false),
        ] {
            assert_eq!(InstanceName::new(name).unwrap().is_of_pool(&pool), wanted, "{name}");
        }
        assert!(InstanceName::of_pool(&pool, u32::MAX).is_of_pool(&pool));
    }

    #[test]
    fn names_are_checked() {
        for good in ["linux", "a", "Linux_x64.2-b", "0a"] {
            assert_eq!(PoolName::new(good).unwrap().as_str(), good);
        }
        assert_eq!(PoolName::new(""), Err(NameError::Empty));
        for bad in ["-a", "a b", "a/b", "ü", ".x", "a&b"] {
            assert!(matches!(PoolName::new(bad), Err(NameError::Character(_))), "{bad}");
        }
        assert!(matches!(PoolName::new(&"a".repeat(65)), Err(NameError::TooLong(_))));
    }

    #[test]
    fn instance_names_have_eight_hex_digits() {
        let pool = PoolName::new("linux").unwrap();
        assert_eq!(InstanceName::of_pool(&pool, 0xbeef).as_str(), "linux-0000beef");
    }
}
