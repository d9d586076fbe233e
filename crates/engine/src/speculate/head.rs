//! Drafts by the model's own multi-token-prediction head.
//!
//! For position t the head reads the trunk's hidden row of token t and the embedding of token
//! t + 1, and guesses token t + 2. It attends to its own keys and values of all positions before,
//! which lie in the sequence's pages, so it has to be fed every token, those of the prompt too:
//! one layer's work. To guess further it is fed its own row and guess instead; such positions are
//! written over when the true rows are known.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::{Engine, SequenceId};
use crate::error::EngineError;
use crate::held::{Feed, Guess};

/// The most rows that wait to be fed: while speculation is off, feeding many at once is cheap.
const MOST_WAITING: usize = 128;

/// How far the head has read one sequence.
#[derive(Debug, Default)]
struct Trail {
    /// Positions fed with the trunk's own rows.
    fed: usize,
    /// Hidden rows of the positions behind, `[positions, hidden]`.
    waiting: Vec<f32>,
}

/// The head's view of all sequences.
#[derive(Debug)]
pub(super) struct Head {
    hidden_size: usize,
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

impl Head {
    pub(super) fn new(hidden_size: usize) -> Self {
        Self {
            hidden_size,
            trails: HashMap::new(),
        }
    }

    /// Follows a sequence from its start, or from where it goes on: then the last token's hidden
    /// row is needed. Without it, what lies before is unknown to the head and it stays out.
    pub(super) fn begin(&mut self, sequence: SequenceId, past: usize, hidden: Option<&[f32]>) {
        let trail = match (past, hidden) {
            (0, _) => Trail::default(),
            (_, Some(row)) => Trail {
                fed: past - 1,
                waiting: row.to_vec(),
            },
            (_, None) => return,
        };
        self.trails.insert(sequence, trail);
    }

    pub(super) fn follows(&self, sequence: SequenceId) -> bool {
        self.trails.contains_key(&sequence)
    }

    pub(super) fn forget(&mut self, sequence: SequenceId) {
        self.trails.remove(&sequence);
    }

    pub(super) fn forget_all(&mut self) {
        self.trails.clear();
    }

    /// Takes the hidden rows of tokens that were run and stay. `tokens` are all of the sequence,
    /// at least those that were run.
    pub(super) fn ran(
        &mut self,
        engine: &mut Engine,
        sequence: SequenceId,
        tokens: &[u32],
        rows: &[f32],
    ) -> Result<(), EngineError> {
        if let Some(trail) = self.trails.get_mut(&sequence) {
            trail.waiting.extend_from_slice(rows);
            if trail.waiting.len() > MOST_WAITING * self.hidden_size {
                self.feed(engine, sequence, tokens)?;
            }
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
        let trail = self.trails.get(&sequence);
        Ok(trail.and_then(|trail| {
            trail
                .waiting
                .rchunks_exact(self.hidden_size)
                .next()
                .map(Arc::from)
        }))
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
            first,
            tokens: &tokens[first + 1..first + 1 + known],
            hidden,
            wants_guess: false,
        }])?;
        Ok(())
    }

    /// Drafts for several sequences at once, as many tokens as each asks for. `pass_done` is told
    /// after each pass over the head how many sequences and rows took part.
    pub(super) fn guess(
        &mut self,
        engine: &mut Engine,
        sequences: &[ToGuess<'_>],
        mut pass_done: impl FnMut(usize),
    ) -> Result<Vec<Vec<u32>>, EngineError> {
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
                        first: asked.tokens.len() - 2 + pass,
                        tokens: &guessed[index],
                        hidden,
                        wants_guess: true,
                    }),
                };
                feeds.extend(feed);
                whose.extend((feeds.len() > whose.len()).then_some(index));
            }
            if feeds.is_empty() {
                break;
            }
            let guesses = engine.draft(&feeds)?;
            pass_done(feeds.len());
            for (index, guess) in whose.into_iter().zip(guesses) {
                drafts[index].extend(guess.as_ref().map(|guess| guess.token));
                last[index] = guess;
            }
        }
        Ok(drafts)
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
            first,
            tokens: &asked.tokens[first + 1..],
            hidden: std::mem::take(&mut trail.waiting),
            wants_guess: true,
        })
    }
}
