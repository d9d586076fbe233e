//! What the rows of a model's logits are.

use text::{TokenKind, Tokenizer};

/// Which rows are tokens at all, and which of them end an answer. Made once per model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// Rows from here on are padding.
    rows: usize,
    /// Rows before that which are no token either, in order.
    unused: Vec<u32>,
    /// Tokens that end an answer, in order.
    ends: Vec<u32>,
}

impl TokenRules {
    /// The rules of a tokenizer's vocabulary.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let is_used = |&id: &u32| tokenizer.kind(id) != TokenKind::Unused;
        let all = 0..tokenizer.vocabulary_size() as u32;
        let rows = all.rev().find(is_used).map_or(0, |last| last as usize + 1);
        Self {
            rows,
            unused: (0..rows as u32).filter(|id| !is_used(id)).collect(),
            ends: tokenizer.stop_tokens().to_vec(),
        }
    }

    /// Every one of `rows` rows is a token, and none ends an answer.
    pub fn all(rows: usize) -> Self {
        Self {
            rows,
            unused: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The same with these tokens ending an answer too.
    #[must_use]
    pub fn ending_at(mut self, tokens: &[u32]) -> Self {
        self.ends.extend_from_slice(tokens);
        self.ends.sort_unstable();
        self.ends.dedup();
        self
    }

    /// One more than the last token.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether a row is a token.
    pub fn is_token(&self, row: u32) -> bool {
        (row as usize) < self.rows && self.unused.binary_search(&row).is_err()
    }

    /// Rows before [`Self::rows`] that are no tokens.
    pub fn unused(&self) -> &[u32] {
        &self.unused
    }

    /// The tokens that end an answer, in order.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Whether a token ends an answer.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.binary_search(&token).is_ok()
    }
}
