//! Draws places in proportion to their weights, in constant time (the alias method; Vose, 1991).
//!
//! Drawing everybody alike would cap the share of a heavy instance in a large pool: it could not be chosen more often
//! than it is drawn.

/// Who is drawn how often.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampler {
    /// All weights are equal.
    Even(usize),
    /// Per place: the chance, out of 2³², to stay there, and where to go else.
    Weighted(Box<[(u32, u32)]>),
}

impl Sampler {
    /// For these weights.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Even(weights.len());
        }
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mean = sum as f64 / weights.len() as f64;
        let mut share: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) / mean).collect();
        let mut table: Box<[(u32, u32)]> = (0..weights.len()).map(|index| (u32::MAX, index as u32)).collect();
        let (mut poor, mut rich): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|index| share[*index] < 1.0);
        // Each poor place is filled up by one rich one, which may become poor itself.
        while let (Some(from), Some(to)) = (rich.last().copied(), poor.pop()) {
            table[to] = ((share[to] * f64::from(u32::MAX)) as u32, from as u32);
            share[from] -= 1.0 - share[to];
            if share[from] < 1.0 {
                rich.pop();
                poor.push(from);
            }
        }
        Self::Weighted(table)
    }

    /// Draws a place. Zero if there is none at all.
    #[inline]
    pub fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let len = match self {
            Self::Even(len) => *len,
            Self::Weighted(table) => table.len(),
        };
        let index = random.u32(0..(len as u32).max(1)) as usize;
        match self {
            Self::Even(_) => index,
            Self::Weighted(table) => {
                let (stay, other) = table[index];
                if random.u32(..) <= stay { index } else { other as usize }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_drawn_by_weight() {
        for weights in [vec![1, 1, 1], vec![1, 2, 3, 4], vec![1_000, 1, 1, 500], vec![5]] {
            let sampler = Sampler::new(&weights);
            let mut random = fastrand::Rng::with_seed(3);
            let mut drawn = vec![0_u32; weights.len()];
            for _ in 0..200_000 {
                drawn[sampler.draw(&mut random)] += 1;
            }
            let sum: u32 = weights.iter().sum();
            for (count, weight) in drawn.iter().zip(&weights) {
                let due = 200_000.0 * f64::from(*weight) / f64::from(sum);
                assert!((f64::from(*count) - due).abs() < 5.0 * due.sqrt() + 1.0, "{weights:?}: {count} for {due}");
            }
        }
    }
}
