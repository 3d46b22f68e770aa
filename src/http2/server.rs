//! A client's connection that speaks HTTP/2, from its preface to its end.
//!
//! One task has it all: `h2`, which reads and writes frames, and every request that is under way. With each turn the task
//! serves the requests that something has happened to, lets `h2` work, and, when there is nothing more to do, writes what
//! was gathered. Like any other connection it ends by its idle limit, a drain, an eviction, or because its listener is
//! gone; but it says so first (GOAWAY) and finishes what is under way.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::{Request, header};
use tokio::time::Instant;

use super::Payload;
use super::head::{Follows, WebSocketKey, from_request};
use super::io::Io;
use super::stream::Stream;
use super::streams::{Streams, Whose};
use crate::connection::{Client, Origin, Presence};
use crate::http::stack::{StreamRequest, serve_stream};
use crate::http1::HeadLimits;
use crate::wire::Wire;
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, Awaits, Phase, Ring};

/// How long a client that was told that the connection ends may take to say that it has understood.
const LEAVING_TIME: Duration = Duration::from_secs(1);

/// Turns in a row; then other connections have theirs.
const TURNS_MAX: usize = 32;

/// Serves a connection whose client has begun to say that it speaks HTTP/2.
pub async fn serve(worker: &Worker, client: Client, alarm: &Alarm) {
    let Client { stream, origin, ahead, .. } = client;
    let deadline = Instant::now() + origin.listener.settings.request_head_timeout;
    let io = Io::new(stream, ahead);
    let mut shake = builder().handshake::<_, Payload>(io.clone());
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
    let mut streams = Streams::new();
    let waker = streams.connection_waker();
    waker.wake_by_ref();
    let now = alarm.now();
    let mut server =
        Server { worker, origin, alarm, io, connection, waker, idle_since: now, asked: false, leaving: None };
    let serve = |request, alarm| serve_stream(worker, request, alarm);
    poll_fn(|context| server.poll(context, &mut streams, &serve)).await;
    // Those that were under way have heard of the end, and write their lines of log.
    while streams.poll_rung().is_some() {}
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.max_concurrent_streams(128).max_header_list_size(64 * 1024).max_send_buffer_size(64 * 1024);
    builder
}

struct Server<'a> {
    worker: &'a Worker,
    origin: Origin,
    alarm: &'a Alarm,
    io: Io,
    connection: Connection<Io, Payload>,
    /// Rings for `connection`.
    waker: Waker,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
    /// Whether a request has come.
    asked: bool,
    /// When the client was told that no more requests are taken.
    leaving: Option<Instant>,
}

impl Server<'_> {
    /// Works until there is nothing more to do. Ready when the connection is over.
    fn poll<F: Future<Output = ()>>(
        &mut self,
        context: &mut Context<'_>,
        streams: &mut Streams<F>,
        serve: &impl Fn(StreamRequest, Alarm) -> F,
    ) -> Poll<()> {
        for _turn in 0..TURNS_MAX {
            let over = match streams.poll_rung() {
                Some(Whose::Requests) => Poll::Pending,
                Some(Whose::Connection) => self.poll_connection(streams, serve),
                None => {
                    let over = self.poll_write_out().is_ready() || self.poll_end(context, streams.len()).is_ready();
                    if !over && streams.poll_wait(context).is_pending() {
                        return Poll::Pending;
                    }
                    if over { Poll::Ready(()) } else { Poll::Pending }
                }
            };
            if over.is_ready() {
                return Poll::Ready(());
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
    ) -> Poll<()> {
        loop {
            match self.connection.poll_accept(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let request = self.accept(request, respond);
                    streams.insert(serve(request, self.alarm.sibling()));
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(client = %self.origin.address, %error, "connection of HTTP/2 ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// A request whose head has just come: it belongs to the snapshot that is published now.
    fn accept(&mut self, request: Request<RecvStream>, respond: SendResponse<Payload>) -> StreamRequest {
        let begun = Instant::now();
        self.asked = true;
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
        let key: WebSocketKey = *b"dGhlIHNhbXBsZSBub25jZQ==";
        let head = from_request(&parts, follows, &key, buffers.take_head(), buffers.take(), &limits);
        let length = parts.headers.get(header::CONTENT_LENGTH);
        // `h2` has refused those that are not one number.
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        StreamRequest {
            wire: Wire::H2(Box::new(Stream::request(respond, body, length))),
            head: head.map_err(Into::into),
            begun,
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
            if gone || self.worker.leaving() {
                self.leave(now);
            }
            let idle_end = self.idle_since + self.origin.listener.settings.keep_alive_timeout;
            match (requests, self.leaving) {
                (0, None) => {
                    let awaits = if self.asked { Awaits::Next } else { Awaits::First };
                    self.alarm.enter(Phase::Idle { since: self.idle_since, awaits });
                    self.alarm.set(idle_end);
                }
                (0, Some(since)) => self.alarm.set(since.max(self.idle_since) + LEAVING_TIME),
                _ => {
                    self.alarm.enter(Phase::Serving);
                    self.alarm.unset();
                }
            }
            match self.alarm.poll_ring(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) if self.leaving.is_some() && requests == 0 => return Poll::Ready(()),
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

    /// Tells the client that no more requests are taken.
    fn leave(&mut self, now: Instant) {
        if self.leaving.is_none() {
            self.leaving = Some(now);
            self.connection.graceful_shutdown();
            self.waker.wake_by_ref();
        }
    }
}
