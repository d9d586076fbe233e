//! Small things that clients write in more than one way.

use serde::Deserialize;

/// One text, or a list of texts.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
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

/// A number of tokens, of which those below 0 mean "no bound".
pub(crate) fn bound(tokens: Option<i64>) -> Option<usize> {
    tokens.and_then(|tokens| usize::try_from(tokens).ok())
}
