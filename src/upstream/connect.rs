//! Making a connection to an instance. Whatever fails here has sent nothing of the request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::Connection;
use crate::cause::Cause;
use crate::health::Evidence;
use crate::platform;
use crate::pool::instance::Instance;
use crate::tls::client::{Dialer, HandshakeError};
use crate::wire::Wire;
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, Ring};

/// No connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The host answered that nobody listens, or that it can't be reached.
    #[error("connection refused")]
    Refused(#[source] io::Error),
    /// Neither yes nor no in time.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    /// The instance was ejected meanwhile.
    #[error("instance was ejected")]
    Ejected,
    /// It broke while it was being made.
    #[error("connection failed")]
    Failed(#[source] io::Error),
    /// There is a connection, but no TLS on it.
    #[error("{0}")]
    Handshake(#[source] HandshakeError),
    /// There is a connection, but what came back on it is not HTTP/2.
    #[error("instance does not speak HTTP/2")]
    NotHttp2(#[source] h2::Error),
    /// There is TLS, but the instance did not agree to speak HTTP/2 over it.
    #[error("instance did not agree to HTTP/2")]
    NoAgreement,
    /// All shared connections are full, and no place became free in time.
    #[error("no stream is free")]
    Full,
    /// The connection that several requests waited for could not be made.
    #[error("{0}")]
    Shared(Arc<ConnectError>),
    /// We have no means: descriptors, ports, memory. Not the instance's fault.
    #[error("cannot make connections")]
    Exhausted(#[source] io::Error),
}

impl ConnectError {
    /// What log, metric and answer call it.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Refused(_) => Cause::ConnectRefused,
            Self::TimedOut(_) => Cause::ConnectTimeout,
            Self::Ejected => Cause::Ejected,
            Self::Failed(_) => Cause::ConnectReset,
            Self::Handshake(_) | Self::NoAgreement => Cause::TlsHandshake,
            Self::NotHttp2(_) => Cause::UpstreamBadResponse,
            Self::Exhausted(_) | Self::Full => Cause::Overload,
            Self::Shared(error) => error.cause(),
        }
    }

    /// Whether no other instance can be reached either.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Exhausted(_) => true,
            Self::Shared(error) => error.is_ours(),
            _ => false,
        }
    }

    /// The error type of RFC 9209, where it says more than the cause does.
    #[must_use]
    pub fn proxy_error(&self) -> Option<&'static str> {
        match self {
            Self::Handshake(error) => Some(error.kind.proxy_error()),
            _ => None,
        }
    }

    /// What it says about the instance, if anything.
    #[must_use]
    pub fn evidence(&self) -> Option<Evidence> {
        match self {
            Self::Refused(_)
            | Self::TimedOut(_)
            | Self::Failed(_)
            | Self::Handshake(_)
            | Self::NotHttp2(_)
            | Self::NoAgreement => Some(Evidence::NotConnected),
            Self::Ejected | Self::Exhausted(_) | Self::Full => None,
            Self::Shared(error) => error.evidence(),
        }
    }
}

/// Connects to `instance`, with TLS if there is a `dialer` for it, all within `timeout`.
///
/// # Errors
/// See [`ConnectError`]; nothing of a request has been sent then.
pub async fn connect(
    instance: &Arc<Instance>,
    dialer: Option<&Arc<Dialer>>,
    worker: &Worker,
    alarm: &Alarm,
    timeout: Duration,
) -> Result<Connection, ConnectError> {
    let begun = Instant::now();
    let late = |ring| match ring {
        Ring::Deadline | Ring::Close | Ring::Published => ConnectError::TimedOut(timeout),
        Ring::Ejected => ConnectError::Ejected,
    };
    let connecting = alarm.run(begun + timeout, platform::connect(instance.address));
    let stream = connecting.await.map_err(late)?.map_err(judge)?;
    if !worker.has_room_for(&stream) {
        return Err(ConnectError::Exhausted(io::Error::other("the last descriptors are kept")));
    }
    let worker = worker.id;
    // Heads and bodies are written in as few pieces as can be; Nagle's delay would only hold back the last of them.
    stream.set_nodelay(true).map_err(ConnectError::Failed)?;
    let stream = match dialer {
        None => Wire::Plain(stream),
        Some(dialer) => {
            // Boxed: the state of a handshake would be a part of every request.
            let handshake = Box::pin(dialer.connect(stream));
            let (stream, kind) =
                alarm.run(begun + timeout, handshake).await.map_err(late)?.map_err(ConnectError::Handshake)?;
            instance.stats.of(worker).handshakes[kind as usize].increment();
            stream
        }
    };
    let connection = Connection::new(stream, instance, dialer, worker);
    connection.shard().connect.observe(begun.elapsed());
    Ok(connection)
}

fn judge(error: io::Error) -> ConnectError {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            ConnectError::Refused(error)
        }
        ErrorKind::TimedOut => ConnectError::Failed(error),
        ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory => ConnectError::Exhausted(error),
        _ if is_descriptor_shortage(&error) => ConnectError::Exhausted(error),
        _ => ConnectError::Failed(error),
    }
}

/// EMFILE and ENFILE on Unix, WSAEMFILE on Windows: std has no kind for them.
fn is_descriptor_shortage(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(windows) { &[10_024] } else { &[23, 24] };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}
