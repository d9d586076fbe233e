//! One row of a GGUF file's tensor table.

use crate::DType;

/// The type of a tensor's values, which may be one that is newer than this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    /// A type we know.
    Known(DType),
    /// The `ggml_type` of one we do not; its size is unknown too.
    Unknown(u32),
}

impl TensorType {
    /// The type with this `ggml_type`.
    pub fn from_gguf_id(id: u32) -> Self {
        DType::from_gguf_id(id).map_or(Self::Unknown(id), Self::Known)
    }

    /// The type, if it is known.
    pub fn known(self) -> Option<DType> {
        match self {
            Self::Known(dtype) => Some(dtype),
            Self::Unknown(_) => None,
        }
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(dtype) => dtype.fmt(f),
            Self::Unknown(id) => f.pad(&format!("unknown({id})")),
        }
    }
}

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// How its values are stored.
    pub dtype: TensorType,
    /// Outermost dimension first (the file's `ne` reversed).
    pub shape: Vec<usize>,
    /// Which part of a split model it lies in, counted from 0.
    pub part: usize,
    /// Its first byte, counted from the start of that part.
    pub offset: u64,
    /// Its size; `None` if the type is unknown or the shape impossible.
    pub byte_len: Option<u64>,
}

impl TensorInfo {
    /// The number of values, as far as it can be counted.
    pub fn value_count(&self) -> u64 {
        self.shape
            .iter()
            .fold(1, |count: u64, &dim| count.saturating_mul(dim as u64))
    }
}
