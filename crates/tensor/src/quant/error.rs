//! Why values could not be decoded or encoded.

use formats::DType;

/// What [`decode`](super::decode) and [`encode`](super::encode) refuse.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// The bytes and the values do not describe the same row.
    #[error(
        "{bytes} bytes do not hold {values} values of {dtype}: every {} values take {} bytes",
        .dtype.block_len(),
        .dtype.block_bytes()
    )]
    Size {
        /// The type of the row.
        dtype: DType,
        /// The length of the byte slice.
        bytes: usize,
        /// The length of the slice of values.
        values: usize,
    },
    /// The type says how bytes are stored but not which numbers they mean.
    #[error("{0} has no numeric meaning of its own, so it cannot be decoded")]
    NotDecodable(DType),
    /// There is no encoder for the type.
    #[error("{0} can be read but not written; `quant::can_encode` tells which types can")]
    NotEncodable(DType),
    /// A blocked type cannot store an infinity or a NaN.
    #[error("value {index} is {value}, but {dtype} stores finite values only")]
    NotFinite {
        /// The type to encode as.
        dtype: DType,
        /// The first such value's place in the row.
        index: usize,
        /// The value itself.
        value: f32,
    },
    /// A value is so large that its block's scale overflows.
    #[error("value {index} is {value}, too large for the scales of {dtype}")]
    TooLarge {
        /// The type to encode as.
        dtype: DType,
        /// The place in the row of the largest value of the block that failed.
        index: usize,
        /// The value itself.
        value: f32,
    },
}
