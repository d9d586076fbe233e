//! IQ4_NL and IQ4_XS: 4-bit codes for sixteen values that lie denser around zero.

use super::codebooks::IQ4;
use super::rows::{ScaleOverflow, f16_at, f16_scale, field, index_of_largest};
use super::simple::{pack_nibbles, unpack_nibbles};

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

/// Maps the largest magnitude to near the ends of the table, in several ways, and takes the one that
/// has the least squared error once its scale is fitted to its codes.
pub(super) fn encode_iq4_nl(values: &[f32; 32]) -> Result<[u8; 18], ScaleOverflow> {
    let largest = values[index_of_largest(values)];
    let mut block = [0; 18];
    if largest.abs() < 1e-20 {
        block[2..].fill(0x88); // a scale of 0; the value nearest to zero, for good measure
        return Ok(block);
    }
    if largest.abs() > 1e9 {
        return Err(ScaleOverflow); // squares would overflow below
    }
    let mut best = (f32::NEG_INFINITY, 0.0);
    for end in (-134..=-120).chain(106..=120) {
        let inverse = end as f32 / largest;
        let (mut wxq, mut wqq) = (0.0, 0.0);
        for x in values {
            let level = f32::from(IQ4[usize::from(nearest(x * inverse))]);
            wxq += x * level;
            wqq += level * level;
        }
        // The squared error is the sum of x^2 less this.
        let explained = wxq * wxq / wqq;
        if explained > best.0 {
            best = (explained, wxq / wqq);
        }
    }
    let d = f16_scale(best.1)?;
    block[..2].copy_from_slice(&d.to_le_bytes());
    block[2..].copy_from_slice(&pack_nibbles(&values.map(|x| nearest(x / d.to_f32()))));
    Ok(block)
}

/// The code whose value is nearest: how many midpoints between neighbours are below.
#[inline]
fn nearest(level: f32) -> u8 {
    let below = |pair: &[i8]| 2.0 * level > f32::from(i16::from(pair[0]) + i16::from(pair[1]));
    IQ4.windows(2).map(|pair| u8::from(below(pair))).sum()
}
