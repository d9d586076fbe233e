//! Model files: bytes in, named, typed and bounds-checked ranges out.
//!
//! Reads and writes GGUF, reads safetensors and Hugging Face json. Does no maths and starts no
//! threads: decoding a block is `tensor`'s work.

pub mod bytes;
pub mod dtype;
pub mod gguf;
pub mod hf;
mod json;
mod ram;
mod replace;
pub mod residence;
pub mod safetensors;
mod sniff;
mod tensor_info;

pub use bytes::{LargeBuffer, SharedBytes};
pub use dtype::DType;
pub use ram::Ram;
pub use residence::{LoadOptions, ResidenceError, RunTasks};
pub use sniff::Looks;
pub use tensor_info::{TensorInfo, TensorType};

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
    /// A tensor of f32 values that is not in any file yet. `shape` should have as many values.
    pub fn from_f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Self {
            name: name.to_owned(),
            dtype: DType::F32,
            shape: shape.to_vec(),
            bytes: SharedBytes::from_vec(bytes.collect()),
        }
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
