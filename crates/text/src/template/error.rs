//! What can be wrong with a template or a rendering.

use std::path::PathBuf;

/// Why a template could not be loaded or rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The model brings no template of that name.
    #[error(
        "no chat template {}found in {place}; it has {available}; give one with --chat-template-file",
        name.as_deref().map_or(String::new(), |name| format!("named `{name}` "))
    )]
    NotFound {
        /// The name that was asked for; `None` for the default.
        name: Option<String>,
        /// The file or folder.
        place: String,
        /// The names it has.
        available: String,
    },
    /// The template cannot be parsed.
    #[error("the chat template has a mistake in line {line}: {message}")]
    Syntax {
        /// Counted from 1; 0 if unknown.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// The template is larger than any sensible one.
    #[error(
        "the chat template has more than {limit} {what} (line {line}), which is not safe to \
         compile; use another with --chat-template-file"
    )]
    TooComplex {
        /// Counted from 1.
        line: usize,
        /// What there is too much of.
        what: &'static str,
        /// How much may be.
        limit: usize,
    },
    /// The template itself refuses the conversation (`raise_exception`).
    #[error("the chat template refuses this conversation: {message} (line {line})")]
    Raised {
        /// The template's own words.
        message: String,
        /// Counted from 1; 0 if unknown.
        line: usize,
    },
    /// Something in the template does not work with this conversation.
    #[error("the chat template fails in line {line}: {message}")]
    Failed {
        /// What the engine says.
        message: String,
        /// Counted from 1; 0 if unknown.
        line: usize,
    },
    /// The template did not come to an end.
    #[error(
        "the chat template takes more than {steps} steps (stopped in line {line}); \
         it may loop without end; use another with --chat-template-file"
    )]
    TooManySteps {
        /// The limit.
        steps: u64,
        /// Where it was stopped; 0 if unknown.
        line: usize,
    },
    /// The template writes too much.
    #[error("the chat template writes more than {limit} bytes; shorten the conversation")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// A variable for the template has a name that is taken.
    #[error("`{name}` cannot be set through template variables; it has a field of its own")]
    ReservedVariable {
        /// The name.
        name: String,
    },
    /// A file could not be read.
    #[error("cannot read the chat template {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON file that holds templates is not as expected.
    #[error("{what} does not hold chat templates as expected")]
    Json {
        /// The file, or what was being written.
        what: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The GGUF metadata hold another type.
    #[error(transparent)]
    Gguf(#[from] formats::gguf::GgufError),
}
