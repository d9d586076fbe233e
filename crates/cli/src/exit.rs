//! Exit codes: what a script can learn from how the program ended.

use std::io;
use std::process::ExitCode;

use engine::{EngineError, OpenError, SubmitError};
use formats::ResidenceError;
use formats::gguf::GgufError;
use formats::hf::{self, HfError};
use formats::safetensors::CheckpointError;
use model::BindError;
use tensor::OpError;
use text::{PromptError, TemplateError, TokenizerError};

use crate::hub::HubError;

/// The end of `tidemill --help`.
pub(crate) const HELP: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 bad file, \
    4 unsupported model, 5 bad input (such as a prompt longer than the context), 130 interrupted.";

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// All was done, or the reader of our output went away.
    Done = 0,
    /// Something failed that no other code names.
    Failed = 1,
    /// The command line makes no sense (clap's own code).
    Usage = 2,
    /// A file is missing, damaged or not what its name promises.
    BadFile = 3,
    /// The file is sound, but holds a model that we cannot run.
    Unsupported = 4,
    /// What was asked of the model cannot be: too long a prompt, ids outside the vocabulary.
    BadInput = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

/// Failures that a command knows the status of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// [`Status::Usage`], for what clap cannot check.
    #[error("{0}")]
    Usage(String),
    /// [`Status::BadFile`]
    #[error("{0}")]
    BadFile(String),
    /// [`Status::BadInput`]
    #[error("{0}")]
    BadInput(String),
    /// [`Status::Interrupted`]
    #[error("interrupted")]
    Interrupted,
}

impl Status {
    /// What an error means, judged by the types in its chain: the innermost that is known wins.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error
            .chain()
            .filter_map(Self::of_one)
            .last()
            .unwrap_or(Status::Failed)
    }

    fn of_one(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // `tidemill ... | head` is no failure.
            return (error.kind() == io::ErrorKind::BrokenPipe).then_some(Status::Done);
        }
        if error.is::<GgufError>() || error.is::<CheckpointError>() {
            return Some(Status::BadFile);
        }
        None.or_else(|| error.downcast_ref().map(of_failure))
            .or_else(|| error.downcast_ref().map(of_hub))
            .or_else(|| error.downcast_ref().map(of_open))
            .or_else(|| error.downcast_ref().map(of_hf))
            .or_else(|| error.downcast_ref().map(of_bind))
            .or_else(|| error.downcast_ref().map(of_tokenizer))
            .or_else(|| error.downcast_ref().map(of_template))
            .or_else(|| error.downcast_ref().map(of_prompt))
            .or_else(|| error.downcast_ref().map(of_engine))
            .or_else(|| error.downcast_ref().map(of_submit))
            .or_else(|| error.downcast_ref().map(of_op))
    }
}

// An error that passes another one on unchanged hides it from the chain, so that each of these
// looks into its own.

fn of_failure(error: &Failure) -> Status {
    match error {
        Failure::Usage(_) => Status::Usage,
        Failure::BadFile(_) => Status::BadFile,
        Failure::BadInput(_) => Status::BadInput,
        Failure::Interrupted => Status::Interrupted,
    }
}

fn of_hub(error: &HubError) -> Status {
    match error {
        HubError::Name(_) | HubError::NoRepositoryNamed(_) | HubError::Setting { .. } => {
            Status::Usage
        }
        HubError::NoRepository(_)
        | HubError::Gated { .. }
        | HubError::Token { .. }
        | HubError::NoFile { .. }
        | HubError::Offline { .. } => Status::BadInput,
        HubError::Network { .. }
        | HubError::Answer { .. }
        | HubError::Checksum { .. }
        | HubError::Space { .. }
        | HubError::Write { .. } => Status::Failed,
        HubError::Interrupted => Status::Interrupted,
    }
}

fn of_open(error: &OpenError) -> Status {
    match error {
        OpenError::Hf(error) => of_hf(error),
        OpenError::Op(error) => of_op(error),
        OpenError::Engine(error) => of_engine(error),
        OpenError::Residence(ResidenceError::Read { .. }) => Status::BadFile,
        OpenError::Residence(_) => Status::Failed,
        _ => Status::BadFile,
    }
}

fn of_hf(error: &HfError) -> Status {
    match *error.problem {
        hf::Problem::ModelType { .. } => Status::Unsupported,
        _ => Status::BadFile,
    }
}

fn of_bind(error: &BindError) -> Status {
    match error {
        BindError::Architecture { .. } | BindError::Unsupported(_) => Status::Unsupported,
        BindError::Op(error) => of_op(error),
        _ => Status::BadFile,
    }
}

fn of_tokenizer(error: &TokenizerError) -> Status {
    match error {
        TokenizerError::UnsupportedModel { .. }
        | TokenizerError::UnsupportedPreTokenizer { .. }
        | TokenizerError::UnsupportedPart { .. } => Status::Unsupported,
        TokenizerError::UnknownToken { .. } | TokenizerError::PieceTooLong { .. } => {
            Status::BadInput
        }
        _ => Status::BadFile,
    }
}

fn of_template(error: &TemplateError) -> Status {
    match error {
        TemplateError::Raised { .. }
        | TemplateError::Failed { .. }
        | TemplateError::TooLong { .. }
        | TemplateError::ReservedVariable { .. } => Status::BadInput,
        _ => Status::BadFile,
    }
}

fn of_prompt(error: &PromptError) -> Status {
    match error {
        PromptError::Template(error) => of_template(error),
        PromptError::Tokenizer(error) => of_tokenizer(error),
        PromptError::NoMarkLeft => Status::BadInput,
    }
}

fn of_engine(error: &EngineError) -> Status {
    match error {
        EngineError::ContextFull { .. } | EngineError::TokenOutOfRange { .. } => Status::BadInput,
        EngineError::Op(error) => of_op(error),
        _ => Status::Failed,
    }
}

fn of_submit(error: &SubmitError) -> Status {
    match error {
        SubmitError::BadSampling(_) | SubmitError::BadChoices { .. } => Status::Usage,
        SubmitError::QueueFull { .. } => Status::Failed,
        _ => Status::BadInput,
    }
}

fn of_op(error: &OpError) -> Status {
    match error {
        OpError::TokenOutOfRange { .. } => Status::BadInput,
        OpError::Undecodable { .. } => Status::Unsupported,
        OpError::WrongBytes { .. } => Status::BadFile,
        _ => Status::Failed,
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_judged_by_their_types() {
        let check = |error: anyhow::Error, expected: Status| {
            assert_eq!(Status::of(&error), expected, "{error:#}");
            assert_eq!(Status::of(&error.context("around")), expected, "in context");
        };
        check(anyhow::anyhow!("anything"), Status::Failed);
        check(Failure::Interrupted.into(), Status::Interrupted);
        check(
            io::Error::from(io::ErrorKind::BrokenPipe).into(),
            Status::Done,
        );
        check(
            io::Error::from(io::ErrorKind::StorageFull).into(),
            Status::Failed,
        );
        check(
            BindError::Unsupported("x".to_owned()).into(),
            Status::Unsupported,
        );
        check(
            TokenizerError::UnknownToken {
                id: 9,
                vocabulary: 3,
            }
            .into(),
            Status::BadInput,
        );
        check(
            OpError::TokenOutOfRange {
                token: 9,
                vocabulary: 3,
            }
            .into(),
            Status::BadInput,
        );
    }
}
