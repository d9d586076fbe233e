//! Follows whether the model is thinking, and for how long.

use std::sync::Arc;

use text::template::{THINK_CLOSE, THINK_OPEN};
use text::{SpecialTokens, ThinkingState, Tokenizer, TokenizerError};

/// The tokens around thinking, and those that end it early. Made once per model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThinkingTokens {
    open: u32,
    close: u32,
    /// Behind the closing tag, before the answer.
    lead_in: Vec<u32>,
    /// What the model says when its time is up; ends with `close` and `lead_in`.
    ending: Vec<u32>,
    /// Tokens that would leave the thinking without closing it.
    leave: Vec<u32>,
}

/// The family's words for thinking that has to end early, as its authors use them: the models are
/// known to go on well from these.
const EARLY_STOP: &str = "\n\nConsidering the limited time by the user, I have to give the solution \
                          based on the thinking directly now.\n";
/// What the templates put between thinking and answer.
const LEAD_IN: &str = "\n\n";

impl ThinkingTokens {
    /// The tokens of a vocabulary, with the family's own words for the early end. `None` if it has
    /// no tags for thinking.
    ///
    /// # Errors
    /// When the vocabulary cannot spell the words.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<Self>, TokenizerError> {
        Self::with_words(tokenizer, EARLY_STOP)
    }

    /// The same with other words before the closing tag.
    ///
    /// # Errors
    /// When the vocabulary cannot spell them.
    pub fn with_words(tokenizer: &Tokenizer, words: &str) -> Result<Option<Self>, TokenizerError> {
        let tags = (tokenizer.id_of(THINK_OPEN), tokenizer.id_of(THINK_CLOSE));
        let (Some(open), Some(close)) = tags else {
            return Ok(None);
        };
        let lead_in = tokenizer.encode(LEAD_IN, SpecialTokens::AsText)?;
        let mut ending = tokenizer.encode(words, SpecialTokens::AsText)?;
        ending.push(close);
        ending.extend_from_slice(&lead_in);
        let mut leave = tokenizer.stop_tokens().to_vec();
        leave.extend(tokenizer.id_of("<tool_call>"));
        Ok(Some(Self {
            open,
            close,
            lead_in,
            ending,
            leave,
        }))
    }

    /// Tokens of a vocabulary without a tokenizer.
    #[cfg(test)]
    pub(crate) fn of_ids(open: u32, close: u32, words: &[u32], lead_in: &[u32]) -> Self {
        Self {
            open,
            close,
            lead_in: lead_in.to_vec(),
            ending: [words, &[close], lead_in].concat(),
            leave: Vec::new(),
        }
    }

    /// Tokens that would leave the thinking without closing it: those that end the answer, and the
    /// start of a tool call.
    pub(super) fn leave(&self) -> &[u32] {
        &self.leave
    }
}

/// How long a model may think: tokens between the tags, over the whole answer.
pub type ThinkingBudget = Option<usize>;

/// Whether the model is thinking, and which tokens it has to say now.
#[derive(Debug, Clone)]
pub(super) struct Thinking {
    tokens: Arc<ThinkingTokens>,
    is_inside: bool,
    used: usize,
    budget: ThinkingBudget,
    /// Tokens to come, in order, and how many of them have come.
    forced: Vec<u32>,
    done: usize,
}

impl Thinking {
    pub(super) fn new(
        tokens: Arc<ThinkingTokens>,
        state: ThinkingState,
        budget: ThinkingBudget,
    ) -> Self {
        let mut thinking = Self {
            tokens,
            is_inside: state == ThinkingState::Inside,
            used: 0,
            budget,
            forced: Vec::new(),
            done: 0,
        };
        thinking.end_in_time();
        thinking
    }

    /// The tokens that have to come now, one after the other.
    pub(super) fn forced(&self) -> &[u32] {
        &self.forced[self.done..]
    }

    /// Whether what comes next belongs to the thinking, its end included.
    pub(super) fn is_inside(&self) -> bool {
        self.is_inside || !self.forced().is_empty()
    }

    /// Lets the next tokens be what stands before an answer.
    pub(super) fn force_lead_in(&mut self) {
        if self.forced().is_empty() {
            self.force(self.tokens.lead_in.clone());
        }
    }

    /// How many tokens of a draft can be taken before something may be forced.
    pub(super) fn certain_until(&self, draft: &[u32]) -> usize {
        let left = self
            .budget
            .map_or(usize::MAX, |budget| budget.saturating_sub(self.used));
        let closes = draft.iter().position(|&token| token == self.tokens.close);
        let until = closes.map_or(draft.len(), |at| at + 1);
        until.min(left)
    }

    pub(super) fn tokens(&self) -> &Arc<ThinkingTokens> {
        &self.tokens
    }

    /// Takes the answer's next token; `true` if it ended the thinking.
    pub(super) fn accept(&mut self, token: u32) -> bool {
        let is_forced = self.forced().first() == Some(&token);
        if is_forced {
            self.done += 1;
        } else {
            // Whoever says something else has decided otherwise.
            self.force(Vec::new());
        }
        let was_inside = self.is_inside;
        if token == self.tokens.close {
            self.is_inside = false;
        } else if token == self.tokens.open {
            self.is_inside = true;
        } else if self.is_inside && !is_forced {
            self.used += 1;
        }
        self.end_in_time();
        was_inside && !self.is_inside
    }

    fn end_in_time(&mut self) {
        let is_over = self.budget.is_some_and(|budget| self.used >= budget);
        if self.is_inside && is_over && self.forced().is_empty() {
            // Where there was no time at all, there is nothing to excuse.
            let ending = &self.tokens.ending;
            let words = ending.len() - self.tokens.lead_in.len() - 1;
            let skipped = if self.used == 0 { words } else { 0 };
            self.force(ending[skipped..].to_vec());
        }
    }

    fn force(&mut self, tokens: Vec<u32>) {
        self.forced = tokens;
        self.done = 0;
    }
}
