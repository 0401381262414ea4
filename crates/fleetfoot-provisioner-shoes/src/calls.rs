//! The calls that a plugin answers, and what is made of an error.

use std::error::Error;

use fleetfoot_provisioner::ResourceType;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::messages::{
    AddInstanceRequest, AddInstanceResponse, DeleteInstanceRequest, Empty, HealthCheckRequest,
    HealthCheckResponse, StdioData,
};
use crate::process::StartError;

/// A call to a plugin failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// There is no plugin to call.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The plugin answered with an error.
    #[error("{message} ({code:?})")]
    Refused {
        /// Its code.
        code: Code,
        /// Its words.
        message: String,
    },
    /// Nobody answers at the plugin's address any more: nothing was sent.
    #[error("the plugin is not reached: {0}")]
    NotReached(String),
    /// The plugin ended or went silent in the middle of the call: it may have been done.
    #[error("the answer was lost: {0}")]
    Lost(String),
}

/// What a creation answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The plugin's name for the machine.
    pub cloud_id: String,
    /// The plugin's name for itself.
    pub shoes_type: String,
    /// Where the machine is, if the plugin says.
    pub ip_address: String,
    /// How big it became; [`ResourceType::Unknown`] from a plugin that does not say.
    pub resource_type: ResourceType,
}

/// The package that a plugin was made with: it was renamed in myshoes 1.12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    New,
    Old,
}

impl Package {
    fn add(self) -> PathAndQuery {
        PathAndQuery::from_static(match self {
            Self::New => "/whywaita.myshoes.Shoes/AddInstance",
            Self::Old => "/myshoes.shoes.Shoes/AddInstance",
        })
    }

    fn delete(self) -> PathAndQuery {
        PathAndQuery::from_static(match self {
            Self::New => "/whywaita.myshoes.Shoes/DeleteInstance",
            Self::Old => "/myshoes.shoes.Shoes/DeleteInstance",
        })
    }
}

/// Makes a machine.
pub(crate) async fn add(
    channel: Channel,
    package: Package,
    request: AddInstanceRequest,
) -> Result<Created, CallError> {
    let made: AddInstanceResponse = unary(channel, package.add(), request).await?;
    let resource_type = ResourceType::of_number(made.resource_type);
    Ok(Created {
        cloud_id: made.cloud_id,
        shoes_type: made.shoes_type,
        ip_address: made.ip_address,
        resource_type,
    })
}

/// Deletes a machine.
pub(crate) async fn delete(
    channel: Channel,
    package: Package,
    request: DeleteInstanceRequest,
) -> Result<(), CallError> {
    let Empty {} = unary(channel, package.delete(), request).await?;
    Ok(())
}

/// Asks whether it serves. A plugin without this service, or whose service knows no such name, by a code or by a status, is
/// another one and not ill: it answered, which is all that go-plugin's own clients look at. One that says itself that it
/// does not serve is taken at its word.
pub(crate) async fn is_healthy(channel: Channel) -> bool {
    const NOT_SERVING: i32 = 2;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = HealthCheckRequest { service: "plugin".to_owned() };
    match unary::<_, HealthCheckResponse>(channel, path, request).await {
        Ok(answer) => answer.status != NOT_SERVING,
        Err(CallError::Refused { code: Code::Unimplemented | Code::NotFound, .. }) => true,
        Err(
            CallError::Refused { .. }
            | CallError::NotReached(_)
            | CallError::Lost(_)
            | CallError::Start(_),
        ) => false,
    }
}

/// Asks it to end.
pub(crate) async fn shut_down(channel: Channel) {
    let path = PathAndQuery::from_static("/plugin.GRPCController/Shutdown");
    let _: Result<Empty, CallError> = unary(channel, path, Empty {}).await;
}

/// Reads what it writes through go-plugin until it ends: it would stop if nobody did. The same words come over
/// its real standard error too where its logger has that, so these are passed on and not kept.
pub(crate) async fn stdio(channel: Channel, mut tell: impl FnMut(StdioData)) {
    let path = PathAndQuery::from_static("/plugin.GRPCStdio/StreamStdio");
    let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    if grpc.ready().await.is_err() {
        return;
    }
    let codec = ProstCodec::<Empty, StdioData>::default();
    let Ok(stream) = grpc.server_streaming(Request::new(Empty {}), path, codec).await else {
        return;
    };
    let mut stream = stream.into_inner();
    while let Ok(Some(data)) = stream.message().await {
        tell(data);
    }
}

async fn unary<Q, A>(channel: Channel, path: PathAndQuery, request: Q) -> Result<A, CallError>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    // Nothing is sent before it is ready.
    grpc.ready().await.map_err(|error| CallError::NotReached(chain(&error)))?;
    let codec = ProstCodec::<Q, A>::default();
    match grpc.unary(Request::new(request), path, codec).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(made_of(&status)),
    }
}

/// A status with a cause came from the connection, one without from the plugin.
fn made_of(status: &Status) -> CallError {
    match status.source() {
        Some(source) if is_of_connecting(source) => CallError::NotReached(chain(source)),
        Some(source) => CallError::Lost(chain(source)),
        None => CallError::Refused { code: status.code(), message: status.message().to_owned() },
    }
}

/// There was no connection to send anything over.
fn is_of_connecting(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<tonic::ConnectError>() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// An error with all that lies underneath, on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
