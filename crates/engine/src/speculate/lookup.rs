//! Prompt lookup: what followed the last time, will follow again.
//!
//! Answers repeat their prompts (names, code, quotations) and themselves. The last few tokens are
//! looked up in everything before them, and what stood behind them there is the draft. No model is
//! asked, so a draft costs nothing but its verification.

use std::collections::HashMap;

/// Shorter repetitions are mostly chance.
const SHORTEST_MATCH: usize = 3;
/// Matches are compared no further: they are all equally good from here on.
const LONGEST_MATCH: usize = 32;
/// The most earlier places that are compared, the latest first.
const MOST_PLACES: usize = 32;

/// The tokens of one sequence, by what stands where.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    tokens: Vec<u32>,
    /// For each run of [`SHORTEST_MATCH`] tokens where it last ended, plus one.
    last: HashMap<[u32; SHORTEST_MATCH], u32>,
    /// For each token, where the run that ends with it ended the time before, plus one; 0 for
    /// never.
    before: Vec<u32>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedUp {
    /// How many of the last tokens stood there as well, at most 32.
    pub matched: usize,
    /// What followed there.
    pub draft: Vec<u32>,
}

impl Lookup {
    /// Of no tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tokens it knows.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Makes it know exactly `tokens`. It is cheap if they begin with those that it knows.
    pub fn follow(&mut self, tokens: &[u32]) {
        // Going back happens after a fork; it is rare enough to begin again.
        if !tokens.starts_with(&self.tokens) {
            *self = Self::default();
        }
        for &token in &tokens[self.tokens.len()..] {
            self.push(token);
        }
    }

    fn push(&mut self, token: u32) {
        self.tokens.push(token);
        let run = self.tokens.last_chunk::<SHORTEST_MATCH>();
        let end = self.tokens.len() as u32;
        let before = run.and_then(|run| self.last.insert(*run, end));
        self.before.push(before.unwrap_or(0));
    }

    /// At most `most` tokens that followed where the last tokens stood before: of the latest
    /// places the one with the longest match, of several the latest. `None` if there is none.
    pub fn draft(&self, most: usize) -> Option<LookedUp> {
        let end = self.tokens.len();
        let mut best: Option<(usize, usize)> = None;
        let mut place = *self.before.last()? as usize;
        for _ in 0..MOST_PLACES {
            if place == 0 {
                break;
            }
            let matched = self.matched(place, end);
            if best.is_none_or(|(longest, _)| matched > longest) {
                best = Some((matched, place));
            }
            if matched == LONGEST_MATCH {
                break;
            }
            place = self.before[place - 1] as usize;
        }
        let (matched, place) = best?;
        // A place close to the end runs into the draft itself: the repetition goes on.
        let period = end - place;
        let draft: Vec<u32> = (0..most)
            .map(|index| self.tokens[place + index % period])
            .collect();
        (most > 0).then_some(LookedUp { matched, draft })
    }

    /// How many tokens before `a` and before `b` are the same.
    fn matched(&self, a: usize, b: usize) -> usize {
        let (a, b) = (self.tokens[..a].iter().rev(), self.tokens[..b].iter().rev());
        a.zip(b)
            .take(LONGEST_MATCH)
            .take_while(|(a, b)| a == b)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draft(tokens: &[u32], most: usize) -> Option<(usize, Vec<u32>)> {
        let mut lookup = Lookup::new();
        lookup.follow(tokens);
        let LookedUp { matched, draft } = lookup.draft(most)?;
        Some((matched, draft))
    }

    #[test]
    fn drafts_what_followed_the_longest_then_latest_match() {
        let check = |tokens: &[u32], expected: Option<(usize, Vec<u32>)>| {
            assert_eq!(draft(tokens, 3), expected, "{tokens:?}");
        };
        check(&[], None);
        check(&[1, 2, 3], None);
        check(&[1, 2, 3, 9, 8, 1, 2], None);
        check(&[1, 2, 3, 9, 8, 7, 1, 2, 3], Some((3, vec![9, 8, 7])));
        // The later of two, unless the earlier matches longer.
        check(
            &[5, 1, 2, 3, 9, 0, 1, 2, 3, 8, 0, 0, 6, 1, 2, 3],
            Some((3, vec![8, 0, 0])),
        );
        check(
            &[5, 1, 2, 3, 9, 0, 1, 2, 3, 8, 0, 0, 5, 1, 2, 3],
            Some((4, vec![9, 0, 1])),
        );
        // A repetition goes on beyond the end.
        check(&[4, 4, 4, 4], Some((3, vec![4, 4, 4])));
        check(&[1, 2, 1, 2, 1, 2], Some((4, vec![1, 2, 1])));
    }

    #[test]
    fn no_tokens_wanted_none_drafted() {
        assert_eq!(draft(&[4, 4, 4, 4, 4], 0), None);
    }

    proptest! {
        #[test]
        fn agrees_with_searching_everything(tokens in prop::collection::vec(0..3u32, 0..40)) {
            let end = tokens.len();
            let same = |place: usize| {
                (1..=place).take_while(|n| tokens[place - n] == tokens[end - n]).count()
            };
            // All places are among the latest 32 of their run only in short texts.
            let best = (SHORTEST_MATCH..end)
                .filter(|&place| same(place) >= SHORTEST_MATCH)
                .max_by_key(|&place| (same(place).min(LONGEST_MATCH), place));
            let found = draft(&tokens, 4);
            prop_assert_eq!(found.is_some(), best.is_some());
            if let (Some((matched, draft)), Some(place)) = (found, best) {
                prop_assert_eq!(matched, same(place).min(LONGEST_MATCH));
                prop_assert_eq!(draft[0], tokens[place]);
            }
        }

        #[test]
        fn following_step_by_step_is_the_same(
            tokens in prop::collection::vec(0..3u32, 0..40), cut in 0..40usize,
        ) {
            let mut lookup = Lookup::new();
            lookup.follow(&tokens[..cut.min(tokens.len())]);
            lookup.follow(&tokens);
            let all = lookup.draft(4).map(|found| (found.matched, found.draft));
            prop_assert_eq!(all, draft(&tokens, 4));
            prop_assert_eq!(lookup.len(), tokens.len());
        }
    }
}
