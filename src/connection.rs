//! One client connection, from its first byte to its close.
//!
//! Between requests it waits without a buffer, and may be closed from outside: by its idle limit, a drain, an eviction,
//! or because its listener is gone. Each request runs in [`stack::serve`], boxed, so that a connection that waits is
//! small. How a connection ends matters: after an answer that was given early the rest of the request is read and
//! dropped, or the kernel would reset the connection and take the answer with it; after a response that was cut off it
//! is reset, so that no client takes what it got for the whole.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::http::client_certificate::Identity;
use crate::http::forwarded::{Peer, Scheme};
use crate::http::stack;
use crate::http2;
use crate::http2::preface::Spoken;
use crate::platform::NODELAY_INHERITED;
use crate::snapshot::ListenerView;
use crate::tls::failure::Failure;
use crate::tls::server::{HandshakeError, Server};
use crate::wire::Wire;
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, Awaits, Ring};

/// Bytes that are read and dropped at most after an early answer. Much, because it is `lingering_timeout` that limits it
/// for nearly all: a client that is reset while it sends may never see why.
pub(crate) const LINGERING_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How long a connection whose listener is gone waits for one more request, which is answered with `Connection: close`.
/// To close it at once would cost those clients a request that are just sending one.
const LEAVING_TIME: Duration = Duration::from_secs(5);

/// How long a connection that had no request yet waits for it when a drain begins: its client has just connected, most
/// likely to ask something.
const GREETING_TIME: Duration = Duration::from_secs(1);

/// What follows a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The next one.
    KeepAlive,
    /// The end: all that the client sent was read.
    Close,
    /// The end, but the client may still be sending.
    Linger,
    /// The response was cut off, and must not look whole.
    Abort,
}

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    /// What its bytes come and go through.
    pub stream: Wire,
    /// Who it is, and where it came in.
    pub origin: Origin,
    /// What came in behind the last request.
    pub ahead: Vec<u8>,
    /// Whether it closed its sending side.
    pub ended: bool,
    /// When it was accepted.
    pub begun: Instant,
    /// Requests so far.
    pub requests: u32,
}

/// Who a client is, and where it came in.
#[derive(Debug)]
pub struct Origin {
    /// The client's address.
    pub address: SocketAddr,
    /// What forwarding fields say of it. Shared, because requests of one connection may run side by side.
    pub peer: Rc<RefCell<Peer>>,
    /// Who it has proven to be, with a certificate.
    pub identity: Option<Rc<Identity>>,
    /// Its listener as the last snapshot that had it saw it.
    pub listener: Arc<ListenerView>,
    /// What the connection itself is, whatever a reload has made of its listener since.
    scheme: Scheme,
    /// The snapshot's generation, and where the listener stands in it.
    place: (u64, Option<usize>),
}

/// A listener in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Listed,
    /// A reload took it away: the connection ends with the present request.
    Gone,
}

impl Client {
    fn new(stream: Wire, address: SocketAddr, listener: Arc<ListenerView>, begun: Instant) -> Self {
        let identity = Identity::of(stream.peer_certificates()).map(Rc::new);
        let origin = Origin::new(address, scheme(&stream), identity, listener);
        Self { stream, origin, ahead: Vec::new(), ended: false, begun, requests: 0 }
    }

    /// Whether no request has come yet.
    fn is_fresh(&self) -> bool {
        self.requests == 0
    }

    /// Whether count and age allow further requests.
    pub fn may_go_on(&self, now: Instant) -> bool {
        let settings = &self.origin.listener.settings;
        settings.keep_alive_requests_max.is_none_or(|max| self.requests < max)
            && settings.connection_age_max.is_none_or(|max| now < self.begun + max)
    }
}

impl Origin {
    fn new(address: SocketAddr, scheme: Scheme, identity: Option<Rc<Identity>>, listener: Arc<ListenerView>) -> Self {
        let peer = Rc::new(RefCell::new(Peer::new(address, scheme, &listener.settings.trusted_proxies)));
        Self { address, peer, identity, listener, scheme, place: (0, None) }
    }

    /// Finds the listener in the present snapshot; what depends on its settings is made anew where they may have changed.
    pub fn refresh(&mut self, worker: &Worker) -> Presence {
        if self.place.0 != worker.generation() {
            let view = worker.view();
            let name = &self.listener.settings.name;
            let at = view.listeners.iter().position(|listener| listener.settings.name == *name);
            self.place = (view.generation, at);
            if let Some(at) = at {
                self.listener = Arc::clone(&view.listeners[at]);
                let peer = Peer::new(self.address, self.scheme, &self.listener.settings.trusted_proxies);
                self.peer = Rc::new(RefCell::new(peer));
            }
        }
        if self.place.1.is_some() { Presence::Listed } else { Presence::Gone }
    }
}

/// What the connection itself is, whatever a reload has made of its listener since.
fn scheme(stream: &Wire) -> Scheme {
    match stream {
        Wire::Tls(_) => Scheme::Https,
        _ => Scheme::Http,
    }
}

/// Serves a connection until it ends.
pub async fn serve(
    worker: &Rc<Worker>,
    listener: Arc<ListenerView>,
    stream: TcpStream,
    address: SocketAddr,
    alarm: &Alarm,
) {
    if !NODELAY_INHERITED && let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(client = %address, %error, "connection ended before it began");
        return;
    }
    let stream = match &listener.tls {
        None => Wire::Plain(stream),
        // Boxed: what a handshake needs would be a part of every connection that waits.
        Some(tls) => match Box::pin(handshake(worker, &listener, tls, stream, address, alarm)).await {
            Some(Ok(stream)) => stream,
            Some(Err(HandshakeError::PlainHttp(stream))) => {
                let client = Client::new(Wire::Plain(stream), address, listener, alarm.now());
                return Box::pin(refuse_plain(client, alarm)).await;
            }
            _ => return,
        },
    };
    let http2_agreed = stream.session().is_some_and(|session| session.protocol == Some(b"h2"));
    let mut client = Client::new(stream, address, listener, alarm.now());
    if http2_agreed {
        return Box::pin(http2::server::serve(worker, client, alarm)).await;
    }
    loop {
        if client.ahead.is_empty() && !first_byte(worker, &mut client, alarm).await {
            return Box::pin(close(client, alarm)).await;
        }
        if client.is_fresh() && client.origin.listener.settings.h2c && matches!(client.stream, Wire::Plain(_)) {
            match Box::pin(http2::preface::look(&mut client, alarm)).await {
                Spoken::Http2 => return Box::pin(http2::server::serve(worker, client, alarm)).await,
                Spoken::Http1 => {}
                Spoken::Nothing => return,
            }
        }
        match Box::pin(stack::serve(worker, &mut client, alarm)).await {
            After::KeepAlive => {}
            After::Close => return Box::pin(close(client, alarm)).await,
            // Boxed: its buffer would be a part of every connection that waits.
            After::Linger => return Box::pin(linger(client, alarm)).await,
            After::Abort => return abort(&client),
        }
    }
}

/// The TLS handshake, within its time. Until it ends the connection may be closed to make room like one that idles:
/// `None` then.
async fn handshake(
    worker: &Worker,
    listener: &ListenerView,
    tls: &Server,
    stream: TcpStream,
    address: SocketAddr,
    alarm: &Alarm,
) -> Option<Result<Wire, HandshakeError>> {
    let begun = Instant::now();
    let stats = listener.stats.of(worker.id);
    let mut handshake = pin!(tls.handshake(stream));
    let result = loop {
        match alarm.run_idle(begun + tls.handshake_timeout, Awaits::First, handshake.as_mut()).await {
            Ok(result) => break result,
            Err(Ring::Deadline) => {
                break Err(HandshakeError::Failed(Failure::Timeout, io::ErrorKind::TimedOut.into()));
            }
            // A drain lets it finish: who has just connected is most likely to ask something.
            Err(Ring::Close) if !worker.draining() => {
                stats.evicted.increment();
                return None;
            }
            Err(_) => {}
        }
    };
    match &result {
        Ok(stream) => {
            stats.handshake_duration.observe(begun.elapsed());
            if let Some(session) = stream.session() {
                stats.handshakes[session.version][session.origin].increment();
            }
        }
        Err(HandshakeError::PlainHttp(_)) => {
            stats.handshake_failures[Failure::PlainHttp as usize].increment();
        }
        Err(HandshakeError::Failed(failure, error)) => {
            stats.handshake_failures[*failure as usize].increment();
            let (listener, reason) = (&listener.settings.name, failure.code());
            tracing::debug!(%listener, client = %address, reason, %error, "TLS handshake failed");
        }
    }
    Some(result)
}

/// Tells a client that speaks plain HTTP to a TLS port so.
async fn refuse_plain(mut client: Client, alarm: &Alarm) {
    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 58\r\n\
        Connection: close\r\n\r\na plain HTTP request was sent to an HTTPS port: use https\n\n";
    let deadline = Instant::now() + client.origin.listener.settings.response_write_timeout;
    if let Ok(Ok(())) = alarm.run(deadline, client.stream.write_all(ANSWER)).await {
        linger(client, alarm).await;
    }
}

/// Waits for the next request. Returns `false` when the connection ends instead: silently, since nothing was asked.
async fn first_byte(worker: &Worker, client: &mut Client, alarm: &Alarm) -> bool {
    if client.ended {
        return false;
    }
    let settings = &client.origin.listener.settings;
    // A new connection was accepted to ask something: until it has, silence does not prolong its time.
    let wait_until = if client.is_fresh() {
        client.begun + settings.request_head_timeout
    } else {
        alarm.now() + settings.keep_alive_timeout
    };
    let (mut leave, mut end) = (None, None);
    loop {
        let listed = match client.origin.refresh(worker) {
            Presence::Listed => wait_until,
            Presence::Gone => wait_until.min(*leave.get_or_insert(alarm.now() + LEAVING_TIME)),
        };
        let deadline = if worker.draining() {
            // Never before looking: a request that has come already is served.
            let rest = if client.is_fresh() { GREETING_TIME } else { Duration::ZERO };
            listed.min(*end.get_or_insert(alarm.now() + rest))
        } else {
            listed
        };
        let awaits = if client.is_fresh() { Awaits::First } else { Awaits::Next };
        let readable = std::future::poll_fn(|context| client.stream.poll_read_ready(context));
        match alarm.run_idle(deadline, awaits, readable).await {
            Ok(ready) => return ready.is_ok(),
            Err(Ring::Published) => {}
            Err(Ring::Close) if worker.draining() => {}
            Err(Ring::Close) => {
                client.origin.listener.stats.of(worker.id).evicted.increment();
                return false;
            }
            Err(Ring::Deadline | Ring::Ejected) => return false,
        }
    }
}

/// Ends the connection in order. Dropping a socket does that, but TLS has a word of its own for it: without that the end
/// would look like an attacker's.
async fn close(mut client: Client, alarm: &Alarm) {
    if let Wire::Tls(_) = client.stream {
        let deadline = Instant::now() + client.origin.listener.settings.lingering_timeout;
        let _over = alarm.run(deadline, client.stream.shutdown()).await;
    }
}

/// Cuts the connection so that the client sees that something is missing.
fn abort(client: &Client) {
    if let Err(error) = client.stream.set_linger(Some(Duration::ZERO)) {
        tracing::debug!(client = %client.origin.address, %error, "cannot reset a connection");
    }
}

/// Says that the answer is complete, and reads and drops what the client is still sending, within limits.
async fn linger(mut client: Client, alarm: &Alarm) {
    let deadline = Instant::now() + client.origin.listener.settings.lingering_timeout;
    let drain = async {
        client.stream.shutdown().await?;
        let mut dropped = 0;
        let mut buffer = vec![0; 16 * 1024];
        while dropped < LINGERING_BYTES_MAX {
            match Pin::new(&mut client.stream).read(&mut buffer).await? {
                0 => break,
                count => dropped += count,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // However it ends, the connection is over, and the client has had its answer.
    let _over = alarm.run(deadline, drain).await;
}
