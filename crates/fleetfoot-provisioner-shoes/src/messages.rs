//! The messages of `whywaita.myshoes.Shoes` and of the services that every go-plugin program serves.
//!
//! They are few and they never change, so they are written here instead of being made from a file.

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AddInstanceRequest {
    #[prost(string, tag = "1")]
    pub(crate) runner_name: String,
    #[prost(string, tag = "2")]
    pub(crate) setup_script: String,
    /// The number of a `ResourceType`.
    #[prost(int32, tag = "3")]
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
    #[prost(int32, tag = "4")]
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
    /// 1 is serving, 2 is not serving; 0 and 3 say that it does not know.
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn requests_have_the_bytes_that_plugins_read() {
        let add = AddInstanceRequest {
            runner_name: "n".to_owned(),
            setup_script: "s".to_owned(),
            resource_type: 9,
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
