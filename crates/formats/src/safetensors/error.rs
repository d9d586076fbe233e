//! What can be wrong with a safetensors checkpoint.

use std::path::PathBuf;

use crate::sniff::Looks;

/// A problem and the file that has it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct CheckpointError {
    /// The file or folder.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: Box<Problem>,
}

impl CheckpointError {
    pub(super) fn new(file: impl Into<PathBuf>, problem: Problem) -> Self {
        Self {
            file: file.into(),
            problem: Box::new(problem),
        }
    }
}

/// What is wrong, where, and what to try.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "each message says what its variant and fields mean; offsets and lengths are bytes"
)]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Io(std::io::Error),
    #[error(
        "has no model.safetensors.index.json, no model.safetensors and no other .safetensors file; name the folder of a downloaded checkpoint, or a GGUF file by itself"
    )]
    NothingThere,
    #[error(
        "has {count} .safetensors files but no model.safetensors.index.json that says how they belong together; download it, or name one file"
    )]
    NoIndex { count: usize },
    #[error(
        "is one of {count} shards, but there is no {index:?} beside it that says how they belong together; download it"
    )]
    NoIndexForShard { count: usize, index: String },
    #[error("has {length} bytes, at most {limit} are allowed for a json file")]
    JsonTooLarge { length: u64, limit: u64 },
    #[error("is not the index of a checkpoint: {0}")]
    BadIndex(String),
    #[error("names the file {name:?}, expected a plain file name in the same folder")]
    BadShardName { name: String },
    #[error(
        "is missing: {tensors} tensors are in it, {first:?} for one; download it into the same folder"
    )]
    MissingShard { tensors: usize, first: String },
    #[error(
        "has no tensor {name:?}, although the index says so; download the checkpoint again, all from one place"
    )]
    NotInShard { name: String },
    #[error("is not a safetensors file: {0}")]
    NotSafetensors(Looks),
    #[error("header has {length} bytes, at most {limit} are allowed")]
    HeaderTooLarge { length: u64, limit: u64 },
    #[error("ends early: the header has {needed} bytes, {left} are left; download the file again")]
    HeaderCut { needed: u64, left: u64 },
    #[error("header is damaged: {0}")]
    BadHeader(String),
    #[error(
        "tensor {name:?} of type {dtype} and shape {shape:?} is given {found} bytes, expected {expected}"
    )]
    WrongSize {
        name: String,
        dtype: &'static str,
        shape: Vec<usize>,
        found: u64,
        expected: u64,
    },
    #[error(
        "is cut off: it has {length} bytes and {cut} of {tensors} tensors need more ({missing} bytes are missing, first in {first:?}); download the file again"
    )]
    Truncated {
        length: u64,
        missing: u64,
        cut: usize,
        tensors: usize,
        first: String,
    },
    #[error("tensor {name:?} lies at bytes {start}..{end}, but the file ends at {length} ({} bytes are missing)", end - (*length).clamp(*start, *end))]
    TensorCut {
        name: String,
        start: u64,
        end: u64,
        length: u64,
    },
    #[error("has {extra} bytes after its last tensor; download the file again")]
    TrailingBytes { extra: u64 },
    #[error("has no tensor {name:?}")]
    NoSuchTensor { name: String },
    #[error(
        "tensor {name:?} has the type {dtype}, which this program cannot use; convert the checkpoint to BF16"
    )]
    UnsupportedType { name: String, dtype: &'static str },
}
