//! The side that holds the engine.

use futures_util::StreamExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::super::engine::SimulatedEngine;
use super::super::request::Answer;
use super::{Ask, Failure, OTHERS, Tell, WATCH};
use crate::provisioner::Listing;
use crate::tasks;

const ANSWERS_MAX: usize = 1024;

/// Serves `engine` on `listener` until the future is dropped. Instances live on when a client goes.
pub async fn serve(listener: UnixListener, engine: SimulatedEngine) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tasks::start(connection(stream, engine.clone()));
    }
}

async fn connection(stream: UnixStream, engine: SimulatedEngine) {
    let (read, mut write) = stream.into_split();
    let (tell_tx, mut tell_rx) = mpsc::channel::<Tell>(ANSWERS_MAX);
    tasks::start(async move {
        while let Some(tell) = tell_rx.recv().await {
            let Ok(mut line) = serde_json::to_vec(&tell) else { continue };
            line.push(b'\n');
            if write.write_all(&line).await.is_err() {
                return;
            }
        }
    });
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(ask) = serde_json::from_str::<Ask>(&line) else { continue };
        receive(ask, &engine, &tell_tx).await;
    }
}

async fn receive(ask: Ask, engine: &SimulatedEngine, tell_tx: &mpsc::Sender<Tell>) {
    let id = ask.id;
    if ask.op == WATCH {
        let Some(installation) = ask.installation() else { return };
        let mut events = engine.events(&installation);
        let tell_tx = tell_tx.clone();
        let _ = tell_tx.send(Tell { id: Some(id), ..Tell::default() }).await;
        tasks::start(async move {
            loop {
                let event = tokio::select! {
                    biased;
                    () = tell_tx.closed() => return,
                    event = events.next() => event,
                };
                let Some(event) = event else { return };
                if tell_tx.send(Tell::event(event)).await.is_err() {
                    return;
                }
            }
        });
        return;
    }
    if ask.op == OTHERS {
        let Some(installation) = ask.installation() else { return };
        let environments = engine.others(&installation);
        let listing = Listing { identity: String::new(), environments };
        let _ = tell_tx.send(Tell::of(id, Ok(Answer::Listing(listing)))).await;
        return;
    }
    let Some(request) = ask.request() else {
        let error =
            Failure { kind: "backend".to_owned(), message: "request not understood".to_owned() };
        let _ = tell_tx.send(Tell { id: Some(id), error: Some(error), ..Tell::default() }).await;
        return;
    };
    let (engine, tell_tx) = (engine.clone(), tell_tx.clone());
    tasks::start(async move {
        let answer = tokio::select! {
            biased;
            // Calls in flight land without their caller inside the engine; here only the waiting ends.
            answer = engine.call(request) => answer,
            () = tell_tx.closed() => return,
        };
        let _ = tell_tx.send(Tell::of(id, answer)).await;
    });
}
