//! Integer products in plain Rust on arrays of eight.

use tensor::quant::float::f16_to_f32;

use super::words::{Bias, Rows, Words};
use crate::simd::scalar::Scalar;

type F = [f32; 8];
type I = [u32; 8];

#[inline(always)]
fn map(mut a: I, f: impl Fn(u32) -> u32) -> I {
    for x in &mut a {
        *x = f(*x);
    }
    a
}

#[inline(always)]
fn zip(mut a: I, b: I, f: impl Fn(u32, u32) -> u32) -> I {
    for (x, y) in a.iter_mut().zip(b) {
        *x = f(*x, y);
    }
    a
}

/// For each row, what `read` makes of its bytes.
#[inline(always)]
fn of_rows(rows: Rows, read: impl Fn(*const u8) -> u32) -> I {
    std::array::from_fn(|row| read(rows.row(row)))
}

impl Words for Scalar {
    type F = F;
    type I = I;
    const INTERLEAVES: bool = false;
    const HAS_SHORT_SUMS: bool = false;
    const HAS_DOTS_OF_FOUR: bool = false;

    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> I {
        // SAFETY: as the caller promises.
        unsafe { from.cast::<I>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_words(self, to: *mut u8, words: I) {
        // SAFETY: as the caller promises.
        unsafe { to.cast::<I>().write_unaligned(words) }
    }

    #[inline(always)]
    unsafe fn read_words(self, from: *const u8) -> I {
        // SAFETY: as the caller promises.
        unsafe { from.cast::<I>().read_unaligned().map(u32::from_le) }
    }

    #[inline(always)]
    unsafe fn read_halves(self, from: *const u8) -> I {
        // SAFETY: as the caller promises.
        let halves = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        halves.map(|half| u32::from(u16::from_le(half)))
    }

    #[inline(always)]
    unsafe fn read_bytes(self, from: *const u8) -> I {
        // SAFETY: as the caller promises.
        unsafe { from.cast::<[u8; 8]>().read() }.map(u32::from)
    }

    #[inline(always)]
    fn splat_bytes(self, byte: u8) -> I {
        [u32::from_ne_bytes([byte; 4]); 8]
    }

    #[inline(always)]
    fn splat_words(self, word: u32) -> I {
        [word; 8]
    }

    #[inline(always)]
    fn and(self, a: I, b: I) -> I {
        zip(a, b, |a, b| a & b)
    }

    #[inline(always)]
    fn or(self, a: I, b: I) -> I {
        zip(a, b, |a, b| a | b)
    }

    #[inline(always)]
    fn add_words(self, a: I, b: I) -> I {
        zip(a, b, u32::wrapping_add)
    }

    #[inline(always)]
    fn add_bytes(self, a: I, b: I) -> I {
        // The low seven bits of each byte cannot carry into the next one.
        const LOW: u32 = 0x7f7f_7f7f;
        zip(a, b, |a, b| ((a & LOW) + (b & LOW)) ^ ((a ^ b) & !LOW))
    }

    #[inline(always)]
    fn shift_left(self, a: I, bits: u32) -> I {
        map(a, |a| a << bits)
    }

    #[inline(always)]
    fn shift_right(self, a: I, bits: u32) -> I {
        map(a, |a| a >> bits)
    }

    #[inline(always)]
    fn shift_right_signed(self, a: I, bits: u32) -> I {
        map(a, |a| (a as i32 >> bits) as u32)
    }

    #[inline(always)]
    fn table(self, entries: &[u8; 16]) -> I {
        let word = |at: usize| {
            u32::from_ne_bytes([
                entries[at],
                entries[at + 1],
                entries[at + 2],
                entries[at + 3],
            ])
        };
        [word(0), word(4), word(8), word(12), 0, 0, 0, 0]
    }

    #[inline(always)]
    fn lookup(self, table: I, indices: I) -> I {
        let entry = |index: u8| {
            let word = table[usize::from(index / 4 % 4)];
            word.to_ne_bytes()[usize::from(index % 4)]
        };
        map(indices, |word| {
            u32::from_ne_bytes(word.to_ne_bytes().map(entry))
        })
    }

    #[inline(always)]
    fn negate(self, bytes: I, signs: I, word: usize) -> I {
        zip(bytes, signs, |bytes, signs| {
            let mut bytes = bytes.to_le_bytes();
            for (index, byte) in bytes.iter_mut().enumerate() {
                let is_negative = signs >> (4 * word + index) & 1 == 1;
                *byte = if is_negative {
                    byte.wrapping_neg()
                } else {
                    *byte
                };
            }
            u32::from_le_bytes(bytes)
        })
    }

    #[inline(always)]
    fn to_float(self, words: I) -> F {
        words.map(|word| word as i32 as f32)
    }

    #[inline(always)]
    fn as_float(self, words: I) -> F {
        words.map(f32::from_bits)
    }

    #[inline(always)]
    fn half_to_float(self, words: I) -> F {
        words.map(|word| f16_to_f32(word as u16))
    }

    #[inline(always)]
    unsafe fn transpose_16(self, rows: Rows) -> [I; 4] {
        std::array::from_fn(|word| {
            // SAFETY: each row has four words.
            of_rows(rows.skip(4 * word), |row| unsafe {
                u32::from_le(row.cast::<u32>().read_unaligned())
            })
        })
    }

    #[inline(always)]
    unsafe fn transpose_32(self, rows: Rows) -> [I; 8] {
        // SAFETY: each row has twice 16 bytes.
        let (first, second) =
            unsafe { (self.transpose_16(rows), self.transpose_16(rows.skip(16))) };
        std::array::from_fn(|word| {
            if word < 4 {
                first[word]
            } else {
                second[word - 4]
            }
        })
    }

    #[inline(always)]
    unsafe fn gather_halves(self, rows: Rows) -> I {
        // SAFETY: each row has 2 bytes.
        of_rows(rows, |row| unsafe {
            u32::from(u16::from_le(row.cast::<u16>().read_unaligned()))
        })
    }

    #[inline(always)]
    unsafe fn gather_bytes(self, rows: Rows) -> I {
        // SAFETY: each row has a byte.
        of_rows(rows, |row| unsafe { u32::from(*row) })
    }

    #[inline(always)]
    fn prepare(self, _bias: Bias, codes: I) -> I {
        codes
    }

    #[inline(always)]
    fn prepare_signed(self, codes: I) -> I {
        self.add_bytes(codes, self.splat_bytes(128))
    }

    #[inline(always)]
    fn begin(self, bias: Bias, bias_sum: i32) -> I {
        [(bias_sum / i32::from(bias.of_sums) * i32::from(bias.of_codes)) as u32; 8]
    }

    #[inline(always)]
    unsafe fn dot(self, _bias: Bias, sum: I, codes: I, activations: *const i8) -> I {
        // SAFETY: as the caller promises.
        let activations = unsafe { activations.cast::<[i8; 4]>().read() };
        zip(sum, codes, |sum, codes| {
            let products = codes.to_le_bytes().into_iter().zip(activations);
            let dot: i32 = products.map(|(c, a)| i32::from(c) * i32::from(a)).sum();
            (sum as i32 + dot) as u32
        })
    }
}
