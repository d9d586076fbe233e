//! Quantised blocks in plain Rust.

use tensor::quant::float::f16_to_f32;

use super::blocks::{BlockDots, Unpacked, k_scales_and_mins};
use crate::activations::ActivationBlock;
use crate::simd::scalar::Scalar;

type Codes = [u8; 256];

#[inline(always)]
fn f16_at(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Scales and minima of Q4_K and Q5_K, each twice: groups are of 32 values.
#[inline(always)]
fn k_factors(block: &[u8]) -> ([f32; 16], [f32; 16]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let mut packed = [0; 12];
    packed.copy_from_slice(&block[4..16]);
    let (scales, mins) = k_scales_and_mins(packed);
    let twice = |factor: f32, bytes: u64| {
        std::array::from_fn(|part| factor * f32::from(bytes.to_le_bytes()[part / 2]))
    };
    (twice(d, scales), twice(dmin, mins))
}

/// The low four bits of Q4_K and Q5_K.
#[inline(always)]
fn k_nibbles(bytes: &[u8]) -> Codes {
    let mut codes = [0; 256];
    for (group, codes) in codes.chunks_exact_mut(32).enumerate() {
        for (code, byte) in codes.iter_mut().zip(&bytes[group / 2 * 32..][..32]) {
            *code = byte >> (group % 2 * 4) & 15;
        }
    }
    codes
}

impl BlockDots for Scalar {
    type F = crate::simd::scalar::F;
    type Codes = Codes;
    type Factors = [f32; 16];

    #[inline(always)]
    unsafe fn unpack_q8_0(self, from: *const u8) -> Unpacked<Self> {
        // SAFETY: eight blocks of 34 bytes, as the caller promises.
        let bytes = unsafe { &*from.cast::<[u8; 272]>() };
        let mut unpacked: Unpacked<Self> = Unpacked {
            codes: [0; 256],
            scales: [0.0; 16],
            mins: [0.0; 16],
        };
        for (index, block) in bytes.chunks_exact(34).enumerate() {
            unpacked.codes[index * 32..][..32].copy_from_slice(&block[2..]);
            unpacked.scales[index * 2..][..2].fill(f16_at(block, 0));
        }
        unpacked
    }

    #[inline(always)]
    unsafe fn unpack_q4_k(self, from: *const u8) -> Unpacked<Self> {
        // SAFETY: one block, as the caller promises.
        let block = unsafe { &*from.cast::<[u8; 144]>() };
        let (scales, mins) = k_factors(block);
        Unpacked {
            codes: k_nibbles(&block[16..]),
            scales,
            mins,
        }
    }

    #[inline(always)]
    unsafe fn unpack_q5_k(self, from: *const u8) -> Unpacked<Self> {
        // SAFETY: one block, as the caller promises.
        let block = unsafe { &*from.cast::<[u8; 176]>() };
        let (scales, mins) = k_factors(block);
        let mut codes = k_nibbles(&block[48..]);
        for (group, codes) in codes.chunks_exact_mut(32).enumerate() {
            for (code, high) in codes.iter_mut().zip(&block[16..48]) {
                *code |= (high >> group & 1) << 4;
            }
        }
        Unpacked {
            codes,
            scales,
            mins,
        }
    }

    #[inline(always)]
    unsafe fn unpack_q6_k(self, from: *const u8) -> Unpacked<Self> {
        // SAFETY: one block, as the caller promises.
        let block = unsafe { &*from.cast::<[u8; 210]>() };
        let d = f16_at(block, 208);
        let mut codes = [0; 256];
        for (run, codes) in codes.chunks_exact_mut(32).enumerate() {
            let (half, quarter) = (run / 4, run % 4);
            let low = &block[half * 64 + quarter % 2 * 32..][..32];
            let high = &block[128 + half * 32..][..32];
            for ((code, low), high) in codes.iter_mut().zip(low).zip(high) {
                *code = low >> (quarter / 2 * 4) & 15 | (high >> (quarter * 2) & 3) << 4;
            }
        }
        let scales: [f32; 16] = std::array::from_fn(|part| d * f32::from(block[192 + part] as i8));
        Unpacked {
            codes,
            scales,
            mins: scales.map(|scale| 32.0 * scale),
        }
    }

    #[inline(always)]
    fn add_block<const SIGNED: bool>(
        self,
        mut sum: [f32; 8],
        weights: &Unpacked<Self>,
        activations: &ActivationBlock,
    ) -> [f32; 8] {
        for part in 0..16 {
            let codes = &weights.codes[part * 16..][..16];
            let mut dot = 0;
            for (w, a) in codes.iter().zip(&activations.codes[part * 16..][..16]) {
                let w = if SIGNED {
                    i32::from(*w as i8)
                } else {
                    i32::from(*w)
                };
                dot += w * i32::from(*a);
            }
            let product = weights.scales[part] * activations.scales[part] * dot as f32;
            sum[part % 8] += product - weights.mins[part] * activations.sums[part];
        }
        sum
    }
}
