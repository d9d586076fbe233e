//! What can be wrong with a GGUF file.

use std::path::PathBuf;

use crate::sniff::Looks;
use crate::tensor_info::TensorType;

/// A problem and the file that has it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct GgufError {
    /// The file, or the name that was given to bytes in memory.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: Box<Problem>,
}

impl GgufError {
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
    #[error("is not a GGUF file: {0}")]
    NotGguf(Looks),
    #[error(
        "is GGUF version {version}; versions 2 and 3 can be read, convert the model again with a current converter"
    )]
    Version { version: u32 },
    #[error(
        "is a big-endian GGUF file; only little-endian files can be read, convert the model again without --bigendian"
    )]
    BigEndian,
    #[error(
        "ends early: {what} at byte {offset} needs {needed} bytes, {left} left; download the file again"
    )]
    EndsEarly {
        what: &'static str,
        offset: u64,
        needed: u64,
        left: u64,
    },
    #[error(
        "{what} at byte {offset} is {count}, more than the {left} bytes left could hold; the file is cut off or damaged, download it again"
    )]
    CountTooLarge {
        what: &'static str,
        offset: u64,
        count: u64,
        left: u64,
    },
    #[error(
        "{what} at byte {offset} is not valid UTF-8; the file is damaged or was written by a broken converter"
    )]
    NotUtf8 { what: &'static str, offset: u64 },
    #[error("{what} at byte {offset} is {length} bytes long, at most 65535 are allowed")]
    NameTooLong {
        what: &'static str,
        offset: u64,
        length: u64,
    },
    #[error("value type {id} at byte {offset} is unknown, expected 0 to 12")]
    UnknownValueType { id: u32, offset: u64 },
    #[error("boolean at byte {offset} is {value}, expected 0 or 1")]
    BadBool { value: u8, offset: u64 },
    #[error("array at byte {offset} is nested more than {limit} deep")]
    NestedTooDeep { offset: u64, limit: usize },
    #[error("metadata key {key:?}: {problem}")]
    InKey { key: String, problem: Box<Problem> },
    #[error("metadata key {key:?} appears twice, again at byte {offset}")]
    DuplicateKey { key: String, offset: u64 },
    #[error("metadata has no {key:?}, expected {expected}")]
    MissingKey { key: String, expected: &'static str },
    #[error("metadata key {key:?} is {found}, expected {expected}")]
    WrongType {
        key: String,
        expected: &'static str,
        found: String,
    },
    #[error("metadata key {key:?} has {found} values, expected one or {expected}")]
    WrongLength {
        key: String,
        expected: usize,
        found: usize,
    },
    #[error("alignment is {found}, expected a power of two")]
    BadAlignment { found: String },
    #[error("tensor {name:?} appears twice{}", part_of(*other_part))]
    DuplicateTensor {
        name: String,
        /// The part that has it too, when that is another one.
        other_part: Option<usize>,
    },
    #[error("tensor {name:?} has {dims} dimensions, at most 4 are allowed")]
    TooManyDims { name: String, dims: u32 },
    #[error("tensor {name:?} of type {dtype} cannot have shape {shape:?}: {why}")]
    BadShape {
        name: String,
        dtype: TensorType,
        /// Outermost dimension first.
        shape: Vec<u64>,
        why: &'static str,
    },
    #[error(
        "tensor {name:?} starts at offset {offset} of the data, expected a multiple of {alignment}"
    )]
    Misaligned {
        name: String,
        offset: u64,
        alignment: u64,
    },
    #[error(
        "tensor {name:?} starts at byte {offset}, within tensor {other:?} which ends at {other_end}"
    )]
    Overlap {
        name: String,
        offset: u64,
        other: String,
        other_end: u64,
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
    #[error("tensor {name:?} has an {dtype}; a newer version of this program may know it")]
    UnknownTensorType { name: String, dtype: TensorType },
    #[error("has no tensor {name:?}")]
    NoSuchTensor { name: String },
    #[error(
        "is one of {count} parts of a split model, but its name does not end in -00001-of-{count:05}.gguf, so the others cannot be found; give the files their original names"
    )]
    SplitName { count: u64 },
    #[error(
        "is missing: it is part {part} of {count} of a split model; download it into the same folder"
    )]
    MissingPart { part: usize, count: usize },
    #[error(
        "says it is part {found_no} of {found_count}, expected {no} of {count} as in its name; it belongs to another download or was renamed"
    )]
    WrongPart {
        found_no: u64,
        found_count: u64,
        no: usize,
        count: usize,
    },
    #[error(
        "promises {expected} tensors over all parts, but there are {found}; download the parts again, all from one place"
    )]
    WrongTensorCount { expected: u64, found: usize },
}

fn part_of(other: Option<usize>) -> String {
    match other {
        Some(part) => format!(", also in part {}", part + 1),
        None => String::new(),
    }
}
