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

pub(crate) use completions::fill;
pub(crate) use errors::error_body;
pub(crate) use format::FormatFields;
pub(crate) use lenient::{OneOrMany, bound};
pub(crate) use thinking::effort_of;
pub(crate) use tools::functions;
