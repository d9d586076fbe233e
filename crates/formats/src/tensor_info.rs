//! One row of a file's tensor table, the same for GGUF and safetensors.

use crate::DType;

/// The type of a tensor's values, which may be one that we cannot use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorType {
    /// A type we know.
    Known(DType),
    /// The `ggml_type` of one that is newer than this program; its size is unknown too.
    Unknown(u32),
    /// The name of a safetensors type that no model of the family uses.
    Unsupported(&'static str),
}

impl TensorType {
    /// The type with this `ggml_type`.
    pub fn from_gguf_id(id: u32) -> Self {
        DType::from_gguf_id(id).map_or(Self::Unknown(id), Self::Known)
    }

    /// The type, if it is one that we know.
    pub fn known(self) -> Option<DType> {
        match self {
            Self::Known(dtype) => Some(dtype),
            Self::Unknown(_) | Self::Unsupported(_) => None,
        }
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(dtype) => dtype.fmt(f),
            Self::Unknown(id) => f.pad(&format!("unknown type {id}")),
            Self::Unsupported(name) => f.pad(name),
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
    /// Outermost dimension first (so GGUF's `ne` reversed).
    pub shape: Vec<usize>,
    /// Which file of a model of several it lies in, counted from 0.
    pub part: usize,
    /// Its first byte, counted from the start of that file.
    pub offset: u64,
    /// Its size; `None` if the type is unknown or the shape impossible.
    pub byte_len: Option<u64>,
}

impl TensorInfo {
    /// The number of values.
    pub fn value_count(&self) -> u64 {
        let dims = self.shape.iter();
        dims.fold(1, |count: u64, &dim| count.saturating_mul(dim as u64))
    }

    /// The byte just past its last one.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.byte_len.unwrap_or(0))
    }

    /// Its bytes in its file, if they are known and can be counted here.
    pub(crate) fn range(&self) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(self.offset).ok()?;
        let end = start.checked_add(usize::try_from(self.byte_len?).ok()?)?;
        Some(start..end)
    }
}
