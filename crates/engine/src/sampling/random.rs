//! Random numbers that can be asked for by place.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The random numbers of one seed: a block for each token of the answer.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    generator: ChaCha8Rng,
}

/// The numbers that one token may use, each uniform in [0, 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Numbers {
    /// Chooses among the candidates.
    pub(super) draw: f64,
    /// Decides whether top choices are excluded.
    pub(super) xtc: f64,
}

impl Numbers {
    /// Where nothing is left to chance.
    pub(super) const UNUSED: Self = Self {
        draw: 0.0,
        xtc: 1.0,
    };
}

impl Stream {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            generator: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// The numbers of the answer's token at `index`. ChaCha is a function of key and counter, so
    /// no place depends on what was asked before.
    pub(super) fn at(&mut self, index: u64) -> Numbers {
        const WORDS_PER_BLOCK: u128 = 16;
        self.generator
            .set_word_pos(u128::from(index) * WORDS_PER_BLOCK);
        // 53 bits are what an f64 holds.
        let mut uniform = || (self.generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        Numbers {
            draw: uniform(),
            xtc: uniform(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_do_not_depend_on_the_way_to_them() {
        let mut forward = Stream::new(7);
        let numbers: Vec<Numbers> = (0..100).map(|index| forward.at(index)).collect();
        let mut backward = Stream::new(7);
        for index in (0..100).rev() {
            assert_eq!(backward.at(index), numbers[index as usize]);
        }
        assert_ne!(Stream::new(8).at(0), numbers[0]);
        let mut draws: Vec<u64> = numbers.iter().map(|n| n.draw.to_bits()).collect();
        draws.extend(numbers.iter().map(|n| n.xtc.to_bits()));
        draws.sort_unstable();
        draws.dedup();
        assert_eq!(draws.len(), 200, "no number comes twice");
    }
}
