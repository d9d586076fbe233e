//! IQ2_XXS, IQ2_XS and IQ2_S: eight magnitudes at a time from a codebook of points over 8, 25 and
//! 43, with separate signs: `d * (s + 1/2) / 4 * point`, `s` a 4-bit scale.

use super::codebooks::{self, SIGNS};
use super::rows::{f16_at, field};

/// IQ2_XXS: 8 groups of 32, 256 points.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..66 | groups | 8 bytes each: 4 point numbers, then a 32-bit word of 4 sign codes of 7 bits and the scale |
pub(super) fn decode_iq2_xxs(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = f16_at(block, 0);
    let (groups, _) = out.as_chunks_mut::<32>();
    for (g, out) in groups.iter_mut().enumerate() {
        let numbers: &[u8; 4] = field(block, 2 + 8 * g);
        let word = u32::from_le_bytes(*field(block, 6 + 8 * g));
        let scale = scale(d, (word >> 28) as u8);
        let (points, _) = out.as_chunks_mut();
        for (p, out) in points.iter_mut().enumerate() {
            let signs = SIGNS[(word >> (7 * p) & 127) as usize];
            signed(
                &codebooks::IQ2_XXS[usize::from(numbers[p])],
                signs,
                scale,
                out,
            );
        }
    }
}

/// IQ2_XS: 16 groups of 16, 512 points.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..66 | points | a 16-bit word each: number of 9 bits, sign code of 7 bits |
/// | 66..74 | `scales` | a nibble a group |
pub(super) fn decode_iq2_xs(block: &[u8; 74], out: &mut [f32; 256]) {
    let d = f16_at(block, 0);
    let scales: &[u8; 8] = field(block, 66);
    let (points, _) = out.as_chunks_mut();
    for (p, out) in points.iter_mut().enumerate() {
        let word = u16::from_le_bytes(*field(block, 2 + 2 * p));
        let scale = scale(d, scales[p / 4] >> (p / 2 % 2 * 4) & 15);
        let signs = SIGNS[usize::from(word >> 9)];
        signed(
            &codebooks::IQ2_XS[usize::from(word & 511)],
            signs,
            scale,
            out,
        );
    }
}

/// IQ2_S: 16 groups of 16, 1024 points, all eight signs stored.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..34 | `low` | low 8 bits of each point's number |
/// | 34..66 | `signs` | a byte a point |
/// | 66..74 | `high` | 2 bits a point |
/// | 74..82 | `scales` | a nibble a group |
pub(super) fn decode_iq2_s(block: &[u8; 82], out: &mut [f32; 256]) {
    let d = f16_at(block, 0);
    let low: &[u8; 32] = field(block, 2);
    let signs: &[u8; 32] = field(block, 34);
    let high: &[u8; 8] = field(block, 66);
    let scales: &[u8; 8] = field(block, 74);
    let (points, _) = out.as_chunks_mut();
    for (p, out) in points.iter_mut().enumerate() {
        let scale = scale(d, scales[p / 4] >> (p / 2 % 2 * 4) & 15);
        let number = u16::from(low[p]) | u16::from(high[p / 4] >> (p % 4 * 2) & 3) << 8;
        signed(&codebooks::IQ2_S[usize::from(number)], signs[p], scale, out);
    }
}

#[inline]
fn scale(d: f32, s: u8) -> f32 {
    d * (0.5 + f32::from(s)) * 0.25
}

/// `scale * point`, negated where the bit of `signs` is set.
#[inline]
pub(super) fn signed<const LEN: usize>(
    point: &[i8; LEN],
    signs: u8,
    scale: f32,
    out: &mut [f32; LEN],
) {
    for (i, (out, level)) in out.iter_mut().zip(point).enumerate() {
        let sign = u32::from(signs >> i & 1) << 31;
        *out = f32::from_bits((scale * f32::from(*level)).to_bits() ^ sign);
    }
}
