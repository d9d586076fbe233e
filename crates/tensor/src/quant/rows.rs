//! From one block to a row of them.
//!
//! A type is described by one function per direction over arrays of the block's exact size; these
//! drivers run it over a row. They are compiled once per type, so that within a row nothing is
//! dispatched and every index is known to be in bounds.

use formats::DType;
use half::f16;

use super::QuantError;

/// Decodes as many blocks as there are. The caller has checked that bytes and values match.
#[inline]
pub(super) fn decode<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (blocks, _) = bytes.as_chunks();
    let (outs, _) = out.as_chunks_mut();
    for (bytes, out) in blocks.iter().zip(outs) {
        block(bytes, out);
    }
}

/// Encodes as many blocks as there are. The caller has checked that bytes and values match.
///
/// # Errors
/// [`QuantError::NotFinite`] and [`QuantError::TooLarge`], with the place of the first such value;
/// what was written before it stays.
#[inline]
pub(super) fn encode<const BYTES: usize, const LEN: usize>(
    dtype: DType,
    values: &[f32],
    out: &mut [u8],
    block: impl Fn(&[f32; LEN]) -> Result<[u8; BYTES], ScaleOverflow>,
) -> Result<(), QuantError> {
    let (blocks, _) = values.as_chunks();
    let (outs, _) = out.as_chunks_mut();
    for (number, (values, out)) in blocks.iter().zip(outs).enumerate() {
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let (index, value) = (number * LEN + at, values[at]);
            return Err(QuantError::NotFinite {
                dtype,
                index,
                value,
            });
        }
        *out = block(values).map_err(|ScaleOverflow| {
            let at = index_of_largest(values);
            let (index, value) = (number * LEN + at, values[at]);
            QuantError::TooLarge {
                dtype,
                index,
                value,
            }
        })?;
    }
    Ok(())
}

/// A block's scale is beyond what its field can store.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScaleOverflow;

/// A scale in half precision, rounded to nearest even.
#[inline]
pub(super) fn f16_scale(scale: f32) -> Result<f16, ScaleOverflow> {
    let half = f16::from_f32(scale);
    if half.is_finite() {
        Ok(half)
    } else {
        Err(ScaleOverflow)
    }
}

/// The bits of [`f16_scale`].
#[inline]
pub(super) fn f16_bits(scale: f32) -> Result<[u8; 2], ScaleOverflow> {
    f16_scale(scale).map(f16::to_le_bytes)
}

/// The place of the value with the largest magnitude, the first one of equals.
#[inline]
pub(super) fn index_of_largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if value.abs() > values[best].abs() {
            best = index;
        }
    }
    best
}

/// `N` bytes of a block from a fixed offset. Compiles to nothing.
#[inline(always)]
pub(super) fn field<const N: usize>(block: &[u8], offset: usize) -> &[u8; N] {
    block[offset..offset + N]
        .try_into()
        .expect("the slice is N bytes long")
}

/// The half-precision number at a fixed offset of a block.
#[inline(always)]
pub(super) fn f16_at(block: &[u8], offset: usize) -> f32 {
    super::float::f16_to_f32(u16::from_le_bytes(*field(block, offset)))
}
