//! Least connections: the smallest `(in flight + 1) / weight`.
//!
//! Up to [`SCAN_MAX`] instances all are looked at, from a place that moves on with each choice, so that equal ones get
//! their turns. In larger pools a scan costs more than it is worth (`benches/pick`: 163 µs for 10,000 instances, where
//! draws take 0.26 µs), and all workers would run to the same least loaded one; there the best of [`SAMPLE`] drawn ones
//! is taken, which keeps the largest load within a few requests of the mean (Mitzenmacher, "The Power of Two Choices", 2001, for more choices).

use super::{Candidate, best_of_all, best_of_drawn};

/// Pools up to this size are looked at whole.
pub const SCAN_MAX: usize = 32;

/// How many candidates are drawn in larger pools.
pub const SAMPLE: usize = 8;

/// The best of all, the first one from `start` on where several are equal.
#[inline]
pub fn scan(len: usize, start: usize, look: impl Fn(usize) -> Option<Candidate>) -> Option<usize> {
    best_of_all(len, start, look)
}

/// The best of a few drawn ones.
#[inline]
pub fn sample(len: usize, draw: impl FnMut() -> usize, look: impl Fn(usize) -> Option<Candidate>) -> Option<usize> {
    best_of_drawn(len, SAMPLE, draw, look)
}

#[cfg(test)]
mod tests {
    use super::super::Rank;
    use super::super::sampler::Sampler;
    use super::*;

    fn counts(in_flight: &[u32]) -> impl Fn(usize) -> Option<Candidate> {
        move |index| Some(Candidate { rank: Rank::BEST, in_flight: in_flight[index], weight: 1 })
    }

    #[test]
    fn equal_ones_are_taken_from_the_start_on() {
        assert_eq!(scan(4, 0, counts(&[0, 0, 0, 0])), Some(0));
        assert_eq!(scan(4, 3, counts(&[0, 0, 0, 0])), Some(3));
        assert_eq!(scan(4, 3, counts(&[1, 0, 0, 1])), Some(1));
        assert_eq!(scan(0, 0, counts(&[])), None);
    }

    #[test]
    fn a_large_pool_is_filled_evenly_by_draws() {
        let mut in_flight = vec![0_u32; 1_000];
        let sampler = Sampler::new(&vec![1; 1_000]);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let chosen = sample(1_000, || sampler.draw(&mut random), counts(&in_flight)).expect("all are candidates");
            in_flight[chosen] += 1;
        }
        let (least, most) = (in_flight.iter().min(), in_flight.iter().max());
        assert!(least >= Some(&95) && most <= Some(&102), "{least:?} to {most:?} around 100");
    }

    #[test]
    fn a_heavy_instance_in_a_large_pool_gets_its_share() {
        let mut weights = vec![1_u32; 100];
        weights[42] = 100;
        let mut in_flight = vec![0_u32; 100];
        let sampler = Sampler::new(&weights);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..19_900 {
            let look = |index: usize| {
                Some(Candidate { rank: Rank::BEST, in_flight: in_flight[index], weight: weights[index] })
            };
            let chosen = sample(100, || sampler.draw(&mut random), look).expect("all are candidates");
            in_flight[chosen] += 1;
        }
        assert!((9_500..=10_500).contains(&in_flight[42]), "{} of 10,000", in_flight[42]);
    }

    #[test]
    fn the_one_candidate_left_in_a_large_pool_is_found() {
        let sampler = Sampler::new(&vec![1; 10_000]);
        let mut random = fastrand::Rng::with_seed(7);
        let look = |index| (index == 9_999).then_some(Candidate { rank: Rank::BEST, in_flight: 3, weight: 1 });
        assert_eq!(sample(10_000, || sampler.draw(&mut random), look), Some(9_999));
    }
}
