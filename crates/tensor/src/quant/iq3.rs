//! IQ3_XXS and IQ3_S: four magnitudes at a time from a codebook of points over eight levels, with
//! separate signs.

use super::codebooks::{self, SIGNS};
use super::iq2::signed;
use super::rows::{f16_at, field};

/// IQ3_XXS: 8 groups of 32, 256 points, `d * (s + 1/2) / 2 * point`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..66 | `numbers` | a byte a point |
/// | 66..98 | words | a 32-bit word a group: 4 sign codes of 7 bits for 8 values each, scale `s` of 4 bits |
pub(super) fn decode_iq3_xxs(block: &[u8; 98], out: &mut [f32; 256]) {
    let d = f16_at(block, 0);
    let numbers: &[u8; 64] = field(block, 2);
    let (points, _) = out.as_chunks_mut();
    for (p, out) in points.iter_mut().enumerate() {
        let word = u32::from_le_bytes(*field(block, 66 + p / 8 * 4));
        let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
        let signs = SIGNS[(word >> (p / 2 % 4 * 7) & 127) as usize] >> (p % 2 * 4);
        signed(
            &codebooks::IQ3_XXS[usize::from(numbers[p])],
            signs,
            scale,
            out,
        );
    }
}

/// IQ3_S: 8 groups of 32, 512 points, `d * (2 s + 1) * point`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..66 | `low` | low 8 bits of each point's number |
/// | 66..74 | `high` | ninth bits, lowest first |
/// | 74..106 | `signs` | a bit a value |
/// | 106..110 | `scales` | 4 bits `s` a group |
pub(super) fn decode_iq3_s(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = f16_at(block, 0);
    let low: &[u8; 64] = field(block, 2);
    let high: &[u8; 8] = field(block, 66);
    let signs: &[u8; 32] = field(block, 74);
    let scales: &[u8; 4] = field(block, 106);
    let (points, _) = out.as_chunks_mut();
    for (p, out) in points.iter_mut().enumerate() {
        let scale = d * f32::from(2 * (scales[p / 16] >> (p / 8 % 2 * 4) & 15) + 1);
        let number = u16::from(low[p]) | u16::from(high[p / 8] >> (p % 8) & 1) << 8;
        let signs = signs[p / 2] >> (p % 2 * 4);
        signed(&codebooks::IQ3_S[usize::from(number)], signs, scale, out);
    }
}
