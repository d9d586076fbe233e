//! MXFP4 and NVFP4: 4-bit floats (E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives) with small
//! floats as scales.

use super::codebooks::E2M1_DOUBLED;
use super::float::{e8m0_to_f32_halved, f32_to_ue4m3, ue4m3_to_f32_halved};
use super::rows::{ScaleOverflow, field, index_of_largest};
use super::simple::{pack_nibbles, unpack_nibbles};

/// MXFP4: 32 values, `2^(e - 127) * E2M1[q]`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..1 | `e` | exponent of the scale, E8M0 |
/// | 1..17 | `q` | nibbles: 16 low ones, then 16 high ones |
pub(super) fn decode_mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let half_scale = e8m0_to_f32_halved(block[0]);
    for (out, q) in out.iter_mut().zip(unpack_nibbles(field(block, 1))) {
        *out = half_scale * f32::from(E2M1_DOUBLED[usize::from(q)]);
    }
}

/// NVFP4: 4 groups of 16, `scale * E2M1[q]`. The scale of the whole tensor is stored elsewhere.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..4 | `scales` | one a group, E4M3 without sign |
/// | 4..36 | `q` | 8 bytes a group: 8 low nibbles, then 8 high ones |
pub(super) fn decode_nvfp4(block: &[u8; 36], out: &mut [f32; 64]) {
    let (groups, _) = out.as_chunks_mut::<16>();
    for (g, out) in groups.iter_mut().enumerate() {
        let half_scale = ue4m3_to_f32_halved(block[g]);
        let quants: &[u8; 8] = field(block, 4 + 8 * g);
        for i in 0..8 {
            let (low, high) = (quants[i] & 15, quants[i] >> 4);
            out[i] = half_scale * f32::from(E2M1_DOUBLED[usize::from(low)]);
            out[8 + i] = half_scale * f32::from(E2M1_DOUBLED[usize::from(high)]);
        }
    }
}

/// Takes the power of two that brings the largest magnitude to 4 .. 8, of which 6 is the most that
/// can be stored: what the specification recommends.
pub(super) fn encode_mxfp4(values: &[f32; 32]) -> Result<[u8; 17], ScaleOverflow> {
    let largest = values[index_of_largest(values)].abs();
    let exponent = if largest > 0.0 {
        // Rounded to f32 like the reference: just below a power of two this may be the power.
        let log = f64::from(largest).log2() as f32;
        (log.floor() + 125.0) as u8
    } else {
        0
    };
    let half_scale = e8m0_to_f32_halved(exponent);
    let mut block = [0; 17];
    block[0] = exponent;
    block[1..].copy_from_slice(&pack_nibbles(
        &values.map(|value| nearest(value, half_scale)),
    ));
    Ok(block)
}

/// Scales the largest magnitude of each group to 6, the largest E2M1 value.
///
/// The bytes are ggml's but for scales at the ends of E4M3: those of 256 and more keep their mantissa
/// here, and those just below 2^-6 round up to it.
pub(super) fn encode_nvfp4(values: &[f32; 64]) -> Result<[u8; 36], ScaleOverflow> {
    let mut block = [0; 36];
    let (groups, _) = values.as_chunks::<16>();
    for (g, values) in groups.iter().enumerate() {
        let largest = values[index_of_largest(values)].abs();
        let scale = f32_to_ue4m3(largest / 6.0).ok_or(ScaleOverflow)?;
        let half_scale = ue4m3_to_f32_halved(scale);
        block[g] = scale;
        for i in 0..8 {
            let (low, high) = (
                nearest(values[i], half_scale),
                nearest(values[8 + i], half_scale),
            );
            block[4 + 8 * g + i] = low | high << 4;
        }
    }
    Ok(block)
}

/// The code whose value is nearest, the lowest one of equals.
#[inline]
fn nearest(value: f32, half_scale: f32) -> u8 {
    let mut best = (f32::INFINITY, 0);
    for (code, level) in (0..).zip(E2M1_DOUBLED) {
        let error = (half_scale * f32::from(level) - value).abs();
        if error < best.0 {
            best = (error, code);
        }
    }
    best.1
}
