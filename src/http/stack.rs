//! A request, top to bottom: in what order things are done, and why in this order.
//!
//! One async function with a line per step: layers as services would cost 14 % of the whole (boxed) or hide the order in
//! types (static). Steps that look at the head are pure functions in the files beside this one; `forward` brings the
//! request to an instance; what comes back goes the same way in reverse. Every request ends in `Record::finish`, with
//! one line of log and one count, whatever happened to it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::admit::{self, Admitted};
use super::body::{Encoding, Pipe, PipeError, Wait};
use super::date::HttpDate;
use super::forwarded::{self, Peer};
use super::max_forwards::{self, Onward};
use super::rescue::{self, Rescue};
use super::trace_id::{self, TraceId};
use super::{Refusal, hop_by_hop, imitation, via};
use crate::cause::Cause;
use crate::config::model;
use crate::connection::{After, Client, Presence};
use crate::forward::attempt::{Answer, ClientSide, client_cause};
use crate::forward::{self, ForwardError, Forwarded, Request, Trail};
use crate::http1::framing::{self, BodyLength, Persistence};
use crate::http1::head::{Head, HeadError, Method, Version};
use crate::http1::name::Name;
use crate::http1::read::{HeadLimits, HeadScanner, Scan};
use crate::pool::Pool;
use crate::snapshot::{ListenerView, Readiness, RouteView};
use crate::telemetry::access::{self, AccessRecord};
use crate::telemetry::stats::status_class;
use crate::worker::Worker;
use crate::worker::alarm::Alarm;
use crate::worker::buffers::make_room;

/// Serves one request whose first byte is there.
pub async fn serve(worker: &Worker, client: &mut Client, alarm: &Alarm) -> After {
    // Counted from here: a drain waits for it.
    let _busy = worker.begin();
    let read = read_head(worker, client, alarm).await;
    // Not before the head is whole: a reload may have come while it dripped in, and the request belongs to what holds now.
    let presence = client.refresh(&worker.view());
    let stay = presence == Presence::Listed && !worker.draining();
    let Client { stream, address, peer, ahead, ended, listener, .. } = client;
    let mut exchange = Exchange { worker, alarm, listener, stream, address: *address, peer, ahead, ended, stay };
    match read {
        Ok((head, begun)) => exchange.run(head, begun).await,
        Err(Unread::Gone) => After::Close,
        Err(Unread::Blank) => After::KeepAlive,
        Err(Unread::Refused(refusal, begun)) => exchange.refuse_unread(refusal, begun).await,
    }
}

/// Why there is no request.
enum Unread {
    /// The client closed, or sent nothing in time: there is nobody to answer, or nothing to answer to.
    Gone,
    /// Empty lines only, which some clients send behind a body (RFC 9112 section 2.2): the connection idles on.
    Blank,
    /// What came is not a request, or did not come in time.
    Refused(Refusal, Instant),
}

/// Reads one request head. Returns it with the time of its first byte.
async fn read_head(worker: &Worker, client: &mut Client, alarm: &Alarm) -> Result<(Head, Instant), Unread> {
    let settings = &client.listener.settings;
    let limits = HeadLimits {
        bytes_max: settings.request_head_bytes_max,
        target_bytes_max: settings.request_target_bytes_max,
        fields_max: settings.request_fields_max,
    };
    let begun = Instant::now();
    let deadline = begun + settings.request_head_timeout;
    let mut buffer = if client.ahead.is_empty() { worker.buffers.take() } else { std::mem::take(&mut client.ahead) };
    let mut scanner = HeadScanner::request();
    let mut asked = false;
    let refused = |error: HeadError| Unread::Refused(error.into(), begun);
    loop {
        if !buffer.is_empty() {
            match scanner.scan(&buffer, &limits) {
                Ok(Scan::Complete { start, end }) => {
                    let storage = worker.buffers.take_head();
                    let head = Head::request_in(storage, buffer, start, end, limits.fields_max);
                    return head.map(|head| (head, begun)).map_err(|(error, _buffer)| refused(error));
                }
                Ok(Scan::Partial { begun: false }) if buffer.ends_with(b"\n") => {
                    worker.buffers.give(buffer);
                    return Err(Unread::Blank);
                }
                Ok(Scan::Partial { begun }) => asked = begun,
                Err(error) => return Err(refused(error)),
            }
        }
        make_room(&mut buffer);
        let stream = &mut client.stream;
        let read = std::future::poll_fn(|context| poll_read_buf(Pin::new(&mut *stream), context, &mut buffer));
        match alarm.run(deadline, read).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => {
                worker.buffers.give(buffer);
                return Err(Unread::Gone);
            }
            Err(_ring) if asked => return Err(Unread::Refused(LATE_HEAD, begun)),
            Err(_ring) => return Err(Unread::Gone),
        }
    }
}

const LATE_HEAD: Refusal =
    Refusal { cause: Cause::RequestHeaderTimeout, status: 408, detail: "the request head did not arrive in time" };

/// One request and its answer: the parts of its connection, and where it is served.
struct Exchange<'a> {
    worker: &'a Worker,
    alarm: &'a Alarm,
    listener: &'a ListenerView,
    stream: &'a mut TcpStream,
    address: SocketAddr,
    peer: &'a mut Peer,
    ahead: &'a mut Vec<u8>,
    ended: &'a mut bool,
    /// Whether the connection may go on afterwards, as far as the listener and the process are concerned.
    stay: bool,
}

/// What log and metrics say of a request.
struct Record<'a> {
    begun: Instant,
    headers: Duration,
    trace_id: TraceId,
    route: Option<&'a RouteView>,
    trail: Trail<'a>,
    status: u16,
    cause: Option<Cause>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Record<'_> {
    fn new(begun: Instant, trace_id: TraceId) -> Self {
        Self {
            begun,
            headers: Duration::ZERO,
            trace_id,
            route: None,
            trail: Trail::default(),
            status: 0,
            cause: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }
}

/// What the head of a request said, as far as the answer depends on it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    method: Method,
    version: Version,
    accept: Option<&'a [u8]>,
    persistence: Persistence,
}

impl<'h> Asked<'h> {
    fn of(head: &'h Head, persistence: Persistence) -> Self {
        Self { method: head.method(), version: head.version(), accept: head.first(Name::Accept), persistence }
    }
}

impl<'a> Exchange<'a> {
    /// The walk of a request, in its order.
    async fn run(&mut self, mut head: Head, begun: Instant) -> After {
        let worker = self.worker;
        // Before anything can be refused, so that each answer and each line of log has an id.
        let trace_id = trace_id::apply(&mut head, &mut worker.random.borrow_mut());
        let mut record = Record::new(begun, trace_id);
        if access::enabled() {
            record.headers = begun.elapsed();
        }
        let after = match admit::admit(&mut head, &self.listener.settings) {
            Ok(admitted) => {
                let mut body = self.body(&admitted);
                let after = self.admitted(&mut head, &admitted, &mut body, &mut record).await;
                body.recycle(&worker.buffers);
                after
            }
            Err(refusal) => self.refuse(&refusal, Some(&head), &mut record).await,
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
        // What came behind the head: the body's first part, or the next request.
        if let Err(error) = body.begin(head.rest()) {
            let refusal = body_refusal(&error);
            return self.refuse(&refusal, Some(head), record).await;
        }
        if settings.health_path.as_deref().is_some_and(|path| path.as_bytes() == head.text(admitted.path)) {
            return self.answer_health(Asked::of(head, admitted.persistence), body, record).await;
        }
        match max_forwards::apply(head) {
            Ok(Onward::Forward) => {}
            Ok(Onward::AnswerHere) => return self.answer_here(head, admitted.persistence, body, record).await,
            Err(refusal) => return self.refuse(&refusal, Some(head), record).await,
        }
        // By what the client asked for, before any rewriting.
        let Some(route) = self.listener.routes.find(head.text(admitted.host), admitted.path(head)) else {
            let refusal = Refusal { cause: Cause::NoRoute, status: 404, detail: "no route for this host and path" };
            return self.rescue(&refusal, None, Asked::of(head, admitted.persistence), body, &[], record).await;
        };
        record.route = Some(route);
        let upgrade = admitted.upgrade.map(|span| head.text(span).to_vec());
        // What concerned only the client's connection goes first, so that nothing that we add can be named by it.
        hop_by_hop::request(
            head,
            if upgrade.is_some() { hop_by_hop::Upgrade::Keep } else { hop_by_hop::Upgrade::Drop },
        );
        // Before ours are added: what looks like them to a CGI-like server must not arrive beside them.
        imitation::drop_all(head);
        forwarded::apply(head, self.peer, admitted);
        if let Err(refusal) = via::request(head) {
            return self.refuse(&refusal, Some(head), record).await;
        }
        self.forward(head, admitted, upgrade.as_deref(), route, body, record).await
    }

    /// The request's body, which goes on in the framing that it came in.
    fn body(&self, admitted: &Admitted) -> Pipe {
        let encoding = if admitted.body == BodyLength::Chunked { Encoding::Chunked } else { Encoding::Plain };
        Pipe::new(
            admitted.body,
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
        let target = admitted.target(head);
        let request = Request {
            head,
            authority: head.text(admitted.authority),
            target: &target,
            extra: if admitted.body == BodyLength::Chunked { b"Transfer-Encoding: chunked\r\n" } else { b"" },
            method: asked.method,
            upgrade,
            begun: record.begun,
        };
        let mut side = self.side(asked.version, Vec::new());
        side.expects_continue = admitted.expects_continue;
        let result = forward::forward(worker, alarm, pool, &request, &mut side, body, &mut record.trail).await;
        record.bytes_in = body.received();
        match result {
            Ok(forwarded) => {
                let interim = side.interim;
                let after = self.respond(forwarded, interim, asked, pool, body, record).await;
                record.bytes_in = body.received();
                after
            }
            Err(error) if error.cause == Cause::ClientClosed => {
                record.cause = Some(Cause::ClientClosed);
                record.status = rescue::status(Cause::ClientClosed);
                After::Abort
            }
            Err(ForwardError { cause, status_of }) => {
                let interim = side.interim;
                let refusal = Refusal { cause, status: rescue::status(status_of), detail: detail(cause) };
                self.rescue(&refusal, Some(status_of), asked, body, &interim, record).await
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
        // Nobody gets a 101 that was not asked for: `attempt` refuses it.
        let switching = head.status() == 101;
        let length = if switching { BodyLength::UntilClose } else { length };
        let upstream_stays = framing::persistence(&head) == Persistence::KeepAlive;
        hop_by_hop::response(&mut head, if switching { hop_by_hop::Upgrade::Keep } else { hop_by_hop::Upgrade::Drop });
        via::response(&mut head);
        {
            let mut date = worker.date.borrow_mut();
            if !head.has(Name::Date) {
                date.refresh(SystemTime::now());
                date.add_if_missing(&mut head);
            }
        }
        let encoding = match (length, asked.version) {
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http11) if !switching => Encoding::Chunked,
            _ => Encoding::Plain,
        };
        let ends_by_close =
            encoding == Encoding::Plain && matches!(length, BodyLength::Chunked | BodyLength::UntilClose);
        // Asked again: a drain may have begun since the request came, and its client must not come back on this connection.
        let mut stay = self.stay
            && !worker.draining()
            && asked.persistence == Persistence::KeepAlive
            && !ends_by_close
            && !self.has_ended(request)
            // An early answer: what is left of the request would have to be read before the next one.
            && request.is_received();
        let mut out = worker.buffers.take();
        out.extend_from_slice(&interim);
        head.write_response(&mut out, extra_lines(encoding, stay, asked.version, switching));
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
        let begun = response.begin(rest);
        worker.buffers.give_head(head);
        if let Err(error) = begun {
            // Nothing of it has gone out, so the client can be told.
            let cause = response_cause(&error);
            member.instance.stats.of(worker.id).errors.of(cause).increment();
            drop((connection, guard));
            let refusal = Refusal { cause, status: rescue::status(cause), detail: detail(cause) };
            return self.rescue(&refusal, Some(cause), asked, request, &interim, record).await;
        }
        response.head(out);
        if ends_by_close {
            end_by(self.stream, EndBy::Reset);
        }
        let relayed = if switching {
            self.tunnel(&mut connection.stream, settings, request, &mut response).await
        } else {
            self.relay(&mut connection.stream, settings, request, &mut response).await
        };
        record.bytes_out = response.sent();
        let now = Instant::now();
        let shard = member.instance.stats.of(worker.id);
        shard.responses[status_class(record.status)].increment();
        shard.total.observe(now.saturating_duration_since(picked_at));
        drop(guard);
        if let Err(cause) = relayed {
            record.cause = Some(cause);
            if !matches!(cause, Cause::ClientClosed | Cause::ClientTooSlow) {
                shard.errors.of(cause).increment();
            }
            return After::Abort;
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
        stay = stay && request.is_received() && !worker.draining();
        self.keep_ahead(request);
        if stay {
            After::KeepAlive
        } else if request.is_received() && self.ahead.is_empty() {
            After::Close
        } else {
            After::Linger
        }
    }

    /// Moves the response to the client, and what is left of the request to the instance.
    async fn relay(
        &mut self,
        upstream: &mut TcpStream,
        settings: &model::PoolConnection,
        request: &mut Pipe,
        response: &mut Pipe,
    ) -> Result<(), Cause> {
        let (alarm, limits) = (self.alarm, &self.listener.settings);
        let mut side = self.side(Version::Http11, Vec::new());
        let mut sending = !request.is_finished();
        let mut moved_at = alarm.now();
        let result = std::future::poll_fn(|context| {
            match response.poll(context, upstream, side.stream) {
                Poll::Ready(result) => return Poll::Ready(result.map_err(|error| response_cause(&error))),
                Poll::Pending => {}
            }
            if sending && !request.is_finished() {
                match request.poll(context, side.stream, upstream) {
                    Poll::Pending | Poll::Ready(Ok(())) => {}
                    // The instance reads no more of it; its answer counts.
                    Poll::Ready(Err(PipeError::Sink(_))) => sending = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(client_cause(&error))),
                }
            }
            if request.is_received() {
                side.poll_left(context, request.surplus())?;
            }
            if response.has_moved() | request.has_moved() {
                moved_at = alarm.now();
            }
            let (timeout, cause) = match response.wait() {
                Wait::Source => (settings.response_body_timeout, Cause::ResponseBodyTimeout),
                Wait::Sink => (limits.response_write_timeout, Cause::ClientTooSlow),
            };
            alarm.set(moved_at + timeout);
            alarm.poll_ring(context).map(|_ring| Err(cause))
        })
        .await;
        alarm.clear();
        result
    }

    /// After a 101: bytes in both directions until both sides have ended (RFC 9110 section 7.8).
    async fn tunnel(
        &mut self,
        upstream: &mut TcpStream,
        settings: &model::PoolConnection,
        request: &mut Pipe,
        response: &mut Pipe,
    ) -> Result<(), Cause> {
        let alarm = self.alarm;
        let stream = &mut *self.stream;
        let mut inward = Pipe::new(BodyLength::UntilClose, Encoding::Plain, self.worker.buffers.take(), None);
        // What the client sent behind its request belongs to the new protocol.
        inward.begin(request.surplus()).map_err(|error| client_cause(&error))?;
        inward.head(Vec::new());
        request.surplus().clear();
        let (mut inward_open, mut outward_open) = (true, true);
        let mut moved_at = alarm.now();
        let result = std::future::poll_fn(|context| {
            if outward_open && let Poll::Ready(result) = response.poll(context, upstream, stream) {
                result.map_err(|error| response_cause(&error))?;
                outward_open = poll_shut(context, stream);
            }
            if inward_open && let Poll::Ready(result) = inward.poll(context, stream, upstream) {
                match result {
                    Ok(()) => inward_open = poll_shut(context, upstream),
                    // The instance takes no more. What it has sent may still be on its way; reading tells how it ended.
                    Err(PipeError::Sink(_)) => inward_open = false,
                    Err(error) => return Poll::Ready(Err(client_cause(&error))),
                }
            }
            if !inward_open && !outward_open {
                return Poll::Ready(Ok(()));
            }
            if response.has_moved() | inward.has_moved() {
                moved_at = alarm.now();
            }
            alarm.set(moved_at + settings.upgrade_idle_timeout);
            alarm.poll_ring(context).map(|_ring| Err(Cause::ResponseBodyTimeout))
        })
        .await;
        alarm.clear();
        *self.ended = true;
        result
    }

    /// `health_path`: this proxy's own readiness, for a load balancer above.
    async fn answer_health(&mut self, asked: Asked<'_>, body: &mut Pipe, record: &mut Record<'a>) -> After {
        let (status, reason, text) = match self.worker.readiness() {
            Readiness::Ready => (200, "OK", "ready\n"),
            Readiness::Starting => (503, "Service Unavailable", "starting\n"),
            Readiness::Draining => (503, "Service Unavailable", "draining\n"),
            Readiness::NoEligibleInstance(_) => (503, "Service Unavailable", "no eligible instance\n"),
        };
        let stay = self.stays(asked.persistence, body);
        let mut out = self.worker.buffers.take();
        let length = text.len();
        let connection = if stay { "keep-alive" } else { "close" };
        let date = self.date();
        for part in [
            format!("HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nDate: ")
                .as_bytes(),
            date.text(),
            format!("\r\nCache-Control: no-store\r\nConnection: {connection}\r\n\r\n").as_bytes(),
            if asked.method == Method::Head { b"" } else { text.as_bytes() },
        ] {
            out.extend_from_slice(part);
        }
        record.status = status;
        self.write_own(out, stay, body, record).await
    }

    /// `Max-Forwards: 0` on `OPTIONS` and `TRACE`: the request ends here (RFC 9110 section 7.6.2).
    async fn answer_here(
        &mut self,
        head: &Head,
        persistence: Persistence,
        body: &mut Pipe,
        record: &mut Record<'a>,
    ) -> After {
        let stay = self.stays(persistence, body);
        let mut out = self.worker.buffers.take();
        let persistence = if stay { Persistence::KeepAlive } else { Persistence::Close };
        max_forwards::write_answer(&mut out, head, persistence, &self.date());
        record.status = 200;
        self.write_own(out, stay, body, record).await
    }

    /// An answer of our own to what went wrong. `interim` is what has not gone out yet of an instance's interim answers:
    /// the client may have seen the beginning of one.
    async fn rescue(
        &mut self,
        refusal: &Refusal,
        last_attempt: Option<Cause>,
        asked: Asked<'_>,
        body: &mut Pipe,
        interim: &[u8],
        record: &mut Record<'a>,
    ) -> After {
        let stay = self.stays(asked.persistence, body);
        let date = self.date();
        let rescue = Rescue {
            cause: refusal.cause,
            last_attempt,
            status_override: last_attempt.is_none().then_some(refusal.status),
            detail: refusal.detail,
            accept: asked.accept,
            method: asked.method,
            persistence: if stay { Persistence::KeepAlive } else { Persistence::Close },
            retry_after: None,
            trace_id: &record.trace_id,
            date: &date,
        };
        let mut out = self.worker.buffers.take();
        out.extend_from_slice(interim);
        rescue::write(&mut out, &rescue);
        record.status = rescue.status();
        record.cause = Some(refusal.cause);
        self.write_own(out, stay, body, record).await
    }

    /// Refuses a request whose head we have: it ends the connection, since what follows on it is in doubt.
    async fn refuse(&mut self, refusal: &Refusal, head: Option<&Head>, record: &mut Record<'a>) -> After {
        let asked = head.map_or(
            Asked { method: Method::Other, version: Version::Http11, accept: None, persistence: Persistence::Close },
            |head| Asked::of(head, Persistence::Close),
        );
        let mut unread = Pipe::new(BodyLength::UntilClose, Encoding::Plain, Vec::new(), None);
        self.rescue(refusal, None, asked, &mut unread, &[], record).await
    }

    /// Refuses what did not become a head.
    async fn refuse_unread(&mut self, refusal: Refusal, begun: Instant) -> After {
        let trace_id = TraceId::random(&mut self.worker.random.borrow_mut());
        let mut record = Record::new(begun, trace_id);
        self.listener.stats.of(self.worker.id).client_errors.increment();
        let after = self.refuse(&refusal, None, &mut record).await;
        self.finish(&record, None);
        after
    }

    /// Whether the connection can go on after an answer of our own.
    fn stays(&self, persistence: Persistence, body: &Pipe) -> bool {
        let stay = self.stay && !self.worker.draining();
        stay && persistence == Persistence::KeepAlive && body.is_received() && !self.has_ended(body)
    }

    /// Whether no further request can come: the client closed its sending side, and had sent none before.
    fn has_ended(&self, body: &Pipe) -> bool {
        *self.ended && !body.has_surplus()
    }

    fn date(&self) -> HttpDate {
        let mut date = self.worker.date.borrow_mut();
        date.refresh(SystemTime::now());
        date.clone()
    }

    async fn write_own(&mut self, out: Vec<u8>, stay: bool, body: &mut Pipe, record: &mut Record<'a>) -> After {
        let deadline = Instant::now() + self.listener.settings.response_write_timeout;
        let written = self.alarm.run(deadline, self.stream.write_all(&out)).await;
        record.bytes_out = out.len() as u64;
        self.worker.buffers.give(out);
        if !matches!(written, Ok(Ok(()))) {
            record.cause.get_or_insert(Cause::ClientClosed);
            return After::Abort;
        }
        self.keep_ahead(body);
        if stay { After::KeepAlive } else { After::Linger }
    }

    /// What came in behind the request is the next one.
    fn keep_ahead(&mut self, body: &mut Pipe) {
        std::mem::swap(self.ahead, body.surplus());
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
        }
    }

    /// One count and, if wanted, one line of log for each request.
    fn finish(&self, record: &Record<'_>, head: Option<&Head>) {
        let worker = self.worker;
        let total = record.begun.elapsed();
        let stats = record.route.map_or(&self.listener.unrouted, |route| &route.stats).of(worker.id);
        stats.durations[status_class(record.status)].observe(total);
        stats.request_bytes.add(record.bytes_in);
        stats.response_bytes.add(record.bytes_out);
        if let Some(cause) = record.cause {
            stats.local.of(cause).increment();
        }
        if !access::enabled() {
            return;
        }
        let target = head.map_or(&b"-"[..], Head::target);
        let (path, query) = match memchr::memchr(b'?', target) {
            Some(at) => (&target[..at], Some(&target[at + 1..])),
            None => (target, None),
        };
        let sent = record.trail.attempts > 0;
        access::log(&AccessRecord {
            trace_id: record.trace_id.as_str(),
            listener: self.listener.settings.name.as_str(),
            route: record.route.map(|route| route.name.as_str()),
            pool: record.route.map(|route| route.pool.name.as_str()),
            instance: record.trail.member.map(|member| member.name.as_str()),
            method: head.map_or(b"-", Head::method_text),
            host: head.and_then(|head| head.first(Name::Host)),
            path,
            query: query.filter(|_| worker.view().config.log.access_query),
            status: record.status,
            cause: record.cause,
            attempts: record.trail.attempts,
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            client: self.address,
            headers: record.headers,
            queue: sent.then_some(record.trail.queue),
            connect: sent.then_some(record.trail.connect),
            first_byte: record.trail.first_byte,
            total,
        });
    }
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
        (Encoding::Plain, true, Version::Http11) => b"",
        (Encoding::Plain, true, Version::Http10) => b"Connection: keep-alive\r\n",
        (Encoding::Plain, false, _) => b"Connection: close\r\n",
        (Encoding::Chunked, true, _) => b"Transfer-Encoding: chunked\r\n",
        (Encoding::Chunked, false, _) => b"Transfer-Encoding: chunked\r\nConnection: close\r\n",
    }
}

fn body_refusal(error: &PipeError) -> Refusal {
    match error {
        PipeError::TooLarge => Refusal { cause: Cause::RequestTooLarge, status: 413, detail: "the body is too large" },
        _ => Refusal { cause: Cause::ClientBadRequest, status: 400, detail: "the body is malformed" },
    }
}

/// What a person is told about a request that no instance answered.
fn detail(cause: Cause) -> &'static str {
    match cause {
        Cause::NoEligibleInstance | Cause::QueueTimeout => "no instance can take this request now",
        Cause::QueueFull | Cause::Overload => "too many requests are waiting",
        Cause::ConnectRefused | Cause::ConnectTimeout | Cause::ConnectReset => "no instance could be reached",
        Cause::ResponseHeaderTimeout => "the instance did not answer in time",
        Cause::UpstreamBadResponse => "the instance sent something that is not HTTP",
        Cause::RequestTooLarge => "the request body is too large",
        Cause::RequestBodyTimeout => "the request body did not arrive in time",
        Cause::ClientBadRequest => "the request body is malformed",
        _ => "the instance did not answer",
    }
}

/// Why a response that had begun was cut off.
fn response_cause(error: &PipeError) -> Cause {
    match error {
        PipeError::Source(_) | PipeError::Truncated | PipeError::TooLarge => Cause::UpstreamClosedEarly,
        PipeError::Malformed(_) => Cause::UpstreamBadResponse,
        PipeError::Sink(_) => Cause::ClientClosed,
    }
}

/// How the kernel ends a connection that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndBy {
    /// In order, after all that was written.
    Close,
    /// At once, so that the client sees that something is missing.
    Reset,
}

/// While a response ends by the end of the connection, whatever drops the connection would make it look whole: the
/// deadline of a drain, a second signal, a crash. So the kernel is told beforehand.
fn end_by(stream: &TcpStream, end: EndBy) {
    let linger = match end {
        EndBy::Close => None,
        EndBy::Reset => Some(Duration::ZERO),
    };
    if let Err(error) = socket2::SockRef::from(stream).set_linger(linger) {
        tracing::debug!(%error, "cannot choose how a connection ends");
    }
}

/// Closes the sending side. Returns whether that has to be tried again.
fn poll_shut(context: &mut std::task::Context<'_>, stream: &mut TcpStream) -> bool {
    // A failure means that the other side is gone, which the other direction finds out, too.
    Pin::new(stream).poll_shutdown(context).is_pending()
}
