//! Sizes of machines as users of myshoes name them. What a size means, a plugin knows.

use std::fmt;
use std::str::FromStr;

/// How big a machine is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum ResourceType {
    /// Not said, or a word that nobody knows.
    #[default]
    Unknown,
    /// The smallest.
    Nano,
    /// `micro`
    Micro,
    /// `small`
    Small,
    /// `medium`
    Medium,
    /// `large`
    Large,
    /// `xlarge`
    XLarge,
    /// `2xlarge`
    XLarge2,
    /// `3xlarge`
    XLarge3,
    /// The biggest.
    XLarge4,
}

impl ResourceType {
    /// All of them, by their numbers.
    pub const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Nano,
        Self::Micro,
        Self::Small,
        Self::Medium,
        Self::Large,
        Self::XLarge,
        Self::XLarge2,
        Self::XLarge3,
        Self::XLarge4,
    ];

    /// Its word in REST and in the database.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Nano => "nano",
            Self::Micro => "micro",
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
            Self::XLarge => "xlarge",
            Self::XLarge2 => "2xlarge",
            Self::XLarge3 => "3xlarge",
            Self::XLarge4 => "4xlarge",
        }
    }

    /// Its number in the plugins' protocol: 0 for unknown, 1 for the smallest.
    #[must_use]
    pub fn number(self) -> i32 {
        let at = Self::ALL.iter().position(|it| *it == self);
        at.and_then(|at| i32::try_from(at).ok()).unwrap_or_default()
    }

    /// The one of that number; another number is unknown.
    #[must_use]
    pub fn of_number(number: i32) -> Self {
        let at = usize::try_from(number).ok();
        at.and_then(|at| Self::ALL.get(at)).copied().unwrap_or_default()
    }

    /// It can be asked for.
    #[must_use]
    pub fn is_known(self) -> bool {
        self != Self::Unknown
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for ResourceType {
    type Err = std::convert::Infallible;

    /// Any other word is [`Unknown`](Self::Unknown), as the original has it.
    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(Self::ALL.into_iter().find(|it| it.word() == word).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_come_back() {
        for (number, it) in (0..).zip(ResourceType::ALL) {
            assert_eq!(it.word().parse(), Ok(it));
            assert_eq!((it.number(), ResourceType::of_number(number)), (number, it));
        }
        for word in ["huge", "Nano", ""] {
            assert_eq!(word.parse(), Ok(ResourceType::Unknown), "{word}");
        }
        assert_eq!(ResourceType::of_number(10), ResourceType::Unknown);
        assert_eq!(ResourceType::of_number(-1), ResourceType::Unknown);
        assert!(ResourceType::Nano < ResourceType::XLarge4);
    }
}
