//! The checked configuration: what the control side builds snapshots from.
//!
//! Every value here has been checked, every name resolved, every default filled in. An `Option` that remains means
//! "without" (no limit, not set), never "default". Made by `config::check`, compared by `config::diff`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::problem::Place;

/// A name from the configuration, cheap to clone, usable as a label.
macro_rules! name_type {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a listener.
    ListenerName
);
name_type!(
    /// The name of a pool.
    PoolName
);
name_type!(
    /// The name of a route.
    RouteName
);
name_type!(
    /// The name of an instance, unique in its pool; by default its address as written.
    InstanceName
);

/// A secret from the configuration: it has no `Display`, and `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The secret itself; call it only where it is compared or sent.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A file that the configuration names.
#[derive(Debug, Clone)]
pub struct FileRef {
    /// Where it is, from the folder of the configuration.
    pub path: PathBuf,
    /// As it is written: what messages and labels call it.
    pub written: Arc<str>,
    /// Where it is written, for messages: no part of what it means.
    pub place: Option<Place>,
}

impl PartialEq for FileRef {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where it was read from; relative paths are relative to its folder.
    pub path: PathBuf,
    /// SHA-like fingerprint of the file's bytes, 16 hexadecimal digits: two equal ones are the same text.
    pub hash: String,
    /// In the order of the file, never empty.
    pub listeners: Vec<Listener>,
    /// In the order of the file, never empty.
    pub pools: Vec<Pool>,
    /// In the order of the file; where the file has one pool and no routes, the one route that sends everything there.
    pub routes: Vec<Route>,
    /// The admin listener.
    pub admin: Admin,
    /// What is logged, where to and how.
    pub log: Log,
    /// The process.
    pub runtime: Runtime,
}

/// Addresses that clients connect to, and what is asked of the clients there.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Unique; by default its first address.
    pub name: ListenerName,
    /// Where it listens; `*:80` has become `[::]:80` and `0.0.0.0:80`. Never empty.
    pub bind: Vec<SocketAddr>,
    /// Open client connections at a time; further ones wait in the accept queue.
    pub connections_max: usize,
    /// Open connections of one client's address (of one /64 for IPv6); `None`: no limit.
    pub connections_per_client_max: Option<usize>,
    /// Length of the kernel's accept queue, per socket.
    pub backlog: u32,
    /// From the first byte of a request (or from accept) to the end of its head; then 408.
    pub request_head_timeout: Duration,
    /// The longest pause within a request body; then 408.
    pub request_body_timeout: Duration,
    /// The longest pause in which the client takes no byte of a response.
    pub response_write_timeout: Duration,
    /// How fast a request body must come at least, in bytes per second; `None`: no matter.
    pub request_body_rate_min: Option<u64>,
    /// How fast a response must be taken at least, in bytes per second; `None`: no matter.
    pub response_rate_min: Option<u64>,
    /// How long a body may be slower than that at first.
    pub rate_grace: Duration,
    /// How long a connection may wait for its next request.
    pub keep_alive_timeout: Duration,
    /// Requests on one connection; the last one's answer closes it. `None`: no limit.
    pub keep_alive_requests_max: Option<u32>,
    /// A connection that is older ends with its next answer; `None`: no limit.
    pub connection_age_max: Option<Duration>,
    /// How long to read and drop what a client still sends after an early answer, so that it sees the answer.
    pub lingering_timeout: Duration,
    /// Request line and fields together; then 431.
    pub request_head_bytes_max: usize,
    /// Fields in a request head; then 431.
    pub request_fields_max: usize,
    /// Request target; then 414.
    pub request_target_bytes_max: usize,
    /// Request body; then 413. `None`: no limit.
    pub request_body_bytes_max: Option<u64>,
    /// Peers whose forwarding fields are believed and appended to.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether `TRACE` passes.
    pub allow_trace: bool,
    /// Whether a client that closes its sending side is taken to have left.
    pub abort_on_close: bool,
    /// Whether HTTP/2 is spoken without TLS, with clients that begin with it.
    pub h2c: bool,
    /// Limits of HTTP/2, over TLS or not.
    pub http2: Http2,
    /// A path that Plimsoll itself answers like `/ready`, for a load balancer above.
    pub health_path: Option<String>,
    /// Where requests without TLS are sent, but for those of routes that name this listener.
    pub redirect: Option<Redirect>,
    /// What browsers are told to remember about TLS here.
    pub hsts: Option<Hsts>,
    /// TLS; `None`: plain HTTP.
    pub tls: Option<ListenerTls>,
}

/// From `http` to `https`: the same host, path and query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// `None`: the one that needs not be written, 443.
    pub port: Option<u16>,
}

/// HTTP Strict Transport Security (RFC 6797).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hsts {
    /// How long a browser remembers it.
    pub max_age: Duration,
    /// Whether it holds for every host below, too.
    pub include_subdomains: bool,
    /// Whether browsers may come with it built in.
    pub preload: bool,
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTls {
    /// Never empty; the first is for clients that ask for no name that another one has.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that clients may use.
    pub minimum_version: TlsVersion,
    /// Protocols offered by ALPN, the preferred one first; never empty.
    pub alpn: Vec<Alpn>,
    /// Whether a client that asks for a name that no certificate has, or for none, is refused.
    pub strict_sni: bool,
    /// From accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// Tickets for resuming that a TLS 1.3 client gets after a full handshake; 0: no resumption, in 1.2 neither.
    pub tickets: usize,
    /// How long a ticket can be used.
    pub ticket_lifetime: Duration,
    /// Whether clients are asked for a certificate.
    pub client_certificate: ClientCertificate,
    /// The authorities whose client certificates are good; there where clients are asked.
    pub client_roots: Option<FileRef>,
    /// Lists of client certificates that are good no more.
    pub client_revocations: Vec<FileRef>,
    /// Keys of tickets, shared with other nodes; `None`: random ones that rotate.
    pub ticket_keys: Option<FileRef>,
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificateFiles {
    /// The chain.
    pub certificate: FileRef,
    /// The private key; may be the same file.
    pub key: FileRef,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// HTTP/2 with clients: how much a connection may have, and what is a flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2 {
    /// Requests at a time on one connection; further ones are refused (`REFUSED_STREAM`).
    pub streams_max: u32,
    /// Bytes of one request's body that a client may send before we have passed some on.
    pub stream_window: usize,
    /// The same for all requests of a connection together.
    pub connection_window: usize,
    /// `RST_STREAM` in ten seconds.
    pub resets_max: u32,
    /// SETTINGS in ten seconds.
    pub settings_max: u32,
    /// PING in ten seconds, besides one for each 256 bytes sent.
    pub pings_max: u32,
    /// PRIORITY in ten seconds, together with frames of unknown kinds.
    pub priorities_max: u32,
    /// `WINDOW_UPDATE` in ten seconds, besides one for each 256 bytes sent.
    pub window_updates_max: u32,
    /// DATA without bytes in ten seconds.
    pub empty_frames_max: u32,
    /// CONTINUATION per head.
    pub continuations_max: u32,
    /// Streams that end in an error of the client's, over the life of a connection.
    pub errors_max: u32,
}

/// A protocol that ALPN can agree on (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2.
    Http2,
    /// HTTP/1.1, and 1.0.
    Http11,
}

impl Alpn {
    /// As it is registered, and written in the file.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Http2 => "h2",
            Self::Http11 => "http/1.1",
        }
    }
}

/// A rule from request to pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Unique; by default made of host and path.
    pub name: RouteName,
    /// Hosts that it serves; empty: any.
    pub hosts: Vec<HostPattern>,
    /// Path prefix, in whole segments; `/` is every path. Begins with `/`, has no trailing one (but for `/` itself).
    pub path: String,
    /// Listeners that it serves; empty: all.
    pub listeners: Vec<ListenerName>,
    /// Where its requests go.
    pub pool: PoolName,
    /// What clients must have shown.
    pub client_certificate: ClientCertificate,
}

/// Whether a client certificate is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It is not.
    Off,
    /// It is, and a client may do without; one that is shown must be good.
    Optional,
    /// Nobody comes in without a good one.
    Required,
}

/// A host in a route, in lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host.
    Exact(String),
    /// Every host below this one, from `*.example.com`; holds `.example.com`.
    Suffix(String),
}

impl fmt::Display for HostPattern {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// Instances that serve the same thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Unique.
    pub name: PoolName,
    /// In the order of the file, never empty, addresses unique.
    pub instances: Vec<Instance>,
    /// How an instance is picked.
    pub balance: Balance,
    /// What the instances speak.
    pub protocol: Protocol,
    /// The `Host` that instances see.
    pub host: HostField,
    /// Whether `/ready` is 503 while this pool has no eligible instance.
    pub required: bool,
    /// How long a request waits for an eligible instance; zero: 503 at once.
    pub queue_wait: Duration,
    /// How many requests may wait at a time.
    pub queue_max: usize,
    /// What becomes of upgraded connections to an instance that goes down or is removed.
    pub on_down: OnDown,
    /// The active check.
    pub probe: Probe,
    /// Connections to instances.
    pub connection: PoolConnection,
    /// Trying again.
    pub retry: Retry,
    /// Evidence from traffic.
    pub evidence: Evidence,
    /// TLS to the instances; `None`: plain HTTP.
    pub tls: Option<PoolTls>,
}

/// TLS towards instances.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolTls {
    /// Whose certificates are accepted; `None`: those that the system trusts.
    pub roots: Option<FileRef>,
    /// The name that is asked for and that a certificate must have; `None`: the host of each instance as written.
    pub server_name: Option<String>,
    /// Whom we say we are to instances that ask.
    pub client_certificate: Option<CertificateFiles>,
    /// The oldest version that instances may use.
    pub minimum_version: TlsVersion,
    /// Whether certificates are looked at at all.
    pub verify: bool,
}

impl PoolTls {
    /// The name that the certificate of an instance must have, as text: a host name, or an address.
    #[must_use]
    pub fn name_for<'a>(&'a self, instance: &'a Instance) -> &'a str {
        let own = || instance.authority.rsplit_once(':').map_or(instance.authority.as_str(), |(host, _port)| host);
        self.server_name.as_deref().unwrap_or_else(own)
    }
}

/// One address in a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Unique in the pool.
    pub name: InstanceName,
    /// Where it listens, resolved.
    pub address: SocketAddr,
    /// As written, for `Host` with `host = "instance"`: `name:port` or `ip:port`.
    pub authority: String,
    /// Its share, 1 to 1000.
    pub weight: u32,
    /// Serves only when no other instance is eligible.
    pub backup: bool,
    /// Requests at a time over all workers; `None`: no limit.
    pub in_flight_max: Option<u32>,
}

/// How an instance is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The smallest `(in flight + 1) / weight`.
    LeastConnections,
    /// Smooth weighted round robin.
    RoundRobin,
    /// The less loaded of two random ones.
    RandomOfTwo,
}

/// What becomes of upgraded connections to an instance that goes down or is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDown {
    /// They go on.
    Keep,
    /// They are closed.
    Cut,
}

/// What instances speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on each connection.
    H1,
    /// HTTP/2 over TLS, by ALPN.
    H2,
    /// HTTP/2 without TLS, known beforehand.
    H2c,
    /// Over TLS what ALPN comes to; else HTTP/1.1.
    Auto,
}

impl Protocol {
    /// Whether a request may have a connection for itself.
    #[inline]
    #[must_use]
    pub const fn has_own_connections(self) -> bool {
        matches!(self, Self::H1 | Self::Auto)
    }

    /// What is offered by ALPN, the preferred first.
    #[must_use]
    pub const fn offers(self) -> &'static [&'static [u8]] {
        match self {
            Self::H1 => &[b"http/1.1"],
            Self::H2 | Self::H2c => &[b"h2"],
            Self::Auto => &[b"h2", b"http/1.1"],
        }
    }
}

/// The `Host` that instances see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostField {
    /// What the client sent.
    Keep,
    /// The instance's address as written.
    Instance,
    /// This one.
    Fixed(String),
}

/// The active check of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// What is sent and what is expected.
    pub kind: ProbeKind,
    /// Port to probe instead of the instance's own.
    pub port: Option<u16>,
    /// From the start of a probe to the start of the next.
    pub interval: Duration,
    /// The interval while an opposite streak is running.
    pub fast_interval: Option<Duration>,
    /// For the whole probe: connect, request, answer.
    pub timeout: Duration,
    /// Failures in a row that eject.
    pub fall: u32,
    /// Passes in a row that restore.
    pub rise: u32,
    /// Largest random change of an interval, in per cent of it.
    pub jitter_percent: u32,
    /// Whether it goes over TLS where the pool has that.
    pub tls: bool,
}

/// What a probe sends and expects.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeKind {
    /// An HTTP/1.1 request.
    Http(HttpProbe),
    /// A connection that can be made.
    Tcp,
    /// A call of `grpc.health.v1.Health/Check`.
    Grpc(GrpcProbe),
}

/// A probe by the gRPC health protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcProbe {
    /// The service that is asked for; empty: the server as a whole.
    pub service: String,
    /// `:authority`; `None`: the instance's address as written.
    pub host: Option<String>,
}

/// An HTTP probe.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `Host`; `None`: the instance's address as written.
    pub host: Option<String>,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// Statuses that pass, as inclusive ranges.
    pub expect_status: Vec<(u16, u16)>,
    /// Text that the first 64 KiB of the body must have.
    pub expect_body: Option<String>,
}

/// Connections to the instances of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConnection {
    /// From SYN to a connection.
    pub connect_timeout: Duration,
    /// From the whole request (or its last progress) to the response head.
    pub response_head_timeout: Duration,
    /// The longest pause within a response body.
    pub response_body_timeout: Duration,
    /// The longest pause in which the instance takes no byte of a request.
    pub request_write_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Unused connections kept per instance and worker.
    pub idle_max: usize,
    /// Requests that must not be repeated take a kept connection only if it was unused for less than this.
    pub unsafe_reuse_max: Duration,
    /// Status line and fields of a response together; then 502.
    pub response_head_bytes_max: usize,
    /// Fields in a response head; then 502.
    pub response_fields_max: usize,
    /// The longest silence, in both directions, on an upgraded connection.
    pub upgrade_idle_timeout: Duration,
    /// The longest life of an upgraded connection; `None`: no limit.
    pub upgrade_lifetime_max: Option<Duration>,
    /// Shared connections per instance and worker.
    pub h2_connections_max: usize,
    /// Streams at a time on one of them; the instance's own limit holds, too.
    pub h2_streams_max: usize,
    /// Bytes of one response that may come before they are passed on.
    pub h2_window_bytes: usize,
    /// As `h2_window_bytes`, for all responses on one connection together.
    pub h2_connection_window_bytes: usize,
    /// The longest frame that an instance may send.
    pub h2_frame_bytes_max: usize,
    /// An instance that is silent for so long while a request is in flight is asked by a ping. `None`: never.
    pub h2_ping_interval: Option<Duration>,
    /// It must be heard within this, or the connection is cut.
    pub h2_ping_timeout: Duration,
}

/// Trying again after bytes were sent. A connection that could not be made is outside of this.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Further attempts per request.
    pub retries: u32,
    /// Further attempts at a time, in per cent of the pool's requests in flight …
    pub budget_percent: u32,
    /// … but at least this many.
    pub budget_min: u32,
    /// How long a further attempt waits for its place in the budget.
    pub budget_wait: Duration,
    /// Request bodies are kept for repeating up to this size.
    pub body_bytes_max: usize,
    /// No attempt begins later than this after the request's head.
    pub deadline: Duration,
}

/// What failures in traffic do to an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Failures in a row that eject; `None`: switched off.
    pub failures: Option<u32>,
    /// How long the first time; doubles with each repeat.
    pub eject_time: Duration,
    /// How long at most.
    pub eject_time_max: Duration,
    /// Whether a 5xx answer is such a failure.
    pub judge_5xx: bool,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Where it listens; `None`: switched off.
    pub bind: Option<SocketAddr>,
    /// Asked for as `Authorization: Bearer`; needed off loopback.
    pub token: Option<Secret>,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Lowest level: `error`, `warn`, `info`, `debug`, `trace`.
    pub level: LogLevel,
    /// JSON lines or text.
    pub format: LogFormat,
    /// Whether each request is logged, on the target `access`.
    pub access: bool,
    /// Whether logged paths keep their query string.
    pub access_query: bool,
    /// Lines that may wait to be written; further ones are dropped and counted.
    pub queue_lines: usize,
    /// The file that lines go to. `None`: standard output.
    pub file: Option<LogFile>,
}

/// A log file, and what keeps it in bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The file that is written; old ones lie beside it.
    pub path: PathBuf,
    /// At this size a new one is begun.
    pub bytes_max: u64,
    /// Whether a new one is begun with each day, UTC.
    pub daily: bool,
    /// Whether old ones are compressed.
    pub compress: bool,
    /// Old ones are removed when they are older. `None`: never.
    pub age_max: Option<Duration>,
}

/// Lowest level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The process. What needs a restart is listed in `config::diff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Data-plane threads; the file's `0` has become the number of cores.
    pub workers: usize,
    /// Open client connections over all listeners.
    pub connections_max: usize,
    /// How long a start tries again to have addresses that somebody else has.
    pub bind_wait: Duration,
    /// Longest wait for the first verdicts, at start and on reload.
    pub startup_grace: Duration,
    /// Between `/ready` turning 503 and the end of accepting.
    pub linger: Duration,
    /// For requests and upgraded connections to finish.
    pub drain_timeout: Duration,
    /// Whether a change of the file is a reload.
    pub watch: bool,
}
