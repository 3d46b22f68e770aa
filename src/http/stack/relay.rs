//! The body of an answer, and after a 101 whatever the two sides say to each other.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::{Asked, Exchange};
use crate::cause::Cause;
use crate::config::model::{self, OnDown};
use crate::connection::LINGERING_BYTES_MAX;
use crate::forward::attempt::client_cause;
use crate::http::body::{Encoding, Pipe, PipeError, Wait};
use crate::http::pace::{Pace, Rate};
use crate::http1::framing::BodyLength;
use crate::http1::head::Version;
use crate::pool::instance::Instance;
use crate::wire::Wire;
use crate::worker::alarm::Ring;

impl Exchange<'_> {
    /// Moves what is there of the response. `None`: there is more, for [`Exchange::relay`]; mostly there is not.
    pub(super) async fn relay_at_once(
        &mut self,
        upstream: &mut Wire,
        response: &mut Pipe,
    ) -> Option<Result<(), Cause>> {
        let moved = std::future::poll_fn(|context| match response.poll(context, upstream, self.stream) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => Poll::Ready(None),
        });
        moved.await.map(|result| result.map_err(|error| response_cause(&error)))
    }

    /// Moves the response to the client, and what is left of the request to the instance. `status` is the response's.
    pub(super) async fn relay(
        &mut self,
        upstream: &mut Wire,
        settings: &model::PoolConnection,
        request: &mut Pipe,
        response: &mut Pipe,
        asked: Asked<'_>,
        status: u16,
    ) -> Result<(), Cause> {
        let (alarm, limits) = (self.alarm, &self.listener.settings);
        let mut side = self.side(Version::Http11, Vec::new());
        let mut rest = if request.is_finished() { Rest::Over } else { Rest::ToInstance };
        let mut moved_at = alarm.now();
        let mut pace = Pace::default();
        let rate = limits.response_rate_min.map(|min| Rate {
            min,
            grace: limits.rate_grace,
            pause_max: limits.response_write_timeout,
        });
        let result = std::future::poll_fn(|context| {
            match response.poll(context, upstream, side.stream) {
                Poll::Ready(result) => return Poll::Ready(result.map_err(|error| response_cause(&error))),
                Poll::Pending => {}
            }
            if rest == Rest::ToInstance {
                match request.poll(context, side.stream, upstream) {
                    Poll::Ready(Ok(())) => rest = Rest::Over,
                    // The instance reads no more of it; its answer counts.
                    Poll::Ready(Err(PipeError::Sink(_))) => rest = Rest::ToNobody { from: request.received() },
                    // It has refused the request, and takes nothing; the client, which takes nothing either, may be one
                    // that listens only when it has sent all.
                    Poll::Pending if status >= 400 && both_wait(request, response) => {
                        rest = Rest::ToNobody { from: request.received() };
                    }
                    Poll::Pending => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(client_cause(&error))),
                }
            }
            if let Rest::ToNobody { from } = rest {
                match request.poll_discard(context, side.stream) {
                    Poll::Pending if request.received() - from < LINGERING_BYTES_MAX as u64 => {}
                    Poll::Ready(Err(PipeError::Source(_))) => return Poll::Ready(Err(Cause::ClientClosed)),
                    // It was too much; or all of it came; or something is wrong with it, which does not matter.
                    Poll::Pending | Poll::Ready(Ok(()) | Err(_)) => rest = Rest::Over,
                }
            }
            if request.is_received() {
                side.poll_left(context, alarm, request.surplus())?;
            } else if request.wait() == Wait::Sink || rest == Rest::Over {
                side.poll_reset(context, alarm)?;
            }
            if response.has_moved() | request.has_moved() {
                moved_at = alarm.now();
            }
            let (timeout, mut cause) = match response.wait() {
                Wait::Source => (settings.response_body_timeout, Cause::ResponseBodyTimeout),
                Wait::Sink => (limits.response_write_timeout, Cause::ClientTooSlow),
            };
            let mut deadline = moved_at + timeout;
            if let Some(rate) = rate {
                match response.wait() {
                    Wait::Source => pace.stand(alarm.now()),
                    Wait::Sink => deadline = deadline.min(pace.deadline(rate, response.sent(), alarm.now())),
                }
            }
            if let Some(given_up) = asked.deadline
                && given_up < deadline
            {
                (deadline, cause) = (given_up, Cause::DeadlineExceeded);
            }
            alarm.set(deadline);
            alarm.poll_ring(context).map(|_ring| Err(cause))
        })
        .await;
        alarm.clear();
        result
    }

    /// After a 101: bytes in both directions until both sides have ended (RFC 9110 section 7.8).
    pub(super) async fn tunnel(
        &mut self,
        upstream: &mut Wire,
        pool: &model::Pool,
        instance: &Arc<Instance>,
        request: &mut Pipe,
        response: &mut Pipe,
    ) -> Result<(), Cause> {
        let (alarm, settings) = (self.alarm, &pool.connection);
        if pool.on_down == OnDown::Cut {
            alarm.depend_on(instance);
        }
        let end = settings.upgrade_lifetime_max.map(|life| Instant::now() + life);
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
            let silent = moved_at + settings.upgrade_idle_timeout;
            let (deadline, cause) = match end {
                Some(end) if end < silent => (end, Cause::UpgradeLifetime),
                _ => (silent, Cause::UpgradeIdleTimeout),
            };
            alarm.set(deadline);
            alarm.poll_ring(context).map(|ring| Err(if ring == Ring::Ejected { Cause::UpgradeCut } else { cause }))
        })
        .await;
        alarm.attempt(None);
        alarm.clear();
        *self.ended = true;
        result
    }
}

/// Where the rest of a request goes while its response comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// To the instance, as long as it takes it.
    ToInstance,
    /// It is read and dropped, so that the client gets to reading; how much had come before.
    ToNobody { from: u64 },
    /// There is none, or nobody reads it.
    Over,
}

/// Whether neither the instance takes the request nor the client the response.
fn both_wait(request: &Pipe, response: &Pipe) -> bool {
    request.wait() == Wait::Sink && response.wait() == Wait::Sink
}

/// Why a response that had begun was cut off.
pub(super) fn response_cause(error: &PipeError) -> Cause {
    match error {
        PipeError::Source(_) | PipeError::Truncated | PipeError::TooLarge => Cause::UpstreamClosedEarly,
        PipeError::Malformed(_) | PipeError::Disagreed => Cause::UpstreamBadResponse,
        PipeError::Sink(_) => Cause::ClientClosed,
    }
}

/// How the kernel ends a connection that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndBy {
    /// In order, after all that was written.
    Close,
    /// At once, so that the client sees that something is missing.
    Reset,
}

/// While a response ends by the end of the connection, whatever drops the connection would make it look whole: the
/// deadline of a drain, a second signal, a crash. So the kernel is told beforehand.
pub(super) fn end_by(stream: &Wire, end: EndBy) {
    let linger = match end {
        EndBy::Close => None,
        EndBy::Reset => Some(Duration::ZERO),
    };
    if let Err(error) = stream.set_linger(linger) {
        tracing::debug!(%error, "cannot choose how a connection ends");
    }
}

/// Closes the sending side. Returns whether that has to be tried again.
fn poll_shut(context: &mut std::task::Context<'_>, stream: &mut Wire) -> bool {
    // A failure means that the other side is gone, which the other direction finds out, too.
    Pin::new(stream).poll_shutdown(context).is_pending()
}
