//! How fast a body must move at least: bytes per second, where limits on pauses alone let a client hold a connection for
//! days with a byte now and then.
//!
//! A deadline that bytes push back: each second allows `rate` bytes less, each byte buys its share of a second. It begins
//! with a grace time, and what a fast beginning buys is capped by the longest pause that is allowed anyway, so that a large
//! first part is no ticket for a day. Only time in which the client is waited for counts: while the other side is slow, the
//! deadline stands still. Pure: the time comes in.

use std::time::Duration;

use tokio::time::Instant;

/// What is asked of a body.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Bytes per second.
    pub min: u64,
    /// How long it may be slower at first.
    pub grace: Duration,
    /// The longest pause, which is what bytes can buy at most.
    pub pause_max: Duration,
}

/// A body under way.
#[derive(Debug, Default)]
pub struct Pace {
    /// When it will have been too slow; `None` until the client is waited for the first time.
    deadline: Option<Instant>,
    /// Since when somebody else is waited for.
    stood_since: Option<Instant>,
    /// How much had moved at the last look.
    moved: u64,
}

impl Pace {
    /// When the client will have been too slow that is waited for now, after `moved` bytes in all.
    pub fn deadline(&mut self, rate: Rate, moved: u64, now: Instant) -> Instant {
        let stood = self.stood_since.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let fresh = moved - std::mem::replace(&mut self.moved, moved);
        let deadline = match self.deadline {
            None => now + rate.grace,
            Some(deadline) if fresh == 0 => deadline + stood,
            Some(deadline) => {
                let bought = Duration::from_nanos(fresh.saturating_mul(1_000_000_000) / rate.min);
                (deadline + stood + bought).min(now + rate.pause_max.max(rate.grace))
            }
        };
        *self.deadline.insert(deadline)
    }

    /// It is not the client that is waited for.
    pub fn stand(&mut self, now: Instant) {
        self.stood_since.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const RATE: Rate = Rate { min: 100, grace: Duration::from_secs(5), pause_max: Duration::from_secs(30) };

    /// A body of which nothing has come yet, at its beginning.
    fn begun(start: Instant) -> Pace {
        let mut pace = Pace::default();
        assert_eq!(pace.deadline(RATE, 0, start), start + s(5));
        pace
    }

    #[test]
    fn a_byte_now_and_then_does_not_buy_the_time_that_it_takes() {
        let start = Instant::now();
        let mut pace = begun(start);
        for second in 1..5 {
            assert!(pace.deadline(RATE, second, start + s(second)) < start + s(6), "after {second} bytes");
        }
    }

    #[test]
    fn a_body_at_the_rate_goes_on_for_ever() {
        let start = Instant::now();
        let mut pace = begun(start);
        for second in 1..1_000 {
            assert!(pace.deadline(RATE, 100 * second, start + s(second)) > start + s(second));
        }
    }

    #[test]
    fn a_large_beginning_buys_no_more_than_the_longest_pause() {
        let start = Instant::now();
        let mut pace = begun(start);
        assert_eq!(pace.deadline(RATE, 1 << 40, start), start + s(30));
        assert_eq!(pace.deadline(RATE, (1 << 40) + 100, start + s(10)), start + s(31));
    }

    #[test]
    fn time_in_which_somebody_else_is_waited_for_does_not_count() {
        let start = Instant::now();
        let mut pace = begun(start);
        pace.stand(start + s(2));
        pace.stand(start + s(50));
        assert_eq!(pace.deadline(RATE, 0, start + s(102)), start + s(105));
    }
}
