//! The verdict of an instance: what probes in a row make of it. Pure, no clock.
//!
//! | verdict | pass | fail | inconclusive |
//! |---|---|---|---|
//! | unproven | up | down | unproven |
//! | up, f failures in a row | up, 0 | up, f + 1; **down** from `fall` on | unchanged |
//! | down, p passes in a row | down, p + 1; **up** from `rise` on | down, 0 | unchanged |
//!
//! "In a row" means it: the opposite outcome starts the count anew. This is the only place that decides when an
//! instance goes down or comes back by probes; evidence from traffic is another axis (`health::passive`).

use std::time::Duration;

use crate::config::model::Probe;
use crate::pool::instance::Health;

/// What one probe showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The instance is well.
    Pass,
    /// It is not.
    Fail,
    /// Nothing: Plimsoll itself was too late to tell. Neither counts nor resets a count.
    Inconclusive,
}

/// How many in a row it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failures to go down, at least 1.
    pub fall: u32,
    /// Passes to come back, at least 1.
    pub rise: u32,
}

/// What probes made of an instance so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No conclusive probe yet.
    Unproven,
    /// Serves; `fails` failures in a row speak against it.
    Up {
        /// Less than `fall`.
        fails: u32,
    },
    /// Does not serve; `passes` passes in a row speak for it.
    Down {
        /// Less than `rise`.
        passes: u32,
    },
}

impl Verdict {
    /// Folds one outcome in. The second value is the new health if it changed.
    #[must_use]
    pub fn step(self, outcome: Outcome, limits: Limits) -> (Self, Option<Health>) {
        const UP: Verdict = Verdict::Up { fails: 0 };
        const DOWN: Verdict = Verdict::Down { passes: 0 };
        match (self, outcome) {
            (_, Outcome::Inconclusive) => (self, None),
            (Self::Unproven, Outcome::Pass) => (UP, Some(Health::Up)),
            (Self::Unproven, Outcome::Fail) => (DOWN, Some(Health::Down)),
            (Self::Up { .. }, Outcome::Pass) => (UP, None),
            (Self::Up { fails }, Outcome::Fail) if fails + 1 >= limits.fall => (DOWN, Some(Health::Down)),
            (Self::Up { fails }, Outcome::Fail) => (Self::Up { fails: fails + 1 }, None),
            (Self::Down { .. }, Outcome::Fail) => (DOWN, None),
            (Self::Down { passes }, Outcome::Pass) if passes + 1 >= limits.rise => (UP, Some(Health::Up)),
            (Self::Down { passes }, Outcome::Pass) => (Self::Down { passes: passes + 1 }, None),
        }
    }

    /// What the data side sees of it.
    #[must_use]
    pub fn health(self) -> Health {
        match self {
            Self::Unproven => Health::Unproven,
            Self::Up { .. } => Health::Up,
            Self::Down { .. } => Health::Down,
        }
    }

    /// Outcomes in a row that speak against the verdict.
    #[must_use]
    pub fn streak(self) -> u32 {
        match self {
            Self::Unproven => 0,
            Self::Up { fails } => fails,
            Self::Down { passes } => passes,
        }
    }

    /// The same verdict with nothing against it: what probes ask has changed, so that earlier outcomes do not count.
    #[must_use]
    pub fn without_streak(self) -> Self {
        match self {
            Self::Unproven => Self::Unproven,
            Self::Up { .. } => Self::Up { fails: 0 },
            Self::Down { .. } => Self::Down { passes: 0 },
        }
    }
}

/// How long it takes at worst until an instance that breaks is down, by probes alone. Traffic is often faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetectionTime {
    /// It refuses connections or answers with failures at once.
    pub refusal: Duration,
    /// It hangs: every probe uses up its timeout.
    pub hang: Duration,
}

/// The worst case of a probe definition: it breaks right after a probe, and every interval is lengthened by jitter.
#[must_use]
pub fn detection_time(probe: &Probe) -> DetectionTime {
    let longest = |interval: Duration| interval + interval * probe.jitter_percent / 100;
    let first = longest(probe.interval);
    let further = longest(probe.fast_interval.unwrap_or(probe.interval));
    let repeats = probe.fall.saturating_sub(1);
    DetectionTime {
        refusal: first + further * repeats,
        // Probes do not overlap, so the next one begins when the one before has timed out.
        hang: first + further.max(probe.timeout) * repeats + probe.timeout,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::model::ProbeKind;
    use Outcome::{Fail, Inconclusive, Pass};

    const LIMITS: Limits = Limits { fall: 3, rise: 2 };

    #[test]
    fn each_verdict_meets_each_outcome() {
        use Verdict::{Down, Unproven, Up};
        let (up, down) = (Some(Health::Up), Some(Health::Down));
        for (before, outcome, after, change) in [
            (Unproven, Pass, Up { fails: 0 }, up),
            (Unproven, Fail, Down { passes: 0 }, down),
            (Unproven, Inconclusive, Unproven, None),
            (Up { fails: 0 }, Pass, Up { fails: 0 }, None),
            (Up { fails: 2 }, Pass, Up { fails: 0 }, None),
            (Up { fails: 0 }, Fail, Up { fails: 1 }, None),
            (Up { fails: 1 }, Fail, Up { fails: 2 }, None),
            (Up { fails: 2 }, Fail, Down { passes: 0 }, down),
            (Up { fails: 2 }, Inconclusive, Up { fails: 2 }, None),
            (Down { passes: 0 }, Pass, Down { passes: 1 }, None),
            (Down { passes: 1 }, Pass, Up { fails: 0 }, up),
            (Down { passes: 1 }, Fail, Down { passes: 0 }, None),
            (Down { passes: 1 }, Inconclusive, Down { passes: 1 }, None),
        ] {
            assert_eq!(before.step(outcome, LIMITS), (after, change), "{before:?} {outcome:?}");
        }
    }

    #[test]
    fn a_streak_that_is_longer_than_a_lowered_limit_changes_the_verdict_with_the_next_outcome() {
        let lowered = Limits { fall: 2, rise: 1 };
        assert_eq!(Verdict::Up { fails: 2 }.step(Fail, lowered).1, Some(Health::Down));
        assert_eq!(Verdict::Up { fails: 2 }.step(Pass, lowered), (Verdict::Up { fails: 0 }, None));
    }

    #[test]
    fn detection_times_are_those_of_the_reference() {
        let probe = |fast: Option<u64>, jitter_percent| Probe {
            kind: ProbeKind::Tcp,
            port: None,
            interval: Duration::from_secs(5),
            fast_interval: fast.map(Duration::from_secs),
            timeout: Duration::from_secs(2),
            fall: 3,
            rise: 2,
            jitter_percent,
            tls: true,
        };
        let millis = |probe| {
            let DetectionTime { refusal, hang } = detection_time(&probe);
            (refusal.as_millis(), hang.as_millis())
        };
        assert_eq!(millis(probe(None, 0)), (15_000, 17_000));
        assert_eq!(millis(probe(None, 10)), (16_500, 18_500));
        assert_eq!(millis(probe(Some(1), 0)), (7_000, 11_000));
        assert_eq!(millis(Probe { fall: 1, ..probe(Some(1), 0) }), (5_000, 7_000));
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![Just(Pass), Just(Fail), Just(Inconclusive)]
    }

    proptest! {
        #[test]
        fn no_interleaving_ejects_below_fall_or_restores_below_rise(
            outcomes in prop::collection::vec(outcome(), 0..200), fall in 1_u32..6, rise in 1_u32..6,
        ) {
            let limits = Limits { fall, rise };
            let mut verdict = Verdict::Unproven;
            // What an outsider counts: conclusive outcomes of one kind since the last of the other kind.
            let (mut fails, mut passes) = (0_u32, 0_u32);
            for outcome in outcomes {
                match outcome {
                    Pass => { passes += 1; fails = 0; }
                    Fail => { fails += 1; passes = 0; }
                    Inconclusive => {}
                }
                let (next, change) = verdict.step(outcome, limits);
                prop_assert_eq!(change.is_some(), next.health() != verdict.health());
                match (verdict, change) {
                    (Verdict::Up { .. }, Some(_)) => prop_assert!(fails >= fall),
                    (Verdict::Up { .. }, None) => prop_assert!(fails < fall),
                    (Verdict::Down { .. }, Some(_)) => prop_assert!(passes >= rise),
                    (Verdict::Down { .. }, None) => prop_assert!(passes < rise),
                    (Verdict::Unproven, _) => prop_assert_eq!(change.is_some(), outcome != Inconclusive),
                }
                let bound = match next { Verdict::Unproven => 1, Verdict::Up { .. } => fall, Verdict::Down { .. } => rise };
                prop_assert!(next.streak() < bound);
                verdict = next;
            }
        }
    }
}
