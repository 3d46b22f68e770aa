//! Smooth weighted round robin: turns by weight, those of a heavy instance spread out instead of in a row.
//!
//! The order of turns is worked out once per snapshot ([`slots`]) and walked by a cursor per worker, so that a pick
//! costs no more in a pool of 10,000 than in one of four. Slots of instances that are out are stepped over, and the
//! cursor goes on behind the slot that was taken: the others keep their shares among each other exactly.

use super::{Candidate, Rank};

/// Longest order of turns. Beyond it (say 10,000 instances with weights in the hundreds) weights are scaled down.
const SLOTS_MAX: u64 = 65_536;

/// The order of turns for these weights, as places in the list. Slot `k` of an instance of weight `w` lies at
/// `(k + ½) / w` of the round.
#[must_use]
pub fn slots(weights: &[u32]) -> Box<[u32]> {
    let weights = scaled(weights);
    let mut turns: Vec<(u64, u64, u32)> = Vec::new();
    for (index, weight) in weights.iter().enumerate() {
        turns.extend((0..*weight).map(|turn| (2 * turn + 1, *weight, index as u32)));
    }
    // a/b < c/d as a·d < c·b; equal places go by the order of the file, so the sort has one result.
    turns.sort_by(|(place, weight, index), (other_place, other_weight, other_index)| {
        (place * other_weight).cmp(&(other_place * weight)).then(index.cmp(other_index))
    });
    turns.into_iter().map(|(_, _, index)| index).collect()
}

/// The same shares in the smallest numbers, at most [`SLOTS_MAX`] together, each at least 1.
fn scaled(weights: &[u32]) -> Vec<u64> {
    let divisor = u64::from(weights.iter().copied().fold(0, greatest_common_divisor).max(1));
    let weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) / divisor).collect();
    let sum: u64 = weights.iter().sum();
    if sum <= SLOTS_MAX {
        return weights;
    }
    weights.into_iter().map(|weight| (weight * SLOTS_MAX / sum).max(1)).collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The slot whose turn it is, from `start` on: the first of the best rank.
#[inline]
pub fn next(slots: &[u32], start: usize, look: impl Fn(usize) -> Option<Candidate>) -> Option<usize> {
    let mut best: Option<(usize, Rank)> = None;
    for slot in (start..slots.len()).chain(0..start) {
        let Some(candidate) = look(slots[slot] as usize) else { continue };
        if candidate.rank == Rank::BEST {
            return Some(slot);
        }
        if best.is_none_or(|(_, rank)| candidate.rank < rank) {
            best = Some((slot, candidate.rank));
        }
    }
    best.map(|(slot, _)| slot)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heavy_instances_have_their_turns_spread_out() {
        assert_eq!(*slots(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(*slots(&[7, 7]), [0, 1]);
        assert_eq!(*slots(&[5, 1, 1]), [0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(*slots(&[4, 2]), [0, 1, 0]);
        assert!(slots(&[]).is_empty());
    }

    #[test]
    fn an_instance_that_is_out_leaves_the_others_their_shares() {
        let slots = slots(&[2, 1, 1]);
        let look = |index| (index != 1).then_some(Candidate { rank: Rank::BEST, in_flight: 0, weight: 1 });
        let (mut start, mut counts) = (0, [0; 3]);
        for _ in 0..300 {
            let slot = next(&slots, start, look).expect("two are candidates");
            counts[slots[slot] as usize] += 1;
            start = (slot + 1) % slots.len();
        }
        assert_eq!(counts, [200, 0, 100]);
    }

    #[test]
    fn the_order_stays_bounded_and_names_everybody() {
        let weights: Vec<u32> = (1..=1_000).collect();
        let slots = slots(&weights);
        assert!(slots.len() as u64 <= SLOTS_MAX + weights.len() as u64);
        let named: std::collections::HashSet<&u32> = slots.iter().collect();
        assert_eq!(named.len(), weights.len());
    }

    proptest! {
        #[test]
        fn every_instance_has_its_share_of_turns_and_no_prefix_is_far_from_it(
            weights in prop::collection::vec(1_u32..20, 1..12)
        ) {
            let slots = slots(&weights);
            let sum: u32 = weights.iter().sum();
            let mut counts = vec![0_u32; weights.len()];
            for (done, index) in slots.iter().enumerate() {
                counts[*index as usize] += 1;
                for (count, weight) in counts.iter().zip(&weights) {
                    let due = f64::from(*weight) * (done + 1) as f64 / f64::from(sum);
                    prop_assert!((f64::from(*count) - due).abs() <= 1.0 + weights.len() as f64 / 2.0);
                }
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert_eq!(count * sum, weight * slots.len() as u32);
            }
        }
    }
}
