//! What a client is told when it cannot be served.

use engine::SubmitError;
use engine::constraint::ConstraintError;
use text::PromptError;

/// Why a request gets no answer. Every dialect writes it in its own form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of failure it is; decides the status.
    pub kind: ErrorKind,
    /// What was wrong, what was expected, and what to try.
    pub message: String,
    /// The field of the request that it is about.
    pub param: Option<&'static str>,
    /// Figures that a client can compute with, by name.
    pub numbers: Vec<(&'static str, u64)>,
    /// After how many seconds to try again.
    pub retry_after: Option<u32>,
}

/// Kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request makes no sense.
    BadRequest,
    /// The prompt does not fit the context.
    ContextLength,
    /// No key, or a wrong one.
    Unauthorized,
    /// There is nothing at this path, or of this name.
    NotFound,
    /// No model has the name.
    ModelNotFound,
    /// The path exists, for another method.
    MethodNotAllowed,
    /// The body took too long to come.
    Timeout,
    /// The body is larger than the server takes.
    TooLarge,
    /// Too much is waiting already.
    Busy,
    /// One client asks too often.
    TooOften,
    /// The server is going down, or its engine is gone.
    Unavailable,
    /// The server's own fault.
    Internal,
}

impl ErrorKind {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::ContextLength => 400,
            Self::Unauthorized => 401,
            Self::NotFound | Self::ModelNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::TooLarge => 413,
            Self::Busy | Self::TooOften => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

impl ApiError {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            numbers: Vec::new(),
            retry_after: None,
        }
    }

    /// A request that makes no sense because of a field.
    pub fn bad(param: &'static str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param),
            ..Self::new(ErrorKind::BadRequest, message)
        }
    }

    /// The engine's thread has ended.
    pub(crate) fn engine_is_gone() -> Self {
        Self::new(
            ErrorKind::Unavailable,
            "the engine has stopped; the server's log says why",
        )
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::QueueFull { waiting, limit } => Self {
                numbers: vec![("waiting", waiting as u64), ("limit", limit as u64)],
                retry_after: Some(5),
                ..Self::new(ErrorKind::Busy, message)
            },
            SubmitError::PromptTooLong { prompt, context } => Self {
                param: Some("messages"),
                numbers: vec![
                    ("n_prompt_tokens", prompt as u64),
                    ("n_ctx", context as u64),
                ],
                ..Self::new(ErrorKind::ContextLength, message)
            },
            SubmitError::TooLittleMemory { needed, pages, .. } => Self {
                param: Some("messages"),
                numbers: vec![("pages_needed", needed as u64), ("pages", pages as u64)],
                ..Self::new(ErrorKind::ContextLength, message)
            },
            SubmitError::EmptyPrompt => Self::bad("prompt", message),
            SubmitError::BadChoices { .. } => Self::bad("n", message),
            SubmitError::BadSampling(error) => Self::bad(error.setting(), message),
            SubmitError::NoText | SubmitError::BadBoundary { .. } => {
                Self::new(ErrorKind::Internal, message)
            }
            _ => Self::new(ErrorKind::BadRequest, message),
        }
    }
}

impl From<PromptError> for ApiError {
    fn from(error: PromptError) -> Self {
        Self::bad("messages", error.to_string())
    }
}

impl From<ConstraintError> for ApiError {
    fn from(error: ConstraintError) -> Self {
        match error {
            ConstraintError::Vocabulary(_) | ConstraintError::Internal(_) => {
                Self::new(ErrorKind::Internal, error.to_string())
            }
            ConstraintError::Tools(_) => Self::bad("tools", error.to_string()),
            _ => Self::bad("response_format", error.to_string()),
        }
    }
}
