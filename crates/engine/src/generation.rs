//! One answer: prefill in chunks, then token by token until it ends.

use tensor::Tensor;

use crate::engine::{Engine, SequenceId, Work};
use crate::error::EngineError;
use crate::event::FinishReason;
use crate::sampling::Sampler;

/// When an answer must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationLimits {
    /// The most new tokens; `None` for as many as fit.
    pub max_tokens: Option<usize>,
    /// Tokens that end the answer (they are not part of it).
    pub stop_tokens: Vec<u32>,
    /// Prompt tokens per step.
    pub prefill_chunk: usize,
}

/// Drives one sequence: [`Generation::prefill`] until it is done, then
/// [`Generation::next_token`] until it ends. Between two calls the caller may print, stop, or run
/// something else on the engine.
pub struct Generation {
    sequence: SequenceId,
    sampler: Sampler,
    limits: GenerationLimits,
    prompt: Vec<u32>,
    prefilled: usize,
    logits: Option<Tensor>,
    /// Chosen, but not yet run through the model.
    pending: Option<u32>,
    generated: usize,
}

impl Generation {
    /// Starts an answer to `prompt`, which continues `sequence`. The sampler must have seen what
    /// the sequence holds; it is shown the prompt here.
    ///
    /// # Errors
    /// If the prompt and one token more do not fit the context. An empty prompt cannot be
    /// answered either: there is nothing to predict from.
    pub fn new(
        engine: &Engine,
        sequence: SequenceId,
        prompt: Vec<u32>,
        mut sampler: Sampler,
        limits: GenerationLimits,
    ) -> Result<Self, EngineError> {
        let wanted = engine.tokens(sequence)? + prompt.len() + 1;
        if wanted > engine.context() || prompt.is_empty() {
            return Err(EngineError::ContextFull {
                wanted,
                context: engine.context(),
            });
        }
        prompt.iter().for_each(|&token| sampler.saw(token));
        Ok(Self {
            sequence,
            sampler,
            limits,
            prompt,
            prefilled: 0,
            logits: None,
            pending: None,
            generated: 0,
        })
    }

    /// Runs the next chunk of the prompt; `true` when all of it is done.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn prefill(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        let rest = &self.prompt[self.prefilled..];
        if rest.is_empty() {
            return Ok(true);
        }
        let chunk = rest[..rest.len().min(self.limits.prefill_chunk.max(1))].to_vec();
        let count = chunk.len();
        let is_last = count == rest.len();
        let logits = if is_last { vec![count - 1] } else { Vec::new() };
        let work = Work {
            sequence: self.sequence,
            tokens: chunk,
            logits,
        };
        self.logits = take_logits(engine.step(&[work])?);
        self.prefilled += count;
        Ok(is_last)
    }

    /// How much of the prompt is done: tokens run, tokens in all.
    pub fn prefill_progress(&self) -> (usize, usize) {
        (self.prefilled, self.prompt.len())
    }

    /// The next token of the answer, or why there is none.
    ///
    /// # Errors
    /// As [`Engine::step`].
    ///
    /// # Panics
    /// If the prompt is not prefilled.
    pub fn next_token(
        &mut self,
        engine: &mut Engine,
    ) -> Result<Result<u32, FinishReason>, EngineError> {
        assert_eq!(self.prefilled, self.prompt.len(), "prefill comes first");
        if self
            .limits
            .max_tokens
            .is_some_and(|most| self.generated >= most)
        {
            return Ok(Err(FinishReason::Length));
        }
        if let Some(token) = self.pending {
            if engine.tokens(self.sequence)? >= engine.context() {
                return Ok(Err(FinishReason::ContextFull));
            }
            let work = Work {
                sequence: self.sequence,
                tokens: vec![token],
                logits: vec![0],
            };
            self.logits = take_logits(engine.step(&[work])?);
            self.pending = None;
        }
        let logits = self.logits.as_mut().map_or(&mut [][..], Tensor::data_mut);
        let token = self.sampler.choose(logits, None).token;
        if self.limits.stop_tokens.contains(&token) {
            return Ok(Err(FinishReason::Stop));
        }
        self.sampler.accept(token);
        self.pending = Some(token);
        self.generated += 1;
        Ok(Ok(token))
    }
}

fn take_logits(outputs: Vec<Tensor>) -> Option<Tensor> {
    outputs.into_iter().next()
}
