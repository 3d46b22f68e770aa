//! The beginning of an attempt on a shared connection: a place, then the head of the request as HTTP/2 has it.

use h2::client::ResponseFuture;
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::attempt::AttemptError;
use super::retry::Failure;
use super::{Request, host_for};
use crate::cause::Cause;
use crate::config::model::Protocol;
use crate::http::body::{Encoding, Pipe};
use crate::http::grpc;
use crate::http1::head::{Method, Name};
use crate::http2::head::{Follows, to_request};
use crate::pool::{Member, Pool};
use crate::upstream::Connection;
use crate::upstream::connect::ConnectError;
use crate::upstream::h2::{Care, Demand, place};
use crate::wire::Wire;
use crate::worker::Worker;
use crate::worker::alarm::Alarm;

/// A place on a shared connection; `None` where the instance prefers HTTP/1.1.
pub(super) async fn connection(
    worker: &Worker,
    alarm: &Alarm,
    pool: &Pool,
    member: &Member,
    method: Method,
    fresh: bool,
) -> Result<Option<Connection>, ConnectError> {
    let care = if method.is_idempotent() { Care::Usual } else { Care::Great };
    let demand = if pool.settings.protocol == Protocol::Auto { Demand::Negotiated } else { Demand::Http2 };
    let settings = &pool.settings.connection;
    let place = place(worker, alarm, &member.instance, member.dialer.as_ref(), settings, care, demand);
    let mut connection = place.await?;
    if let Some(connection) = &mut connection
        && fresh
    {
        // One dead connection is bad luck. A second one is the instance's doing, and counts.
        connection.reused = false;
    }
    Ok(connection)
}

/// Sends the head of `request`, and sets `body` up to follow it.
#[cold]
pub(super) fn begin(
    pool: &Pool,
    member: &Member,
    request: &Request<'_>,
    connection: &mut Connection,
    body: &mut Pipe,
) -> Result<Box<ResponseFuture>, AttemptError> {
    if request.upgrade.is_some() {
        return Err(AttemptError::Client(Cause::NotImplemented));
    }
    let host = match request.head.first(Name::Host) {
        Some(host) => host,
        None => host_for(pool, member, request),
    };
    let scheme = if member.dialer.is_some() { "https" } else { "http" };
    let mut head = to_request(request.head, scheme, host, request.target).map_err(|error| {
        tracing::debug!(%error, "request has no form in HTTP/2");
        AttemptError::Client(Cause::ClientBadRequest)
    })?;
    if let Some(deadline) = request.deadline
        && let Ok(left) = HeaderValue::try_from(grpc::timeout_text(deadline.saturating_duration_since(Instant::now())))
    {
        // What is left of it: the instance cannot know how long the request has been here.
        head.headers_mut().insert(HeaderName::from_static("grpc-timeout"), left);
    }
    body.encode(Encoding::Frames);
    body.head(Vec::new());
    let follows = if body.is_empty() { Follows::Nothing } else { Follows::Body };
    let refused = AttemptError::Failed { failure: Failure::Refused, cause: Cause::StreamRefused };
    let sent = connection.place().and_then(|place| place.send(head, follows).ok());
    let (response, stream) = sent.ok_or(refused)?;
    connection.stream = Wire::H2(Box::new(stream));
    Ok(Box::new(response))
}
