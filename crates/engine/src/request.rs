//! What is asked of the scheduler.

use crate::cache::{Boundary, MediaRun};
use crate::sampling::{SamplerSettings, SettingsError};
use crate::stop::StopStrings;

/// Names a request of a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

impl RequestId {
    /// As a number, for logs.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A prompt to be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The prompt's tokens, at least one.
    pub prompt: Vec<u32>,
    /// Images and videos in the prompt.
    pub media: Vec<MediaRun>,
    /// Places in the prompt where others are likely to part from it or go on, ascending.
    pub boundaries: Vec<Boundary>,
    /// How tokens are chosen.
    pub sampling: SamplerSettings,
    /// When an answer ends.
    pub limits: Limits,
    /// How many answers; each has random numbers of its own.
    pub choices: usize,
    /// Higher goes first. One step of priority is worth [`crate::scheduler::PRIORITY_STEPS`]
    /// steps of waiting, so that nobody waits for ever.
    pub priority: i32,
    /// Whether tokens may be drafted and verified; never changes the answer.
    pub speculation: bool,
    /// Whether cached prompts may be used and this one be cached; never changes the answer.
    pub cache: bool,
    /// Tell the log-probabilities of the prompt's tokens, and for each place so many likeliest
    /// tokens with theirs. The whole prompt is read then, as if nothing were cached.
    pub prompt_logprobs: Option<usize>,
    /// Tokens before which the state is kept when the model chooses them, such as `<tool_call>`.
    pub keep_before: Vec<u32>,
}

impl Request {
    /// One greedy answer to a prompt, of as many tokens as fit.
    pub fn new(prompt: Vec<u32>) -> Self {
        Self {
            prompt,
            media: Vec::new(),
            boundaries: Vec::new(),
            sampling: SamplerSettings::default(),
            limits: Limits::default(),
            choices: 1,
            priority: 0,
            speculation: true,
            cache: true,
            prompt_logprobs: None,
            keep_before: Vec::new(),
        }
    }
}

/// When an answer ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// The most new tokens; `None` for as many as fit.
    pub max_tokens: Option<usize>,
    /// Tokens that end the answer beside the model's own (they are not part of it).
    pub stop_tokens: Vec<u32>,
    /// Strings that end the answer (they are not part of its text). They need a scheduler that
    /// knows the tokenizer.
    pub stop: StopStrings,
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// Too many wait already.
    #[error("{waiting} requests wait already and the queue holds {limit}; try again later")]
    QueueFull {
        /// How many wait.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// There is nothing to predict from.
    #[error("the prompt has no tokens; give at least one")]
    EmptyPrompt,
    /// The prompt does not fit the context.
    #[error(
        "the prompt has {prompt} tokens and the context is {context}, of which one is for the \
         answer; shorten the prompt or raise --ctx-size (-c)"
    )]
    PromptTooLong {
        /// The prompt's tokens.
        prompt: usize,
        /// Tokens a sequence may hold.
        context: usize,
    },
    /// The prompt does not fit the memory, were it alone.
    #[error(
        "the prompt needs {needed} pages of key/value memory ({page_tokens} tokens each) and there \
         are {pages}; shorten it or give more memory"
    )]
    TooLittleMemory {
        /// Pages it needs.
        needed: usize,
        /// Pages there are.
        pages: usize,
        /// Tokens per page.
        page_tokens: usize,
    },
    /// A token the model has no row for.
    #[error(
        "token id {token} is outside the vocabulary of {vocabulary}; were these ids made with \
         another model's tokenizer?"
    )]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// The rows of the embedding.
        vocabulary: usize,
    },
    /// A boundary behind the prompt's end, or not in order.
    #[error("boundary {offset} is out of order or behind the prompt's end at {prompt}")]
    BadBoundary {
        /// Where it is.
        offset: usize,
        /// The prompt's tokens.
        prompt: usize,
    },
    /// No answers, or too many.
    #[error("{choices} answers were asked for; expected 1 to {limit}")]
    BadChoices {
        /// How many.
        choices: usize,
        /// The most.
        limit: usize,
    },
    /// Stop strings without text to look for them in.
    #[error("stop strings need the model's tokenizer, and this engine was started without it")]
    NoText,
    /// A sampler's value cannot be used.
    #[error(transparent)]
    BadSampling(#[from] SettingsError),
}
