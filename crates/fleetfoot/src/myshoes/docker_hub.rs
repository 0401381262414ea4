//! What Docker Hub says of its rate limit, as the original asks it: a look at one image's manifest, which counts for
//! nothing. Asked now and then, never by a scrape.

use std::convert::Infallible;
use std::time::Duration;

use fleetfoot_myshoes::environment::DockerHub;
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5 * 60);

/// Each request is answered within this.
const BOUND: Duration = Duration::from_secs(10);

const TOKEN: &str = "https://auth.docker.io/token?service=registry.docker.io&scope=repository:ratelimitpreview/test:pull";
const MANIFEST: &str = "https://registry-1.docker.io/v2/ratelimitpreview/test/manifests/latest";

/// Where it is asked.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    user: DockerHub,
    token: String,
    manifest: String,
}

impl Hub {
    pub(super) fn new(user: &DockerHub) -> Self {
        Self { user: user.clone(), token: TOKEN.to_owned(), manifest: MANIFEST.to_owned() }
    }

    /// Tells what it says, for ever: in all, and left.
    pub(super) async fn run(self, told: watch::Sender<Option<(f64, f64)>>) -> Infallible {
        if matches!(self.user, DockerHub::Off) {
            return std::future::pending().await;
        }
        loop {
            match self.look().await {
                Ok(limits) => drop(told.send_replace(Some(limits))),
                Err(reason) => tracing::warn!(reason, "Docker Hub does not tell its rate limit"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self) -> Result<(f64, f64), String> {
        let failed = |error: reqwest::Error| crate::chain(&error.without_url());
        let client = reqwest::Client::builder().timeout(BOUND).build().map_err(failed)?;
        let mut request = client.get(&self.token);
        if let DockerHub::User(user, password) = &self.user {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        let text = answer.map_err(failed)?.text().await.map_err(failed)?;
        let token: serde_json::Value =
            serde_json::from_str(&text).map_err(|_| "its token cannot be read".to_owned())?;
        let token = token["token"].as_str().ok_or("its answer has no token")?;
        let answer = client.head(&self.manifest).bearer_auth(token).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        let number = |name: &str| {
            let text = answer.headers().get(name)?.to_str().ok()?;
            text.split(';').next()?.trim().parse::<f64>().ok()
        };
        let both = number("ratelimit-limit").zip(number("ratelimit-remaining"));
        both.ok_or_else(|| "its answer states no limit".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Answers requests in turn; what was asked.
    async fn stub(answers: Vec<&'static str>) -> (String, tokio::task::JoinSet<Vec<String>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; 8192];
                let read = stream.read(&mut bytes).await.unwrap();
                asked.push(String::from_utf8_lossy(&bytes[..read]).into_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (address, serving)
    }

    #[tokio::test]
    async fn a_limit_is_asked_for_as_a_user() {
        let token =
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 15\r\n\r\n{\"token\":\"t0k\"}";
        let limits = "HTTP/1.1 200 OK\r\nconnection: close\r\nratelimit-limit: 100;w=21600\r\n\
            ratelimit-remaining: 76;w=21600\r\ncontent-length: 0\r\n\r\n";
        let none = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let (address, mut serving) = stub(vec![token, limits, token, none]).await;
        let hub = Hub {
            user: DockerHub::User("me".to_owned(), "pw".into()),
            token: format!("{address}/token"),
            manifest: format!("{address}/manifest"),
        };
        assert_eq!(hub.look().await, Ok((100.0, 76.0)));
        assert_eq!(hub.look().await, Err("its answer states no limit".to_owned()));
        let asked = serving.join_next().await.unwrap().unwrap();
        assert!(asked[0].contains("Basic bWU6cHc="), "{}", asked[0]);
        assert!(asked[1].starts_with("HEAD /manifest") && asked[1].contains("Bearer t0k"));
    }
}
