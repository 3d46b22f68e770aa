//! Constant load of GETs and POSTs, and what became of each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use super::Client;
use super::message::Response;
use super::wait::seconds;

/// Load that runs until it is ended.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<Sent>>>,
}

/// One request of the load.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) method: &'static str,
    /// The status, or why there is none.
    pub(crate) result: Result<u16, String>,
    pub(crate) took: Duration,
    /// The `Instance` field of the answer.
    pub(crate) instance: String,
}

impl Sent {
    pub(crate) fn failed(&self) -> bool {
        self.result != Ok(200)
    }
}

impl Load {
    /// `clients` connections, each sending one request after the other; one in `post_every` is a POST (0: none).
    pub(crate) fn start(address: SocketAddr, clients: usize, post_every: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..clients)
            .map(|client| {
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                std::thread::spawn(move || run(address, client, post_every, &stop, &done))
            })
            .collect();
        Self { stop, done, threads }
    }

    /// How many requests have ended by now.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until that many more have ended.
    #[track_caller]
    pub(crate) fn wait_more(&self, count: u64) {
        let target = self.done() + count;
        super::wait::within(seconds(30), "the load goes on", || (self.done() >= target).then_some(()));
    }

    /// Ends it and returns every request.
    pub(crate) fn end(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("a load thread")).collect()
    }
}

fn run(address: SocketAddr, client: usize, post_every: usize, stop: &AtomicBool, done: &AtomicU64) -> Vec<Sent> {
    let mut all = Vec::new();
    let mut connection: Option<Client> = None;
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let post = post_every > 0 && count % post_every == 0;
        let method = if post { "POST" } else { "GET" };
        let id = format!("{method}-{client}-{count}");
        let start = Instant::now();
        let answer = exchange(&mut connection, address, method, &id);
        if answer.as_ref().is_ok_and(Response::closes) || answer.is_err() {
            connection = None;
        }
        let instance = answer.as_ref().ok().and_then(|answer| answer.field("instance")).unwrap_or_default().to_owned();
        let result = answer.map(|answer| answer.status());
        all.push(Sent { id, method, result, took: start.elapsed(), instance });
        done.fetch_add(1, Ordering::Relaxed);
    }
    all
}

fn exchange(connection: &mut Option<Client>, address: SocketAddr, method: &str, id: &str) -> Result<Response, String> {
    if connection.is_none() {
        let client = Client::try_connect(address).map_err(|error| format!("connect: {error}"))?;
        *connection = Some(client.patient(seconds(40)));
    }
    let client = connection.as_mut().ok_or("no connection")?;
    let body = if method == "POST" { "0123456789" } else { "" };
    let length = if method == "POST" { "Content-Length: 10\r\n" } else { "" };
    let request = format!("{method} /load/{id} HTTP/1.1\r\nHost: load\r\nX-Id: {id}\r\n{length}\r\n{body}");
    client.wire.write(request).map_err(|error| format!("send: {error}"))?;
    client.wire.read_response_to(method).map_err(|error| format!("receive: {error}"))
}
