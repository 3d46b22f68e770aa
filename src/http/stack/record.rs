//! What is known of a request at its end, whatever happened to it: one count, and one line of log if that is wanted.

use std::time::Duration;

use tokio::time::Instant;

use super::Exchange;
use crate::cause::Cause;
use crate::forward::Trail;
use crate::http::grpc;
use crate::http::trace_id::TraceId;
use crate::http1::head::{Head, Version};
use crate::http1::name::Name;
use crate::snapshot::RouteView;
use crate::telemetry::access::{self, AccessRecord};
use crate::telemetry::stats::status_class;
use crate::wire::Wire;

/// What log and metrics say of a request.
pub(super) struct Record<'a> {
    pub(super) begun: Instant,
    /// When its answer was through, where that was looked at: a look at the clock costs as much as a count.
    pub(super) ended: Option<Instant>,
    pub(super) headers: Duration,
    pub(super) trace_id: TraceId,
    pub(super) route: Option<&'a RouteView>,
    pub(super) trail: Trail<'a>,
    pub(super) status: u16,
    pub(super) cause: Option<Cause>,
    /// The outcome of a gRPC call, where it was told.
    pub(super) grpc_status: Option<u32>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Record<'_> {
    pub(super) fn new(begun: Instant, trace_id: TraceId) -> Self {
        Self {
            begun,
            ended: None,
            headers: Duration::ZERO,
            trace_id,
            route: None,
            trail: Trail::default(),
            status: 0,
            cause: None,
            grpc_status: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }
}

impl Record<'_> {
    /// What the trailers of a gRPC call tell of its outcome.
    pub(super) fn note_outcome(&mut self, trailers: &[u8]) {
        self.grpc_status = self.grpc_status.or_else(|| grpc::told_by_trailers(trailers));
    }
}

impl Exchange<'_> {
    /// One count and, if wanted, one line of log for each request.
    pub(super) fn finish(&self, record: &Record<'_>, head: Option<&Head>) {
        let worker = self.worker;
        let total = record.ended.unwrap_or_else(Instant::now) - record.begun;
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
            protocol: match (&*self.stream, head.map(Head::version)) {
                (Wire::H2(_), _) | (_, Some(Version::Http2)) => "HTTP/2.0",
                (_, Some(Version::Http10)) => "HTTP/1.0",
                (_, Some(Version::Http11) | None) => "HTTP/1.1",
            },
            method: head.map_or(b"-", Head::method_text),
            host: head.and_then(|head| head.first(Name::Host)),
            path,
            query: query.filter(|_| worker.view().config.log.access_query),
            status: record.status,
            cause: record.cause,
            grpc_status: record.grpc_status,
            attempts: record.trail.attempts,
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            client: self.address,
            tls: self.stream.session(),
            client_certificate: self.identity.map(|identity| identity.fingerprint.as_str()),
            headers: record.headers,
            queue: sent.then_some(record.trail.queue),
            connect: sent.then_some(record.trail.connect),
            first_byte: record.trail.first_byte,
            total,
        });
    }
}
