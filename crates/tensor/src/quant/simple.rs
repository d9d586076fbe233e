//! The first generation of ggml's types: 32 values with one scale, and perhaps a minimum.
//!
//! Codes of four bits are packed in 16 bytes: the low nibble of byte `i` is value `i`, its high
//! nibble value `i + 16`. A fifth bit lies apart, in a 32-bit word whose bit `i` is value `i`'s.

use super::rows::{ScaleOverflow, f16_at, f16_bits, field, index_of_largest};

/// Q4_0: `d * (q - 8)`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..18 | `q` | 32 nibbles |
pub(super) fn decode_q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (out, q) in out.iter_mut().zip(unpack_nibbles(field(block, 2))) {
        *out = d * f32::from(q as i8 - 8);
    }
}

/// Q4_1: `d * q + m`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..4 | `m` | minimum, f16 |
/// | 4..20 | `q` | 32 nibbles |
pub(super) fn decode_q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (out, q) in out.iter_mut().zip(unpack_nibbles(field(block, 4))) {
        *out = d * f32::from(q) + m;
    }
}

/// Q5_0: `d * (q - 16)`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..6 | `high` | fifth bits |
/// | 6..22 | `low` | 32 nibbles |
pub(super) fn decode_q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    let quants = unpack_fives(field(block, 2), field(block, 6));
    for (out, q) in out.iter_mut().zip(quants) {
        *out = d * f32::from(q as i8 - 16);
    }
}

/// Q5_1: `d * q + m`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..4 | `m` | minimum, f16 |
/// | 4..8 | `high` | fifth bits |
/// | 8..24 | `low` | 32 nibbles |
pub(super) fn decode_q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    let quants = unpack_fives(field(block, 4), field(block, 8));
    for (out, q) in out.iter_mut().zip(quants) {
        *out = d * f32::from(q) + m;
    }
}

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

/// Q8_1: `d * q`; an activation type, never in files.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..2 | `d` | scale, f16 |
/// | 2..4 | `s` | `d` times the sum of `q`, f16, for products with types that have a minimum |
/// | 4..36 | `q` | 32 signed bytes |
pub(super) fn decode_q8_1(block: &[u8; 36], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    let quants: &[u8; 32] = field(block, 4);
    for (out, q) in out.iter_mut().zip(quants) {
        *out = d * f32::from(*q as i8);
    }
}

/// Maps the largest magnitude to code 0, that is to -8, the end that reaches further.
pub(super) fn encode_q4_0(values: &[f32; 32]) -> Result<[u8; 18], ScaleOverflow> {
    let d = values[index_of_largest(values)] / -8.0;
    let inverse = inverse(d);
    let quants = values.map(|value| code(value * inverse + 8.5, 15));
    let mut block = [0; 18];
    block[..2].copy_from_slice(&f16_bits(d)?);
    block[2..].copy_from_slice(&pack_nibbles(&quants));
    Ok(block)
}

/// Maps the smallest value to code 0 and the largest to 15.
pub(super) fn encode_q4_1(values: &[f32; 32]) -> Result<[u8; 20], ScaleOverflow> {
    let (min, max) = range(values);
    let d = (max - min) / 15.0;
    let inverse = inverse(d);
    let quants = values.map(|value| code((value - min) * inverse + 0.5, 15));
    let mut block = [0; 20];
    block[..2].copy_from_slice(&f16_bits(d)?);
    block[2..4].copy_from_slice(&f16_bits(min)?);
    block[4..].copy_from_slice(&pack_nibbles(&quants));
    Ok(block)
}

/// Maps the largest magnitude to code 0, that is to -16.
pub(super) fn encode_q5_0(values: &[f32; 32]) -> Result<[u8; 22], ScaleOverflow> {
    let d = values[index_of_largest(values)] / -16.0;
    let inverse = inverse(d);
    let quants = values.map(|value| code(value * inverse + 16.5, 31));
    let mut block = [0; 22];
    block[..2].copy_from_slice(&f16_bits(d)?);
    block[2..6].copy_from_slice(&pack_fifth_bits(&quants));
    block[6..].copy_from_slice(&pack_nibbles(&quants));
    Ok(block)
}

/// Maps the smallest value to code 0 and the largest to 31.
pub(super) fn encode_q5_1(values: &[f32; 32]) -> Result<[u8; 24], ScaleOverflow> {
    let (min, max) = range(values);
    let d = (max - min) / 31.0;
    let inverse = inverse(d);
    let quants = values.map(|value| code((value - min) * inverse + 0.5, 31));
    let mut block = [0; 24];
    block[..2].copy_from_slice(&f16_bits(d)?);
    block[2..4].copy_from_slice(&f16_bits(min)?);
    block[4..8].copy_from_slice(&pack_fifth_bits(&quants));
    block[8..].copy_from_slice(&pack_nibbles(&quants));
    Ok(block)
}

/// Scales the largest magnitude to 127 and rounds halves away from zero.
pub(super) fn encode_q8_0(values: &[f32; 32]) -> Result<[u8; 34], ScaleOverflow> {
    let (d, quants) = to_signed_bytes(values);
    let mut block = [0; 34];
    block[..2].copy_from_slice(&f16_bits(d)?);
    block[2..].copy_from_slice(&quants.map(|q| q as u8));
    Ok(block)
}

/// As Q8_0, with the sum of the codes times the unrounded scale.
pub(super) fn encode_q8_1(values: &[f32; 32]) -> Result<[u8; 36], ScaleOverflow> {
    let (d, quants) = to_signed_bytes(values);
    let sum: i32 = quants.iter().map(|q| i32::from(*q)).sum();
    let mut block = [0; 36];
    block[..2].copy_from_slice(&f16_bits(d)?);
    block[2..4].copy_from_slice(&f16_bits(sum as f32 * d)?);
    block[4..].copy_from_slice(&quants.map(|q| q as u8));
    Ok(block)
}

fn to_signed_bytes(values: &[f32; 32]) -> (f32, [i8; 32]) {
    let d = values[index_of_largest(values)].abs() / 127.0;
    let inverse = inverse(d);
    (d, values.map(|value| (value * inverse).round() as i8))
}

/// `1 / d`, or 0 where that is infinite: such a scale is 0 in half precision, so that any code
/// decodes to 0.
#[inline]
fn inverse(d: f32) -> f32 {
    let inverse = d.recip();
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The integer part, from 0 to `max`.
#[inline]
fn code(value: f32, max: u8) -> u8 {
    (value as u8).min(max)
}

#[inline]
fn range(values: &[f32; 32]) -> (f32, f32) {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (min, max)
}

#[inline]
pub(super) fn unpack_nibbles(packed: &[u8; 16]) -> [u8; 32] {
    let mut codes = [0; 32];
    for (i, byte) in packed.iter().enumerate() {
        codes[i] = byte & 15;
        codes[16 + i] = byte >> 4;
    }
    codes
}

/// Packs the low four bits of each code.
#[inline]
pub(super) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| codes[i] & 15 | codes[16 + i] << 4)
}

#[inline]
fn unpack_fives(high: &[u8; 4], low: &[u8; 16]) -> [u8; 32] {
    let high = u32::from_le_bytes(*high);
    let mut codes = unpack_nibbles(low);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= ((high >> i & 1) as u8) << 4;
    }
    codes
}

#[inline]
fn pack_fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let bits = codes.iter().rev();
    bits.fold(0, |word, code| word << 1 | u32::from(code >> 4))
        .to_le_bytes()
}
