//! NEON with dot products of bytes: eight lanes in two registers.
//!
//! Two registers, so that what is broadcast to all lanes is loaded once for eight of them. There are
//! 32 registers, so as many such pairs as AVX2 has vectors.

use std::arch::aarch64::*;
use std::arch::asm;

use super::Simd;

/// Proof that the machine has NEON and its dot products.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// The machine must have NEON and its dot products.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// An expression of intrinsics on registers.
macro_rules! neon {
    ($expression:expr) => {{
        // SAFETY: `self` exists only where the machine has the instructions; no memory is used.
        unsafe { $expression }
    }};
}
pub(crate) use neon;

impl Neon {
    /// Four half-precision values, exactly.
    #[inline(always)]
    pub(crate) fn widen_halves(self, halves: uint16x4_t) -> float32x4_t {
        let values: float32x4_t;
        // SAFETY: registers in, registers out; every machine with NEON has the instruction. The
        // intrinsic needs a type of half-precision values that is not stable.
        unsafe {
            asm!(
                "fcvtl {values:v}.4s, {halves:v}.4h",
                values = out(vreg) values,
                halves = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        values
    }

    /// Eight values of two kinds of lanes.
    #[inline(always)]
    fn zip(
        self,
        a: [float32x4_t; 2],
        b: [float32x4_t; 2],
        f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t,
    ) -> [float32x4_t; 2] {
        [f(a[0], b[0]), f(a[1], b[1])]
    }

    /// Bytes as values.
    #[inline(always)]
    fn bytes_to_float(self, bytes: uint8x8_t) -> [float32x4_t; 2] {
        neon!({
            let words = vmovl_u8(bytes);
            [
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(words))),
                vcvtq_f32_u32(vmovl_high_u16(words)),
            ]
        })
    }
}

impl Simd for Neon {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, value: f32) -> [float32x4_t; 2] {
        neon!([vdupq_n_f32(value); 2])
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [float32x4_t; 2] {
        // SAFETY: as the caller promises.
        unsafe { [vld1q_f32(from), vld1q_f32(from.add(4))] }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, vector: [float32x4_t; 2]) {
        // SAFETY: as the caller promises.
        unsafe {
            vst1q_f32(to, vector[0]);
            vst1q_f32(to.add(4), vector[1]);
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> [float32x4_t; 2] {
        // SAFETY: as the caller promises.
        let halves = unsafe { [vld1_u16(from), vld1_u16(from.add(4))] };
        halves.map(|halves| self.widen_halves(halves))
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> [float32x4_t; 2] {
        // SAFETY: as the caller promises.
        let halves = unsafe { [vld1_u16(from), vld1_u16(from.add(4))] };
        neon!(halves.map(|halves| vreinterpretq_f32_u32(vshll_n_u16::<16>(halves))))
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> [float32x4_t; 2] {
        // SAFETY: as the caller promises.
        let bytes = unsafe { vld1_s8(from) };
        neon!({
            let words = vmovl_s8(bytes);
            [
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))),
                vcvtq_f32_s32(vmovl_high_s16(words)),
            ]
        })
    }

    #[inline(always)]
    unsafe fn load_nibbles<const HIGH: bool>(self, from: *const u8) -> [float32x4_t; 2] {
        // SAFETY: as the caller promises.
        let bytes = unsafe { vld1_u8(from) };
        self.bytes_to_float(neon!(if HIGH {
            vshr_n_u8::<4>(bytes)
        } else {
            vand_u8(bytes, vdup_n_u8(15))
        }))
    }

    #[inline(always)]
    fn add(self, a: [float32x4_t; 2], b: [float32x4_t; 2]) -> [float32x4_t; 2] {
        self.zip(a, b, |a, b| neon!(vaddq_f32(a, b)))
    }

    #[inline(always)]
    fn sub(self, a: [float32x4_t; 2], b: [float32x4_t; 2]) -> [float32x4_t; 2] {
        self.zip(a, b, |a, b| neon!(vsubq_f32(a, b)))
    }

    #[inline(always)]
    fn mul(self, a: [float32x4_t; 2], b: [float32x4_t; 2]) -> [float32x4_t; 2] {
        self.zip(a, b, |a, b| neon!(vmulq_f32(a, b)))
    }

    #[inline(always)]
    fn div(self, a: [float32x4_t; 2], b: [float32x4_t; 2]) -> [float32x4_t; 2] {
        self.zip(a, b, |a, b| neon!(vdivq_f32(a, b)))
    }

    #[inline(always)]
    fn mul_add(
        self,
        a: [float32x4_t; 2],
        b: [float32x4_t; 2],
        c: [float32x4_t; 2],
    ) -> [float32x4_t; 2] {
        neon!([vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])])
    }

    #[inline(always)]
    fn mul_sub_from(
        self,
        a: [float32x4_t; 2],
        b: [float32x4_t; 2],
        c: [float32x4_t; 2],
    ) -> [float32x4_t; 2] {
        neon!([vfmsq_f32(c[0], a[0], b[0]), vfmsq_f32(c[1], a[1], b[1])])
    }

    /// Not the instruction, whose answer is NaN where one is.
    #[inline(always)]
    fn min(self, a: [float32x4_t; 2], b: [float32x4_t; 2]) -> [float32x4_t; 2] {
        self.zip(a, b, |a, b| neon!(vbslq_f32(vcltq_f32(a, b), a, b)))
    }

    /// As [`Simd::min`].
    #[inline(always)]
    fn max(self, a: [float32x4_t; 2], b: [float32x4_t; 2]) -> [float32x4_t; 2] {
        self.zip(a, b, |a, b| neon!(vbslq_f32(vcgtq_f32(a, b), a, b)))
    }

    #[inline(always)]
    fn round(self, a: [float32x4_t; 2]) -> [float32x4_t; 2] {
        neon!([vrndnq_f32(a[0]), vrndnq_f32(a[1])])
    }

    #[inline(always)]
    fn exp2_integral(self, n: [float32x4_t; 2]) -> [float32x4_t; 2] {
        neon!(n.map(|n| {
            let biased = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }))
    }

    #[inline(always)]
    fn sum(self, a: [float32x4_t; 2]) -> f32 {
        neon!({
            let four = vaddq_f32(a[0], a[1]);
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        })
    }
}
