//! From a file's tensor names to weights: one table per format.

mod gguf;
mod hf;

pub use gguf::{config_from_gguf, weights_from_gguf};
pub use hf::{config_from_hf, split_ba, split_qkvz, weights_from_checkpoint};

use formats::{DType, StoredTensor};
use tensor::matrix::BlockScales;
use tensor::{OpError, StoredMatrix};

/// What can be wrong with a model's file beyond its format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another architecture.
    #[error("architecture {found:?} is not of the Qwen3.5 family; supported are {supported}")]
    Architecture {
        /// What the file says.
        found: String,
        /// What we have.
        supported: &'static str,
    },
    /// A member of the family with something we do not have.
    #[error("{0}")]
    Unsupported(String),
    /// Sizes that cannot be.
    #[error("{field} is {found}, expected {expected}; the file is damaged or of another family")]
    Field {
        /// The key or field.
        field: String,
        /// What would be right.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A tensor is not in the file.
    #[error("tensor {name} is missing; is this a complete download of a whole model?")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape.
    #[error("tensor {name} is {found:?}, expected {expected:?} from the file's own configuration")]
    Shape {
        /// Its name.
        name: String,
        /// What the configuration asks for.
        expected: Vec<usize>,
        /// What the file has.
        found: Vec<usize>,
    },
    /// The GGUF file is wrong.
    #[error(transparent)]
    Gguf(#[from] formats::gguf::GgufError),
    /// The checkpoint is wrong.
    #[error(transparent)]
    Checkpoint(#[from] formats::safetensors::CheckpointError),
    /// A weight cannot be used.
    #[error(transparent)]
    Op(#[from] OpError),
}

/// Where tensors come from.
trait Source {
    /// The tensor of that name, if the file has it.
    fn find(&self, name: &str) -> Result<Option<StoredTensor>, BindError>;

    /// The rows and columns that share a scale in FP8 matrices.
    fn fp8_block(&self) -> [usize; 2] {
        [128, 128]
    }
}

/// Finds tensors by name and checks their shapes.
struct Binder<'a> {
    source: &'a dyn Source,
}

impl Binder<'_> {
    fn find(&self, name: &str) -> Result<Option<StoredTensor>, BindError> {
        self.source.find(name)
    }

    fn has(&self, name: &str) -> Result<bool, BindError> {
        Ok(self.find(name)?.is_some())
    }

    /// The tensor, with the expected shape; dimensions of 1 do not count.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<StoredTensor, BindError> {
        let missing = || BindError::Missing {
            name: name.to_owned(),
        };
        let stored = self.find(name)?.ok_or_else(missing)?;
        let squeezed = |shape: &[usize]| -> Vec<usize> {
            shape.iter().copied().filter(|&dim| dim != 1).collect()
        };
        if squeezed(&stored.shape) != squeezed(shape) {
            let name = name.to_owned();
            return Err(BindError::Shape {
                name,
                expected: shape.to_vec(),
                found: stored.shape,
            });
        }
        Ok(stored)
    }

    /// A matrix `[rows, cols]` as stored; FP8 ones with their scales.
    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<StoredMatrix, BindError> {
        let StoredTensor { dtype, bytes, .. } = self.tensor(name, &[rows, cols])?;
        let matrix = StoredMatrix::from_parts(name.to_owned(), dtype, rows, cols, bytes)?;
        if dtype != DType::F8_E4M3 {
            return Ok(matrix);
        }
        let block = self.source.fp8_block();
        let scales = format!("{name}_scale_inv");
        let factors =
            self.vector_of(&scales, &[rows.div_ceil(block[0]), cols.div_ceil(block[1])])?;
        Ok(matrix.with_scales(BlockScales {
            block,
            factors: factors.into(),
        })?)
    }

    fn optional_matrix(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Option<StoredMatrix>, BindError> {
        if self.has(name)? {
            self.matrix(name, rows, cols).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Parameters as f32.
    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, BindError> {
        self.vector_of(name, &[len])
    }

    /// Parameters of several dimensions as f32, row-major.
    fn vector_of(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, BindError> {
        let StoredTensor { dtype, bytes, .. } = self.tensor(name, shape)?;
        let len = shape.iter().product();
        Ok(StoredMatrix::from_parts(name.to_owned(), dtype, 1, len, bytes)?.decode())
    }
}

/// A size from a file, checked to be at least 1 and not absurd.
fn size(field: &str, value: usize) -> Result<usize, BindError> {
    const LARGEST: usize = 1 << 24;
    if (1..=LARGEST).contains(&value) {
        return Ok(value);
    }
    Err(BindError::Field {
        field: field.to_owned(),
        expected: format!("1 to {LARGEST}"),
        found: value.to_string(),
    })
}

/// Checks that `value` is a multiple of `of`.
fn multiple(field: &str, value: usize, of: usize) -> Result<(), BindError> {
    if value.is_multiple_of(of) {
        return Ok(());
    }
    Err(BindError::Field {
        field: field.to_owned(),
        expected: format!("a multiple of {of}"),
        found: value.to_string(),
    })
}

/// Checks what the forward pass takes for granted about a configuration.
fn check(config: crate::Config) -> Result<crate::Config, BindError> {
    let (attention, delta) = (&config.attention, &config.delta);
    multiple(
        "the number of query heads",
        attention.heads,
        attention.kv_heads,
    )?;
    multiple(
        "the number of value heads",
        delta.value_heads,
        delta.key_heads,
    )?;
    multiple("the rotary width", config.rotary.dims, 2)?;
    if config.rotary.dims > attention.head_dim {
        return Err(BindError::Field {
            field: "the rotary width".to_owned(),
            expected: format!("at most the head size {}", attention.head_dim),
            found: config.rotary.dims.to_string(),
        });
    }
    if let Some(sections) = config.rotary.sections
        && sections.iter().sum::<usize>() != config.rotary.dims / 2
    {
        return Err(BindError::Field {
            field: "the rotary sections".to_owned(),
            expected: format!("a sum of {}", config.rotary.dims / 2),
            found: format!("{sections:?}"),
        });
    }
    if let crate::FeedForwardKind::Experts { count, top_k, .. } = config.feed_forward
        && top_k > count
    {
        return Err(BindError::Field {
            field: "the number of experts used".to_owned(),
            expected: format!("at most {count}"),
            found: top_k.to_string(),
        });
    }
    if !(config.rms_norm_eps > 0.0 && config.rms_norm_eps < 1.0) {
        return Err(BindError::Field {
            field: "the norm's epsilon".to_owned(),
            expected: "between 0 and 1".to_owned(),
            found: config.rms_norm_eps.to_string(),
        });
    }
    Ok(config)
}
