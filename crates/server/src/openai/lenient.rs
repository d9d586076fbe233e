//! Small things that clients write in more than one way.

use serde::Deserialize;

use crate::error::ApiError;

/// One text, or a list of texts.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected text or a list of texts")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    /// As a list.
    pub(crate) fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// The most tokens of an answer. llama.cpp, Ollama, LM Studio and their clients say -1, the first two also -2,
/// for as many as fit.
///
/// # Errors
/// When the number means nothing.
pub(crate) fn bound(field: &'static str, tokens: Option<i64>) -> Result<Option<usize>, ApiError> {
    match tokens {
        None | Some(-1 | -2) => Ok(None),
        Some(tokens) => usize::try_from(tokens).map(Some).map_err(|_| {
            let why = format!("{field} is {tokens}; expected at least 0, or -1 for as many as fit");
            ApiError::bad(field, why)
        }),
    }
}
