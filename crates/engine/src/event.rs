//! What a step tells of the requests.

use crate::request::RequestId;
use crate::sampling::TokenLogprobs;

/// What happened to a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// It waits no more: its prompt is being read.
    Started {
        /// Which.
        request: RequestId,
        /// How much of the prompt need not be read, and why not more.
        reuse: Reuse,
    },
    /// A part of its prompt was read.
    PrefillProgress {
        /// Which.
        request: RequestId,
        /// Tokens in memory.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// Log-probabilities of some of the prompt's tokens, if the request asked for them: of those
    /// from `first` on. Of the very first token, nothing is known.
    PromptLogprobs {
        /// Which.
        request: RequestId,
        /// The place of the first of these tokens in the prompt.
        first: usize,
        /// One for each token.
        tokens: Vec<TokenLogprobs>,
    },
    /// A token of an answer.
    Token {
        /// Which.
        request: RequestId,
        /// Which of its answers, from 0.
        choice: usize,
        /// The token.
        token: u32,
        /// The text that is certain now, if the scheduler knows the tokenizer: never half a
        /// character, nothing that may be the beginning of a stop string, and no control tokens.
        text: String,
        /// Its log-probabilities, if the request asked for them.
        logprobs: Option<TokenLogprobs>,
    },
    /// Others needed the memory; it goes on later from where it was.
    Paused {
        /// Which.
        request: RequestId,
        /// Which of its answers.
        choice: usize,
    },
    /// It goes on.
    Resumed {
        /// Which.
        request: RequestId,
        /// Which of its answers.
        choice: usize,
        /// Tokens that have to be read again, if what was kept of it had to go too.
        again: usize,
    },
    /// An answer is complete.
    Finished {
        /// Which.
        request: RequestId,
        /// Which of its answers.
        choice: usize,
        /// Why.
        reason: FinishReason,
        /// The rest of the text.
        text: String,
        /// The stop string that ended it, if one did; the reason is then [`FinishReason::Stop`].
        stop_string: Option<String>,
        /// Figures.
        usage: Usage,
    },
    /// The device failed on it. All its answers end.
    Failed {
        /// Which.
        request: RequestId,
        /// What the device said.
        error: String,
    },
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it.
    Stop,
    /// The asked number of tokens was reached.
    Length,
    /// The context is full.
    ContextFull,
}

/// Figures of an answer, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt: usize,
    /// Of these, not read because they were cached.
    pub cached: usize,
    /// Rows that were run to read the prompt, also again after memory was short; of the first
    /// answer, as the others share it.
    pub prefilled: usize,
    /// Of the answer.
    pub generated: usize,
    /// Proposed by speculation.
    pub drafted: usize,
    /// Of these, chosen.
    pub accepted: usize,
}

/// How much of a prompt was cached, and why not more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// Tokens that need not be read.
    pub cached: usize,
    /// Where they came from.
    pub from: ReusedFrom,
    /// Why the rest has to be read.
    pub rest: Miss,
}

/// Where a cached prompt came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReusedFrom {
    /// Nothing was cached.
    Nowhere,
    /// The device's pages and a snapshot in RAM.
    Memory,
    /// The second tier.
    Tier,
}

/// Why a prompt was not cached any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// All that was ever read of this prompt was used; the rest is new.
    New,
    /// Nothing is stored yet.
    NothingStored,
    /// The most similar stored prompt differs. What they share behind the last snapshot has to be
    /// read again.
    Diverged {
        /// The first token that differs.
        token: usize,
        /// The message it is in, if the request said where messages end.
        message: Option<usize>,
        /// Whether an image or video differs there.
        is_media: bool,
    },
    /// More of it was stored, and had to go for others.
    Evicted {
        /// Tokens that were stored.
        tokens: usize,
    },
    /// More of it was stored by another model or under other settings.
    OtherModel,
    /// The request, or the server, said not to cache.
    Off,
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::New => write!(f, "the rest is new"),
            Self::NothingStored => write!(f, "nothing is stored yet"),
            Self::Diverged {
                token,
                message,
                is_media,
            } => {
                if *is_media {
                    write!(f, "another image ")?;
                } else {
                    write!(f, "diverged ")?;
                }
                write!(f, "at token {token}")?;
                message.map_or(Ok(()), |message| write!(f, " of message {message}"))
            }
            Self::Evicted { tokens } => write!(f, "{tokens} tokens were stored and evicted"),
            Self::OtherModel => write!(f, "stored by another model or under other settings"),
            Self::Off => write!(f, "caching is off"),
        }
    }
}
