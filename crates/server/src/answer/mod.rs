//! What becomes of a request, in one form for all dialects.

mod collected;
mod figures;
mod reader;

use text::output::CallOutcome;

pub(crate) use collected::{Collected, CollectedChoice, collect};
pub(crate) use figures::Figures;
pub(crate) use reader::Answer;

use crate::error::ApiError;

/// A step in the making of one or several answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AnswerEvent {
    /// What is being answered: comes first.
    Prompt {
        /// The first answer to it.
        first_choice: usize,
        tokens: Vec<u32>,
    },
    /// Log-probabilities of the prompt's next tokens, its first one left out.
    PromptLogprobs {
        first_choice: usize,
        tokens: Vec<TokenLogprob>,
    },
    /// The request waits no more.
    Started {
        /// Tokens of the prompt.
        prompt: usize,
        /// Of these, cached.
        cached: usize,
    },
    /// The prompt is being read.
    Progress {
        /// Tokens in memory.
        done: usize,
        /// Of these, cached.
        cached: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// A token was chosen whose text is content or part of a call; what it adds to that follows.
    Token {
        choice: usize,
        logprob: TokenLogprob,
    },
    /// A piece of the thinking.
    Reasoning { choice: usize, text: String },
    /// A piece of the answer proper.
    Content { choice: usize, text: String },
    /// A call begins. Until its end comes nothing but its arguments.
    CallStart {
        choice: usize,
        /// Calls of an answer count from 0.
        index: usize,
        id: String,
        name: String,
    },
    /// A piece of a call's arguments: all of them joined are one JSON object.
    CallArguments {
        choice: usize,
        index: usize,
        json: String,
    },
    /// A call is over.
    CallEnd {
        choice: usize,
        index: usize,
        outcome: CallOutcome,
    },
    /// An answer is complete.
    Finished { choice: usize, finish: Finish },
    /// Nothing more comes.
    Failed(ApiError),
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finish {
    pub(crate) reason: Reason,
    /// The stop string that ended it.
    pub(crate) stop_string: Option<String>,
    pub(crate) figures: Figures,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The model ended it, or a stop string did.
    Stop,
    /// The model ended it, and it calls tools.
    Calls,
    /// A limit was reached.
    Length,
}

/// A token's text and log-probabilities.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenLogprob {
    pub(crate) token: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) logprob: f32,
    /// The likeliest tokens, with their bytes and log-probabilities.
    pub(crate) top: Vec<(u32, Vec<u8>, f32)>,
}
