//! Rows of a step whose tokens may turn out wrong, and the head that guesses them.

use tensor::{Batch, MostLikely, Tensor};

use crate::engine::{Engine, SequenceId};
use crate::error::EngineError;
use crate::runner::Wanted;
use crate::sampling::{argmax, most_likely};

/// What a sequence's state has not taken in yet: the rows of its last step, if some were drafts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Rows that wait beside the state.
    pub(crate) rows: usize,
    /// Of these, the first so many are known to stay. They count as tokens of the sequence.
    pub(crate) kept: usize,
}

/// Tokens for the multi-token-prediction head.
#[derive(Debug, Clone)]
pub struct Feed<'a> {
    /// Whose.
    pub sequence: SequenceId,
    /// The head attends to its keys and values from this position on: a page's first.
    pub window: usize,
    /// The position of the first hidden row.
    pub first: usize,
    /// For each position the token behind it.
    pub tokens: &'a [u32],
    /// For each position its hidden row: `[tokens, hidden]`.
    pub hidden: Vec<f32>,
    /// From which tokens a guess after the last one is wanted, if it is.
    pub guess: Option<DraftVocabulary>,
}

/// The tokens that a draft may be. Every token can be chosen, drafted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DraftVocabulary {
    /// [`Engine::frequent_tokens`]: less to read.
    Frequent,
    /// All.
    Whole,
}

/// What the head guesses.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    /// The likeliest token.
    pub token: u32,
    /// The head's own row `[hidden]`, to guess further.
    pub hidden: Vec<f32>,
}

impl Engine {
    /// Whether the model has a head that drafts.
    pub fn can_draft(&self) -> bool {
        self.runner.can_draft()
    }

    /// How many tokens, the first ones, can be drafted at less cost than all; `None` where that
    /// makes no difference.
    pub fn frequent_tokens(&self) -> Option<usize> {
        self.runner.frequent_tokens()
    }

    /// The most drafts that a step can verify for one sequence.
    pub fn most_drafts(&self) -> usize {
        self.held_rows.saturating_sub(1)
    }

    /// Keeps the next draft of a sequence's last step. `false` if there is none: there were no
    /// more, or the state was copied since, which lets go of them.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn accept(&mut self, id: SequenceId) -> Result<bool, EngineError> {
        let sequence = self.sequence_mut(id)?;
        let is_there = sequence.held.kept < sequence.held.rows;
        if is_there {
            sequence.held.kept += 1;
            sequence.past += 1;
        }
        Ok(is_there)
    }

    /// Makes a sequence's state that of its tokens, so that it can be copied. Drafts that were not
    /// accepted are gone.
    pub(crate) fn settle(&mut self, id: SequenceId) -> Result<(), EngineError> {
        let sequence = self.sequence_mut(id)?;
        let (state, held) = (sequence.state, std::mem::take(&mut sequence.held));
        if held.rows > 0 {
            self.runner.settle(state, held.kept)?;
        }
        Ok(())
    }

    /// Runs the multi-token-prediction head, which moves nothing on but its own keys and values.
    /// For each feed a guess, if it wants one: of all tokens, if one of them does.
    ///
    /// # Errors
    /// If a sequence is unknown, memory is short, the model has no such head, or the device fails.
    pub fn draft(&mut self, feeds: &[Feed<'_>]) -> Result<Vec<Option<Guess>>, EngineError> {
        let mut batch = Batch::default();
        let mut rows = Vec::new();
        let mut hidden = Vec::new();
        for feed in feeds {
            let past = self.tokens(feed.sequence)?;
            let end = feed.first + feed.tokens.len();
            self.reserve(feed.sequence, end.saturating_sub(past))?;
            let page_tokens = self.page_tokens();
            let sequence = self.sequence(feed.sequence)?;
            debug_assert!(feed.window.is_multiple_of(page_tokens));
            // What lies before the window does not exist for the head; positions stay.
            let pages = sequence.pages[feed.window / page_tokens..].to_vec();
            batch.push_text(feed.tokens, feed.first, pages, sequence.state);
            if let Some(span) = batch.spans.last_mut() {
                span.past -= feed.window;
            }
            hidden.extend_from_slice(&feed.hidden);
            rows.extend(feed.guess.map(|_| batch.rows() - 1));
        }
        let count = batch.rows();
        let hidden = Tensor::from_vec(count, hidden.len() / count.max(1), hidden);
        let wanted = Wanted {
            logits: &rows,
            likely: Some(MostLikely {
                count: 1,
                limit: usize::MAX,
            }),
            hidden: &rows,
        };
        let needs_all = |feed: &Feed<'_>| feed.guess == Some(DraftVocabulary::Whole);
        let vocabulary = if feeds.iter().any(needs_all) {
            DraftVocabulary::Whole
        } else {
            DraftVocabulary::Frequent
        };
        let outputs = self.runner.draft(&batch, hidden, wanted, vocabulary)?;
        let mut row = 0..rows.len();
        let guess = |feed: &Feed<'_>| {
            let at = feed.guess.and_then(|_| row.next())?;
            Some(Guess {
                token: match &outputs.likely {
                    Some(rows) => most_likely(&rows[at]),
                    None => argmax(outputs.logits.row(at)),
                },
                hidden: outputs.hidden.row(at).to_vec(),
            })
        };
        Ok(feeds.iter().map(guess).collect())
    }
}
