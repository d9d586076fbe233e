//! How much an answer cost.

use std::time::Duration;

use serde_json::{Value, json};

/// Tokens and times of one answer, or of all answers of a request.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Figures {
    /// Tokens of the prompt.
    pub(crate) prompt: usize,
    /// Of these, cached.
    pub(crate) cached: usize,
    /// Tokens of the answer.
    pub(crate) generated: usize,
    /// Of these, inside the thinking.
    pub(crate) reasoning: usize,
    pub(crate) drafted: usize,
    pub(crate) accepted: usize,
    /// From the start of the prompt to the first token.
    pub(crate) prefill: Duration,
    /// From the first token to the end.
    pub(crate) decode: Duration,
}

impl Figures {
    /// Adds another answer to the same prompt.
    pub(crate) fn add(&mut self, other: &Self) {
        self.prompt = other.prompt;
        self.cached = self.cached.max(other.cached);
        self.generated += other.generated;
        self.reasoning += other.reasoning;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.prefill = self.prefill.max(other.prefill);
        self.decode = self.decode.max(other.decode);
    }

    /// Adds answers to another prompt.
    pub(crate) fn join(&mut self, other: &Self) {
        let prompt = self.prompt + other.prompt;
        let cached = self.cached + other.cached;
        self.add(other);
        (self.prompt, self.cached) = (prompt, cached);
    }

    /// In the form that llama.cpp's clients read.
    pub(crate) fn timings(&self) -> Value {
        let read = self.prompt.saturating_sub(self.cached);
        let (prefill, decode) = (self.prefill.as_secs_f64(), self.decode.as_secs_f64());
        let each = |seconds: f64, count: usize| {
            if count == 0 {
                0.0
            } else {
                seconds * 1e3 / count as f64
            }
        };
        let rate = |seconds: f64, count: usize| {
            if seconds == 0.0 {
                0.0
            } else {
                count as f64 / seconds
            }
        };
        // The first token comes out of the prefill.
        let steps = self.generated.saturating_sub(1);
        json!({
            "cache_n": self.cached,
            "prompt_n": read,
            "prompt_ms": prefill * 1e3,
            "prompt_per_token_ms": each(prefill, read),
            "prompt_per_second": rate(prefill, read),
            "predicted_n": self.generated,
            "predicted_ms": decode * 1e3,
            "predicted_per_token_ms": each(decode, steps),
            "predicted_per_second": rate(decode, steps),
            "draft_n": self.drafted,
            "draft_n_accepted": self.accepted,
        })
    }
}
