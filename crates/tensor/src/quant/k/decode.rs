//! Decoders of the K types, with the layouts of their blocks.

use crate::quant::rows::{f16_at, field};

/// The eight 6-bit scales and eight 6-bit minima of Q4_K and Q5_K, in group order.
///
/// The low six bits of bytes 0..4 are scales 0..4, those of bytes 4..8 minima 0..4. Byte 8 + i has
/// the low nibble of scale 4 + i below that of minimum 4 + i; their two high bits are the top bits
/// of bytes i and 4 + i.
#[inline]
pub(in crate::quant) fn unpack_scales_and_mins(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for i in 0..4 {
        let (scale, min, high) = (packed[i], packed[4 + i], packed[8 + i]);
        scales[i] = scale & 63;
        mins[i] = min & 63;
        scales[4 + i] = high & 15 | (scale >> 6) << 4;
        mins[4 + i] = high >> 4 | (min >> 6) << 4;
    }
    (scales, mins)
}

/// Q2_K: 16 groups of 16, `d * scale * q - dmin * min`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..16 | `scales` | a byte a group: scale in the low nibble, minimum in the high one |
/// | 16..80 | `q` | 2 bits each; a half of 128 values takes 32 bytes, its value 32 k + i in bits 2 k and 2 k + 1 of byte i |
/// | 80..82 | `d` | scale of the scales, f16 |
/// | 82..84 | `dmin` | scale of the minima, f16 |
pub(in crate::quant) fn decode_q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    let (groups, _) = out.as_chunks_mut::<16>();
    for (g, out) in groups.iter_mut().enumerate() {
        let (scale, min) = (
            d * f32::from(block[g] & 15),
            dmin * f32::from(block[g] >> 4),
        );
        let quants: &[u8; 16] = field(block, 16 + g / 8 * 32 + g % 2 * 16);
        let shift = g / 2 % 4 * 2;
        for (out, q) in out.iter_mut().zip(quants) {
            *out = scale * f32::from(q >> shift & 3) - min;
        }
    }
}

/// The sixteen 6-bit scales of Q3_K, in group order and still with their offset of 32.
///
/// The low nibbles of bytes 0..8 begin scales 0..8, the high ones scales 8..16. Byte 8 + i has the
/// two high bits of scales i, 4 + i, 8 + i and 12 + i, lowest first.
#[inline]
pub(in crate::quant) fn unpack_q3_scales(packed: &[u8; 12]) -> [u8; 16] {
    std::array::from_fn(|g| {
        let low = packed[g % 8] >> (g / 8 * 4) & 15;
        let high = packed[8 + g % 4] >> (g / 4 * 2) & 3;
        low | high << 4
    })
}

/// Q3_K: 16 groups of 16, `d * (scale - 32) * (q - 4)`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..32 | `high` | third bits: bit k of byte i belongs to value 32 k + i |
/// | 32..96 | `low` | low 2 bits, as in Q2_K |
/// | 96..108 | `scales` | 16 scales of 6 bits, see [`unpack_q3_scales`] |
/// | 108..110 | `d` | scale of the scales, f16 |
pub(in crate::quant) fn decode_q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = f16_at(block, 108);
    let scales = unpack_q3_scales(field(block, 96));
    let (groups, _) = out.as_chunks_mut::<16>();
    for (g, out) in groups.iter_mut().enumerate() {
        let scale = d * f32::from(scales[g] as i8 - 32);
        let high: &[u8; 16] = field(block, g % 2 * 16);
        let low: &[u8; 16] = field(block, 32 + g / 8 * 32 + g % 2 * 16);
        let shift = g / 2 % 4 * 2;
        for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
            let q = low >> shift & 3 | (high >> (g / 2) & 1) << 2;
            *out = scale * f32::from(q as i8 - 4);
        }
    }
}

/// Q4_K: 8 groups of 32, `d * scale * q - dmin * min`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale of the scales, f16 |
/// | 2..4 | `dmin` | scale of the minima, f16 |
/// | 4..16 | `scales` | 8 scales and 8 minima of 6 bits, see [`unpack_scales_and_mins`] |
/// | 16..144 | `q` | 4 bits each; every 32 bytes hold one group in the low nibbles and the next in the high ones |
pub(in crate::quant) fn decode_q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (scales, mins) = unpack_scales_and_mins(field(block, 4));
    let quants: &[u8; 128] = field(block, 16);
    let (groups, _) = out.as_chunks_mut::<32>();
    for (g, out) in groups.iter_mut().enumerate() {
        let (scale, min) = (d * f32::from(scales[g]), dmin * f32::from(mins[g]));
        let low: &[u8; 32] = field(quants, g / 2 * 32);
        let shift = g % 2 * 4;
        for (out, low) in out.iter_mut().zip(low) {
            *out = scale * f32::from(low >> shift & 15) - min;
        }
    }
}

/// Q5_K: 8 groups of 32, `d * scale * q - dmin * min`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale of the scales, f16 |
/// | 2..4 | `dmin` | scale of the minima, f16 |
/// | 4..16 | `scales` | as in Q4_K |
/// | 16..48 | `high` | fifth bits: bit g of byte i belongs to value i of group g |
/// | 48..176 | `low` | low 4 bits, as in Q4_K |
pub(in crate::quant) fn decode_q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (scales, mins) = unpack_scales_and_mins(field(block, 4));
    let high: &[u8; 32] = field(block, 16);
    let quants: &[u8; 128] = field(block, 48);
    let (groups, _) = out.as_chunks_mut::<32>();
    for (g, out) in groups.iter_mut().enumerate() {
        let (scale, min) = (d * f32::from(scales[g]), dmin * f32::from(mins[g]));
        let low: &[u8; 32] = field(quants, g / 2 * 32);
        let shift = g % 2 * 4;
        for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
            let q = low >> shift & 15 | (high >> g & 1) << 4;
            *out = scale * f32::from(q) - min;
        }
    }
}

/// Q6_K: 16 groups of 16, `d * scale * (q - 32)`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..128 | `low` | low 4 bits; each half of 128 values takes 64 bytes, its first 64 values in the low nibbles |
/// | 128..192 | `high` | bits 4 and 5; each half takes 32 bytes, its values 32 k + i in bits 2 k and 2 k + 1 of byte i |
/// | 192..208 | `scales` | 16 signed bytes |
/// | 208..210 | `d` | scale of the scales, f16 |
pub(in crate::quant) fn decode_q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = f16_at(block, 208);
    let scales: &[u8; 16] = field(block, 192);
    let (runs, _) = out.as_chunks_mut::<32>();
    for (run, out) in runs.iter_mut().enumerate() {
        let (half, quarter) = (run / 4, run % 4);
        let low: &[u8; 32] = field(block, half * 64 + quarter % 2 * 32);
        let high: &[u8; 32] = field(block, 128 + half * 32);
        let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
        for group in 0..2 {
            let scale = d * f32::from(scales[run * 2 + group] as i8);
            for i in group * 16..group * 16 + 16 {
                let q = low[i] >> low_shift & 15 | (high[i] >> high_shift & 3) << 4;
                out[i] = scale * f32::from(q as i8 - 32);
            }
        }
    }
}

/// Q8_K: `d * q`; an activation type, never in files.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..4 | `d` | scale, f32 |
/// | 4..260 | `q` | 256 signed bytes |
/// | 260..292 | sums | the sum of each 16 codes, i16, for products with types that have a minimum |
pub(in crate::quant) fn decode_q8_k(block: &[u8; 292], out: &mut [f32; 256]) {
    let d = f32::from_le_bytes(*field(block, 0));
    let quants: &[u8; 256] = field(block, 4);
    for (out, q) in out.iter_mut().zip(quants) {
        *out = d * f32::from(*q as i8);
    }
}
