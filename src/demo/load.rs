//! The light load: many small clients, each with a connection of its own, and what they saw.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Clients at a time.
const CLIENTS: usize = 24;

/// Pause of a client between an answer and its next request.
const PAUSE: Duration = Duration::from_millis(40);

/// Requests on one connection before the client makes another one.
const REQUESTS_PER_CONNECTION: usize = 50;

/// A client that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What clients saw in some time.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Requests answered, per instance.
    pub(super) answered: Vec<u64>,
    pub(super) failed: u64,
    /// Why the last one failed.
    pub(super) last_failure: Option<String>,
    pub(super) slowest: Duration,
}

impl Seen {
    pub(super) fn requests(&self) -> u64 {
        self.answered.iter().sum::<u64>() + self.failed
    }

    pub(super) fn add(&mut self, other: Seen) {
        self.answered.resize(other.answered.len().max(self.answered.len()), 0);
        for (sum, count) in self.answered.iter_mut().zip(other.answered) {
            *sum += count;
        }
        self.failed += other.failed;
        self.last_failure = other.last_failure.or(self.last_failure.take());
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// The clients, and what they have seen since it was last asked for.
#[derive(Debug)]
pub(super) struct Load {
    seen: Arc<Mutex<Seen>>,
    names: Vec<&'static str>,
    target: SocketAddr,
}

impl Load {
    pub(super) fn new(target: SocketAddr, names: Vec<&'static str>) -> Arc<Self> {
        let seen = Seen { answered: vec![0; names.len()], ..Seen::default() };
        Arc::new(Self { seen: Arc::new(Mutex::new(seen)), names, target })
    }

    /// Sends requests until told to stop; requests that are under way are finished.
    pub(super) async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let mut clients = JoinSet::new();
        for index in 0..CLIENTS {
            let (this, stop) = (Arc::clone(&self), stop.clone());
            clients.spawn(async move {
                // Spread over the pause, so that they do not all come at once.
                sleep(PAUSE * index as u32 / CLIENTS as u32).await;
                while !*stop.borrow() {
                    this.connection(&stop).await;
                }
            });
        }
        clients.join_all().await;
    }

    /// What clients saw since the last call.
    pub(super) fn take(&self) -> Seen {
        let fresh = Seen { answered: vec![0; self.names.len()], ..Seen::default() };
        std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), fresh)
    }

    /// One connection of one client.
    async fn connection(&self, stop: &watch::Receiver<bool>) {
        let mut sender = match self.connect().await {
            Ok(sender) => sender,
            Err(error) => {
                self.note(Duration::ZERO, Err(error));
                return sleep(PAUSE).await;
            }
        };
        for _ in 0..REQUESTS_PER_CONNECTION {
            if *stop.borrow() {
                return;
            }
            let began = Instant::now();
            let result = timeout(PATIENCE, self.request(&mut sender)).await;
            let result = result.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            let failed = result.is_err();
            self.note(began.elapsed(), result);
            if failed {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, String> {
        let stream = TcpStream::connect(self.target).await.map_err(|error| format!("connect: {error}"))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| format!("handshake: {error}"))?;
        // Ends with its sender; what breaks it shows in the request.
        tokio::spawn(async move { connection.await.is_ok() });
        Ok(sender)
    }

    /// Sends a request and returns which instance answered.
    async fn request(&self, sender: &mut SendRequest<Empty<Bytes>>) -> Result<usize, String> {
        let request = Request::get("/").header(header::HOST, "demo.example").body(Empty::new());
        let request = request.map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| format!("request: {error}"))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| format!("body: {error}"))?.to_bytes();
        if status != StatusCode::OK {
            return Err(format!("status {status}: {}", String::from_utf8_lossy(&body).trim()));
        }
        let text = String::from_utf8_lossy(&body);
        let name = text.trim().rsplit(' ').next().unwrap_or_default();
        self.names.iter().position(|known| *known == name).ok_or_else(|| format!("an answer from nobody: {text}"))
    }

    fn note(&self, took: Duration, result: Result<usize, String>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.slowest = seen.slowest.max(took);
        match result {
            Ok(index) => seen.answered[index] += 1,
            Err(failure) => {
                seen.failed += 1;
                seen.last_failure = Some(failure);
            }
        }
    }
}
