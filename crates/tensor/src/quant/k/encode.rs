//! Packs what the searches find; the layouts are documented at the decoders.

use super::{affine, symmetric};
use crate::quant::rows::{ScaleOverflow, index_of_largest};

const Q2_K: affine::Limits = affine::Limits {
    code: 3.0,
    scale: 15.0,
    tenths: -5..=10,
};
const Q4_K: affine::Limits = affine::Limits {
    code: 15.0,
    scale: 63.0,
    tenths: -10..=10,
};
const Q5_K: affine::Limits = affine::Limits {
    code: 31.0,
    scale: 63.0,
    tenths: -5..=10,
};
const Q3_K: symmetric::Limits = symmetric::Limits {
    code: 4.0,
    scale: 32.0,
};
const Q6_K: symmetric::Limits = symmetric::Limits {
    code: 32.0,
    scale: 128.0,
};

pub(in crate::quant) fn encode_q2_k(values: &[f32; 256]) -> Result<[u8; 84], ScaleOverflow> {
    let fit = affine::fit::<16, 16>(searchable(values)?, &Q2_K)?;
    let mut block = [0; 84];
    let scales_and_mins: [u8; 16] = std::array::from_fn(|g| fit.scales[g] | fit.mins[g] << 4);
    block[..16].copy_from_slice(&scales_and_mins);
    block[16..80].copy_from_slice(&pack_twos(fit.codes.as_flattened()));
    block[80..82].copy_from_slice(&fit.d.to_le_bytes());
    block[82..84].copy_from_slice(&fit.dmin.to_le_bytes());
    Ok(block)
}

pub(in crate::quant) fn encode_q3_k(values: &[f32; 256]) -> Result<[u8; 110], ScaleOverflow> {
    let fit = symmetric::fit(searchable(values)?, &Q3_K)?;
    let codes = fit.codes.as_flattened();
    let mut block = [0; 110];
    for (v, code) in codes.iter().enumerate() {
        block[v % 32] |= (code >> 2) << (v / 32);
    }
    block[32..96].copy_from_slice(&pack_twos(codes));
    for (g, scale) in fit.scales.iter().enumerate() {
        let scale = (scale + 32) as u8;
        block[96 + g % 8] |= (scale & 15) << (g / 8 * 4);
        block[104 + g % 4] |= (scale >> 4) << (g / 4 * 2);
    }
    block[108..].copy_from_slice(&fit.d.to_le_bytes());
    Ok(block)
}

pub(in crate::quant) fn encode_q4_k(values: &[f32; 256]) -> Result<[u8; 144], ScaleOverflow> {
    let fit = affine::fit::<8, 32>(searchable(values)?, &Q4_K)?;
    let mut block = [0; 144];
    block[..2].copy_from_slice(&fit.d.to_le_bytes());
    block[2..4].copy_from_slice(&fit.dmin.to_le_bytes());
    block[4..16].copy_from_slice(&pack_scales_and_mins(&fit.scales, &fit.mins));
    block[16..].copy_from_slice(&pack_nibbles(&fit.codes));
    Ok(block)
}

pub(in crate::quant) fn encode_q5_k(values: &[f32; 256]) -> Result<[u8; 176], ScaleOverflow> {
    let fit = affine::fit::<8, 32>(searchable(values)?, &Q5_K)?;
    let mut block = [0; 176];
    block[..2].copy_from_slice(&fit.d.to_le_bytes());
    block[2..4].copy_from_slice(&fit.dmin.to_le_bytes());
    block[4..16].copy_from_slice(&pack_scales_and_mins(&fit.scales, &fit.mins));
    for (g, codes) in fit.codes.iter().enumerate() {
        for (i, code) in codes.iter().enumerate() {
            block[16 + i] |= (code >> 4) << g;
        }
    }
    block[48..].copy_from_slice(&pack_nibbles(&fit.codes));
    Ok(block)
}

pub(in crate::quant) fn encode_q6_k(values: &[f32; 256]) -> Result<[u8; 210], ScaleOverflow> {
    let fit = symmetric::fit(searchable(values)?, &Q6_K)?;
    let mut block = [0; 210];
    for (v, code) in fit.codes.as_flattened().iter().enumerate() {
        let (half, v) = (v / 128, v % 128);
        block[half * 64 + v % 64] |= (code & 15) << (v / 64 * 4);
        block[128 + half * 32 + v % 32] |= (code >> 4) << (v / 32 * 2);
    }
    block[192..208].copy_from_slice(&fit.scales.map(|scale| scale as u8));
    block[208..].copy_from_slice(&fit.d.to_le_bytes());
    Ok(block)
}

/// Scales the largest magnitude to -127, and rounds halves to even.
///
/// Values below 4e-37 become zeros, because the inverse of their scale overflows.
pub(in crate::quant) fn encode_q8_k(values: &[f32; 256]) -> Result<[u8; 292], ScaleOverflow> {
    let inverse = -127.0 / values[index_of_largest(values)];
    let mut block = [0; 292];
    if !inverse.is_finite() {
        return Ok(block);
    }
    block[..4].copy_from_slice(&inverse.recip().to_le_bytes());
    let (groups, _) = values.as_chunks::<16>();
    for (g, values) in groups.iter().enumerate() {
        let codes = values.map(|value| (inverse * value).round_ties_even() as i8);
        let sum: i16 = codes.iter().map(|code| i16::from(*code)).sum();
        block[4 + 16 * g..20 + 16 * g].copy_from_slice(&codes.map(|code| code as u8));
        block[260 + 2 * g..262 + 2 * g].copy_from_slice(&sum.to_le_bytes());
    }
    Ok(block)
}

/// Refuses values that no f16 scale could reach, before their squares overflow in a search.
fn searchable(values: &[f32; 256]) -> Result<&[f32; 256], ScaleOverflow> {
    if values[index_of_largest(values)].abs() < 1e9 {
        Ok(values)
    } else {
        Err(ScaleOverflow)
    }
}

/// Packs the low two bits of each code as in Q2_K.
fn pack_twos(codes: &[u8]) -> [u8; 64] {
    let mut packed = [0; 64];
    for (v, code) in codes.iter().enumerate() {
        packed[v / 128 * 32 + v % 32] |= (code & 3) << (v / 32 % 4 * 2);
    }
    packed
}

/// Packs the low four bits of each code as in Q4_K.
fn pack_nibbles(codes: &[[u8; 32]; 8]) -> [u8; 128] {
    std::array::from_fn(|b| {
        let (pair, i) = (b / 32 * 2, b % 32);
        codes[pair][i] & 15 | codes[pair + 1][i] << 4
    })
}

/// The inverse of [`super::unpack_scales_and_mins`].
fn pack_scales_and_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..4 {
        packed[i] = scales[i] | (scales[4 + i] >> 4) << 6;
        packed[4 + i] = mins[i] | (mins[4 + i] >> 4) << 6;
        packed[8 + i] = scales[4 + i] & 15 | mins[4 + i] << 4;
    }
    packed
}
