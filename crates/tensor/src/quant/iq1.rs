//! IQ1_S and IQ1_M: eight values at a time from a codebook of 2048 points over -1, 0 and 1, all
//! shifted by an eighth up or down: `d * scale * (point + delta)`.

use super::codebooks;
use super::float::f16_to_f32;
use super::rows::{f16_at, field};

const DELTA: f32 = 0.125;

/// IQ1_S: 8 groups of 32.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..34 | `low` | low 8 bits of each point's number |
/// | 34..50 | `high` | one 16-bit word a group: 4 times 3 high bits, a scale `s` of 3 bits (`2 s + 1`), the sign of delta |
pub(super) fn decode_iq1_s(block: &[u8; 50], out: &mut [f32; 256]) {
    let d = f16_at(block, 0);
    let low: &[u8; 32] = field(block, 2);
    let (points, _) = out.as_chunks_mut::<8>();
    for (p, out) in points.iter_mut().enumerate() {
        let high = u16::from_le_bytes(*field(block, 34 + p / 4 * 2));
        let scale = d * f32::from(2 * (high >> 12 & 7) + 1);
        let number = u16::from(low[p]) | (high >> (p % 4 * 3) & 7) << 8;
        shifted(number, high & 0x8000 != 0, scale, out);
    }
}

/// IQ1_M: 16 groups of 16.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..32 | `low` | low 8 bits of each point's number |
/// | 32..48 | `high` | a nibble a point: 3 high bits, then the sign of delta |
/// | 48..56 | `scales` | four 16-bit words: 4 times 3 bits `s` (`2 s + 1`), then 4 bits of the f16 `d`, lowest first |
pub(super) fn decode_iq1_m(block: &[u8; 56], out: &mut [f32; 256]) {
    let low: &[u8; 32] = field(block, 0);
    let high: &[u8; 16] = field(block, 32);
    let words: [u16; 4] = std::array::from_fn(|i| u16::from_le_bytes(*field(block, 48 + 2 * i)));
    let d_bits = words.iter().rev().fold(0, |bits, w| bits << 4 | w >> 12);
    let d = f16_to_f32(d_bits);
    let (points, _) = out.as_chunks_mut::<8>();
    for (p, out) in points.iter_mut().enumerate() {
        let group = p / 2;
        let scale = d * f32::from(2 * (words[group / 4] >> (group % 4 * 3) & 7) + 1);
        let high = high[p / 2] >> (p % 2 * 4);
        let number = u16::from(low[p]) | u16::from(high & 7) << 8;
        shifted(number, high & 8 != 0, scale, out);
    }
}

#[inline]
fn shifted(number: u16, is_delta_negative: bool, scale: f32, out: &mut [f32; 8]) {
    let delta = if is_delta_negative { -DELTA } else { DELTA };
    let point = &codebooks::IQ1[usize::from(number)];
    for (out, level) in out.iter_mut().zip(point) {
        *out = scale * (f32::from(*level) + delta);
    }
}
