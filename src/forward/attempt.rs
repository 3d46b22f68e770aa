//! One attempt: the request goes out on a connection, until a response head is there or it is clear that none will be.
//!
//! The response is read while the request is still being sent: an instance may answer early (413, 401) and stop reading,
//! and its answer is the client's. Interim answers (RFC 9110 section 15.2) are passed on as they come.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::Reason;
use h2::client::ResponseFuture;
use http::header::CONTENT_LENGTH;
use http::response;
use thiserror::Error;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::Request;
use super::retry::Failure;
use crate::cause::Cause;
use crate::config::model::PoolConnection;
use crate::http::body::{Pipe, PipeError, Wait};
use crate::http::hop_by_hop;
use crate::http::pace::{Pace, Rate};
use crate::http1::framing::{self, BodyLength, FramingError};
use crate::http1::head::{Head, HeadError, Method, Version};
use crate::http1::name::Name;
use crate::http1::read::{HeadLimits, HeadReader};
use crate::http2::head::{Follows, TranslateError, from_response, to_response};
use crate::http2::stream::is_malformed;
use crate::telemetry::stats::H2Event;
use crate::upstream::Connection;
use crate::upstream::h2::Place;
use crate::wire::Wire;
use crate::worker::alarm::{Alarm, Ring};
use crate::worker::buffers::Buffers;

/// Interim answers per request; more are not HTTP but an attack on the client.
const INTERIM_MAX: usize = 32;

/// Bytes of further requests that are read ahead while a response is awaited. Reading ahead is how a client that leaves
/// is noticed.
const AHEAD_BYTES_MAX: usize = 8 * 1024;

/// The client's side of an exchange.
#[derive(Debug)]
pub struct ClientSide<'a> {
    /// The client's connection.
    pub stream: &'a mut Wire,
    /// Whether the client closed its sending side.
    pub ended: &'a mut bool,
    /// Whether that means that it has left.
    pub abort_on_close: bool,
    /// Interim answers that are not written yet; they go before the final one.
    pub interim: Vec<u8>,
    /// What the client speaks: interim answers are for HTTP/1.1 only.
    pub version: Version,
    /// Whether it waits for 100 (Continue) before it sends the body.
    pub expects_continue: bool,
    /// The longest pause within a request body.
    pub body_timeout: Duration,
    /// How fast the body must come; `None`: no matter.
    pub body_rate: Option<Rate>,
    /// How fast it comes.
    pub body_pace: Pace,
}

impl ClientSide<'_> {
    /// Writes what waits of interim answers, as far as the client takes it.
    ///
    /// # Errors
    /// The client has left.
    fn poll_interim(&mut self, context: &mut Context<'_>) -> Result<(), Cause> {
        while !self.interim.is_empty() {
            match Pin::new(&mut *self.stream).poll_write(context, &self.interim) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(count @ 1..)) => drop(self.interim.drain(..count)),
                Poll::Ready(Ok(0) | Err(_)) => return Err(Cause::ClientClosed),
            }
        }
        match Pin::new(&mut *self.stream).poll_flush(context) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(_)) => Err(Cause::ClientClosed),
        }
    }

    /// Watches for the end of the client, reading ahead what it sends meanwhile.
    ///
    /// # Errors
    /// The client has left.
    pub fn poll_left(&mut self, context: &mut Context<'_>, alarm: &Alarm, ahead: &mut Vec<u8>) -> Result<(), Cause> {
        while !*self.ended && ahead.len() < AHEAD_BYTES_MAX {
            match self.stream.poll_read_ready(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(Cause::ClientClosed),
                Poll::Ready(Ok(())) => {}
            }
            match poll_read_buf(Pin::new(&mut *self.stream), context, ahead) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(Cause::ClientClosed),
                Poll::Ready(Ok(0)) => *self.ended = true,
                Poll::Ready(Ok(_)) => {}
            }
        }
        if *self.ended && self.abort_on_close { Err(Cause::ClientClosed) } else { self.poll_reset(context, alarm) }
    }

    /// Watches for a reset where nothing may be read.
    ///
    /// # Errors
    /// The client has left.
    pub fn poll_reset(&mut self, context: &mut Context<'_>, alarm: &Alarm) -> Result<(), Cause> {
        if self.stream.is_reset(context) {
            return Err(Cause::ClientClosed);
        }
        alarm.look_again(context);
        Ok(())
    }
}

/// Why an attempt brought no response head.
#[derive(Debug, Error)]
pub enum AttemptError {
    /// The connection or the instance failed before a response head: perhaps another attempt may follow.
    #[error("{}", cause.code())]
    Failed {
        /// What the rules for another attempt call it.
        failure: Failure,
        /// What logs and metrics call it.
        cause: Cause,
    },
    /// The instance sent something that is not a response.
    #[error("response is malformed: {0}")]
    BadResponse(BadResponse),
    /// The client left, stalled, or sent something that is not a body.
    #[error("client failed: {}", .0.code())]
    Client(Cause),
}

/// What is wrong with a response.
#[derive(Debug, Error)]
pub enum BadResponse {
    /// Its head does not parse.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The end of its body is ambiguous.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// It switches to a protocol that the client did not ask for (RFC 9110 section 15.2.2).
    #[error("101 that nobody asked for")]
    UnaskedUpgrade,
    /// It has no form in HTTP/1.1, whose rules hold for all.
    #[error(transparent)]
    Translate(#[from] TranslateError),
    /// It breaks the rules of HTTP/2.
    #[error("{0}")]
    Stream(#[source] h2::Error),
    /// Too many interim answers.
    #[error("more than {INTERIM_MAX} interim answers")]
    TooManyInterim,
}

/// A response head, and how its body ends.
#[derive(Debug)]
pub struct Answer {
    /// As it came.
    pub head: Head,
    /// By RFC 9112 section 6.3.
    pub length: BodyLength,
}

/// One attempt in progress.
pub struct Attempt<'a, 'c> {
    client: &'a mut ClientSide<'c>,
    connection: &'a mut Connection,
    /// What will come on a shared connection; `None`: the connection is ours, and so are the bytes on it.
    response: Option<Box<ResponseFuture>>,
    request: &'a Request<'a>,
    body: &'a mut Pipe,
    settings: &'a PoolConnection,
    buffers: &'a Buffers,
    buffer: Vec<u8>,
    reader: HeadReader,
    /// Whether the request is still being sent; over when it is through, or the instance stopped reading.
    sending: bool,
    interims: usize,
    moved_at: Instant,
}

impl<'a, 'c> Attempt<'a, 'c> {
    /// Begins to send `body`, whose head is set, or was sent where there is a `response` to wait for.
    #[expect(clippy::too_many_arguments, reason = "the parts of an attempt, named once and only here")]
    pub fn new(
        client: &'a mut ClientSide<'c>,
        connection: &'a mut Connection,
        response: Option<Box<ResponseFuture>>,
        request: &'a Request<'a>,
        body: &'a mut Pipe,
        settings: &'a PoolConnection,
        buffers: &'a Buffers,
        now: Instant,
    ) -> Self {
        Self {
            client,
            connection,
            response,
            request,
            body,
            settings,
            buffer: buffers.take(),
            buffers,
            reader: HeadReader::response(),
            sending: true,
            interims: 0,
            moved_at: now,
        }
    }

    /// Waits for the response head, a failure, or the alarm.
    ///
    /// # Errors
    /// See [`AttemptError`].
    pub async fn run(&mut self, alarm: &Alarm) -> Result<Answer, AttemptError> {
        let result = std::future::poll_fn(|context| self.poll(context, alarm)).await;
        alarm.clear();
        result
    }

    fn poll(&mut self, context: &mut Context<'_>, alarm: &Alarm) -> Poll<Result<Answer, AttemptError>> {
        if self.sending {
            self.poll_send(context)?;
        }
        if let Poll::Ready(answer) = self.poll_receive(context)? {
            return Poll::Ready(Ok(answer));
        }
        self.client.poll_interim(context).map_err(AttemptError::Client)?;
        if self.body.is_received() {
            self.client.poll_left(context, alarm, self.body.surplus()).map_err(AttemptError::Client)?;
        } else if !self.sending || self.body.wait() == Wait::Sink {
            // Nobody reads the body now.
            self.client.poll_reset(context, alarm).map_err(AttemptError::Client)?;
        }
        if self.body.has_moved() {
            self.moved_at = alarm.now();
        }
        let expecting = self.expecting();
        let stalled_client = self.sending && self.body.wait() == Wait::Source && !expecting;
        let (timeout, mut cause) = if stalled_client {
            (self.client.body_timeout, Cause::RequestBodyTimeout)
        } else if self.sending && !expecting {
            (self.settings.request_write_timeout, Cause::RequestWriteTimeout)
        } else {
            (self.settings.response_head_timeout, Cause::ResponseHeaderTimeout)
        };
        let mut deadline = self.moved_at + timeout;
        if let Some(rate) = self.client.body_rate
            && !self.body.is_received()
        {
            let (pace, now) = (&mut self.client.body_pace, alarm.now());
            if !stalled_client {
                pace.stand(now);
            } else if let slow = pace.deadline(rate, self.body.received(), now)
                && slow < deadline
            {
                (deadline, cause) = (slow, Cause::RequestBodyTooSlow);
            }
        }
        let given_up = self.request.deadline.filter(|given_up| *given_up < deadline);
        alarm.set(given_up.unwrap_or(deadline));
        alarm.poll_ring(context).map(|ring| {
            Err(match ring {
                Ring::Deadline if given_up.is_some() => AttemptError::Client(Cause::DeadlineExceeded),
                Ring::Deadline | Ring::Close | Ring::Published if stalled_client => AttemptError::Client(cause),
                Ring::Deadline | Ring::Close | Ring::Published => {
                    AttemptError::Failed { failure: Failure::Timeout, cause }
                }
                Ring::Ejected => AttemptError::Failed { failure: Failure::Ejected, cause: Cause::Ejected },
            })
        })
    }

    /// Whether it is the instance's turn: the client sends its body only when it has been told to (or is tired of waiting).
    fn expecting(&self) -> bool {
        self.client.expects_continue && self.interims == 0 && self.body.received() == 0
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Result<(), AttemptError> {
        match self.body.poll(context, self.client.stream, &mut self.connection.stream) {
            Poll::Pending => Ok(()),
            // Through; or the instance reads no more. Perhaps it has answered already; if not, reading will tell how it
            // ended.
            Poll::Ready(Ok(()) | Err(PipeError::Sink(_))) => {
                self.sending = false;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(AttemptError::Client(client_cause(&error))),
        }
    }

    fn limits(&self) -> HeadLimits {
        HeadLimits {
            bytes_max: self.settings.response_head_bytes_max,
            target_bytes_max: usize::MAX,
            fields_max: self.settings.response_fields_max,
        }
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Answer, AttemptError>> {
        if self.response.is_some() {
            return self.poll_response(context);
        }
        let limits = self.limits();
        loop {
            match poll_read_buf(Pin::new(&mut self.connection.stream), context, &mut self.buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(self.ended())),
            }
            while !self.buffer.is_empty() {
                let Some(head) =
                    self.reader.read(&mut self.buffer, &limits, || self.buffers.take_head()).map_err(bad)?
                else {
                    break;
                };
                if let Some(answer) = self.judge(head)? {
                    return Poll::Ready(Ok(answer));
                }
            }
        }
    }

    /// What comes on a stream of HTTP/2.
    #[cold]
    fn poll_response(&mut self, context: &mut Context<'_>) -> Poll<Result<Answer, AttemptError>> {
        loop {
            let Some(response) = &mut self.response else { return Poll::Pending };
            if let Poll::Ready(Some(interim)) = response.poll_informational(context) {
                let (parts, ()) = interim.map_err(|error| self.stream_failed(error))?.into_parts();
                let head = self.translate(&parts, Follows::Body)?;
                // RFC 9113 section 8.6: there is no 101 here. `judge` refuses it, since nothing was offered.
                self.judge(head)?;
                continue;
            }
            return match Pin::new(&mut **response).poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(response)) => Poll::Ready(self.accept(response)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(self.stream_failed(error))),
            };
        }
    }

    fn translate(&mut self, parts: &response::Parts, follows: Follows) -> Result<Head, AttemptError> {
        let (storage, buffer) = (self.buffers.take_head(), std::mem::take(&mut self.buffer));
        from_response(parts, follows, storage, buffer, &self.limits()).map_err(bad)
    }

    /// Takes a final answer from a stream.
    fn accept(&mut self, response: http::Response<h2::RecvStream>) -> Result<Answer, AttemptError> {
        let (parts, body) = response.into_parts();
        if !matches!(parts.status.as_u16(), 200..=599) {
            return Err(bad(HeadError::BadStartLine));
        }
        // An answer to HEAD that does not tell a length does not tell 0.
        let ended = body.is_end_stream() && self.request.method != Method::Head;
        let mut head = self.translate(&parts, if ended { Follows::Nothing } else { Follows::Body })?;
        let length = match framing::response_body(&head, self.request.method).map_err(bad)? {
            // Ends with the stream, as a connection's body does with the connection.
            BodyLength::Chunked => BodyLength::UntilClose,
            length => length,
        };
        if ended && self.client.version == Version::Http2 && !parts.headers.contains_key(CONTENT_LENGTH) {
            // Its client sees the end of the stream, too, and may want nothing but fields (gRPC's trailers-only).
            head.remove(Name::ContentLength);
        }
        if let Wire::H2(stream) = &mut self.connection.stream {
            let announced = if let BodyLength::Length(length) = length { Some(length) } else { None };
            stream.receive(body, announced);
        }
        Ok(Answer { head, length })
    }

    /// The stream or its connection ended before a response head.
    fn stream_failed(&self, error: h2::Error) -> AttemptError {
        let failed = |failure, cause| AttemptError::Failed { failure, cause };
        // What a GOAWAY names as its last stream may have been processed, and ends with the connection, not with the GOAWAY.
        if error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM)) {
            if error.is_reset() {
                self.connection.shard().h2_events[H2Event::RefusedStream as usize].increment();
            }
            return failed(Failure::Refused, Cause::StreamRefused);
        }
        if error.is_library() && error.is_reset() {
            return bad(BadResponse::Stream(error));
        }
        if error.is_library() {
            return failed(Failure::Reset, Cause::UpstreamBadResponse);
        }
        if self.connection.place().is_some_and(Place::is_silent) {
            return failed(Failure::Timeout, Cause::UpstreamReset);
        }
        if error.is_reset() { failed(Failure::Reset, Cause::UpstreamReset) } else { self.ended() }
    }

    /// Takes a final answer, or passes an interim one on.
    fn judge(&mut self, mut head: Head) -> Result<Option<Answer>, AttemptError> {
        if head.status() == 101 && !self.offered(&head) {
            return Err(bad(BadResponse::UnaskedUpgrade));
        }
        let length = framing::response_body(&head, self.request.method).map_err(bad)?;
        if !(100..200).contains(&head.status()) || head.status() == 101 {
            return Ok(Some(Answer { head, length }));
        }
        if self.expecting() {
            // From now on it is the client's turn.
            self.moved_at = Instant::now();
        }
        self.interims += 1;
        if self.interims > INTERIM_MAX {
            return Err(bad(BadResponse::TooManyInterim));
        }
        if self.client.version != Version::Http10 {
            hop_by_hop::response(&mut head, hop_by_hop::Upgrade::Drop);
            match &mut *self.client.stream {
                Wire::H2(stream) => {
                    let sent = to_response(&head).map_err(io::Error::other).and_then(|head| stream.inform(head));
                    sent.map_err(|_error| AttemptError::Client(Cause::ClientClosed))?;
                }
                _ => head.write_response(&mut self.client.interim, b""),
            }
        }
        let (mut bytes, end) = head.into_parts();
        bytes.drain(..end);
        self.buffer = bytes;
        self.reader = HeadReader::response();
        Ok(None)
    }

    /// Whether the request offered every protocol that a 101 switches to.
    fn offered(&self, head: &Head) -> bool {
        fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
            value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
        }
        let Some(offered) = self.request.upgrade else { return false };
        let mut chosen = head.all(Name::Upgrade).flat_map(members).peekable();
        chosen.peek().is_some()
            && chosen.all(|protocol| members(offered).any(|offer| offer.eq_ignore_ascii_case(protocol)))
    }

    /// The connection ended before a response head.
    fn ended(&self) -> AttemptError {
        let (failure, cause) = if !self.buffer.is_empty() || self.interims > 0 {
            (Failure::Reset, Cause::UpstreamClosedEarly)
        } else if self.connection.reused {
            (Failure::Stale, Cause::UpstreamReset)
        } else {
            (Failure::Reset, Cause::UpstreamReset)
        };
        AttemptError::Failed { failure, cause }
    }
}

fn bad(error: impl Into<BadResponse>) -> AttemptError {
    AttemptError::BadResponse(error.into())
}

/// What a client did that stopped its request body.
#[must_use]
pub fn client_cause(error: &PipeError) -> Cause {
    match error {
        PipeError::Source(error) if is_malformed(error) => Cause::ClientBadRequest,
        PipeError::Source(_) | PipeError::Truncated | PipeError::Sink(_) => Cause::ClientClosed,
        PipeError::Malformed(_) | PipeError::Disagreed => Cause::ClientBadRequest,
        PipeError::TooLarge => Cause::RequestTooLarge,
    }
}
