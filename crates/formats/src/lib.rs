//! Model files: bytes in, named, typed and bounds-checked ranges out.
//!
//! Reads and writes GGUF, reads safetensors and Hugging Face json. Does no maths and starts no
//! threads: decoding a block is `tensor`'s work.

pub mod bytes;
pub mod dtype;
pub mod gguf;
mod replace;
mod sniff;

pub use bytes::SharedBytes;
pub use dtype::DType;
pub use sniff::Looks;

/// A tensor as it lies in a file: name, type, shape and bytes.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// The name in the file.
    pub name: String,
    /// How its values are stored.
    pub dtype: DType,
    /// Outermost dimension first, the last one contiguous (so GGUF's `ne` reversed).
    pub shape: Vec<usize>,
    /// Exactly `dtype.bytes_for(shape)` bytes.
    pub bytes: SharedBytes,
}

impl StoredTensor {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
