//! Which call gets which answer.

use std::future::Future;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use prost::Message;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::messages::{
    AddRequest, AddResponse, DeleteRequest, Empty, HealthRequest, HealthResponse,
};
use crate::{AddInstance, DeleteInstance, Refusal, ResourceType, Shoes};

/// The name that go-plugin programs have in the health service.
const HEALTH_NAME: &str = "plugin";
const SERVING: i32 = 1;

/// Answers one call. `end` is called when the host wants the plugin to end.
pub(crate) async fn answer<S: Shoes>(
    shoes: Arc<S>,
    end: impl FnOnce() + Send + 'static,
    request: Request<Incoming>,
) -> Response<Body> {
    match request.uri().path() {
        // The package was renamed in myshoes 1.12; hosts of both ages are out there.
        "/whywaita.myshoes.Shoes/AddInstance" | "/myshoes.shoes.Shoes/AddInstance" => {
            unary(request, |wanted| add(shoes, wanted)).await
        }
        "/whywaita.myshoes.Shoes/DeleteInstance" | "/myshoes.shoes.Shoes/DeleteInstance" => {
            unary(request, |gone| delete(shoes, gone)).await
        }
        "/grpc.health.v1.Health/Check" => unary(request, health).await,
        "/plugin.GRPCController/Shutdown" => {
            let ended = |Empty {}| async move {
                end();
                Ok(Empty {})
            };
            unary(request, ended).await
        }
        path => Status::unimplemented(format!("{path} is not served")).into_http(),
    }
}

async fn unary<Q, A, F>(request: Request<Incoming>, call: impl FnOnce(Q) -> F) -> Response<Body>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
    F: Future<Output = Result<A, Status>>,
{
    let mut call = Some(call);
    // A service may be called again in general; this one has one request.
    let service = tower::service_fn(move |request: tonic::Request<Q>| {
        let answer = call.take().map(|call| call(request.into_inner()));
        async move {
            match answer {
                Some(answer) => answer.await.map(tonic::Response::new),
                None => Err(Status::internal("a request is answered once")),
            }
        }
    });
    // A script has whatever size it has.
    let mut grpc = Grpc::new(ProstCodec::<A, Q>::default()).max_decoding_message_size(usize::MAX);
    grpc.unary(service, request).await
}

async fn add(shoes: Arc<impl Shoes>, wanted: AddRequest) -> Result<AddResponse, Status> {
    let AddRequest { runner_name, setup_script, resource_type, labels } = wanted;
    let resource_type = ResourceType::of_number(resource_type);
    let wanted = AddInstance { runner_name, setup_script, resource_type, labels };
    let made = shoes.add_instance(wanted).await.map_err(status)?;
    let size = if made.resource_type.is_known() { made.resource_type } else { resource_type };
    Ok(AddResponse {
        cloud_id: made.cloud_id,
        shoes_type: made.shoes_type,
        ip_address: made.ip_address,
        resource_type: size.number(),
    })
}

async fn delete(shoes: Arc<impl Shoes>, gone: DeleteRequest) -> Result<Empty, Status> {
    let DeleteRequest { cloud_id, labels } = gone;
    shoes.delete_instance(DeleteInstance { cloud_id, labels }).await.map_err(status)?;
    Ok(Empty {})
}

async fn health(asked: HealthRequest) -> Result<HealthResponse, Status> {
    match asked.service.as_str() {
        "" | HEALTH_NAME => Ok(HealthResponse { status: SERVING }),
        other => Err(Status::not_found(format!("{other} is not served"))),
    }
}

fn status(refusal: Refusal) -> Status {
    let code = match refusal {
        Refusal::InvalidArgument(_) => Code::InvalidArgument,
        Refusal::NotFound(_) => Code::NotFound,
        Refusal::Full(_) => Code::ResourceExhausted,
        Refusal::Failed(_) => Code::Internal,
    };
    Status::new(code, refusal.to_string())
}
