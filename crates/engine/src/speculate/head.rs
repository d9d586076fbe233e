//! Drafts by the model's own multi-token-prediction head.
//!
//! For position t the head reads the trunk's hidden row of token t and the embedding of token
//! t + 1, and guesses token t + 2. It attends to its own keys and values of positions before, which
//! lie in the sequence's pages. It need not know them all: it reads a sequence from the first token
//! of some page on, its window, and attends to nothing before that. So a long prompt costs it as
//! little as a short one, and it can be left out for as long as its drafts do not pay. To guess
//! further it is fed its own row and guess instead; such positions are written over when the true
//! rows are known.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::engine::{Engine, SequenceId};
use crate::error::EngineError;
use crate::held::{DraftVocabulary, Feed, Guess};

/// The tokens of a prompt that the head reads, the last ones; rounded up to a page.
const WINDOW: usize = 128;
/// With fewer tokens in its window it is not asked, unless the sequence has no more.
const SHORTEST: usize = 16;
/// What was seen of a sequence's latest tokens decides which tokens its drafts may be.
const LOOKED_AT: usize = 256;
/// The share of these that has to be among the frequent ones.
const FREQUENT_ENOUGH: f64 = 0.9;

/// How far the head has read one sequence.
#[derive(Debug)]
struct Trail {
    /// Its window: positions from here on.
    first: usize,
    /// Positions before this one were fed with the trunk's own rows.
    fed: usize,
    /// Hidden rows of the positions behind, `[positions, hidden]`.
    waiting: Vec<f32>,
}

/// The head's view of all sequences.
#[derive(Debug)]
pub(super) struct Head {
    hidden_size: usize,
    page_tokens: usize,
    /// The tokens that drafts may be; by the sequences' own tokens if it is not said.
    vocabulary: Option<DraftVocabulary>,
    trails: HashMap<SequenceId, Trail>,
}

/// A sequence to be drafted for.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToGuess<'a> {
    pub(super) sequence: SequenceId,
    /// The last one is not run yet.
    pub(super) tokens: &'a [u32],
    pub(super) depth: usize,
}

/// What [`Head::guess`] does, for whoever measures it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// It has read what waited.
    CaughtUp,
    /// It has guessed a token for so many sequences.
    Guessed(usize),
}

impl Head {
    pub(super) fn new(hidden_size: usize, page_tokens: usize) -> Self {
        Self {
            hidden_size,
            page_tokens: page_tokens.max(1),
            vocabulary: None,
            trails: HashMap::new(),
        }
    }

    /// Chooses drafts from these tokens, whatever sequences say.
    pub(super) fn prescribe(&mut self, vocabulary: DraftVocabulary) {
        self.vocabulary = Some(vocabulary);
    }

    /// Follows a sequence of `past` tokens of which `known` are known, those before included.
    /// `hidden` is the last token's row from [`Self::settle`], if there was one.
    pub(super) fn begin(
        &mut self,
        sequence: SequenceId,
        past: usize,
        known: usize,
        hidden: Option<&[f32]>,
    ) {
        let window = self.page_of(known.saturating_sub(WINDOW));
        let trail = match hidden {
            // The tokens before have been read, as far as anyone relies on that.
            Some(row) if past > 0 && window < past && row.len() == self.hidden_size => Trail {
                first: self.reach(past),
                fed: past - 1,
                waiting: row.to_vec(),
            },
            _ => {
                let first = window.max(past.next_multiple_of(self.page_tokens));
                Trail {
                    first,
                    fed: first,
                    waiting: Vec::new(),
                }
            }
        };
        self.trails.insert(sequence, trail);
    }

    /// The first position that the head must have read for a hidden row to be handed on behind
    /// `past` tokens.
    fn reach(&self, past: usize) -> usize {
        self.page_of((past - 1).saturating_sub(WINDOW / 2))
    }

    /// The first position of a position's page.
    fn page_of(&self, position: usize) -> usize {
        position / self.page_tokens * self.page_tokens
    }

    pub(super) fn follows(&self, sequence: SequenceId) -> bool {
        self.trails.contains_key(&sequence)
    }

    /// Whether it can guess for a sequence of which so many tokens were run.
    pub(super) fn is_ready(&self, sequence: SequenceId, past: usize) -> bool {
        self.trails
            .get(&sequence)
            .is_some_and(|trail| past >= (trail.first + SHORTEST).min(trail.first.max(1)))
    }

    /// Whether it wants hidden rows of these positions.
    pub(super) fn wants(&self, sequence: SequenceId, positions: &Range<usize>) -> bool {
        let trail = self.trails.get(&sequence);
        trail.is_some_and(|trail| positions.end > trail.first)
    }

    pub(super) fn forget(&mut self, sequence: SequenceId) {
        self.trails.remove(&sequence);
    }

    /// Takes the hidden rows of the last tokens that were run and stay.
    pub(super) fn ran(
        &mut self,
        engine: &Engine,
        sequence: SequenceId,
        rows: &[f32],
    ) -> Result<(), EngineError> {
        if let Some(trail) = self.trails.get_mut(&sequence) {
            let first = engine.tokens(sequence)? - rows.len() / self.hidden_size;
            let before = trail.first.saturating_sub(first) * self.hidden_size;
            trail
                .waiting
                .extend_from_slice(rows.get(before..).unwrap_or_default());
        }
        Ok(())
    }

    /// Brings the head up to the last token that was run, and returns that one's hidden row: with
    /// it, who copies the sequence's pages now can go on drafting.
    pub(super) fn settle(
        &mut self,
        engine: &mut Engine,
        sequence: SequenceId,
        tokens: &[u32],
    ) -> Result<Option<Arc<[f32]>>, EngineError> {
        let past = engine.tokens(sequence)?;
        self.feed(engine, sequence, &tokens[..past])?;
        // The last token's place in the pages is filled when the next one is known, which may be
        // another one for each copy. So it must not lie in a page that they share.
        let is_shared = past.is_multiple_of(self.page_tokens);
        let trail = self.trails.get(&sequence);
        let Some(trail) = trail.filter(|trail| !is_shared && trail.first <= self.reach(past))
        else {
            return Ok(None);
        };
        let mut rows = trail.waiting.rchunks_exact(self.hidden_size);
        Ok(rows.next().map(Arc::from))
    }

    /// Feeds the rows that wait, as far as the tokens behind them are known.
    fn feed(
        &mut self,
        engine: &mut Engine,
        sequence: SequenceId,
        tokens: &[u32],
    ) -> Result<(), EngineError> {
        let Some(trail) = self.trails.get_mut(&sequence) else {
            return Ok(());
        };
        let waiting = trail.waiting.len() / self.hidden_size;
        let known = tokens.len().saturating_sub(trail.fed + 1).min(waiting);
        if known == 0 {
            return Ok(());
        }
        let rest = trail.waiting.split_off(known * self.hidden_size);
        let hidden = std::mem::replace(&mut trail.waiting, rest);
        let first = trail.fed;
        trail.fed += known;
        engine.draft(&[Feed {
            sequence,
            window: trail.first,
            first,
            tokens: &tokens[first + 1..first + 1 + known],
            hidden,
            guess: None,
        }])?;
        Ok(())
    }

    /// Drafts for several sequences at once, as many tokens as each asks for. `done` is told after
    /// each pass over the head.
    pub(super) fn guess(
        &mut self,
        engine: &mut Engine,
        sequences: &[ToGuess<'_>],
        mut done: impl FnMut(Done),
    ) -> Result<Vec<Vec<u32>>, EngineError> {
        for asked in sequences {
            // What is left is what every step leaves.
            if self.waiting(asked.sequence) > crate::speculate::MOST_DRAFTS + 1 {
                let run = asked.tokens.len() - 1;
                self.feed(engine, asked.sequence, &asked.tokens[..run])?;
                done(Done::CaughtUp);
            }
        }
        let vocabulary = self
            .vocabulary
            .unwrap_or_else(|| vocabulary_for(engine, sequences));
        let mut drafts = vec![Vec::new(); sequences.len()];
        let mut last: Vec<Option<Guess>> = vec![None; sequences.len()];
        let passes = sequences.iter().map(|asked| asked.depth).max();
        for pass in 0..passes.unwrap_or(0) {
            let mut feeds = Vec::new();
            let mut whose = Vec::new();
            let guessed: Vec<[u32; 1]> = last
                .iter()
                .map(|guess| [guess.as_ref().map_or(0, |guess| guess.token)])
                .collect();
            for (index, asked) in sequences.iter().enumerate() {
                if asked.depth <= pass {
                    continue;
                }
                let feed = match last[index].take() {
                    None if pass == 0 => self.first_feed(asked),
                    None => None,
                    Some(Guess { hidden, .. }) => Some(Feed {
                        sequence: asked.sequence,
                        window: self.trails[&asked.sequence].first,
                        first: asked.tokens.len() - 2 + pass,
                        tokens: &guessed[index],
                        hidden,
                        guess: None,
                    }),
                };
                feeds.extend(feed.map(|feed| Feed {
                    guess: Some(vocabulary),
                    ..feed
                }));
                whose.extend((feeds.len() > whose.len()).then_some(index));
            }
            if feeds.is_empty() {
                break;
            }
            let guesses = engine.draft(&feeds)?;
            done(Done::Guessed(feeds.len()));
            for (index, guess) in whose.into_iter().zip(guesses) {
                drafts[index].extend(guess.as_ref().map(|guess| guess.token));
                last[index] = guess;
            }
        }
        Ok(drafts)
    }

    fn waiting(&self, sequence: SequenceId) -> usize {
        let trail = self.trails.get(&sequence);
        trail.map_or(0, |trail| trail.waiting.len() / self.hidden_size)
    }

    /// All that waits, up to the token that was chosen last.
    fn first_feed<'a>(&mut self, asked: &ToGuess<'a>) -> Option<Feed<'a>> {
        let trail = self.trails.get_mut(&asked.sequence)?;
        let past = asked.tokens.len().checked_sub(1)?;
        let waiting = trail.waiting.len() / self.hidden_size;
        if waiting == 0 || trail.fed + waiting != past {
            // Something was run that the head was not told of. It can never catch up.
            self.trails.remove(&asked.sequence);
            return None;
        }
        let first = std::mem::replace(&mut trail.fed, past);
        Some(Feed {
            sequence: asked.sequence,
            window: trail.first,
            first,
            tokens: &asked.tokens[first + 1..],
            hidden: std::mem::take(&mut trail.waiting),
            guess: None,
        })
    }
}

/// Which tokens to choose drafts from: the frequent ones, if these sequences say hardly any
/// others.
fn vocabulary_for(engine: &Engine, sequences: &[ToGuess<'_>]) -> DraftVocabulary {
    let Some(frequent) = engine.frequent_tokens() else {
        return DraftVocabulary::Whole;
    };
    let is_enough = |asked: &ToGuess<'_>| {
        let latest = &asked.tokens[asked.tokens.len().saturating_sub(LOOKED_AT)..];
        let are = latest.iter().filter(|&&token| (token as usize) < frequent);
        are.count() as f64 >= FREQUENT_ENOUGH * latest.len() as f64
    };
    if sequences.iter().all(is_enough) {
        DraftVocabulary::Frequent
    } else {
        DraftVocabulary::Whole
    }
}
