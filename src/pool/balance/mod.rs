//! Strategies: which of the candidates gets the request. Pure: counts, turns and random numbers come in as arguments.
//!
//! Every strategy is given `look`, which says for a place in the list whether there is a candidate and what it carries.
//! Rank goes before load in all of them: an instance that was tried or is suspect is chosen only when no other is left
//! (a dead instance has nothing in flight, so that least connections alone would prefer it).

pub mod least_connections;
pub mod random_of_two;
pub mod round_robin;
pub mod sampler;

/// How willingly an instance is given a request; the smaller, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(u8);

impl Rank {
    /// Neither tried nor suspect.
    pub const BEST: Self = Self(0);

    /// Tried by this request weighs more than suspect: another one may answer, this one has just failed.
    #[inline]
    #[must_use]
    pub fn new(tried: bool, suspect: bool) -> Self {
        Self(u8::from(tried) << 1 | u8::from(suspect))
    }
}

/// An instance that may get the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Before load.
    pub rank: Rank,
    /// Requests that it has.
    pub in_flight: u32,
    /// Its share, at least 1.
    pub weight: u32,
}

impl Candidate {
    /// Whether it is to be preferred: by rank, then by the smaller `(in flight + 1) / weight`.
    #[inline]
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        if self.rank != other.rank {
            return self.rank < other.rank;
        }
        let load = |one: &Self, weight_of: &Self| (u64::from(one.in_flight) + 1) * u64::from(weight_of.weight);
        load(self, other) < load(other, self)
    }
}

/// The best of all, the first one from `start` on where several are equal.
#[inline]
fn best_of_all(len: usize, start: usize, look: impl Fn(usize) -> Option<Candidate>) -> Option<usize> {
    let mut best: Option<(usize, Candidate)> = None;
    // Not a chain of two ranges, which costs a third more.
    let wrapped = |offset| if offset < len - start { start + offset } else { offset - (len - start) };
    for index in (0..len).map(wrapped) {
        let Some(candidate) = look(index) else { continue };
        if best.is_none_or(|(_, best)| candidate.beats(&best)) {
            best = Some((index, candidate));
        }
    }
    best.map(|(index, _)| index)
}

/// The better of `sample` candidates drawn at random; all are looked at where the draws found none of the best rank.
#[inline]
fn best_of_drawn(
    len: usize,
    sample: usize,
    mut draw: impl FnMut() -> usize,
    look: impl Fn(usize) -> Option<Candidate>,
) -> Option<usize> {
    let mut best: Option<(usize, Candidate)> = None;
    let mut found = 0;
    // Draws meet instances that are out, too: with nine in ten out, 8 draws for each one wanted still find one nearly
    // always, and the scan below remains.
    for _ in 0..sample * 8 {
        let index = draw();
        if best.is_some_and(|(best, _)| best == index) {
            continue;
        }
        let Some(candidate) = look(index) else { continue };
        if best.is_none_or(|(_, best)| candidate.beats(&best)) {
            best = Some((index, candidate));
        }
        found += 1;
        if found == sample {
            break;
        }
    }
    match best {
        Some((index, candidate)) if candidate.rank == Rank::BEST => Some(index),
        _ => best_of_all(len, draw(), look),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(rank: Rank, in_flight: u32, weight: u32) -> Candidate {
        Candidate { rank, in_flight, weight }
    }

    #[test]
    fn rank_goes_before_load_and_load_is_counted_per_weight() {
        let idle_suspect = candidate(Rank::new(false, true), 0, 1);
        let busy = candidate(Rank::BEST, 100, 1);
        assert!(busy.beats(&idle_suspect) && !idle_suspect.beats(&busy));
        let tried = candidate(Rank::new(true, false), 0, 1);
        assert!(idle_suspect.beats(&tried));
        // (2 + 1) / 4 < (0 + 1) / 1
        assert!(candidate(Rank::BEST, 2, 4).beats(&candidate(Rank::BEST, 0, 1)));
        // (3 + 1) / 4 = (0 + 1) / 1: neither
        assert!(!candidate(Rank::BEST, 3, 4).beats(&candidate(Rank::BEST, 0, 1)));
        assert!(!candidate(Rank::BEST, 0, 1).beats(&candidate(Rank::BEST, 3, 4)));
    }

    #[test]
    fn the_largest_counts_and_weights_do_not_overflow() {
        let most = candidate(Rank::BEST, u32::MAX, u32::MAX);
        assert!(!most.beats(&most));
    }
}
