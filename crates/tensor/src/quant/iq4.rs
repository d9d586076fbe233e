//! IQ4_NL and IQ4_XS: 4-bit codes for sixteen values that lie denser around zero.

use super::codebooks::IQ4;
use super::rows::{f16_at, field};
use super::simple::unpack_nibbles;

/// IQ4_NL: 32 values, `d * IQ4[q]`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..18 | `q` | nibbles: 16 low ones, then 16 high ones |
pub(super) fn decode_iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    scaled(field(block, 2), f16_at(block, 0), out);
}

/// IQ4_XS: 8 groups of 32, `d * (scale - 32) * IQ4[q]`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..4 | `high` | 2 high bits of each scale |
/// | 4..8 | `low` | 4 low bits of each scale |
/// | 8..136 | `q` | 16 bytes a group, as in IQ4_NL |
pub(super) fn decode_iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = f16_at(block, 0);
    let high = u16::from_le_bytes(*field(block, 2));
    let low: &[u8; 4] = field(block, 4);
    let (groups, _) = out.as_chunks_mut();
    for (g, out) in groups.iter_mut().enumerate() {
        let scale = low[g / 2] >> (g % 2 * 4) & 15 | ((high >> (2 * g) & 3) as u8) << 4;
        scaled(
            field(block, 8 + 16 * g),
            d * f32::from(scale as i8 - 32),
            out,
        );
    }
}

#[inline]
fn scaled(quants: &[u8; 16], scale: f32, out: &mut [f32; 32]) {
    for (out, q) in out.iter_mut().zip(unpack_nibbles(quants)) {
        *out = scale * f32::from(IQ4[usize::from(q)]);
    }
}
