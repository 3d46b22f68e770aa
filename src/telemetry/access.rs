//! The access log: one event per request, at its end, on the target `access`. Off unless the configuration says so.
//!
//! It is an event and not a span per request: a span costs every request about 9,000 instructions, also with the log
//! off. [`enabled`] is one load; callers ask it before they collect what a record needs. Names are those of metrics and
//! other log lines; times are seconds, as everywhere outside.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::Level;

use crate::cause::Cause;
use crate::tls::session::{self, Session};

/// The target of access events.
pub const TARGET: &str = "access";

/// Everything that the access log tells of a request.
#[derive(Debug)]
pub struct AccessRecord<'a> {
    /// The request's id: 32 hexadecimal digits.
    pub trace_id: &'a str,
    /// Where it came in.
    pub listener: &'a str,
    /// The route that matched, if one did.
    pub route: Option<&'a str>,
    /// The pool that the route names.
    pub pool: Option<&'a str>,
    /// The instance of the last attempt.
    pub instance: Option<&'a str>,
    /// What the client speaks: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'a str,
    /// As sent by the client.
    pub method: &'a [u8],
    /// As sent by the client, without the query.
    pub host: Option<&'a [u8]>,
    /// As sent by the client, without the query.
    pub path: &'a [u8],
    /// The query string: pass it only if `log.access_query` is set, since queries carry secrets.
    pub query: Option<&'a [u8]>,
    /// What the client got; 499 if it left before.
    pub status: u16,
    /// Why Plimsoll answered itself or cut the response off.
    pub cause: Option<Cause>,
    /// The outcome of a gRPC call: `grpc-status`.
    pub grpc_status: Option<u32>,
    /// Attempts made.
    pub attempts: u32,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response, with its head.
    pub bytes_out: u64,
    /// The peer of the connection.
    pub client: SocketAddr,
    /// What TLS agreed on with it; `None`: it came without.
    pub tls: Option<Session<'a>>,
    /// SHA-256 of the certificate that the client has shown.
    pub client_certificate: Option<&'a str>,
    /// From the first byte of the head to its last.
    pub headers: Duration,
    /// Waiting for an eligible instance.
    pub queue: Option<Duration>,
    /// Making connections, over all attempts; zero on a kept one.
    pub connect: Option<Duration>,
    /// From the beginning of the last attempt's sending, on a connection that was there, to the response head.
    pub first_byte: Option<Duration>,
    /// From the first byte of the request to the last of the response.
    pub total: Duration,
}

/// Whether access events are written at all.
#[inline]
#[must_use]
pub fn enabled() -> bool {
    tracing::enabled!(target: TARGET, Level::INFO)
}

/// Writes the event of one request; does nothing, and formats nothing, while the access log is off.
pub fn log(record: &AccessRecord<'_>) {
    tracing::info!(
        target: TARGET,
        trace_id = record.trace_id,
        listener = record.listener,
        route = record.route,
        pool = record.pool,
        instance = record.instance,
        protocol = record.protocol,
        method = &*String::from_utf8_lossy(record.method),
        host = record.host.map(String::from_utf8_lossy).as_deref(),
        path = &*String::from_utf8_lossy(record.path),
        query = record.query.map(String::from_utf8_lossy).as_deref(),
        status = record.status,
        cause = record.cause.map(Cause::code),
        grpc_status = record.grpc_status,
        attempts = record.attempts,
        bytes_in = record.bytes_in,
        bytes_out = record.bytes_out,
        client = %record.client,
        tls_version = record.tls.map(|tls| session::VERSIONS[tls.version]),
        tls_cipher = record.tls.map(|tls| tls.cipher),
        sni = record.tls.and_then(|tls| tls.name),
        client_certificate = record.client_certificate,
        headers = record.headers.as_secs_f64(),
        queue = record.queue.map(|time| time.as_secs_f64()),
        connect = record.connect.map(|time| time.as_secs_f64()),
        first_byte = record.first_byte.map(|time| time.as_secs_f64()),
        total = record.total.as_secs_f64(),
        "request"
    );
}
