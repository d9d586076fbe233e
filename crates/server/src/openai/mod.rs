//! The OpenAI dialect, with what its other speakers (llama.cpp, vLLM, OpenRouter) have added.

pub(crate) mod chat;
pub(crate) mod completions;
mod errors;
mod format;
mod lenient;
mod logprobs;
mod messages;
pub(crate) mod models;
pub(crate) mod responses;

mod thinking;
mod tools;
mod usage;

pub(crate) use completions::{TextFields, WirePrompt, fill};
pub(crate) use errors::error_body;
pub(crate) use lenient::{OneOrMany, bound};
pub(crate) use thinking::effort_of;
pub(crate) use tools::functions;

use crate::error::ApiError;
use crate::http::StreamForm;

/// How chats and completions are streamed.
pub(crate) const STREAM: StreamForm = StreamForm {
    content_type: "text/event-stream; charset=utf-8",
    has_comments: true,
    failed,
};

fn failed(error: &ApiError) -> String {
    format!("data: {}\n\ndata: [DONE]\n\n", error_body(error))
}
