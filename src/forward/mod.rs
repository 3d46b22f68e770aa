//! The attempt loop: pick an instance, send, judge, perhaps again. The only one, for all protocols.
//!
//! Two things are kept apart. A connection that could not be made has sent nothing: the request moves on to every other
//! eligible instance, whatever its method, without counting. After bytes left, `retry` decides, and what it allows is
//! paced by the pool's budget. Helpers compute; this loop decides.

pub mod attempt;
pub mod retry;
mod shared;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use crate::cause::Cause;
use crate::config::model::{HostField, Protocol};
use crate::health::Evidence;
use crate::http::body::{Encoding, Pipe};
use crate::http1::head::{Head, Method, Name};
use crate::pool::instance::{InFlight, Instance, InstanceId};
use crate::pool::{Member, NoInstance, Picked, Pool, Repeat};
use crate::telemetry::stats::{RetryOutcome, RetryReason};
use crate::upstream::Connection;
use crate::upstream::connect::{ConnectError, connect};
use crate::worker::Worker;
use crate::worker::alarm::Alarm;
use attempt::{Answer, Attempt, AttemptError, ClientSide};
use retry::{Again, Body, Failure, Sent};

/// A request that is ready to go to an instance.
pub struct Request<'a> {
    /// Its head, rewritten, without `Host` unless that is kept.
    pub head: &'a Head,
    /// The host that the client asked for, with its port; empty from HTTP/1.0 clients that name none.
    pub authority: &'a [u8],
    /// The target that instances see.
    pub target: &'a [u8],
    /// Further head lines, the same for every instance.
    pub extra: &'a [u8],
    /// How an instance that speaks HTTP/1.1 learns of the body's end.
    pub encoding: Encoding,
    /// Decides what may be repeated.
    pub method: Method,
    /// Value of `Upgrade`, if the client asks for one.
    pub upgrade: Option<&'a [u8]>,
    /// When its first byte came: `retry.deadline` counts from here.
    pub begun: Instant,
    /// When its head was whole.
    pub whole: Instant,
    /// When its client will have given up.
    pub deadline: Option<Instant>,
}

/// What happened on the way, for log and metrics; filled in as it happens.
#[derive(Debug, Default)]
pub struct Trail<'a> {
    /// Where the last attempt went.
    pub member: Option<&'a Member>,
    /// How often the request was sent, or would have been had there been a connection.
    pub attempts: u32,
    /// Time in the pool's queue.
    pub queue: Duration,
    /// Time to get a connection, over all attempts.
    pub connect: Duration,
    /// From the beginning of the last attempt's sending, on a connection that was there, to the response head.
    pub first_byte: Option<Duration>,
}

/// A response head, and what its body comes over.
#[derive(Debug)]
pub struct Forwarded<'a> {
    /// The head.
    pub answer: Answer,
    /// Who answered.
    pub member: &'a Member,
    /// Counts until the body has ended.
    pub guard: InFlight,
    /// Where the body comes from.
    pub connection: Connection,
    /// When the attempt began.
    pub picked_at: Instant,
    /// When the head was there.
    pub answered_at: Instant,
}

/// Why no instance answered.
#[derive(Debug, Clone, Copy, Error)]
#[error("{}", cause.code())]
pub struct ForwardError {
    /// What log and metric call it.
    pub cause: Cause,
    /// What decides the status: the last attempt's cause where `cause` is the budget's.
    pub status_of: Cause,
    /// The error type of RFC 9209, where it says more than the cause does.
    pub proxy_error: Option<&'static str>,
}

impl From<Cause> for ForwardError {
    fn from(cause: Cause) -> Self {
        Self { cause, status_of: cause, proxy_error: None }
    }
}

impl From<&ConnectError> for ForwardError {
    fn from(error: &ConnectError) -> Self {
        Self { proxy_error: error.proxy_error(), ..error.cause().into() }
    }
}

/// What the loop remembers between attempts.
struct Memory {
    tried: Vec<InstanceId>,
    repeat: Repeat,
    retries_left: u32,
    /// A kept connection was dead: the next one is made.
    fresh: bool,
    last: Option<ForwardError>,
    reason: Option<RetryReason>,
    /// How often the stream was refused.
    refused: u32,
}

impl Memory {
    /// Why the request goes nowhere: where instances were tried, what they did says more than that there is no other.
    fn why(&self, none: NoInstance) -> ForwardError {
        self.last.unwrap_or_else(|| match none {
            NoInstance::NoneEligible | NoInstance::AllTried => Cause::NoEligibleInstance.into(),
            NoInstance::AtLimit => Cause::Overload.into(),
            NoInstance::QueueFull => Cause::QueueFull.into(),
            NoInstance::QueueTimeout => Cause::QueueTimeout.into(),
        })
    }
}
/// How often a request is refused before it is not sent again to an instance that has refused it: those that refuse
/// everything must not keep it going round.
const REFUSED_MAX: u32 = 3;

/// Brings `request` to an instance of `pool`, and its response head back.
///
/// # Errors
/// When no attempt brought a response head, or the client left; see [`ForwardError`].
#[expect(
    clippy::too_many_lines,
    reason = "the one attempt loop: whoever asks what happens after a failure reads it here"
)]
pub async fn forward<'a>(
    worker: &Worker,
    alarm: &Alarm,
    pool: &'a Pool,
    request: &Request<'_>,
    client: &mut ClientSide<'_>,
    body: &mut Pipe,
    trail: &mut Trail<'a>,
) -> Result<Forwarded<'a>, ForwardError> {
    let settings = &pool.settings.retry;
    let deadline = request.begun + settings.deadline;
    let deadline = request.deadline.map_or(deadline, |given_up| given_up.min(deadline));
    let mut memory = Memory {
        // Allocates only when an attempt has failed.
        tried: Vec::new(),
        repeat: Repeat::Never,
        retries_left: settings.retries,
        fresh: false,
        last: None,
        reason: None,
        refused: 0,
    };
    let mut permit = None;
    loop {
        // Waits are boxed: they are rare, and would be a part of every request in progress.
        let picked = if let Some(picked) = pool.pick_at_once(&worker.turn, &memory.tried, memory.repeat) {
            picked
        } else {
            let asked_at = Instant::now();
            let until = request.begun + pool.settings.queue_wait;
            let until = request.deadline.map_or(until, |given_up| given_up.min(until));
            let place = pool.pick_or_wait(&worker.turn, &memory.tried, memory.repeat, until);
            let picked = unless_left(client, alarm, body, Box::pin(place)).await?;
            trail.queue += asked_at.elapsed();
            picked
        };
        let Picked { member, guard } = picked.map_err(|none| memory.why(none))?;
        trail.member = Some(member);
        trail.attempts += 1;
        let instance = guard.instance();
        let shard = instance.stats.of(worker.id);
        let picked_at = if trail.attempts == 1 && trail.queue.is_zero() { request.whole } else { Instant::now() };
        alarm.attempt(Some(instance));
        let kept = if memory.fresh { None } else { kept(worker, pool, member, request.method, picked_at) };
        let connected = if let Some(connection) = kept {
            Ok(connection)
        } else {
            let made = make(worker, alarm, pool, member, request.method, memory.fresh);
            unless_left(client, alarm, body, Box::pin(made)).await?
        };
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                alarm.attempt(None);
                trail.connect += picked_at.elapsed();
                shard.errors.of(error.cause()).increment();
                if let Some(evidence) = error.evidence() {
                    instance.failed(evidence);
                }
                count(pool, worker, memory.reason.replace(RetryReason::Connect), RetryOutcome::Failed);
                memory.last = Some((&error).into());
                memory.repeat = Repeat::Never;
                memory.tried.push(instance.id);
                // Without descriptors or ports the next instance can't be reached either.
                if error.is_ours() || Instant::now() >= deadline {
                    return Err((&error).into());
                }
                continue;
            }
        };
        let mut sent_at = picked_at;
        if !connection.reused {
            sent_at = Instant::now();
            trail.connect += sent_at - picked_at;
        }
        let begun = if connection.place().is_some() {
            shared::begin(pool, member, request, &mut connection, body).map(Some)
        } else {
            body.encode(request.encoding);
            body.head(head_for(worker, pool, member, request));
            Ok(None)
        };
        let result = match begun {
            Ok(response) => {
                let settings = &pool.settings.connection;
                let buffers = &worker.buffers;
                Attempt::new(client, &mut connection, response, request, body, settings, buffers, picked_at)
                    .run(alarm)
                    .await
            }
            Err(error) => Err(error),
        };
        alarm.attempt(None);
        let (failure, cause) = match result {
            Ok(answer) => {
                let answered_at = Instant::now();
                let first_byte = answered_at - sent_at;
                trail.first_byte = Some(first_byte);
                shard.first_byte.observe(first_byte);
                count(pool, worker, memory.reason, RetryOutcome::Answered);
                judge_status(pool, instance, answer.head.status());
                return Ok(Forwarded { answer, member, guard, connection, picked_at, answered_at });
            }
            Err(AttemptError::Client(cause)) => return Err(cause.into()),
            Err(AttemptError::BadResponse(error)) => {
                shard.errors.of(Cause::UpstreamBadResponse).increment();
                count(pool, worker, memory.reason, RetryOutcome::Failed);
                tracing::debug!(pool = %pool.name, instance = %member.name, %error, "response is not HTTP");
                return Err(Cause::UpstreamBadResponse.into());
            }
            Err(AttemptError::Failed { failure, cause }) => (failure, cause),
        };
        shard.errors.of(cause).increment();
        match failure {
            Failure::Reset => instance.failed(Evidence::Reset),
            Failure::Timeout => instance.failed(Evidence::Timeout),
            Failure::Stale | Failure::Ejected | Failure::Refused => {}
        }
        // Of a stream the head has left before any of this.
        let nothing = body.sent() == 0 && connection.place().is_none();
        let sent = if nothing { Sent::Nothing } else { Sent::Something };
        let kept = if body.can_restart() { Body::Kept } else { Body::Gone };
        let again = retry::again(failure, sent, kept, request.method);
        let (Again::Free(reason) | Again::Paced(reason) | Again::Counted(reason)) = again else {
            return Err(cause.into());
        };
        count(pool, worker, memory.reason.replace(reason), RetryOutcome::Failed);
        memory.last = Some(cause.into());
        if failure == Failure::Stale {
            memory.fresh = true;
        } else if failure == Failure::Refused {
            memory.tried.push(instance.id);
            memory.refused += 1;
            // Every other one first, backups as well; then also the same, whose connections go away one by one when it
            // restarts, and which may have refused only what was above its limit at that moment.
            let another =
                pool.members.iter().any(|other| other.eligible() && !memory.tried.contains(&other.instance.id));
            memory.repeat = if another { Repeat::Never } else { Repeat::IfNoOther };
            if !another && memory.refused > REFUSED_MAX {
                return Err(cause.into());
            }
        } else {
            memory.tried.push(instance.id);
            memory.repeat = if matches!(again, Again::Free(_)) { Repeat::Never } else { Repeat::IfNoOther };
        }
        // What failed is over: it neither counts in flight nor in the budget while the next attempt waits for its turn.
        drop((connection, guard, permit.take()));
        if matches!(again, Again::Counted(_)) {
            memory.retries_left = memory.retries_left.checked_sub(1).ok_or(ForwardError::from(cause))?;
        }
        if Instant::now() >= deadline {
            return Err(cause.into());
        }
        if !matches!(again, Again::Free(_)) {
            let allowed = || retry::budget(pool.in_flight(), settings.budget_percent, settings.budget_min);
            let until = deadline.min(Instant::now() + settings.budget_wait);
            permit = unless_left(client, alarm, body, Box::pin(pool.shared.wait_retry(allowed, until))).await?;
            if permit.is_none() {
                count(pool, worker, Some(reason), RetryOutcome::Refused);
                return Err(ForwardError { cause: Cause::RetryBudgetExhausted, ..cause.into() });
            }
        }
        body.restart();
    }
}

/// Waits for `future` unless the client leaves before: nobody needs what it would bring, and others wait for the place.
async fn unless_left<T>(
    client: &mut ClientSide<'_>,
    alarm: &Alarm,
    body: &mut Pipe,
    future: impl Future<Output = T>,
) -> Result<T, ForwardError> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        if body.is_received() {
            client.poll_left(context, alarm, body.surplus())?;
        } else {
            client.poll_reset(context, alarm)?;
        }
        Poll::Pending
    })
    .await
}

/// A kept connection, if there is one. What must not be repeated takes one only if that was in use just now: then it is
/// most unlikely that the instance is about to close it.
fn kept(worker: &Worker, pool: &Pool, member: &Member, method: Method, now: Instant) -> Option<Connection> {
    if !pool.settings.protocol.has_own_connections() {
        return None;
    }
    let idle_max = (!method.is_idempotent()).then_some(pool.settings.connection.unsafe_reuse_max);
    worker.idle.borrow_mut().take(member.instance.id, member.dialer.as_ref(), idle_max, now)
}

/// A new connection, or a place on one that requests share.
async fn make(
    worker: &Worker,
    alarm: &Alarm,
    pool: &Pool,
    member: &Member,
    method: Method,
    fresh: bool,
) -> Result<Connection, ConnectError> {
    let shares = match pool.settings.protocol {
        Protocol::H1 => false,
        Protocol::H2 | Protocol::H2c => true,
        Protocol::Auto => member.dialer.is_some(),
    };
    if shares && let Some(connection) = shared::connection(worker, alarm, pool, member, method, fresh).await? {
        return Ok(connection);
    }
    let timeout = pool.settings.connection.connect_timeout;
    connect(&member.instance, member.dialer.as_ref(), worker, alarm, timeout).await
}

fn head_for(worker: &Worker, pool: &Pool, member: &Member, request: &Request<'_>) -> Vec<u8> {
    let mut out = worker.buffers.take();
    if matches!(pool.settings.host, HostField::Keep) && request.head.has(Name::Host) {
        request.head.write_request(&mut out, request.target, request.extra);
        return out;
    }
    let host = host_for(pool, member, request);
    let mut extra = Vec::with_capacity(host.len() + request.extra.len() + 8);
    for part in [b"Host: ", host, b"\r\n", request.extra] {
        extra.extend_from_slice(part);
    }
    request.head.write_request(&mut out, request.target, &extra);
    out
}

/// The host that the instance sees, where the head does not have it.
fn host_for<'a>(pool: &'a Pool, member: &'a Member, request: &Request<'a>) -> &'a [u8] {
    match &pool.settings.host {
        // An absolute target has overruled the field (RFC 9112 section 3.2.2).
        HostField::Keep if !request.authority.is_empty() => request.authority,
        // An HTTP/1.0 client may name no host, but a request of HTTP/1.1 must (RFC 9112 section 3.2).
        HostField::Keep | HostField::Instance => member.authority.as_bytes(),
        HostField::Fixed(host) => host.as_bytes(),
    }
}

fn judge_status(pool: &Pool, instance: &Instance, status: u16) {
    if status >= 500 && pool.settings.evidence.judge_5xx {
        instance.failed(Evidence::ServerError);
    } else {
        instance.succeeded();
    }
}

/// Counts how a further attempt ended, if it was one.
fn count(pool: &Pool, worker: &Worker, reason: Option<RetryReason>, outcome: RetryOutcome) {
    if let Some(reason) = reason {
        pool.stats.of(worker.id).retries[reason as usize][outcome as usize].increment();
    }
}
