//! Q1_0: one bit a value.

use super::rows::{ScaleOverflow, f16_at, f16_bits, field};

/// Q1_0: `d` where the bit is set, `-d` where it is not.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..18 | bits | bit i of byte j belongs to value 8 j + i |
pub(super) fn decode_q1_0(block: &[u8; 18], out: &mut [f32; 128]) {
    let d = f16_at(block, 0);
    let bits: &[u8; 16] = field(block, 2);
    for (i, out) in out.iter_mut().enumerate() {
        let is_positive = bits[i / 8] >> (i % 8) & 1 == 1;
        *out = if is_positive { d } else { -d };
    }
}

/// The mean magnitude is the scale with the least squared error. Zero counts as positive.
pub(super) fn encode_q1_0(values: &[f32; 128]) -> Result<[u8; 18], ScaleOverflow> {
    let sum = values.iter().fold(0.0, |sum, value| sum + value.abs());
    let mut block = [0; 18];
    block[..2].copy_from_slice(&f16_bits(sum / 128.0)?);
    for (i, value) in values.iter().enumerate() {
        block[2 + i / 8] |= u8::from(*value >= 0.0) << (i % 8);
    }
    Ok(block)
}
