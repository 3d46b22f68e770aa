//! Evidence from traffic: when failures in a row eject an instance, for how long, and when it comes back. Pure.
//!
//! | state | event | next |
//! |---|---|---|
//! | serving | `failures` in a row, and the pool can spare it | ejected for `eject_time`, doubled per repeat |
//! | ejected | a probe passes that began after the time was up | serving |
//! | ejected | less than half of the pool is left, and a probe passes that began after the ejection | serving |
//! | serving for `eject_time_max` | – | the doubling is forgotten |
//!
//! It is an axis of its own: the verdict of probes is not touched. The third line keeps the promise that evidence never
//! leaves less than half of a pool also when probes or the operator take further instances out later. The doubling is
//! forgotten after the longest time that an ejection can last: an instance that served that long without a further one
//! has shown more than the ejection asked of it.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::model::Evidence;

/// What traffic showed of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ejection {
    /// Not ejected.
    Serving {
        /// Ejections so far that are not forgotten.
        repeats: u32,
        /// When the last one ended.
        since: Option<Instant>,
    },
    /// Gets no traffic.
    Ejected {
        /// Ejections in a row, this one included.
        repeats: u32,
        /// When it was ejected.
        began: Instant,
        /// When a passed probe may give it back.
        until: Instant,
        /// Whether the last probe that began since then has passed.
        passed: bool,
    },
}

impl Default for Ejection {
    fn default() -> Self {
        Self::Serving { repeats: 0, since: None }
    }
}

impl Ejection {
    /// Whether it is ejected.
    #[must_use]
    pub fn is_ejected(self) -> bool {
        matches!(self, Self::Ejected { .. })
    }

    /// Ejections in a row.
    #[must_use]
    pub fn repeats(self) -> u32 {
        match self {
            Self::Serving { repeats, .. } | Self::Ejected { repeats, .. } => repeats,
        }
    }

    /// Ejects a serving instance; the second value is for how long.
    #[must_use]
    pub fn eject(self, now: Instant, settings: &Evidence) -> (Self, Duration) {
        let repeats = self.forget(now, settings).repeats();
        let time = settings
            .eject_time
            .saturating_mul(1_u32.checked_shl(repeats).unwrap_or(u32::MAX))
            .min(settings.eject_time_max);
        (Self::Ejected { repeats: repeats.saturating_add(1), began: now, until: now + time, passed: false }, time)
    }

    /// Forgets earlier ejections if it has served for long enough.
    #[must_use]
    pub fn forget(self, now: Instant, settings: &Evidence) -> Self {
        match self {
            Self::Serving { since: Some(since), .. } if now >= since + settings.eject_time_max => Self::default(),
            _ => self,
        }
    }

    /// A probe passed that began at `started`.
    #[must_use]
    pub fn probe_passed(self, started: Instant, now: Instant) -> Self {
        match self {
            Self::Ejected { until, .. } if started >= until => self.give_back(now),
            Self::Ejected { repeats, began, until, .. } if started >= began => {
                Self::Ejected { repeats, began, until, passed: true }
            }
            _ => self,
        }
    }

    /// A probe failed.
    #[must_use]
    pub fn probe_failed(self) -> Self {
        match self {
            Self::Ejected { repeats, began, until, .. } => Self::Ejected { repeats, began, until, passed: false },
            Self::Serving { .. } => self,
        }
    }

    /// Ends the ejection.
    #[must_use]
    pub fn give_back(self, now: Instant) -> Self {
        Self::Serving { repeats: self.repeats(), since: Some(now) }
    }
}

/// How many of a pool's undrained instances evidence from traffic must leave: half, rounded up.
#[must_use]
pub fn kept(undrained: usize) -> usize {
    undrained.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Evidence = Evidence {
        failures: Some(5),
        eject_time: Duration::from_secs(10),
        eject_time_max: Duration::from_secs(300),
        judge_5xx: false,
    };

    #[test]
    fn the_time_doubles_with_each_repeat_up_to_the_longest() {
        let mut now = Instant::now();
        let mut ejection = Ejection::default();
        for seconds in [10, 20, 40, 80, 160, 300, 300, 300] {
            let (ejected, time) = ejection.eject(now, &SETTINGS);
            assert_eq!(time, Duration::from_secs(seconds));
            now += time;
            ejection = ejected.probe_passed(now, now);
            assert!(!ejection.is_ejected());
        }
    }

    #[test]
    fn any_number_of_repeats_stays_at_the_longest_time() {
        let many = Ejection::Serving { repeats: u32::MAX, since: None };
        assert_eq!(many.eject(Instant::now(), &SETTINGS).1, SETTINGS.eject_time_max);
    }

    #[test]
    fn the_doubling_is_forgotten_after_serving_as_long_as_the_longest_ejection() {
        let now = Instant::now();
        let served = Ejection::Serving { repeats: 3, since: Some(now) };
        assert_eq!(served.eject(now + Duration::from_secs(299), &SETTINGS).1, Duration::from_secs(80));
        assert_eq!(served.eject(now + Duration::from_secs(300), &SETTINGS).1, Duration::from_secs(10));
    }

    #[test]
    fn it_ends_when_the_time_is_up_and_a_later_probe_has_passed() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let (ejected, _) = Ejection::default().eject(now, &SETTINGS);
        assert!(ejected.probe_passed(at(9), at(11)).is_ejected(), "the probe began too early");
        assert!(ejected.probe_failed().is_ejected());
        assert!(!ejected.probe_passed(at(10), at(11)).is_ejected());
    }

    #[test]
    fn half_of_a_pool_rounded_up_is_kept() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(kept), [0, 1, 1, 2, 2, 3]);
    }
}
