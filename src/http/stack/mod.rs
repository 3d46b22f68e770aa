//! A request, top to bottom: in what order things are done, and why in this order.
//!
//! One async function with a line per step: layers as services would cost 14 % of the whole (boxed) or hide the order in
//! types (static). Steps that look at the head are pure functions in the files beside this one; `forward` brings the
//! request to an instance; what comes back goes the same way in reverse. What is rare or waits for long
//! (answers of our own, bodies in parts, tunnels) is boxed: every request would be larger by its state. Every request ends in `Record::finish`, with
//! one line of log and one count, whatever happened to it.

mod answers;
mod edge;
mod head;
mod record;
mod relay;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use h2::Reason;
use tokio::time::Instant;

use answers::{body_refusal, detail};
use head::{Arrival, Unread, read_head};
use record::Record;
use relay::{EndBy, end_by, response_cause};

use super::admit::{self, Admitted};
use super::body::{Encoding, Pipe};
use super::client_certificate::Identity;
use super::forwarded::{self, Peer, Scheme, Trust};
use super::grpc;
use super::max_forwards::{self, Onward};
use super::pace::{Pace, Rate};
use super::rescue::{self};
use super::trace_id::{self};
use super::{Refusal, hop_by_hop, hsts, imitation, via};
use crate::cause::Cause;
use crate::config::model::{self, ClientCertificate};
use crate::connection::{After, Client, Origin, Presence};
use crate::forward::attempt::{Answer, ClientSide};
use crate::forward::{self, ForwardError, Forwarded, Request};
use crate::http1::framing::{self, BodyLength, Persistence};
use crate::http1::head::{Head, Method, Version};
use crate::http1::name::Name;
use crate::http2::head::WebSocketKey;
use crate::pool::Pool;
use crate::snapshot::{ListenerView, RouteView};
use crate::telemetry::stats::{Counter, InstanceShard, status_class};
use crate::wire::{Sink as _, Wire};
use crate::worker::Worker;
use crate::worker::alarm::Alarm;

/// Serves one request whose first byte is there.
pub async fn serve(worker: &Worker, client: &mut Client, alarm: &Alarm) -> After {
    // Counted from here: a drain waits for it.
    let _busy = worker.begin();
    let read = read_head(worker, client, alarm).await;
    client.requests += u32::from(!matches!(read, Err(Unread::Blank)));
    // Not before the head is whole: a reload may have come while it dripped in, and the request belongs to what holds now.
    let presence = client.origin.refresh(worker);
    let stay = presence == Presence::Listed && !worker.leaving() && client.may_go_on(alarm.now());
    let Client { stream, origin, ahead, ended, .. } = client;
    let Origin { address, peer, identity, listener, .. } = origin;
    let identity = identity.as_deref();
    let secure = peer.borrow().scheme() == Scheme::Https;
    let mut exchange = Exchange {
        worker,
        alarm,
        listener,
        stream,
        address: *address,
        peer,
        ahead,
        ended,
        stay,
        secure,
        identity,
        web_socket: None,
    };
    match read {
        Ok((head, arrival)) => exchange.run(head, arrival).await,
        Err(Unread::Gone) => After::Close,
        Err(Unread::Blank) => After::KeepAlive,
        Err(Unread::Refused(refusal, begun)) => Box::pin(exchange.refuse_unread(refusal, begun)).await,
    }
}

/// A request on a stream of an HTTP/2 connection.
pub struct StreamRequest {
    /// The stream: its body, and where the answer goes.
    pub wire: Wire,
    /// Its head, if there is an equivalent in HTTP/1.1.
    pub head: Result<Head, Refusal>,
    /// When the head came.
    pub begun: Instant,
    /// The key of the `WebSocket` that it asks for.
    pub web_socket: Option<WebSocketKey>,
    /// The listener in the snapshot that was published then.
    pub listener: Arc<ListenerView>,
    /// The client's address.
    pub address: SocketAddr,
    /// What forwarding fields say of it.
    pub peer: Rc<RefCell<Peer>>,
    /// Who it has proven to be, with a certificate.
    pub identity: Option<Rc<Identity>>,
}

/// Serves one request of an HTTP/2 connection.
pub async fn serve_stream(worker: &Worker, request: StreamRequest, alarm: Alarm) {
    let StreamRequest { mut wire, head, begun, web_socket, listener, address, peer, identity } = request;
    let _busy = worker.begin();
    let _counted = Counted::new(&listener.stats.of(worker.id).http2_streams);
    let secure = peer.borrow().scheme() == Scheme::Https;
    let (ahead, ended) = (&mut Vec::new(), &mut false);
    let mut exchange = Exchange {
        worker,
        alarm: &alarm,
        listener: &listener,
        stream: &mut wire,
        address,
        peer: &peer,
        ahead,
        ended,
        stay: true,
        secure,
        identity: identity.as_deref(),
        web_socket: web_socket.as_ref(),
    };
    let after = match head {
        Ok(head) => exchange.run(head, Arrival { begun, whole: begun }).await,
        Err(refusal) => exchange.refuse_unread(refusal, begun).await,
    };
    if let (After::Abort, Wire::H2(stream)) = (after, &mut wire) {
        stream.reset(Reason::INTERNAL_ERROR);
    }
}

/// Counts what there is now, until it is dropped.
struct Counted<'a>(&'a Counter);

impl<'a> Counted<'a> {
    fn new(counter: &'a Counter) -> Self {
        counter.increment();
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.subtract(1);
    }
}

/// One request and its answer: the parts of its connection, and where it is served.
struct Exchange<'a> {
    worker: &'a Worker,
    alarm: &'a Alarm,
    listener: &'a ListenerView,
    stream: &'a mut Wire,
    address: SocketAddr,
    peer: &'a RefCell<Peer>,
    ahead: &'a mut Vec<u8>,
    ended: &'a mut bool,
    /// Whether the connection may go on afterwards, as far as the listener and the process are concerned.
    stay: bool,
    /// The key that a request for a `WebSocket` over HTTP/2 has got.
    web_socket: Option<&'a WebSocketKey>,
    /// Who the client has proven to be.
    identity: Option<&'a Identity>,
    /// Whether the request came by TLS: over this connection or, if the peer is believed that, over its client's.
    secure: bool,
}

/// What the head of a request said, as far as the answer depends on it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    method: Method,
    version: Version,
    accept: Option<&'a [u8]>,
    persistence: Persistence,
    /// Whether it is a gRPC call, whose client reads its outcome from `grpc-status`.
    call: bool,
    /// When its client will have given up.
    deadline: Option<Instant>,
}

impl<'h> Asked<'h> {
    fn of(head: &'h Head, persistence: Persistence) -> Self {
        Self {
            method: head.method(),
            version: head.version(),
            accept: head.first(Name::Accept),
            persistence,
            call: grpc::is_call(head),
            deadline: None,
        }
    }
}

impl<'a> Exchange<'a> {
    /// The walk of a request, in its order.
    async fn run(&mut self, mut head: Head, arrival: Arrival) -> After {
        let worker = self.worker;
        // Before anything can be refused, so that each answer and each line of log has an id.
        let trace_id = trace_id::apply(&mut head, &mut worker.random.borrow_mut());
        let mut record = Record::new(arrival.begun, trace_id);
        record.headers = arrival.whole - arrival.begun;
        let after = match admit::admit(&mut head, &self.listener.settings) {
            Ok(admitted) => {
                let mut body = self.body(&admitted);
                let after = self.admitted(&mut head, &admitted, &mut body, &mut record).await;
                body.recycle(&worker.buffers);
                after
            }
            Err(refusal) => Box::pin(self.refuse(&refusal, Some(&head), &mut record)).await,
        };
        self.finish(&record, Some(&head));
        worker.buffers.give_head(head);
        after
    }

    async fn admitted(
        &mut self,
        head: &mut Head,
        admitted: &Admitted,
        body: &mut Pipe,
        record: &mut Record<'a>,
    ) -> After {
        let settings = &self.listener.settings;
        self.secure = self.peer.borrow().is_secure(head);
        // What came behind the head: the body's first part, or the next request.
        if let Err(error) = body.begin(head.rest()) {
            let refusal = body_refusal(&error);
            return Box::pin(self.refuse(&refusal, Some(head), record)).await;
        }
        if settings.health_path.as_deref().is_some_and(|path| path.as_bytes() == head.text(admitted.path)) {
            return Box::pin(self.answer_health(Asked::of(head, admitted.persistence), body, record)).await;
        }
        match max_forwards::apply(head) {
            Ok(Onward::Forward) => {}
            Ok(Onward::AnswerHere) => {
                return Box::pin(self.answer_here(head, admitted.persistence, body, record)).await;
            }
            Err(refusal) => return Box::pin(self.refuse(&refusal, Some(head), record)).await,
        }
        // By what the client asked for, before any rewriting.
        let route = self.listener.routes.find(head.text(admitted.host), admitted.path(head));
        // Behind the look-up: a route that names this listener is served here as it is.
        if let Some(redirect) = settings.redirect
            && !self.secure
            && route.is_none_or(|route| !route.named_here)
        {
            record.route = route.map(|route| &**route);
            return Box::pin(self.redirect(redirect, head, admitted, body, record)).await;
        }
        let Some(route) = route else {
            let refusal = Refusal { cause: Cause::NoRoute, status: 404, detail: "no route for this host and path" };
            return Box::pin(self.rescue(&refusal, None, Asked::of(head, admitted.persistence), body, &[], record))
                .await;
        };
        record.route = Some(route);
        if route.certificate == ClientCertificate::Required && self.identity.is_none() {
            return self.rescue(&NO_CERTIFICATE, None, Asked::of(head, admitted.persistence), body, &[], record).await;
        }
        let upgrade = admitted.upgrade.map(|span| head.text(span).to_vec());
        // What concerned only the client's connection goes first, so that nothing that we add can be named by it.
        hop_by_hop::request(
            head,
            if upgrade.is_some() { hop_by_hop::Upgrade::Keep } else { hop_by_hop::Upgrade::Drop },
        );
        // Before ours are added: what looks like them to a CGI-like server must not arrive beside them.
        let trust = self.peer.borrow().trust();
        let certificate = match (self.identity, trust) {
            (None, Trust::Proxy) => imitation::Certificate::Peers,
            _ => imitation::Certificate::Ours,
        };
        imitation::drop_all(head, certificate);
        if let Some(identity) = self.identity {
            head.add_lines(&identity.lines);
        }
        forwarded::apply(head, &mut self.peer.borrow_mut(), admitted);
        if let Err(refusal) = via::request(head) {
            return Box::pin(self.refuse(&refusal, Some(head), record)).await;
        }
        self.forward(head, admitted, upgrade.as_deref(), route, body, record).await
    }

    /// The request's body, which goes on in the framing that it came in. From a client of HTTP/2 `chunked` means that its
    /// length is not known: the stream ends by itself.
    fn body(&self, admitted: &Admitted) -> Pipe {
        let encoding = if admitted.body == BodyLength::Chunked { Encoding::Chunked } else { Encoding::Plain };
        let length = match (admitted.body, &*self.stream) {
            (BodyLength::Chunked, Wire::H2(_)) => BodyLength::UntilClose,
            (length, _) => length,
        };
        Pipe::new(
            length,
            encoding,
            body_buffer(self.worker, admitted.body),
            self.listener.settings.request_body_bytes_max,
        )
    }

    /// To an instance and back.
    async fn forward(
        &mut self,
        head: &mut Head,
        admitted: &Admitted,
        upgrade: Option<&[u8]>,
        route: &'a RouteView,
        body: &mut Pipe,
        record: &mut Record<'a>,
    ) -> After {
        let (worker, alarm, pool) = (self.worker, self.alarm, &*route.pool);
        if !matches!(pool.settings.host, model::HostField::Keep) {
            head.remove(Name::Host);
        }
        body.keep(pool.settings.retry.body_bytes_max);
        let asked = Asked::of(head, admitted.persistence);
        let deadline = asked.call.then(|| grpc::timeout(head)).flatten().map(|timeout| record.begun + timeout);
        let asked = Asked { deadline, ..asked };
        let target = admitted.target(head);
        let request = Request {
            head,
            authority: head.text(admitted.authority),
            target: &target,
            extra: if admitted.body == BodyLength::Chunked { b"Transfer-Encoding: chunked\r\n" } else { b"" },
            encoding: if admitted.body == BodyLength::Chunked { Encoding::Chunked } else { Encoding::Plain },
            method: asked.method,
            upgrade,
            begun: record.begun,
            whole: record.begun + record.headers,
            deadline,
        };
        let body_rate = self.body_rate(head, body);
        let mut side = self.side(asked.version, Vec::new());
        side.expects_continue = admitted.expects_continue;
        side.body_rate = body_rate;
        let result = forward::forward(worker, alarm, pool, &request, &mut side, body, &mut record.trail).await;
        record.bytes_in = body.received();
        match result {
            Ok(forwarded) => {
                let interim = side.interim;
                let after = self.respond(forwarded, interim, asked, pool, body, record).await;
                record.bytes_in = body.received();
                after
            }
            Err(error) if error.cause == Cause::ClientClosed => left(record),
            Err(error) => {
                let interim = side.interim;
                // Its client has given up, and what went wrong before is not what it waited for.
                let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                let error = if late { Cause::DeadlineExceeded.into() } else { error };
                let ForwardError { cause, status_of, .. } = error;
                let refusal = Refusal { cause, status: rescue::status(status_of), detail: detail(cause) };
                Box::pin(self.rescue(&refusal, Some(error), asked, body, &interim, record)).await
            }
        }
    }

    /// An instance's answer, to the client.
    async fn respond(
        &mut self,
        forwarded: Forwarded<'a>,
        interim: Vec<u8>,
        asked: Asked<'_>,
        pool: &Pool,
        request: &mut Pipe,
        record: &mut Record<'a>,
    ) -> After {
        let Forwarded { answer: Answer { mut head, length }, member, guard, mut connection, picked_at, .. } = forwarded;
        let (worker, settings) = (self.worker, &pool.settings.connection);
        record.status = head.status();
        record.grpc_status = asked.call.then(|| grpc::told_by_head(&head)).flatten();
        // Nobody gets a 101 that was not asked for: `attempt` refuses it.
        let switching = head.status() == 101;
        let length = if switching { BodyLength::UntilClose } else { length };
        let upstream_stays = framing::persistence(&head) == Persistence::KeepAlive;
        hop_by_hop::response(&mut head, if switching { hop_by_hop::Upgrade::Keep } else { hop_by_hop::Upgrade::Drop });
        via::response(&mut head);
        hsts::response(&mut head, self.hsts());
        {
            let mut date = worker.date.borrow_mut();
            if !head.has(Name::Date) {
                date.refresh(SystemTime::now());
                date.add_if_missing(&mut head);
            }
        }
        let encoding = match (length, asked.version) {
            (_, Version::Http2) => Encoding::Frames,
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http11) if !switching => Encoding::Chunked,
            _ => Encoding::Plain,
        };
        let ends_by_close =
            encoding == Encoding::Plain && matches!(length, BodyLength::Chunked | BodyLength::UntilClose);
        // Asked again: a drain may have begun since the request came, and its client must not come back on this connection.
        let stay = self.stay
            && !worker.leaving()
            && asked.persistence == Persistence::KeepAlive
            && !ends_by_close
            && !self.has_ended(request)
            // An early answer: what is left of the request would have to be read before the next one.
            && request.is_received();
        let mut out = worker.buffers.take();
        if encoding != Encoding::Frames {
            out.extend_from_slice(&interim);
            head.write_response(&mut out, extra_lines(encoding, stay, asked.version, switching));
        }
        // Most answers are here as a whole, and go out with their head, as if they were a part of it.
        let (length, rest) = match (length, head.rest()) {
            (BodyLength::Length(length), rest) if length <= rest.len() as u64 => {
                let (body, rest) = rest.split_at(length as usize);
                out.extend_from_slice(body);
                (BodyLength::None, rest)
            }
            (length, rest) => (length, rest),
        };
        let mut response = Pipe::new(length, encoding, body_buffer(worker, length), None);
        let begun = edge::agreed(self.web_socket, &head).and_then(|()| response.begin(rest));
        if begun.is_ok() && edge::respond_first(self.stream, &head, &out, &response).is_err() {
            return left(record);
        }
        worker.buffers.give_head(head);
        if let Err(error) = begun {
            // Nothing of it has gone out, so the client can be told.
            let cause = response_cause(&error);
            member.instance.stats.of(worker.id).errors.of(cause).increment();
            drop((connection, guard));
            let refusal = Refusal { cause, status: rescue::status(cause), detail: detail(cause) };
            return Box::pin(self.rescue(&refusal, Some(cause.into()), asked, request, &interim, record)).await;
        }
        response.head(out);
        if ends_by_close {
            end_by(self.stream, EndBy::Reset);
        }
        let relayed = if switching {
            Box::pin(self.tunnel(&mut connection.stream, &pool.settings, guard.instance(), request, &mut response))
                .await
        } else if let Some(relayed) = self.relay_at_once(&mut connection.stream, &mut response).await {
            relayed
        } else {
            Box::pin(self.relay(&mut connection.stream, settings, request, &mut response, asked, record.status)).await
        };
        record.bytes_out = response.sent();
        if asked.call {
            record.note_outcome(response.trailers());
        }
        let now = *record.ended.insert(Instant::now());
        let shard = member.instance.stats.of(worker.id);
        shard.responses[status_class(record.status)].increment();
        shard.total.observe(now.saturating_duration_since(picked_at));
        drop(guard);
        if let Err(cause) = relayed {
            return self.cut_off(cause, shard, record);
        }
        if ends_by_close {
            end_by(self.stream, EndBy::Close);
        }
        if !response.surplus().is_empty() {
            shard.unasked_bytes.increment();
        } else if upstream_stays && !switching && length != BodyLength::UntilClose && request.is_finished() {
            worker.idle.borrow_mut().put(connection, now, settings.idle_timeout, settings.idle_max);
        }
        response.recycle(&worker.buffers);
        self.keep_ahead(request);
        let all_read = request.is_received() && self.ahead.is_empty();
        // Also when a drain has begun meanwhile: the client was told that it may go on, and perhaps it has.
        if stay {
            After::KeepAlive
        } else if *self.ended || (asked.persistence == Persistence::Close && all_read) {
            After::Close
        } else {
            After::Linger
        }
    }

    /// The end of an answer that is not whole. A gRPC call whose time is over has an outcome nevertheless; its stream to the
    /// instance is cancelled when it is dropped.
    fn cut_off(&mut self, cause: Cause, shard: &InstanceShard, record: &mut Record<'_>) -> After {
        record.cause = Some(cause);
        if !matches!(cause, Cause::ClientClosed | Cause::ClientTooSlow | Cause::UpgradeLifetime) {
            shard.errors.of(cause).increment();
        }
        if cause == Cause::DeadlineExceeded && self.stream.finish(grpc::LATE).is_ok() {
            record.grpc_status = Some(grpc::Status::DeadlineExceeded as u32);
            return After::Close;
        }
        After::Abort
    }

    /// Whether no further request can come: the client closed its sending side, and had sent none before.
    fn has_ended(&self, body: &Pipe) -> bool {
        *self.ended && !body.has_surplus()
    }

    /// What came in behind the request is the next one.
    fn keep_ahead(&mut self, body: &mut Pipe) {
        std::mem::swap(self.ahead, body.surplus());
    }

    /// How fast the body must come, if at all. Streams of messages may rest: gRPC's say so.
    fn body_rate(&self, head: &Head, body: &Pipe) -> Option<Rate> {
        let settings = &self.listener.settings;
        let rests = || head.first(Name::ContentType).is_some_and(|value| value.starts_with(b"application/grpc"));
        let min = settings.request_body_rate_min.filter(|_| !body.is_received() && !rests())?;
        Some(Rate { min, grace: settings.rate_grace, pause_max: settings.request_body_timeout })
    }

    fn side(&mut self, version: Version, interim: Vec<u8>) -> ClientSide<'_> {
        ClientSide {
            stream: self.stream,
            ended: self.ended,
            abort_on_close: self.listener.settings.abort_on_close,
            interim,
            version,
            expects_continue: false,
            body_timeout: self.listener.settings.request_body_timeout,
            body_rate: None,
            body_pace: Pace::default(),
        }
    }
}

/// A route asks for a client certificate that was not shown.
const NO_CERTIFICATE: Refusal = Refusal {
    cause: Cause::ClientCertificateRequired,
    status: 403,
    detail: "this needs a client certificate, and the connection has none",
};

/// The client is gone, and nothing has been answered.
fn left(record: &mut Record<'_>) -> After {
    record.cause = Some(Cause::ClientClosed);
    record.status = rescue::status(Cause::ClientClosed);
    After::Abort
}

/// A buffer where there is something to put into it.
fn body_buffer(worker: &Worker, length: BodyLength) -> Vec<u8> {
    match length {
        BodyLength::None | BodyLength::Length(0) => Vec::new(),
        _ => worker.buffers.take(),
    }
}

/// What goes to the client beside the instance's own fields.
fn extra_lines(encoding: Encoding, stay: bool, version: Version, switching: bool) -> &'static [u8] {
    match (encoding, stay, version) {
        _ if switching => b"",
        (Encoding::Frames, ..) | (Encoding::Plain, true, Version::Http11 | Version::Http2) => b"",
        (Encoding::Plain, true, Version::Http10) => b"Connection: keep-alive\r\n",
        (Encoding::Plain, false, _) => b"Connection: close\r\n",
        (Encoding::Chunked, true, _) => b"Transfer-Encoding: chunked\r\n",
        (Encoding::Chunked, false, _) => b"Transfer-Encoding: chunked\r\nConnection: close\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Each request allocates its state and copies it there, so what is rare is boxed.
    #[test]
    fn a_request_in_progress_is_small() {
        let bytes = future_bytes(|worker: &'static Worker, client: &'static mut Client, alarm: &'static Alarm| {
            serve(worker, client, alarm)
        });
        assert!(bytes <= 2560, "{bytes}");
    }
}
