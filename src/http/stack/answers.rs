//! Answers of our own: to what went wrong, to what must not go on, to who asks after this proxy itself.

use std::time::SystemTime;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::record::Record;
use super::{Asked, Exchange, edge};
use crate::cause::Cause;
use crate::config::model::Redirect;
use crate::connection::After;
use crate::forward::ForwardError;
use crate::http::admit::Admitted;
use crate::http::body::{Encoding, Pipe, PipeError};
use crate::http::date::HttpDate;
use crate::http::grpc;
use crate::http::rescue::{self, Rescue};
use crate::http::trace_id::TraceId;
use crate::http::{Refusal, max_forwards, redirect};
use crate::http1::framing::{BodyLength, Persistence};
use crate::http1::head::{Head, Method, Version};
use crate::snapshot::Readiness;
use crate::wire::Wire;

impl<'a> Exchange<'a> {
    /// `health_path`: this proxy's own readiness, for a load balancer above.
    pub(super) async fn answer_health(&mut self, asked: Asked<'_>, body: &mut Pipe, record: &mut Record<'a>) -> After {
        let (status, reason, text) = match self.worker.readiness() {
            Readiness::Ready => (200, "OK", "ready\n"),
            Readiness::Starting => (503, "Service Unavailable", "starting\n"),
            Readiness::Draining => (503, "Service Unavailable", "draining\n"),
            Readiness::Paused => (503, "Service Unavailable", "paused\n"),
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
            format!("\r\nCache-Control: no-store\r\nConnection: {connection}\r\n").as_bytes(),
            self.hsts(),
            b"\r\n",
            if asked.method == Method::Head { b"" } else { text.as_bytes() },
        ] {
            out.extend_from_slice(part);
        }
        record.status = status;
        self.write_own(out, stay, body, record).await
    }

    /// `Max-Forwards: 0` on `OPTIONS` and `TRACE`: the request ends here (RFC 9110 section 7.6.2).
    pub(super) async fn answer_here(
        &mut self,
        head: &Head,
        persistence: Persistence,
        body: &mut Pipe,
        record: &mut Record<'a>,
    ) -> After {
        let stay = self.stays(persistence, body);
        let mut out = self.worker.buffers.take();
        let persistence = if stay { Persistence::KeepAlive } else { Persistence::Close };
        max_forwards::write_answer(&mut out, head, persistence, self.hsts(), &self.date());
        record.status = 200;
        self.write_own(out, stay, body, record).await
    }

    /// 308 to `https`, where this listener sends what came without TLS.
    pub(super) async fn redirect(
        &mut self,
        redirect: Redirect,
        head: &Head,
        admitted: &Admitted,
        body: &mut Pipe,
        record: &mut Record<'a>,
    ) -> After {
        let stay = self.stays(admitted.persistence, body);
        let persistence = if stay { Persistence::KeepAlive } else { Persistence::Close };
        let mut out = self.worker.buffers.take();
        let date = self.date();
        if let Err(refusal) =
            redirect::write_answer(&mut out, redirect, head, admitted, persistence, self.hsts(), &date)
        {
            self.worker.buffers.give(out);
            return self.refuse(&refusal, Some(head), record).await;
        }
        self.listener.stats.of(self.worker.id).redirected.increment();
        record.status = 308;
        self.write_own(out, stay, body, record).await
    }

    /// An answer of our own to what went wrong. `interim` is what has not gone out yet of an instance's interim answers:
    /// the client may have seen the beginning of one.
    pub(super) async fn rescue(
        &mut self,
        refusal: &Refusal,
        last_attempt: Option<ForwardError>,
        asked: Asked<'_>,
        body: &mut Pipe,
        interim: &[u8],
        record: &mut Record<'a>,
    ) -> After {
        let stay = self.stays(asked.persistence, body);
        let date = self.date();
        let rescue = Rescue {
            cause: refusal.cause,
            last_attempt: last_attempt.map(|attempt| attempt.status_of),
            proxy_error: last_attempt.and_then(|attempt| attempt.proxy_error),
            status_override: last_attempt.is_none().then_some(refusal.status),
            detail: refusal.detail,
            accept: asked.accept,
            method: asked.method,
            persistence: if stay { Persistence::KeepAlive } else { Persistence::Close },
            retry_after: None,
            lines: self.hsts(),
            trace_id: &record.trace_id,
            date: &date,
        };
        let mut out = self.worker.buffers.take();
        out.extend_from_slice(interim);
        if asked.call {
            let status = grpc::write(&mut out, &rescue, asked.version);
            record.status = 200;
            record.grpc_status = Some(status as u32);
        } else {
            rescue::write(&mut out, &rescue);
            record.status = rescue.status();
        }
        record.cause = Some(refusal.cause);
        self.write_own(out, stay, body, record).await
    }

    /// Refuses a request whose head we have: it ends the connection, since what follows on it is in doubt.
    pub(super) async fn refuse(&mut self, refusal: &Refusal, head: Option<&Head>, record: &mut Record<'a>) -> After {
        let asked = head.map_or(
            Asked {
                method: Method::Other,
                version: Version::Http11,
                accept: None,
                persistence: Persistence::Close,
                call: false,
                deadline: None,
            },
            |head| Asked::of(head, Persistence::Close),
        );
        let mut unread = Pipe::new(BodyLength::UntilClose, Encoding::Plain, Vec::new(), None);
        self.rescue(refusal, None, asked, &mut unread, &[], record).await
    }

    /// Refuses what did not become a head.
    pub(super) async fn refuse_unread(&mut self, refusal: Refusal, begun: Instant) -> After {
        let trace_id = TraceId::random(&mut self.worker.random.borrow_mut());
        let mut record = Record::new(begun, trace_id);
        self.listener.stats.of(self.worker.id).client_errors.increment();
        let after = self.refuse(&refusal, None, &mut record).await;
        self.finish(&record, None);
        after
    }

    /// The line of `Strict-Transport-Security`; empty where none goes out.
    pub(super) fn hsts(&self) -> &'a [u8] {
        if self.secure { &self.listener.hsts } else { b"" }
    }

    /// Whether the connection can go on after an answer of our own.
    pub(super) fn stays(&self, persistence: Persistence, body: &Pipe) -> bool {
        let stay = self.stay && !self.worker.leaving();
        stay && persistence == Persistence::KeepAlive && body.is_received() && !self.has_ended(body)
    }

    pub(super) fn date(&self) -> HttpDate {
        let mut date = self.worker.date.borrow_mut();
        date.refresh(SystemTime::now());
        date.clone()
    }

    pub(super) async fn write_own(
        &mut self,
        out: Vec<u8>,
        stay: bool,
        body: &mut Pipe,
        record: &mut Record<'a>,
    ) -> After {
        let deadline = Instant::now() + self.listener.settings.response_write_timeout;
        let write = async {
            match &mut *self.stream {
                Wire::H2(stream) => edge::respond_own(stream, &out).await,
                wire => {
                    wire.write_all(&out).await?;
                    wire.flush().await
                }
            }
        };
        let written = self.alarm.run(deadline, write).await;
        record.bytes_out = out.len() as u64;
        self.worker.buffers.give(out);
        if !matches!(written, Ok(Ok(()))) {
            record.cause.get_or_insert(Cause::ClientClosed);
            return After::Abort;
        }
        self.keep_ahead(body);
        if stay { After::KeepAlive } else { After::Linger }
    }
}

pub(super) fn body_refusal(error: &PipeError) -> Refusal {
    match error {
        PipeError::TooLarge => Refusal { cause: Cause::RequestTooLarge, status: 413, detail: "the body is too large" },
        _ => Refusal { cause: Cause::ClientBadRequest, status: 400, detail: "the body is malformed" },
    }
}

/// What a person is told about a request that no instance answered.
pub(super) fn detail(cause: Cause) -> &'static str {
    match cause {
        Cause::NoEligibleInstance | Cause::QueueTimeout | Cause::StreamRefused => {
            "no instance can take this request now"
        }
        Cause::QueueFull | Cause::Overload => "too many requests are waiting",
        Cause::ConnectRefused | Cause::ConnectTimeout | Cause::ConnectReset => "no instance could be reached",
        Cause::TlsHandshake => "no instance could be reached safely",
        Cause::ResponseHeaderTimeout => "the instance did not answer in time",
        Cause::RequestWriteTimeout => "the instance did not take the request in time",
        Cause::UpstreamBadResponse => "the instance sent something that is not HTTP",
        Cause::NotImplemented => "the instances speak HTTP/2, which has no upgrades",
        Cause::DeadlineExceeded => "the deadline of the request is over",
        Cause::RequestTooLarge => "the request body is too large",
        Cause::RequestBodyTimeout | Cause::RequestBodyTooSlow => "the request body did not arrive in time",
        Cause::ClientBadRequest => "the request body is malformed",
        _ => "the instance did not answer",
    }
}
