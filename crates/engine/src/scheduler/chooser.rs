//! How a stream's next token is chosen and whether it is the last.

use std::sync::Arc;

use tensor::{Likely, MostLikely};
use text::tokenizer::Decode;
use text::{StreamDecoder, Tokenizer, TokenizerError};

use crate::constraint::{ConstraintError, Guide};
use crate::event::FinishReason;
use crate::request::Request;
use crate::sampling::{Choice, Sampler, SettingsError, TokenLogprobs, TokenRules};
use crate::stop::{StopFilter, StopStrings};

/// What came out of a row of logits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chosen {
    pub(super) token: u32,
    /// The text that is certain with it.
    pub(super) text: String,
    pub(super) logprobs: Option<TokenLogprobs>,
    /// Whether the token belongs to the answer.
    pub(super) is_shown: bool,
    /// Why the answer ends with it, if it does.
    pub(super) end: Option<FinishReason>,
}

/// What a token is chosen from.
pub(super) enum Row<'a> {
    /// The logits of all tokens, which are changed on the way.
    All(&'a mut [f32]),
    /// What was [enough](Chooser::enough).
    Likely(&'a [Likely]),
}

/// The sampler of one stream, with what steers it and its limits.
pub(super) struct Chooser {
    sampler: Sampler,
    guide: Guide,
    text: Option<AnswerText>,
    max_tokens: Option<usize>,
}

/// The text of an answer as it comes.
struct AnswerText {
    tokenizer: Arc<Tokenizer>,
    decoder: StreamDecoder,
    stop: StopFilter,
}

impl AnswerText {
    fn new(tokenizer: Arc<Tokenizer>, stop: &StopStrings) -> Self {
        Self {
            tokenizer,
            decoder: StreamDecoder::new(Decode::SkipControl),
            stop: stop.filter(),
        }
    }

    /// Takes a token; one that the tokenizer does not know has no text.
    fn push(&mut self, token: u32) -> String {
        let piece: Result<String, TokenizerError> = self.decoder.push(&self.tokenizer, token);
        self.stop.push(&piece.unwrap_or_default())
    }

    fn finish(&mut self) -> String {
        let rest = self.decoder.finish();
        let mut text = self.stop.push(&rest);
        text.push_str(&self.stop.finish());
        text
    }
}

impl Chooser {
    /// The chooser of one of a request's answers: their random numbers differ, the first answer's
    /// are those of a request for one.
    pub(super) fn new(
        request: &Request,
        choice: usize,
        rules: &Arc<TokenRules>,
        guide: Guide,
        tokenizer: Option<&Arc<Tokenizer>>,
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
        let text = |tokenizer: &Arc<Tokenizer>| {
            AnswerText::new(Arc::clone(tokenizer), &request.limits.stop)
        };
        Ok(Self {
            sampler,
            guide,
            text: tokenizer.map(text),
            max_tokens: request.limits.max_tokens,
        })
    }

    /// What steers another answer that goes on from here.
    pub(super) fn fork_guide(&mut self) -> Result<Guide, ConstraintError> {
        self.guide.fork()
    }

    /// Begins to find what may be chosen in a step that verifies `draft`, beside it.
    pub(super) fn start(&mut self, draft: &[u32]) {
        if self.guide.forced().is_empty() {
            self.guide.start(draft);
        }
    }

    /// How much of a draft is worth verifying.
    pub(super) fn worth_verifying(&mut self, draft: &[u32]) -> Result<usize, ConstraintError> {
        self.guide.worth_verifying(draft)
    }

    /// The tokens that have to follow by the grammar: the best of drafts.
    pub(super) fn certain(&mut self) -> Result<Vec<u32>, ConstraintError> {
        self.guide.certain()
    }

    /// What is enough to choose the tokens of a step that verifies `draft`; `None` if that takes all
    /// logits.
    pub(super) fn enough(&self, draft: &[u32]) -> Option<MostLikely> {
        let enough = self.sampler.enough(draft.len());
        enough.filter(|_| self.guide.is_free(draft))
    }

    /// Chooses the next token.
    ///
    /// # Errors
    /// When the answer's grammar cannot be followed any further.
    pub(super) fn choose(&mut self, row: Row<'_>) -> Result<Chosen, ConstraintError> {
        let choice = match (self.guide.forced_next(), row) {
            (Some(token), Row::All(logits)) => self.sampler.prescribe(logits, token),
            (Some(token), Row::Likely(_)) => Choice {
                token,
                logprobs: None,
            },
            (None, Row::All(logits)) => {
                let mask = self.guide.mask()?;
                self.sampler.choose(logits, mask)
            }
            (None, Row::Likely(likely)) => self.sampler.choose_among(likely),
        };
        self.take(choice)
    }

    /// The next token, if there is nothing to choose. It needs no logits, and has no
    /// log-probabilities.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub(super) fn forced(&mut self) -> Result<Option<Chosen>, ConstraintError> {
        let Some(token) = self.guide.forced_next() else {
            return Ok(None);
        };
        let choice = Choice {
            token,
            logprobs: None,
        };
        self.take(choice).map(Some)
    }

    fn take(&mut self, choice: Choice) -> Result<Chosen, ConstraintError> {
        let is_end = self.sampler.rules().is_end(choice.token);
        let mut text = String::new();
        if !is_end {
            self.guide.accept(choice.token)?;
            self.sampler.accept(choice.token);
            if let Some(answer) = &mut self.text {
                text = answer.push(choice.token);
            }
        }
        let is_last = self
            .max_tokens
            .is_some_and(|most| self.sampler.accepted() >= most);
        Ok(Chosen {
            token: choice.token,
            text,
            logprobs: choice.logprobs,
            is_shown: !is_end,
            end: if is_end || self.stop_string().is_some() {
                Some(FinishReason::Stop)
            } else {
                is_last.then_some(FinishReason::Length)
            },
        })
    }

    /// The rest of the text.
    pub(super) fn finish(&mut self) -> String {
        self.text.as_mut().map_or(String::new(), AnswerText::finish)
    }

    /// The stop string that ended the answer, if one did.
    pub(super) fn stop_string(&self) -> Option<&str> {
        self.text.as_ref().and_then(|text| text.stop.stopped())
    }
}
