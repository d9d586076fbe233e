//! Safetensors checkpoints: one file, or the shards of `model.safetensors.index.json`.
//!
//! A file is the length of a json header, the header (name, type, shape, byte range of every
//! tensor) and the bytes. [`Checkpoint`] opens a model folder or file and hands out
//! [`crate::StoredTensor`]s that point into the memory maps; [`write()`] makes small files.
//!
//! What the tensors are called in a model is not known here.

mod checkpoint;
mod error;
mod locate;
mod shard;
mod writer;

pub use checkpoint::{Checkpoint, Examination};
pub use error::{CheckpointError, Problem};
pub use writer::{WriteError, write};
