//! Paths that tell of the server and its model, mostly in llama.cpp's form.

mod completion;
mod loading;
mod metrics;
mod state;
mod tokens;

pub(crate) use completion::{completion, infill};
pub(crate) use loading::{load, unload};
pub(crate) use metrics::metrics;
pub(crate) use state::{health, ignore, openapi, props, slots};
pub(crate) use tokens::{apply_template, detokenize, tokenize, tokenizer_info};
