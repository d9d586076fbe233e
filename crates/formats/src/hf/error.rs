//! What can be wrong with a json file of a checkpoint.

use std::path::{Path, PathBuf};

use crate::json::JsonError;

/// A problem and the file that has it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct HfError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: Box<Problem>,
}

impl HfError {
    pub(super) fn new(file: &Path, problem: Problem) -> Self {
        Self {
            file: file.to_owned(),
            problem: Box::new(problem),
        }
    }
}

/// What is wrong, where, and what to try.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "each message says what its variant and fields mean"
)]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Io(std::io::Error),
    #[error("has {length} bytes, at most {limit} are allowed for a json file")]
    TooLarge { length: u64, limit: u64 },
    #[error("cannot be understood: {0}")]
    Syntax(String),
    #[error(
        "model_type is {found}, expected one of {expected}; this program runs the Qwen3.5 family only"
    )]
    ModelType {
        found: String,
        expected: &'static str,
    },
    #[error("{field} is {found}, expected {expected}")]
    Field {
        field: &'static str,
        found: String,
        expected: String,
    },
}

impl Problem {
    pub(super) fn field(
        field: &'static str,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::Field {
            field,
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Io(error) => Self::Io(error),
            JsonError::TooLarge { length, limit } => Self::TooLarge { length, limit },
            JsonError::Syntax(message) => Self::Syntax(message),
        }
    }
}
