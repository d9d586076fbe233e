//! Made-up prompts: the same ones in every run, and different ones in every repetition.
//!
//! Models of experts are slower on varied tokens than on one token again and again, whose experts
//! stay in the caches. `bench/compare` makes the same tokens for other engines.

/// A stream of token ids.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    state: u64,
    vocabulary: u64,
}

impl Tokens {
    /// Ids below `vocabulary`; another stream for another number.
    pub(super) fn new(stream: u64, vocabulary: usize) -> Self {
        Self {
            state: stream << 32,
            vocabulary: vocabulary.max(1) as u64,
        }
    }

    pub(super) fn take(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.next()).collect()
    }

    /// The next id, by SplitMix64.
    pub(super) fn next(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.state;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((word ^ word >> 31) % self.vocabulary) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let take = |stream| Tokens::new(stream, 2048).take(50);
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        assert!(take(3).iter().all(|&token| token < 2048));
        // The generator's published first value for seed 0.
        assert_eq!(
            Tokens::new(0, usize::MAX).next(),
            0xE220_A839_7B1D_CDAFu64 as u32
        );
    }
}
