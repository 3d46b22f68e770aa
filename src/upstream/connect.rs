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
use crate::telemetry::stats::WorkerId;
use crate::wire::Wire;
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
            Self::Exhausted(_) => Cause::Overload,
        }
    }

    /// What it says about the instance, if anything.
    #[must_use]
    pub fn evidence(&self) -> Option<Evidence> {
        match self {
            Self::Refused(_) | Self::TimedOut(_) | Self::Failed(_) => Some(Evidence::NotConnected),
            Self::Ejected | Self::Exhausted(_) => None,
        }
    }
}

/// Connects to `instance`.
///
/// # Errors
/// See [`ConnectError`]; nothing of a request has been sent then.
pub async fn connect(
    instance: &Arc<Instance>,
    worker: WorkerId,
    alarm: &Alarm,
    timeout: Duration,
) -> Result<Connection, ConnectError> {
    let begun = Instant::now();
    let stream = match alarm.run(begun + timeout, platform::connect(instance.address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(judge(error)),
        Err(Ring::Deadline | Ring::Close | Ring::Published) => return Err(ConnectError::TimedOut(timeout)),
        Err(Ring::Ejected) => return Err(ConnectError::Ejected),
    };
    // Heads and bodies are written in as few pieces as can be; Nagle's delay would only hold back the last of them.
    stream.set_nodelay(true).map_err(ConnectError::Failed)?;
    let connection = Connection::new(Wire::Plain(stream), instance, worker);
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
