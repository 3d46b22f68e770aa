//! May a request be sent again? Pure: what failed, what had been sent and what the method promises decide.
//!
//! RFC 9110 section 9.2.2: a proxy must not repeat a non-idempotent request unless it knows that the first one had no
//! effect. Two proofs are accepted. One is that not one byte left for the instance: a connection that could not be made, or
//! a kept one on which the first write failed. The other is the instance's word by the rules of HTTP/2: a stream that it
//! refused with `REFUSED_STREAM`, or one above the last that its GOAWAY names, was not processed (RFC 9113 section 8.7). A kept
//! connection that closes after taking the request proves nothing.

use crate::http1::head::Method;
use crate::telemetry::stats::RetryReason;

/// What failed, after a connection was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connection had been used before and ended without a byte of response: most likely it had been dead.
    Stale,
    /// The connection ended without a response head.
    Reset,
    /// No response head in time.
    Timeout,
    /// The instance was ejected while the response head was awaited.
    Ejected,
    /// The instance refused the stream, or its connection went away before it looked at it.
    Refused,
}

/// How much of the request had left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Not one byte.
    Nothing,
    /// Some of it, or all.
    Something,
}

/// Whether the bytes that were sent are still here to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// They are (or there is no body).
    Kept,
    /// The body was too long to be kept.
    Gone,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It may be sent again, without counting as a retry: nothing happened at an instance.
    Free(RetryReason),
    /// It may be sent again within the budget, without counting as a retry: the instance was taken out of service.
    Paced(RetryReason),
    /// It may be sent again as one of `retries`, within the budget.
    Counted(RetryReason),
    /// It must not be sent again.
    Never,
}

/// Decides whether a request may be sent again after `failure`.
#[must_use]
pub fn again(failure: Failure, sent: Sent, body: Body, method: Method) -> Again {
    let reason = match failure {
        Failure::Stale => RetryReason::StaleConnection,
        Failure::Reset => RetryReason::Reset,
        Failure::Timeout => RetryReason::Timeout,
        Failure::Ejected => RetryReason::Ejected,
        Failure::Refused => RetryReason::Refused,
    };
    if sent == Sent::Nothing {
        return Again::Free(reason);
    }
    match (body, failure) {
        (Body::Gone, _) => Again::Never,
        (Body::Kept, Failure::Refused) => Again::Free(reason),
        (Body::Kept, _) if !method.is_idempotent() => Again::Never,
        // A dead connection says nothing about the instance, so the next one is a first attempt in all but name.
        (Body::Kept, Failure::Stale) => Again::Free(reason),
        (Body::Kept, Failure::Ejected) => Again::Paced(reason),
        (Body::Kept, _) => Again::Counted(reason),
    }
}

/// How many further attempts a pool may have at a time: `percent` of its requests in flight, at least `min`
/// (linkerd's and Envoy's retry budget; the floor keeps small loads from being without any).
#[must_use]
pub fn budget(in_flight: u32, percent: u32, min: u32) -> u32 {
    let share = u64::from(in_flight) * u64::from(percent) / 100;
    u32::try_from(share).unwrap_or(u32::MAX).max(min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_left_may_go_again_whatever_the_method() {
        for failure in [Failure::Stale, Failure::Reset, Failure::Timeout, Failure::Ejected] {
            assert!(matches!(again(failure, Sent::Nothing, Body::Kept, Method::Post), Again::Free(_)), "{failure:?}");
        }
    }

    #[test]
    fn a_request_that_may_have_had_an_effect_is_never_repeated() {
        for failure in [Failure::Stale, Failure::Reset, Failure::Timeout, Failure::Ejected] {
            for method in [Method::Post, Method::Patch, Method::Other] {
                assert_eq!(again(failure, Sent::Something, Body::Kept, method), Again::Never, "{failure:?} {method:?}");
            }
        }
    }

    #[test]
    fn a_refused_stream_may_go_again_whatever_the_method_while_its_body_is_here() {
        assert_eq!(
            again(Failure::Refused, Sent::Something, Body::Kept, Method::Post),
            Again::Free(RetryReason::Refused)
        );
        assert_eq!(again(Failure::Refused, Sent::Something, Body::Gone, Method::Post), Again::Never);
    }

    #[test]
    fn an_idempotent_request_is_repeated_only_while_its_body_is_here() {
        assert_eq!(again(Failure::Reset, Sent::Something, Body::Gone, Method::Put), Again::Never);
        assert_eq!(again(Failure::Reset, Sent::Something, Body::Kept, Method::Put), Again::Counted(RetryReason::Reset));
    }

    #[test]
    fn an_ejection_does_not_use_up_the_retries() {
        assert_eq!(
            again(Failure::Ejected, Sent::Something, Body::Kept, Method::Get),
            Again::Paced(RetryReason::Ejected)
        );
    }

    #[test]
    fn the_budget_is_a_share_of_the_load_with_a_floor() {
        assert_eq!(budget(0, 20, 3), 3);
        assert_eq!(budget(100, 20, 3), 20);
        assert_eq!(budget(u32::MAX, 100, 3), u32::MAX);
        assert_eq!(budget(100, 0, 0), 0);
    }

    #[test]
    fn a_dead_kept_connection_does_not_count_as_a_retry() {
        assert_eq!(
            again(Failure::Stale, Sent::Something, Body::Kept, Method::Get),
            Again::Free(RetryReason::StaleConnection)
        );
    }
}
