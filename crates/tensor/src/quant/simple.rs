//! The first generation of ggml's types: 32 values with one scale, and perhaps a minimum.
//!
//! Where a byte holds two values, its low nibble is value `i` and its high nibble value `i + 16`.

use super::rows::{ScaleOverflow, f16_at, f16_bits, field, index_of_largest};

/// Q8_0: `d * q`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..34 | `q` | 32 signed bytes |
pub(super) fn decode_q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    let quants: &[u8; 32] = field(block, 2);
    for (out, q) in out.iter_mut().zip(quants) {
        *out = d * f32::from(*q as i8);
    }
}

/// Scales the largest magnitude to 127 and rounds halves away from zero.
pub(super) fn encode_q8_0(values: &[f32; 32]) -> Result<[u8; 34], ScaleOverflow> {
    let d = values[index_of_largest(values)].abs() / 127.0;
    let inverse = inverse(d);
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16_bits(d)?);
    for (q, value) in block[2..].iter_mut().zip(values) {
        *q = (value * inverse).round() as i8 as u8;
    }
    Ok(block)
}

/// `1 / d`, or 0 where that is infinite: such a scale is 0 in half precision, so that any code
/// decodes to 0.
#[inline]
fn inverse(d: f32) -> f32 {
    let inverse = d.recip();
    if inverse.is_finite() { inverse } else { 0.0 }
}
