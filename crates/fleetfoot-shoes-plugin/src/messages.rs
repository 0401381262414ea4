//! What travels: the messages of the shoes protocol and of the services of go-plugin, as they are on the wire.

/// `AddInstanceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AddRequest {
    #[prost(string, tag = "1")]
    pub(crate) runner_name: String,
    #[prost(string, tag = "2")]
    pub(crate) setup_script: String,
    #[prost(int32, tag = "3")]
    pub(crate) resource_type: i32,
    #[prost(string, repeated, tag = "4")]
    pub(crate) labels: Vec<String>,
}

/// `AddInstanceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AddResponse {
    #[prost(string, tag = "1")]
    pub(crate) cloud_id: String,
    #[prost(string, tag = "2")]
    pub(crate) shoes_type: String,
    #[prost(string, tag = "3")]
    pub(crate) ip_address: String,
    #[prost(int32, tag = "4")]
    pub(crate) resource_type: i32,
}

/// `DeleteInstanceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeleteRequest {
    #[prost(string, tag = "1")]
    pub(crate) cloud_id: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) labels: Vec<String>,
}

/// `DeleteInstanceResponse`, and the empty messages of go-plugin.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Empty {}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HealthRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct HealthResponse {
    /// 1 is serving.
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}
