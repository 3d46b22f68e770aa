//! Random of two: the less loaded of two drawn ones. Needs no turns, and spreads well where many proxies share a pool.

use super::{Candidate, best_of_drawn};

/// The better of two different drawn candidates.
#[inline]
pub fn pick(len: usize, draw: impl FnMut() -> usize, look: impl Fn(usize) -> Option<Candidate>) -> Option<usize> {
    best_of_drawn(len, 2, draw, look)
}

#[cfg(test)]
mod tests {
    use super::super::Rank;
    use super::*;

    #[test]
    fn the_less_loaded_of_the_two_is_taken() {
        let mut draws = [1, 1, 2].into_iter();
        let look = |index: usize| Some(Candidate { rank: Rank::BEST, in_flight: 9 - index as u32, weight: 1 });
        assert_eq!(pick(4, || draws.next().expect("enough draws"), look), Some(2));
    }

    #[test]
    fn a_suspect_is_taken_only_when_there_is_no_other() {
        let suspect = |index: usize| Candidate { rank: Rank::new(false, index != 3), in_flight: 0, weight: 1 };
        assert_eq!(pick(4, || 0, |index| Some(suspect(index))), Some(3));
        assert!(pick(4, || 0, |index| (index < 3).then(|| suspect(index))).is_some());
    }
}
