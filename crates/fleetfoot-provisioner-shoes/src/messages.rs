//! The messages of `whywaita.myshoes.Shoes` and of the services that every go-plugin program serves.
//!
//! They are few and they never change, so they are written here instead of being made from a file.

use std::fmt;
use std::str::FromStr;

/// How big a machine is asked for. What that means, the plugin knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ResourceType {
    /// Not said.
    Unknown = 0,
    /// The smallest.
    Nano = 1,
    /// `micro`
    Micro = 2,
    /// `small`
    Small = 3,
    /// `medium`
    Medium = 4,
    /// `large`
    Large = 5,
    /// `xlarge`
    XLarge = 6,
    /// `2xlarge`
    XLarge2 = 7,
    /// `3xlarge`
    XLarge3 = 8,
    /// The biggest.
    XLarge4 = 9,
}

impl ResourceType {
    /// All that can be asked for, the smallest first.
    pub const ALL: [Self; 9] = [
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
        Ok(Self::ALL.into_iter().find(|it| it.word() == word).unwrap_or(Self::Unknown))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AddInstanceRequest {
    #[prost(string, tag = "1")]
    pub(crate) runner_name: String,
    #[prost(string, tag = "2")]
    pub(crate) setup_script: String,
    #[prost(enumeration = "ResourceType", tag = "3")]
    pub(crate) resource_type: i32,
    #[prost(string, repeated, tag = "4")]
    pub(crate) labels: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AddInstanceResponse {
    #[prost(string, tag = "1")]
    pub(crate) cloud_id: String,
    #[prost(string, tag = "2")]
    pub(crate) shoes_type: String,
    #[prost(string, tag = "3")]
    pub(crate) ip_address: String,
    #[prost(enumeration = "ResourceType", tag = "4")]
    pub(crate) resource_type: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeleteInstanceRequest {
    #[prost(string, tag = "1")]
    pub(crate) cloud_id: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) labels: Vec<String>,
}

/// `google.protobuf.Empty`, go-plugin's own `Empty`, and the answer of a deletion.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Empty {}

/// What a plugin wrote, as go-plugin's `StreamStdio` tells it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StdioData {
    /// 1 is standard output, 2 standard error.
    #[prost(int32, tag = "1")]
    pub(crate) channel: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct HealthCheckResponse {
    /// 1 is serving.
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_resource_type_is_read_back_from_its_word() {
        for (number, it) in (1..).zip(ResourceType::ALL) {
            assert_eq!(it.word().parse(), Ok(it));
            assert_eq!(it as i32, number);
        }
        assert_eq!("huge".parse(), Ok(ResourceType::Unknown));
        assert_eq!("Nano".parse(), Ok(ResourceType::Unknown));
    }

    #[test]
    fn requests_have_the_bytes_that_plugins_read() {
        let add = AddInstanceRequest {
            runner_name: "n".to_owned(),
            setup_script: "s".to_owned(),
            resource_type: ResourceType::XLarge4.into(),
            labels: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(add.encode_to_vec(), b"\x0a\x01n\x12\x01s\x18\x09\x22\x01a\x22\x01b");
        let delete = DeleteInstanceRequest { cloud_id: "c".to_owned(), labels: vec![] };
        assert_eq!(delete.encode_to_vec(), b"\x0a\x01c");
        // A plugin of the first days answers with two fields, a later one with more than we know.
        let old = AddInstanceResponse::decode(&b"\x0a\x01c\x12\x01t"[..]).unwrap();
        assert_eq!((old.cloud_id.as_str(), old.resource_type), ("c", 0));
        assert!(AddInstanceResponse::decode(&b"\x0a\x01c\x2a\x01x"[..]).is_ok());
    }
}
