//! One controller's way to its database: open, cut (connections end, new ones are refused), or mute (nothing
//! passes and nothing ends, as behind a dead link).

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    Cut,
    Mute,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    way: Arc<watch::Sender<Way>>,
}

impl Proxy {
    pub(crate) async fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(watch::Sender::new(Way::Open));
        let ways = way.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, address.clone(), ways.subscribe()));
            }
        });
        Self { port, way }
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn forward(mut client: TcpStream, address: String, mut way: watch::Receiver<Way>) {
    if *way.borrow() == Way::Cut {
        return;
    }
    // A mute way swallows what was sent and lets nothing through ever after: that is a dead connection.
    if *way.borrow() == Way::Mute {
        let _ = way.wait_for(|way| *way == Way::Cut).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(&address).await else { return };
    let mut changed = way.clone();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = changed.wait_for(|way| *way != Way::Open) => {}
    }
    if *way.borrow_and_update() == Way::Mute {
        // Both ends stay open, for ever: neither knows that the other is gone.
        let _ = way.wait_for(|way| *way == Way::Cut).await;
    }
}
