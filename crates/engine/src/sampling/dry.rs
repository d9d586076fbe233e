//! "Don't repeat yourself": penalises the token that would make a repeated sequence longer.
//!
//! For every earlier place where the latest token stood, the number of tokens before it that are
//! the same as before the latest one is kept, and grows or falls away with each new token. So a
//! token costs as much as it has earlier places, not a search of the whole text.

use std::collections::{HashMap, HashSet};

use text::{SpecialTokens, Tokenizer};

use super::candidates::Candidates;
use super::settings::Dry;

/// What ends a repetition: lists, code and prose repeat line ends and quotes rightly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DryBreakers {
    /// Tokens that break on their own.
    single: HashSet<u32>,
    /// Sequences of two tokens and more.
    sequences: Vec<Vec<u32>>,
}

/// The breakers that most engines use.
const USUAL_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

impl DryBreakers {
    /// Takes breakers as token sequences; empty ones are left out.
    pub fn new(breakers: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let mut these = Self::default();
        for breaker in breakers {
            match breaker.as_slice() {
                [] => {}
                [token] => drop(these.single.insert(*token)),
                _ => these.sequences.push(breaker),
            }
        }
        these
    }

    /// Breakers given as text: every token that holds one breaks, and so does its own sequence of
    /// tokens. Looks through the whole vocabulary, some milliseconds.
    pub fn of_texts(tokenizer: &Tokenizer, texts: &[String]) -> Self {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Self::of_text_slices(tokenizer, &texts)
    }

    /// The usual breakers: line ends, colons, quotation marks and asterisks.
    pub fn usual(tokenizer: &Tokenizer) -> Self {
        Self::of_text_slices(tokenizer, &USUAL_BREAKERS)
    }

    fn of_text_slices(tokenizer: &Tokenizer, texts: &[&str]) -> Self {
        let texts: Vec<&str> = texts.iter().copied().filter(|t| !t.is_empty()).collect();
        let mut these = Self::new(
            texts
                .iter()
                .filter_map(|text| tokenizer.encode(text, SpecialTokens::AsText).ok()),
        );
        let holds = |bytes: &[u8], text: &str| {
            let text = text.as_bytes();
            bytes.windows(text.len()).any(|window| window == text)
        };
        let vocabulary = 0..tokenizer.vocabulary_size() as u32;
        these.single.extend(vocabulary.filter(|&id| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            texts.iter().any(|text| holds(bytes, text))
        }));
        these
    }

    /// Whether a breaker ends where `tokens` end.
    fn breaks(&self, tokens: &[u32]) -> bool {
        tokens
            .last()
            .is_some_and(|token| self.single.contains(token))
            || self
                .sequences
                .iter()
                .any(|breaker| tokens.ends_with(breaker))
    }
}

/// Longer repetitions cost no more.
const LONGEST: u32 = 256;
/// Earlier places of one token that are looked at, the latest ones.
const PLACES: usize = 4096;
/// Penalties end here, so that logits stay numbers.
const MOST: f32 = 1e9;

/// The text so far, as far as repetitions need it.
#[derive(Debug, Clone)]
pub(super) struct Repetitions {
    settings: Dry,
    tokens: Vec<u32>,
    /// Where each token stood, in order.
    places: HashMap<u32, Vec<u32>>,
    /// Earlier places of the latest token with the length of the repetition that ends there; in
    /// order. `None` while nobody has asked: prompts need not be followed token by token.
    matches: Option<Vec<Match>>,
    /// Tokens since the last breaker.
    unbroken: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Match {
    place: u32,
    length: u32,
}

impl Repetitions {
    pub(super) fn new(settings: &Dry) -> Self {
        Self {
            settings: settings.clone(),
            tokens: Vec::new(),
            places: HashMap::new(),
            matches: None,
            unbroken: 0,
        }
    }

    fn is_idle(&self) -> bool {
        self.settings.multiplier <= 0.0 || self.settings.window == Some(0)
    }

    /// Goes on by a token.
    pub(super) fn see(&mut self, token: u32) {
        if self.is_idle() {
            return;
        }
        if let Some(old) = self.matches.take_if(|_| !self.tokens.is_empty()) {
            self.matches = Some(self.longer(&old, token));
        }
        let place = self.tokens.len() as u32;
        self.tokens.push(token);
        self.places.entry(token).or_default().push(place);
        if self.settings.breakers.breaks(&self.tokens) {
            self.unbroken = 0;
        } else {
            self.unbroken += 1;
        }
    }

    /// The matches when `token` follows.
    fn longer(&self, old: &[Match], token: u32) -> Vec<Match> {
        let mut old = old.iter().peekable();
        self.recent_places(token)
            .iter()
            .map(|&place| {
                while old.next_if(|m| m.place + 1 < place).is_some() {}
                let before = old.next_if(|m| m.place + 1 == place);
                Match {
                    place,
                    length: before.map_or(1, |m| (m.length + 1).min(LONGEST)),
                }
            })
            .collect()
    }

    /// The latest places of a token, in order.
    fn recent_places(&self, token: u32) -> &[u32] {
        let all = self.places.get(&token).map_or(&[][..], Vec::as_slice);
        &all[all.len().saturating_sub(PLACES)..]
    }

    /// The matches, found by comparing.
    fn find_matches(&self) -> Vec<Match> {
        let Some((&latest, before)) = self.tokens.split_last() else {
            return Vec::new();
        };
        let places = self.recent_places(latest);
        // The last place is the token itself.
        places[..places.len().saturating_sub(1)]
            .iter()
            .map(|&place| {
                let pairs = before
                    .iter()
                    .rev()
                    .zip(before[..place as usize].iter().rev());
                let same = pairs.take(LONGEST as usize - 1).take_while(|(a, b)| a == b);
                Match {
                    place,
                    length: same.count() as u32 + 1,
                }
            })
            .collect()
    }

    /// The tokens that would go on with a repetition, in order, with their penalties.
    fn penalties(&mut self) -> Vec<(u32, f32)> {
        let matches = match self.matches.take() {
            Some(matches) => matches,
            None => self.find_matches(),
        };
        let start = self
            .settings
            .window
            .map_or(0, |window| self.tokens.len().saturating_sub(window) as u32);
        let allowed = self.settings.allowed_length.max(1) as u32;
        let mut lengths: Vec<(u32, u32)> = matches
            .iter()
            .filter(|m| m.place >= start)
            .filter_map(|m| {
                let length = m.length.min(self.unbroken).min(m.place - start + 1);
                let next = *self.tokens.get(m.place as usize + 1)?;
                let counts = length >= allowed && !self.settings.breakers.single.contains(&next);
                counts.then_some((next, length))
            })
            .collect();
        self.matches = Some(matches);
        // The longest of each token.
        lengths.sort_unstable_by_key(|&(token, length)| (token, u32::MAX - length));
        lengths.dedup_by_key(|(token, _)| *token);
        let penalty = |length: u32| {
            let growth = self.settings.base.powi((length - allowed) as i32);
            (self.settings.multiplier * growth).min(MOST)
        };
        lengths
            .into_iter()
            .map(|(token, length)| (token, penalty(length)))
            .collect()
    }

    pub(super) fn apply(&mut self, candidates: &mut Candidates<'_>) {
        if self.is_idle() {
            return;
        }
        let penalties = self.penalties();
        if penalties.is_empty() {
            return;
        }
        candidates.adjust(
            penalties.iter().map(|&(token, _)| token),
            |token, logit| match penalties.binary_search_by_key(&token, |&(token, _)| token) {
                Ok(at) => logit - penalties[at].1,
                Err(_) => logit,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn settings(breakers: DryBreakers, window: Option<usize>) -> Dry {
        Dry {
            multiplier: 0.5,
            base: 2.0,
            allowed_length: 2,
            window,
            breakers: Arc::new(breakers),
        }
    }

    /// The definition: for each earlier place, compare backwards.
    fn by_definition(dry: &Dry, tokens: &[u32]) -> Vec<(u32, f32)> {
        let start = dry.window.map_or(0, |w| tokens.len().saturating_sub(w));
        let seen = &tokens[start..];
        let unbroken = (0..tokens.len())
            .find(|back| dry.breakers.breaks(&tokens[..tokens.len() - back]))
            .unwrap_or(tokens.len());
        let mut best: HashMap<u32, usize> = HashMap::new();
        for end in 1..seen.len() {
            let same = (0..end)
                .take_while(|back| seen[end - 1 - back] == seen[seen.len() - 1 - back])
                .count();
            let length = same.min(unbroken);
            if length >= dry.allowed_length && !dry.breakers.single.contains(&seen[end]) {
                let longest = best.entry(seen[end]).or_default();
                *longest = length.max(*longest);
            }
        }
        let mut penalties: Vec<(u32, f32)> = best
            .into_iter()
            .map(|(token, length)| {
                let growth = dry.base.powi((length - dry.allowed_length) as i32);
                (token, dry.multiplier * growth)
            })
            .collect();
        penalties.sort_unstable_by_key(|&(token, _)| token);
        penalties
    }

    proptest! {
        #[test]
        fn following_token_by_token_is_as_good_as_searching(
            tokens in prop::collection::vec(0u32..4, 0..60),
            prompt in 0usize..60,
            window in prop::option::of(1usize..40),
        ) {
            let breakers = DryBreakers::new([vec![3], vec![0, 2], vec![]]);
            let dry = settings(breakers, window);
            let mut repetitions = Repetitions::new(&dry);
            for (index, &token) in tokens.iter().enumerate() {
                repetitions.see(token);
                if index + 1 >= prompt {
                    let want = by_definition(&dry, &tokens[..=index]);
                    prop_assert_eq!(repetitions.penalties(), want);
                }
            }
        }
    }

    #[test]
    fn a_hostile_text_stays_cheap_and_finite() {
        let mut repetitions = Repetitions::new(&settings(DryBreakers::default(), None));
        for _ in 0..20_000 {
            repetitions.see(1);
        }
        assert_eq!(repetitions.penalties(), [(1, MOST)]);
    }
}
