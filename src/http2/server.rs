//! A client's connection that speaks HTTP/2, from its preface to its end.
//!
//! One task has it all: `h2`, which reads and writes frames, and every request that is under way. With each turn the task
//! serves the requests that something has happened to, lets `h2` work, and, when there is nothing more to do, writes what
//! was gathered. Like any other connection it ends by its idle limit, a drain, an eviction, or because its listener is
//! gone; but it says so first (GOAWAY) and finishes what is under way. Only a flood of frames ends it at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use h2::ext::Protocol;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, header};
use tokio::time::Instant;

use super::Payload;
use super::guard::{Flood, Guard};
use super::head::{Follows, from_request};
use super::io::Io;
use super::preface::PREFACE;
use super::stream::Stream;
use super::streams::{Streams, Whose};
use super::websocket;
use crate::config::model;
use crate::connection::{Client, Origin, Presence};
use crate::http::stack::{StreamRequest, serve_stream};
use crate::http1::HeadLimits;
use crate::telemetry::stats::{ListenerStats, WorkerId};
use crate::wire::Wire;
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, Awaits, Phase, Ring};

/// How long a client that was told that the connection ends may take to say that it has understood.
const LEAVING_TIME: Duration = Duration::from_secs(1);

/// How long frames are counted before their number begins anew.
const WINDOW: Duration = Duration::from_secs(10);

/// Turns in a row; then other connections have theirs.
const TURNS_MAX: usize = 32;

/// What one response may have in the hands of `h2` before the client has taken it.
const SEND_BYTES_MAX: usize = 32 * 1024;

/// What a field adds to the size of a head, as HTTP/2 counts it (RFC 9113 section 6.5.2).
const FIELD_BYTES: usize = 32;

/// Serves a connection whose client has begun to say that it speaks HTTP/2.
pub async fn serve(worker: &Worker, client: Client, alarm: &Alarm) {
    let Client { stream, origin, ahead, begun, .. } = client;
    let deadline = Instant::now() + origin.listener.settings.request_head_timeout;
    let io = Io::new(stream, ahead, Guard::new(&origin.listener.settings.http2, PREFACE.len()));
    let mut shake = builder(&origin.listener.settings).handshake::<_, Payload>(io.clone());
    let shaken = poll_fn(|context| {
        let shaken = Pin::new(&mut shake).poll(context);
        // What it has written so far; more comes with the next turn, and errors show when it reads.
        let _written = io.poll_write_out(context);
        shaken
    });
    let connection = match alarm.run(deadline, shaken).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(client = %origin.address, %error, "connection does not speak HTTP/2"),
        Err(_ring) => return,
    };
    let open = Open::count(&origin.listener.stats, worker.id);
    let mut streams = Streams::new();
    let waker = streams.connection_waker();
    waker.wake_by_ref();
    let now = alarm.now();
    let mut server = Server {
        worker,
        origin,
        alarm,
        io,
        connection,
        waker,
        begun,
        window_end: now + WINDOW,
        idle_since: now,
        requests: 0,
        leaving: None,
    };
    let serve = |request, alarm| serve_stream(worker, request, alarm);
    let over = poll_fn(|context| server.poll(context, &mut streams, &serve)).await;
    // Those that were under way have heard of the end, and write their lines of log.
    while streams.poll_rung().is_some() {}
    drop(open);
    if over == Over::Refused {
        let deadline = Instant::now() + server.origin.listener.settings.lingering_timeout;
        let _over = alarm.run(deadline, poll_fn(|context| server.io.poll_discard(context))).await;
    }
}

/// What we tell the client that it may do, and what `h2` holds it to.
fn builder(listener: &model::Listener) -> Builder {
    let settings = &listener.http2;
    // Twice as much as we take: what lies between gets an answer of ours, with a line of log. Beyond it `h2` answers 431
    // itself, and to far more than that it ends the connection.
    let head_bytes = 2 * (listener.request_head_bytes_max + FIELD_BYTES * listener.request_fields_max);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(settings.streams_max)
        .initial_window_size(settings.stream_window as u32)
        .initial_connection_window_size(settings.connection_window as u32)
        .max_header_list_size(head_bytes as u32)
        .max_local_error_reset_streams(Some(settings.errors_max as usize))
        .max_send_buffer_size(SEND_BYTES_MAX)
        .enable_connect_protocol();
    builder
}

/// Counts an open connection until it is dropped.
struct Open {
    stats: Arc<ListenerStats>,
    worker: WorkerId,
}

impl Open {
    fn count(stats: &Arc<ListenerStats>, worker: WorkerId) -> Self {
        stats.of(worker).http2_accepted.increment();
        stats.of(worker).http2_open.increment();
        Self { stats: Arc::clone(stats), worker }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stats.of(self.worker).http2_open.subtract(1);
    }
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// In order, or it broke.
    Done,
    /// By our word, while the client may still be sending.
    Refused,
}

/// How a connection is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// What is under way is finished.
    InOrder {
        /// When the client was told.
        since: Instant,
    },
    /// At once.
    ForGood {
        /// When that was decided.
        since: Instant,
    },
}

struct Server<'a> {
    worker: &'a Worker,
    origin: Origin,
    alarm: &'a Alarm,
    io: Io,
    connection: Connection<Io, Payload>,
    /// Rings for `connection`.
    waker: Waker,
    begun: Instant,
    /// When frames are counted anew.
    window_end: Instant,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
    /// How many requests have come.
    requests: u32,
    /// Whether the client was told that no more requests are taken.
    leaving: Option<Leaving>,
}

// Work.

impl Server<'_> {
    /// Works until there is nothing more to do. Ready when the connection is over.
    fn poll<F: Future<Output = ()>>(
        &mut self,
        context: &mut Context<'_>,
        streams: &mut Streams<F>,
        serve: &impl Fn(StreamRequest, Alarm) -> F,
    ) -> Poll<Over> {
        let now = self.alarm.now();
        if now >= self.window_end {
            self.window_end = now + WINDOW;
            self.io.renew();
        }
        for _turn in 0..TURNS_MAX {
            let over = match streams.poll_rung() {
                Some(Whose::Requests) => Poll::Pending,
                Some(Whose::Connection) => self.poll_connection(streams, serve),
                None => {
                    if self.poll_write_out().is_ready() || self.poll_end(context, streams.len()).is_ready() {
                        return Poll::Ready(Over::Done);
                    }
                    if streams.poll_wait(context).is_pending() {
                        return Poll::Pending;
                    }
                    Poll::Pending
                }
            };
            if over.is_ready() {
                return over;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Lets `h2` read and write, and takes the requests that it has read.
    fn poll_connection<F: Future<Output = ()>>(
        &mut self,
        streams: &mut Streams<F>,
        serve: &impl Fn(StreamRequest, Alarm) -> F,
    ) -> Poll<Over> {
        loop {
            match self.connection.poll_accept(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let request = self.accept(request, respond);
                    streams.insert(serve(request, self.alarm.sibling()));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(self.ended(Some(&error))),
                Poll::Ready(None) => return Poll::Ready(self.ended(None)),
                Poll::Pending if self.io.flood().is_some() && !self.ends_for_good() => {
                    // Beneath `h2` the guard has seen enough, and lets no more through. This writes why.
                    self.leaving = Some(Leaving::ForGood { since: self.alarm.now() });
                    self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// A request whose head has just come: it belongs to the snapshot that is published now.
    fn accept(&mut self, request: Request<RecvStream>, respond: SendResponse<Payload>) -> StreamRequest {
        let begun = Instant::now();
        self.requests += 1;
        // A listener that is gone serves those that its clients have sent before they heard of it.
        let _presence = self.origin.refresh(self.worker);
        let settings = &self.origin.listener.settings;
        let limits = HeadLimits {
            bytes_max: settings.request_head_bytes_max,
            target_bytes_max: settings.request_target_bytes_max,
            fields_max: settings.request_fields_max,
        };
        let (parts, body) = request.into_parts();
        let follows = if body.is_end_stream() { Follows::Nothing } else { Follows::Body };
        let buffers = &self.worker.buffers;
        let web_socket = parts.extensions.get::<Protocol>().map(|_protocol| {
            let mut random = self.worker.random.borrow_mut();
            websocket::key(random.u128(..))
        });
        let key = web_socket.unwrap_or_default();
        let head = from_request(&parts, follows, &key, buffers.take_head(), buffers.take(), &limits);
        let length = parts.headers.get(header::CONTENT_LENGTH);
        // `h2` has refused those that are not one number.
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        StreamRequest {
            wire: Wire::H2(Box::new(Stream::request(respond, body, length))),
            head: head.map_err(Into::into),
            begun,
            web_socket,
            listener: Arc::clone(&self.origin.listener),
            address: self.origin.address,
            peer: Rc::clone(&self.origin.peer),
            identity: self.origin.identity.clone(),
        }
    }

    /// Writes what was gathered. Ready when the connection is broken.
    fn poll_write_out(&mut self) -> Poll<()> {
        match self.io.poll_write_out(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Err(error)) => {
                tracing::debug!(client = %self.origin.address, %error, "connection broke");
                Poll::Ready(())
            }
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }
}

// The end.

impl Server<'_> {
    /// Ends the connection when its time has come. Ready when it need not be waited for any longer.
    fn poll_end(&mut self, context: &mut Context<'_>, requests: usize) -> Poll<()> {
        // A client that closes its sending side has said that no more follows; its answers still come.
        let done = requests == 0 && !self.connection.has_streams();
        if self.io.has_ended() && (done || self.origin.listener.settings.abort_on_close) {
            self.io.show_end();
            self.waker.wake_by_ref();
        }
        let now = self.alarm.now();
        if requests > 0 {
            self.idle_since = now;
        }
        loop {
            let gone = self.origin.refresh(self.worker) == Presence::Gone;
            let max = self.origin.listener.settings.keep_alive_requests_max;
            let enough = max.is_some_and(|max| self.requests >= max);
            if gone || enough || self.old_at().is_some_and(|old| now >= old) || self.worker.leaving() {
                self.leave(now);
            }
            self.set_alarm(requests);
            match self.alarm.poll_ring(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ring::Deadline) if self.is_left(requests) => return Poll::Ready(()),
                Poll::Ready(Ring::Published | Ring::Ejected) => {}
                Poll::Ready(Ring::Close) if self.worker.draining() => {}
                Poll::Ready(Ring::Close) => {
                    self.origin.listener.stats.of(self.worker.id).evicted.increment();
                    self.leave(now);
                }
                Poll::Ready(Ring::Deadline) => self.leave(now),
            }
        }
    }

    fn ends_for_good(&self) -> bool {
        matches!(self.leaving, Some(Leaving::ForGood { .. }))
    }

    /// Whether nobody is waited for but a client that was told to go.
    fn is_left(&self, requests: usize) -> bool {
        match self.leaving {
            None => false,
            Some(Leaving::InOrder { .. }) => requests == 0,
            Some(Leaving::ForGood { .. }) => true,
        }
    }

    /// When the connection takes no more requests for its age.
    fn old_at(&self) -> Option<Instant> {
        self.origin.listener.settings.connection_age_max.map(|max| self.begun + max)
    }

    fn set_alarm(&self, requests: usize) {
        let old = self.old_at();
        match (requests, self.leaving) {
            (_, Some(Leaving::ForGood { since })) => self.alarm.set(since + LEAVING_TIME),
            (0, Some(Leaving::InOrder { since })) => self.alarm.set(since.max(self.idle_since) + LEAVING_TIME),
            (0, None) => {
                let awaits = if self.requests > 0 { Awaits::Next } else { Awaits::First };
                self.alarm.enter(Phase::Idle { since: self.idle_since, awaits });
                let idle = self.idle_since + self.origin.listener.settings.keep_alive_timeout;
                self.alarm.set(old.map_or(idle, |old| old.min(idle)));
            }
            (_, leaving) => {
                self.alarm.enter(Phase::Serving);
                match old {
                    Some(old) if leaving.is_none() => self.alarm.set(old),
                    _ => self.alarm.unset(),
                }
            }
        }
    }

    /// Tells the client that no more requests are taken.
    fn leave(&mut self, now: Instant) {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving::InOrder { since: now });
            self.connection.graceful_shutdown();
            self.waker.wake_by_ref();
        }
    }

    /// `h2` has ended the connection: by its own word, by ours, or because it broke.
    fn ended(&self, error: Option<&h2::Error>) -> Over {
        let (listener, client) = (&self.origin.listener.settings.name, self.origin.address);
        let flood = self.io.flood().or(error.and_then(found_by_h2));
        match (flood, error) {
            (Some(flood), _) => {
                self.origin.listener.stats.of(self.worker.id).http2_floods[flood as usize].increment();
                tracing::warn!(%listener, %client, reason = flood.code(), "connection ended: too many frames");
            }
            (None, Some(error)) => tracing::debug!(%listener, %client, %error, "connection of HTTP/2 ended"),
            (None, None) => {}
        }
        let refused = flood.is_some() || error.is_some_and(h2::Error::is_library);
        if refused { Over::Refused } else { Over::Done }
    }
}

/// What `h2` found too much of. It tells in words only.
fn found_by_h2(error: &h2::Error) -> Option<Flood> {
    if error.reason() != Some(Reason::ENHANCE_YOUR_CALM) || error.is_remote() {
        return None;
    }
    let text = error.to_string();
    let floods =
        [("continuations", Flood::Continuations), ("internal_resets", Flood::Errors), ("resets", Flood::Resets)];
    Some(floods.into_iter().find(|(word, _)| text.contains(word)).map_or(Flood::Other, |(_, flood)| flood))
}
