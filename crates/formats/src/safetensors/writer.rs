//! Writes small safetensors files, such as logits for another program to compare.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensorError, View, serialize};

use super::shard::library_type;
use crate::replace::{NewFile, replace_all};
use crate::{DType, StoredTensor};

/// What goes wrong when a file is written.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "each message says what its variant and fields mean"
)]
pub enum WriteError {
    #[error("tensor {name:?} has type {dtype}, which safetensors does not have; decode it first")]
    BadType { name: String, dtype: DType },
    #[error("tensor {name:?} is added twice")]
    DuplicateTensor { name: String },
    #[error("{} cannot be written", path.display())]
    Format {
        path: PathBuf,
        source: SafeTensorError,
    },
    #[error("{} cannot be written", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Writes `tensors` to a file, which takes its name when it is complete.
///
/// The whole file is put together in memory first.
///
/// ```
/// use tidemill_formats::safetensors::{Checkpoint, write};
/// use tidemill_formats::StoredTensor;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("logits.safetensors");
/// let logits = StoredTensor::from_f32("logits", &[1, 2], &[0.5, -1.0]);
/// write(&path, &[logits])?;
/// assert_eq!(Checkpoint::open(&path)?.tensor("logits")?.shape, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A type that safetensors does not have, two tensors of one name, or a failure to write.
pub fn write(path: &Path, tensors: &[StoredTensor]) -> Result<(), WriteError> {
    let mut views = Vec::with_capacity(tensors.len());
    for (index, tensor) in tensors.iter().enumerate() {
        let name = tensor.name.clone();
        let dtype = tensor.dtype;
        let Some(library_dtype) = library_type(dtype) else {
            return Err(WriteError::BadType { name, dtype });
        };
        if tensors[..index].iter().any(|before| before.name == name) {
            return Err(WriteError::DuplicateTensor { name });
        }
        views.push((name, Writable(tensor, library_dtype)));
    }
    let bytes = serialize(views, None).map_err(|source| WriteError::Format {
        path: path.to_owned(),
        source,
    })?;
    let io_error = |source| WriteError::Io {
        path: path.to_owned(),
        source,
    };
    let new = NewFile::create(path).map_err(io_error)?;
    new.file().write_all(&bytes).map_err(io_error)?;
    replace_all(vec![new]).map_err(|(path, source)| WriteError::Io { path, source })
}

/// A tensor as the library wants to see it.
struct Writable<'a>(&'a StoredTensor, Dtype);

impl View for Writable<'_> {
    fn dtype(&self) -> Dtype {
        self.1
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.0.bytes)
    }

    fn data_len(&self) -> usize {
        self.0.bytes.len()
    }
}
