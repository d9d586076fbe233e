//! `quantization_config`: how the weights of a checkpoint are quantised.

use super::error::Problem;
use super::raw;
use super::text::checked_size;

/// How the weights of a checkpoint are quantised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HfQuantization {
    /// F8_E4M3 weights, each with a `.weight_scale_inv` to multiply by.
    Fp8 {
        /// Rows and columns that share a scale; `None` if a whole tensor does.
        weight_block_size: Option<[usize; 2]>,
        /// How activations were meant to be quantised, such as `dynamic`.
        activation_scheme: Option<String>,
        /// Modules that were left as they are.
        modules_to_not_convert: Vec<String>,
    },
    /// A method that is only known by name.
    Other {
        /// Its `quant_method`.
        method: String,
    },
}

impl HfQuantization {
    pub(super) fn from_raw(raw: raw::Quantization) -> Result<Self, Problem> {
        let method = raw.quant_method.unwrap_or_else(|| "unnamed".to_owned());
        if method != "fp8" {
            return Ok(Self::Other { method });
        }
        Ok(Self::Fp8 {
            weight_block_size: raw.weight_block_size.map(|size| block(&size)).transpose()?,
            activation_scheme: raw.activation_scheme,
            modules_to_not_convert: raw
                .modules_to_not_convert
                .or(raw.ignored_layers)
                .unwrap_or_default(),
        })
    }
}

impl std::fmt::Display for HfQuantization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fp8 {
                weight_block_size: Some([rows, columns]),
                ..
            } => write!(f, "fp8 in blocks of {rows} x {columns}"),
            Self::Fp8 { .. } => f.write_str("fp8"),
            Self::Other { method } => f.write_str(method),
        }
    }
}

fn block(size: &[usize]) -> Result<[usize; 2], Problem> {
    const FIELD: &str = "quantization_config.weight_block_size";
    let &[rows, columns] = size else {
        let found = format!("a list of {}", size.len());
        return Err(Problem::field(
            FIELD,
            found,
            "two numbers, rows and columns",
        ));
    };
    Ok([
        checked_size(FIELD, rows, 1 << 16)?,
        checked_size(FIELD, columns, 1 << 16)?,
    ])
}
