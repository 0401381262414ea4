//! The bare call: a plugin's process, its handshake, and one gRPC call after the other on one connection.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Child;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::super::figure::now_us;
use super::plugin;

/// `AddInstanceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Add {
    #[prost(string, tag = "1")]
    runner_name: String,
    #[prost(string, tag = "2")]
    setup_script: String,
    #[prost(int32, tag = "3")]
    resource_type: i32,
    #[prost(string, repeated, tag = "4")]
    labels: Vec<String>,
}

/// `AddInstanceResponse`, of which nothing is needed.
#[derive(Clone, PartialEq, prost::Message)]
struct Added {
    #[prost(string, tag = "1")]
    cloud_id: String,
}

/// A plugin that was started by hand. Dropping it ends it.
pub(super) struct BarePlugin {
    channel: Channel,
    _child: Child,
}

impl BarePlugin {
    #[expect(
        clippy::disallowed_methods,
        reason = "the commands of the binary start programs; this one a plugin"
    )]
    pub(super) async fn start(program: &Path, socket: &Path) -> Result<Self> {
        let mut command = tokio::process::Command::new(program);
        command
            .env("SHOES_PLUGIN_MAGIC_COOKIE", "are_you_a_shoes?")
            .env("PLUGIN_PROTOCOL_VERSIONS", "1")
            .env(plugin::SOCKET, socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        let mut child = command.spawn().context("cannot start the plugin")?;
        let out = child.stdout.take().context("the plugin has no output")?;
        let line = BufReader::new(out).lines().next_line().await?.context("no handshake")?;
        let fields: Vec<&str> = line.split('|').collect();
        ensure!(fields.len() >= 5 && fields[2] == "unix", "no handshake: {line}");
        let path = PathBuf::from(fields[3]);
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connect).await?;
        Ok(Self { channel, _child: child })
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// Asks for a machine; when the call began.
pub(super) async fn add(channel: Channel, name: &str, scope: &str, script: &str) -> Result<u64> {
    let request = Add {
        runner_name: name.to_owned(),
        setup_script: script.to_owned(),
        resource_type: 1,
        labels: vec!["scaleset".to_owned(), scope.to_owned()],
    };
    let began_us = now_us();
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let path = PathAndQuery::from_static("/whywaita.myshoes.Shoes/AddInstance");
    let codec = ProstCodec::<Add, Added>::default();
    grpc.unary(Request::new(request), path, codec).await?;
    Ok(began_us)
}
