//! Types that store each value by itself: floats and integers.

use half::{bf16, f16};

use super::float::{bf16_to_f32, f8_e4m3_to_f32, f16_to_f32};

/// Decodes values of `BYTES` bytes each, one by one.
#[inline]
pub(super) fn decode<const BYTES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    value: impl Fn([u8; BYTES]) -> f32,
) {
    let (stored, _) = bytes.as_chunks();
    for (bytes, out) in stored.iter().zip(out) {
        *out = value(*bytes);
    }
}

/// Encodes values to `BYTES` bytes each, one by one.
#[inline]
pub(super) fn encode<const BYTES: usize>(
    values: &[f32],
    out: &mut [u8],
    bytes: impl Fn(f32) -> [u8; BYTES],
) {
    let (stored, _) = out.as_chunks_mut();
    for (value, out) in values.iter().zip(stored) {
        *out = bytes(*value);
    }
}

pub(super) fn decode_f16(bytes: [u8; 2]) -> f32 {
    f16_to_f32(u16::from_le_bytes(bytes))
}

pub(super) fn decode_bf16(bytes: [u8; 2]) -> f32 {
    bf16_to_f32(u16::from_le_bytes(bytes))
}

pub(super) fn decode_f64(bytes: [u8; 8]) -> f32 {
    f64::from_le_bytes(bytes) as f32
}

pub(super) fn decode_f8_e4m3([bits]: [u8; 1]) -> f32 {
    f8_e4m3_to_f32(bits)
}

pub(super) fn decode_i8(bytes: [u8; 1]) -> f32 {
    f32::from(i8::from_le_bytes(bytes))
}

pub(super) fn decode_i16(bytes: [u8; 2]) -> f32 {
    f32::from(i16::from_le_bytes(bytes))
}

pub(super) fn decode_i32(bytes: [u8; 4]) -> f32 {
    i32::from_le_bytes(bytes) as f32
}

pub(super) fn decode_i64(bytes: [u8; 8]) -> f32 {
    i64::from_le_bytes(bytes) as f32
}

/// Rounds to nearest even; beyond 65,504 to infinity, as IEEE 754 has it.
pub(super) fn encode_f16(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

/// Rounds to nearest even; a NaN stays one and becomes quiet.
pub(super) fn encode_bf16(value: f32) -> [u8; 2] {
    bf16::from_f32(value).to_le_bytes()
}
