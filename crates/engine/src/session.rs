//! A conversation in one sequence: the next prompt is run from where it parts from the last.
//!
//! Recurrent state cannot be cropped, so a prompt that changes its end can only go on from a
//! checkpoint. The session keeps one, where the caller says that the prompt's stable part ends:
//! behind the user's last message, before the start of the assistant's turn, which templates
//! render differently once the turn is history.

use crate::checkpoint::Checkpoint;
use crate::engine::{Engine, SequenceId, Work};
use crate::error::EngineError;

/// One sequence and the tokens it holds.
pub struct Session {
    sequence: SequenceId,
    tokens: Vec<u32>,
    checkpoint: Option<Checkpoint>,
    prefill_chunk: usize,
}

impl Session {
    /// An empty conversation; prompts are run in chunks of `prefill_chunk` tokens.
    ///
    /// # Errors
    /// If the engine has no sequence left.
    pub fn new(engine: &mut Engine, prefill_chunk: usize) -> Result<Self, EngineError> {
        let sequence = engine.start()?;
        Ok(Self {
            sequence,
            tokens: Vec::new(),
            checkpoint: None,
            prefill_chunk: prefill_chunk.max(1),
        })
    }

    /// The sequence, to go on from [`Session::prepare`].
    pub fn sequence(&self) -> SequenceId {
        self.sequence
    }

    /// Makes the sequence hold the first `stable` tokens of `prompt` and remembers the place.
    /// Returns how many tokens were there already. `progress` is told the tokens done and says
    /// whether to go on.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn prepare(
        &mut self,
        engine: &mut Engine,
        prompt: &[u32],
        stable: usize,
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<usize, EngineError> {
        let cached = self.rewind(engine, &prompt[..stable])?;
        for chunk in prompt[cached..stable].chunks(self.prefill_chunk) {
            if !progress(self.tokens.len()) {
                return Ok(cached);
            }
            let tokens = chunk.to_vec();
            engine.step(&[Work {
                sequence: self.sequence,
                tokens,
                logits: Vec::new(),
            }])?;
            self.tokens.extend_from_slice(chunk);
        }
        if let Some(old) = self.checkpoint.take() {
            engine.discard(old);
        }
        self.checkpoint = Some(engine.checkpoint(self.sequence)?);
        Ok(cached)
    }

    /// Tells the session of tokens that were run on its sequence.
    pub fn ran(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Goes back to the longest state that `prompt` starts with; returns its tokens.
    fn rewind(&mut self, engine: &mut Engine, prompt: &[u32]) -> Result<usize, EngineError> {
        // After an error half way the sequence may hold more than we were told of.
        let is_known = engine.tokens(self.sequence)? == self.tokens.len();
        if is_known && prompt.starts_with(&self.tokens) {
            return Ok(self.tokens.len());
        }
        if let Some(point) = &self.checkpoint
            && prompt.starts_with(&self.tokens[..point.tokens()])
        {
            engine.restore(self.sequence, point)?;
            self.tokens.truncate(point.tokens());
            return Ok(self.tokens.len());
        }
        self.end(engine)?;
        self.sequence = engine.start()?;
        Ok(0)
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// If the engine does not know the sequence.
    pub fn clear(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        self.end(engine)?;
        self.sequence = engine.start()?;
        Ok(())
    }

    fn end(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        if let Some(point) = self.checkpoint.take() {
            engine.discard(point);
        }
        self.tokens.clear();
        engine.end(self.sequence)
    }
}
