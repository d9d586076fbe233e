//! One answer's place in a grammar. Wraps the library's parser, so that its panics and its ways
//! to stop become our errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use llguidance::TokenParser;
use llguidance::api::StopReason;

use super::ConstraintError;
use crate::sampling::Mask;

/// A place in a grammar.
pub(super) struct Automaton {
    parser: TokenParser,
    /// Tokens of the vocabulary.
    vocabulary: usize,
    /// Tokens behind the grammar's end, which end the answer.
    behind: usize,
}

impl Automaton {
    /// The beginning of a grammar.
    pub(super) fn new(mut parser: TokenParser, vocabulary: usize) -> Self {
        if parser.is_fresh() {
            parser.start_without_prompt();
        }
        Self {
            parser,
            vocabulary,
            behind: 0,
        }
    }

    /// A copy that shares nothing.
    pub(super) fn fork(&self) -> Self {
        Self {
            parser: self.parser.deep_clone(),
            ..*self
        }
    }

    /// Whether nothing but the end may follow.
    pub(super) fn is_complete(&self) -> bool {
        self.parser.stopped()
    }

    /// The tokens that may follow; behind the end of the grammar those that end the answer.
    pub(super) fn mask(&mut self) -> Result<Mask, ConstraintError> {
        let vocabulary = self.vocabulary;
        self.guarded(|parser| {
            let bits = if parser.stopped() {
                parser.token_env.tok_trie().eos_token_set()
            } else {
                parser.compute_mask().map_err(|error| error.to_string())?
            };
            Ok(Mask::from_words(bits.as_slice().to_vec(), vocabulary))
        })
    }

    /// Goes on by a token.
    pub(super) fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if self.is_complete() {
            let trie = self.parser.token_env.tok_trie();
            if !trie.eos_tokens().contains(&token) {
                return Err(ConstraintError::Violated { token });
            }
            self.behind += 1;
            return Ok(());
        }
        let is_allowed = self.guarded(|parser| {
            let ends = parser.token_env.tok_trie().eos_tokens();
            let is_allowed = if ends.contains(&token) {
                parser.is_accepting()
            } else {
                let is_valid = parser.validate_token(token);
                is_valid.map_err(|error| error.to_string())?
            };
            if is_allowed {
                let done = parser.consume_token(token);
                done.and_then(|_| parser.check_stop())
                    .map_err(|error| error.to_string())?;
            }
            Ok(is_allowed)
        })?;
        if is_allowed {
            Ok(())
        } else {
            Err(ConstraintError::Violated { token })
        }
    }

    /// Goes back by some tokens.
    pub(super) fn go_back(&mut self, count: usize) -> Result<(), ConstraintError> {
        let behind = count.min(self.behind);
        self.behind -= behind;
        self.guarded(|parser| {
            let back = parser.rollback(count - behind);
            back.map_err(|error| error.to_string())
        })
    }

    /// How many of these tokens the grammar allows, one after the other.
    pub(super) fn allowed(&mut self, tokens: &[u32]) -> Result<usize, ConstraintError> {
        self.guarded(|parser| {
            let count = parser.validate_tokens_raw(tokens);
            count.map_err(|error| error.to_string())
        })
    }

    /// The tokens that have to follow, as far as that is certain.
    pub(super) fn certain(&mut self) -> Result<Vec<u32>, ConstraintError> {
        self.guarded(|parser| {
            Ok(if parser.stopped() {
                Vec::new()
            } else {
                parser.compute_ff_tokens()
            })
        })
    }

    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut TokenParser) -> Result<T, String>,
    ) -> Result<T, ConstraintError> {
        let parser = &mut self.parser;
        match catch_unwind(AssertUnwindSafe(|| work(parser))) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(match self.parser.stop_reason() {
                StopReason::LexerTooComplex | StopReason::ParserTooComplex => {
                    ConstraintError::TooComplex(error)
                }
                StopReason::NoExtensionBias => {
                    ConstraintError::Refused("no token of the vocabulary can follow".to_owned())
                }
                _ => ConstraintError::Internal(error),
            }),
            Err(panic) => Err(ConstraintError::Internal(message_of(panic.as_ref()))),
        }
    }
}

/// What a panic said.
pub(super) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
        .to_owned()
}
