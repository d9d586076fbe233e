//! GGUF: the single-file model format of ggml, read from a memory map and written tensor by tensor.
//!
//! A file is a header, typed key-value metadata, a table of tensors (name, shape, type, offset)
//! and then their bytes. [`GgufFile`] opens one file or all parts of a split one and hands out
//! [`crate::StoredTensor`]s that point into the map. [`Builder`] writes such files.
//!
//! Every number in a file is checked before it is used, so hostile files cost an error and no
//! more memory than a small multiple of their own size. What the keys mean, and what the bits of
//! a block mean, is not known here.

mod cursor;
mod error;
mod file;
mod metadata;
mod scan;
mod split;
mod value;
mod writer;

pub use crate::tensor_info::{TensorInfo, TensorType};
pub use error::{GgufError, Problem};
pub use file::{Examination, GgufFile};
pub use metadata::{FromValue, Metadata};
pub use split::{SplitName, split_path};
pub use value::{Array, StringArray, Value};
pub use writer::{Builder, PlannedTensor, Split, WriteError};

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// The version that [`Builder`] writes; the reader also knows 2.
pub const VERSION: u32 = 3;

/// Where tensors start when a file does not say: at multiples of 32 bytes.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// The metadata key that changes the alignment.
pub const ALIGNMENT_KEY: &str = "general.alignment";
