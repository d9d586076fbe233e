//! Why a model cannot be had.

use std::io;
use std::path::PathBuf;

use crate::exit::Failure;
use crate::output;

/// Why a model of the Hub cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    /// What was written is no name.
    #[error("{0:?} names no model; expected such as owner/model or owner/model:Q4_K_M")]
    Name(String),
    /// A file was named, and not of which model.
    #[error("--hf-file {0:?} is a file of no model; name one with -hf owner/model")]
    NoRepositoryNamed(String),
    /// A variable of the environment makes no sense.
    #[error("{name} is {value:?}; expected {expected}")]
    Setting {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    /// There is no such repository, or none that we may know of.
    #[error("{0}")]
    NoRepository(String),
    /// The repository is there, but nobody may have it without having asked.
    #[error(
        "{repository} is given only to those who ask: do so at {endpoint}/{repository}, {token}"
    )]
    Gated {
        repository: String,
        endpoint: String,
        token: &'static str,
    },
    /// The token is not known to the Hub.
    #[error(
        "the token was refused: {endpoint}/settings/tokens shows which are valid; without any, \
         unset HF_TOKEN and remove {}",
        file.display()
    )]
    Token { endpoint: String, file: PathBuf },
    /// The repository has no such file.
    #[error("{name}: {why}")]
    NoFile { name: String, why: String },
    /// Only what is there already may be used, and it is not there.
    #[error("{name} is not in the cache ({}), and nothing may be fetched{cached}", folder.display())]
    Offline {
        name: String,
        folder: PathBuf,
        cached: String,
    },
    /// The Hub cannot be reached.
    #[error("{host} cannot be reached: {why}{cached}")]
    Network {
        host: String,
        why: String,
        cached: String,
    },
    /// The Hub answered what we cannot make sense of.
    #[error("{what}: {why}")]
    Answer { what: String, why: String },
    /// The file came, but is not what was promised.
    #[error(
        "{path} came twice with a wrong checksum: {found} instead of {expected}; the file at \
         the Hub, or a proxy on the way, is damaged"
    )]
    Checksum {
        path: String,
        found: String,
        expected: String,
    },
    /// There is no room for it.
    #[error(
        "{} more are needed in {}, and {} are free; HF_HUB_CACHE names another folder",
        output::bytes(*needed), folder.display(), output::bytes(*free)
    )]
    Space {
        needed: u64,
        free: u64,
        folder: PathBuf,
    },
    /// The cache cannot be written.
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Ctrl-C. What has come so far stays.
    #[error("interrupted")]
    Interrupted,
}

impl HubError {
    /// Says which file or folder could not be written.
    pub(super) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Write { path, source }
    }
}

impl From<Failure> for HubError {
    /// Of [`crate::interrupt::check`], whose only failure it is.
    fn from(_: Failure) -> Self {
        Self::Interrupted
    }
}
