//! A set of tokens.

/// Which tokens may be chosen: one bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Token `t` is bit `t % 32` of word `t / 32`. Bits from `len` on are 0.
    words: Vec<u32>,
    len: usize,
}

impl Mask {
    /// No token of a vocabulary of `len`.
    pub fn none(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(32)],
            len,
        }
    }

    /// Takes bits as words, lowest token first; missing words allow nothing.
    pub fn from_words(mut words: Vec<u32>, len: usize) -> Self {
        words.resize(len.div_ceil(32), 0);
        if let Some(last) = words.last_mut()
            && !len.is_multiple_of(32)
        {
            *last &= (1 << (len % 32)) - 1;
        }
        Self { words, len }
    }

    /// Adds a token; one outside the vocabulary is ignored.
    pub fn allow(&mut self, token: u32) {
        if (token as usize) < self.len {
            self.words[token as usize / 32] |= 1 << (token % 32);
        }
    }

    /// Removes a token.
    pub fn forbid(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word &= !(1 << (token % 32));
        }
    }

    /// Whether a token may be chosen.
    pub fn allows(&self, token: u32) -> bool {
        self.words
            .get(token as usize / 32)
            .is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// How many tokens may be chosen.
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// The tokens that may be chosen, in order.
    pub fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().zip(0u32..).flat_map(|(&word, index)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(index * 32 + bit)
            })
        })
    }

    /// Makes all other tokens impossible. Logits beyond the mask are not allowed either.
    pub(super) fn apply(&self, logits: &mut [f32]) {
        let covered = self.len.min(logits.len());
        let (inside, outside) = logits.split_at_mut(covered);
        outside.fill(f32::NEG_INFINITY);
        for (logits, &word) in inside.chunks_mut(32).zip(&self.words) {
            match word {
                0 => logits.fill(f32::NEG_INFINITY),
                u32::MAX => {}
                _ => {
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_tokens(len in 1usize..200, chosen in prop::collection::btree_set(0u32..220, 0..40)) {
            let mut mask = Mask::none(len);
            chosen.iter().for_each(|&token| mask.allow(token));
            let inside: Vec<u32> = chosen.into_iter().filter(|&t| (t as usize) < len).collect();
            prop_assert_eq!(mask.tokens().collect::<Vec<_>>(), inside.clone());
            prop_assert_eq!(mask.count(), inside.len());
            prop_assert_eq!(&Mask::from_words(mask.words.clone(), len), &mask);

            let mut logits = vec![1.0f32; len + 7];
            mask.apply(&mut logits);
            for (token, logit) in (0u32..).zip(logits) {
                prop_assert_eq!(logit == 1.0, mask.allows(token));
                prop_assert_eq!(logit == 1.0, inside.contains(&token));
            }
        }
    }

    #[test]
    fn stray_bits_are_dropped() {
        let mask = Mask::from_words(vec![u32::MAX], 3);
        assert_eq!(mask.tokens().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(Mask::from_words(vec![], 40).count(), 0);
    }
}
