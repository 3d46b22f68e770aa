//! One probe: what is sent, and what the answer is worth.
//!
//! Every probe makes a connection of its own, so that it sees what a new client would see, and closes it. HTTP probes go
//! through hyper's client. Where the pool has TLS, so has the probe, with a full handshake each time; for a probe by TCP the
//! handshake is what must pass. The time limit is the prober's: dropping the future closes the connection.

mod grpc;
mod http2;

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::config::model::{HttpProbe, Probe, ProbeKind, Protocol};
use crate::platform;
use crate::tls::client::{Dialer, HandshakeError};
use crate::wire::Wire;

/// How much of an answer's body is read.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// What is probed, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The instance's address.
    pub address: SocketAddr,
    /// For `Host`, where the definition has none.
    pub authority: String,
    /// The definition.
    pub probe: Probe,
    /// What makes TLS of the connection; `None`: it is plain.
    pub dialer: Option<Arc<Dialer>>,
    /// What the instance speaks.
    pub protocol: Protocol,
}

impl Target {
    fn scheme(&self) -> &'static str {
        if self.dialer.is_some() { "https" } else { "http" }
    }
}

/// Why a probe failed. Its text is the `result` that operators see.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection.
    #[error("{}", connect_text(.0))]
    Connect(#[source] io::Error),
    /// No TLS on the connection.
    #[error("{0}")]
    Handshake(#[source] HandshakeError),
    /// The connection broke, or what came back is not HTTP.
    #[error("no answer: {}", root_text(.0))]
    Exchange(#[source] hyper::Error),
    /// Not one of the expected statuses.
    #[error("status {0}")]
    Status(u16),
    /// The HTTP/2 connection or the stream broke, or what came back is not HTTP/2.
    #[error("no answer: {0}")]
    Http2(#[source] h2::Error),
    /// The outcome of the call is another than `OK`.
    #[error("grpc-status {0}")]
    Call(String),
    /// The health service says so itself.
    #[error("the health service says {0}")]
    NotServing(&'static str),
    /// The call went well, but what it brought is no answer of the health service.
    #[error("the answer is no message of the gRPC health protocol")]
    Message,
    /// The body is JSON and says so itself.
    #[error("the answer says `unhealthy`")]
    Unhealthy,
    /// The body does not have the expected text.
    #[error("the body does not have the expected text")]
    Body,
    /// The definition cannot be sent as HTTP.
    #[error("the probe cannot be sent: {0}")]
    Definition(#[source] http::Error),
}

fn connect_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => format!("no connection: {error}"),
    }
}

/// hyper's own text names the phase only; the cause stands below it.
fn root_text(error: &hyper::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Makes probes; another one in tests of what is above.
pub trait Check: Send + Sync {
    /// Makes one probe, without a time limit.
    fn check<'a>(&'a self, target: &'a Target) -> Pin<Box<dyn Future<Output = Result<(), ProbeError>> + Send + 'a>>;
}

/// Probes over the network.
#[derive(Debug, Clone, Copy)]
pub struct Network;

impl Check for Network {
    fn check<'a>(&'a self, target: &'a Target) -> Pin<Box<dyn Future<Output = Result<(), ProbeError>> + Send + 'a>> {
        Box::pin(probe(target))
    }
}

/// Makes one probe.
///
/// # Errors
/// Why the instance did not pass.
///
/// # Cancel safety
/// Dropping it closes the connection.
pub async fn probe(target: &Target) -> Result<(), ProbeError> {
    let mut address = target.address;
    address.set_port(target.probe.port.unwrap_or(address.port()));
    let stream = platform::connect(address).await.map_err(ProbeError::Connect)?;
    let stream = match &target.dialer {
        None => Wire::Plain(stream),
        Some(dialer) => dialer.probe(stream).await.map_err(ProbeError::Handshake)?,
    };
    match &target.probe.kind {
        ProbeKind::Tcp => Ok(()),
        ProbeKind::Grpc(grpc) => grpc::check(stream, grpc, &target.authority, target.scheme()).await,
        ProbeKind::Http(http) => {
            let request = request(http, &target.authority).map_err(ProbeError::Definition)?;
            match target.protocol {
                Protocol::H1 | Protocol::Auto => exchange(stream, request, http).await,
                Protocol::H2 | Protocol::H2c => exchange_http2(stream, request, target.scheme(), http).await,
            }
        }
    }
}

fn request(probe: &HttpProbe, authority: &str) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request =
        Request::builder().method(probe.method.as_str()).uri(probe.path.as_str()).body(Empty::<Bytes>::new())?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(probe.host.as_deref().unwrap_or(authority))?);
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("plimsoll/", env!("CARGO_PKG_VERSION"))));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    // What the operator wrote stands in the place of ours; the same name twice is sent twice.
    for (name, _) in &probe.headers {
        headers.remove(name.as_str());
    }
    for (name, value) in &probe.headers {
        headers.append(HeaderName::try_from(name.as_str())?, HeaderValue::from_str(value)?);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

/// Sends the request and judges the answer; the connection is driven here, so that no task outlives the probe.
async fn exchange(stream: Wire, request: Request<Empty<Bytes>>, probe: &HttpProbe) -> Result<(), ProbeError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ProbeError::Exchange)?;
    let mut connection = pin!(connection);
    let mut answer = pin!(async {
        let response = sender.send_request(request).await.map_err(ProbeError::Exchange)?;
        judge(response, probe).await
    });
    let mut open = true;
    loop {
        tokio::select! {
            judged = &mut answer => return judged,
            // Ends before the answer has been judged where the instance closes behind it; its error comes out of
            // `answer`, too. Nothing is lost when this arm loses: the futures are polled on.
            _ended = &mut connection, if open => open = false,
        }
    }
}

/// As [`exchange`], in the form of HTTP/2: the host is part of the target, and no field concerns the connection.
async fn exchange_http2(
    stream: Wire,
    request: Request<Empty<Bytes>>,
    scheme: &str,
    probe: &HttpProbe,
) -> Result<(), ProbeError> {
    let (mut parts, _body) = request.into_parts();
    let host = parts.headers.remove(header::HOST);
    parts.headers.remove(header::CONNECTION);
    let authority = host.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
    let uri = http::Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str));
    parts.uri = uri.build().map_err(ProbeError::Definition)?;
    let request = Request::from_parts(parts, ());
    let answer = http2::exchange(stream, request, Bytes::new()).await.map_err(ProbeError::Http2)?;
    judge_status(answer.head.status.as_u16(), probe)?;
    judge_body(&answer.body, probe)
}

async fn judge(response: Response<Incoming>, probe: &HttpProbe) -> Result<(), ProbeError> {
    judge_status(response.status().as_u16(), probe)?;
    judge_body(&read(response.into_body()).await?, probe)
}

fn judge_status(status: u16, probe: &HttpProbe) -> Result<(), ProbeError> {
    let expected = probe.expect_status.iter().any(|(from, to)| (*from..=*to).contains(&status));
    if expected { Ok(()) } else { Err(ProbeError::Status(status)) }
}

fn judge_body(body: &[u8], probe: &HttpProbe) -> Result<(), ProbeError> {
    if says_unhealthy(body) {
        return Err(ProbeError::Unhealthy);
    }
    match &probe.expect_body {
        Some(text) if memchr::memmem::find(body, text.as_bytes()).is_none() => Err(ProbeError::Body),
        _ => Ok(()),
    }
}

/// The body up to [`BODY_BYTES_MAX`]; what follows is left unread.
async fn read(mut body: Incoming) -> Result<Vec<u8>, ProbeError> {
    let mut bytes = Vec::new();
    while bytes.len() < BODY_BYTES_MAX {
        let Some(frame) = body.frame().await else { break };
        if let Some(data) = frame.map_err(ProbeError::Exchange)?.data_ref() {
            bytes.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - bytes.len())]);
        }
    }
    Ok(bytes)
}

/// Whether it is a JSON object whose `status` is `unhealthy`. Looked for whatever `Content-Type` says, since many health
/// endpoints send none; in any case of letters, since ASP.NET writes `Unhealthy`. JSON that is longer than what is read
/// has no status here: then the HTTP status alone decides.
fn says_unhealthy(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<serde_json::Value>(body)
            .is_ok_and(|json| json["status"].as_str().is_some_and(|status| status.eq_ignore_ascii_case("unhealthy")))
}

#[cfg(test)]
mod tests;
