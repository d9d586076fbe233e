//! Plain Rust on arrays of eight, for any processor: the compiler vectorises what it can.

use tensor::quant::float::{bf16_to_f32, f16_to_f32};

use super::Simd;

/// Always available.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

/// Eight lanes.
pub(crate) type F = [f32; 8];

#[inline(always)]
fn map(mut a: F, f: impl Fn(f32) -> f32) -> F {
    for x in &mut a {
        *x = f(*x);
    }
    a
}

#[inline(always)]
fn zip(mut a: F, b: F, f: impl Fn(f32, f32) -> f32) -> F {
    for (x, y) in a.iter_mut().zip(b) {
        *x = f(*x, y);
    }
    a
}

/// # Safety
/// `from` must point to eight values.
#[inline(always)]
unsafe fn load_halves(from: *const u16, value: impl Fn(u16) -> f32) -> F {
    // SAFETY: as the caller promises.
    let bits = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
    let mut values = [0.0; 8];
    for (value_out, bits) in values.iter_mut().zip(bits) {
        *value_out = value(u16::from_le(bits));
    }
    values
}

impl Simd for Scalar {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, value: f32) -> F {
        [value; 8]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> F {
        // SAFETY: as the caller promises.
        unsafe { from.cast::<F>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, vector: F) {
        // SAFETY: as the caller promises.
        unsafe { to.cast::<F>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> F {
        // SAFETY: as the caller promises.
        unsafe { load_halves(from, f16_to_f32) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> F {
        // SAFETY: as the caller promises.
        unsafe { load_halves(from, bf16_to_f32) }
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> F {
        // SAFETY: as the caller promises.
        unsafe { from.cast::<[i8; 8]>().read_unaligned() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_nibbles<const HIGH: bool>(self, from: *const u8) -> F {
        // SAFETY: as the caller promises.
        let bytes = unsafe { from.cast::<[u8; 8]>().read_unaligned() };
        bytes.map(|byte| f32::from(if HIGH { byte >> 4 } else { byte & 15 }))
    }

    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: F, b: F, c: F) -> F {
        self.add(self.mul(a, b), c)
    }

    #[inline(always)]
    fn mul_sub_from(self, a: F, b: F, c: F) -> F {
        self.sub(c, self.mul(a, b))
    }

    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn round(self, a: F) -> F {
        // Adding and taking away 1.5 * 2^23 leaves the integer nearest to a small number.
        const SHIFT: f32 = 12_582_912.0;
        map(a, |a| (a + SHIFT) - SHIFT)
    }

    #[inline(always)]
    fn exp2_integral(self, n: F) -> F {
        map(n, |n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn sum(self, a: F) -> f32 {
        let four = [a[0] + a[4], a[1] + a[5], a[2] + a[6], a[3] + a[7]];
        (four[0] + four[2]) + (four[1] + four[3])
    }
}
