//! How a stream's next token is chosen and whether it is the last.

use std::sync::Arc;

use crate::event::FinishReason;
use crate::request::Request;
use crate::sampling::{Sampler, SettingsError, TokenLogprobs, TokenRules};

/// What came out of a row of logits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chosen {
    pub(super) token: u32,
    pub(super) logprobs: Option<TokenLogprobs>,
    /// Whether the token belongs to the answer.
    pub(super) is_shown: bool,
    /// Why the answer ends with it, if it does.
    pub(super) end: Option<FinishReason>,
}

/// The sampler of one stream, with its limits.
pub(super) struct Chooser {
    sampler: Sampler,
    max_tokens: Option<usize>,
}

impl Chooser {
    /// The chooser of one of a request's answers: their random numbers differ, the first answer's
    /// are those of a request for one.
    pub(super) fn new(
        request: &Request,
        choice: usize,
        rules: &Arc<TokenRules>,
    ) -> Result<Self, SettingsError> {
        let mut settings = request.sampling.clone();
        settings.seed = settings.seed.wrapping_add(choice as u64);
        let rules = if request.limits.stop_tokens.is_empty() {
            Arc::clone(rules)
        } else {
            let rules = TokenRules::clone(rules);
            Arc::new(rules.ending_at(&request.limits.stop_tokens))
        };
        let mut sampler = Sampler::new(settings, rules)?;
        request.prompt.iter().for_each(|&token| sampler.saw(token));
        Ok(Self {
            sampler,
            max_tokens: request.limits.max_tokens,
        })
    }

    /// Chooses the next token from its row of logits.
    pub(super) fn choose(&mut self, logits: &[f32]) -> Chosen {
        let choice = self.sampler.choose(&mut logits.to_vec(), None);
        let is_end = self.sampler.rules().is_end(choice.token);
        if !is_end {
            self.sampler.accept(choice.token);
        }
        let is_last = self
            .max_tokens
            .is_some_and(|most| self.sampler.accepted() >= most);
        Chosen {
            token: choice.token,
            logprobs: choice.logprobs,
            is_shown: !is_end,
            end: if is_end {
                Some(FinishReason::Stop)
            } else {
                is_last.then_some(FinishReason::Length)
            },
        }
    }
}
