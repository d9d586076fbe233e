//! Types whose codes point into books of several values. Magnitudes are looked up row by row in plain
//! code: compiled for wide vectors these look-ups became gathers, which are slower. Signs and scales
//! are unpacked for all rows at once, like the codes of other types.

use tensor::quant::codebooks::{IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};

use super::super::panel::{BLOCK, Form, FormOf, Format, GROUPS, Sink, Unit};
use super::super::source::Source;
use super::super::words::Rows;
use super::k::{bytes_of, nibbles};
use crate::simd::{MAX_LANES, Simd};

/// The magnitudes of 256 values of a row.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Magnitudes([u64; BLOCK / 8]);

/// What all rows of a panel have beside magnitudes.
struct Factors<S: Simd> {
    /// For each group a word per lane, whose bit i says that value i is negative.
    signs: [S::I; GROUPS],
    /// For each group the scales of its halves, or twice the same.
    scales: [[S::F; 2]; GROUPS],
}

/// A type whose values are looked up.
trait Book: Format {
    /// Looks up the magnitudes of a row's block.
    ///
    /// # Safety
    /// There must be `Self::BYTES` bytes.
    unsafe fn look_up(block: *const u8, magnitudes: &mut Magnitudes);

    /// Unpacks what else the blocks of a panel's rows have.
    ///
    /// # Safety
    /// The rows must have `Self::BYTES` bytes each.
    unsafe fn factors<S: Simd>(s: S, rows: Rows) -> Factors<S>;
}

macro_rules! format_of_book {
    ($name:ident, $bytes:literal, $parts:literal) => {
        #[doc = stringify!($name)]
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes;
            const LAYOUT: &[Unit] = &[];
            type Form = FormOf<$parts, false, 128, 255>;
            // Looking up again costs more than stores and loads do.
            const MOST_DIRECT: usize = 1;

            #[inline(always)]
            unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
                // SAFETY: as the caller promises.
                unsafe { unpack(s, rows.rows(), sink) };
            }
        }
    };
}

format_of_book!(Iq2Xxs, 66, 1);
format_of_book!(Iq2Xs, 74, 2);
format_of_book!(Iq2S, 82, 2);
format_of_book!(Iq3Xxs, 98, 1);
format_of_book!(Iq3S, 110, 1);

/// # Safety
/// The rows must have `F::BYTES` bytes each.
#[inline(always)]
unsafe fn unpack<S: Simd, F: Book>(s: S, rows: Rows, sink: &mut impl Sink<S, F>) {
    let mut magnitudes = [const { Magnitudes([0; BLOCK / 8]) }; MAX_LANES];
    for row in 0..S::LANES {
        sink.look_ahead(row, S::LANES);
        // SAFETY: as the caller promises.
        unsafe { F::look_up(rows.row(row), &mut magnitudes[row]) };
    }
    // SAFETY: as the caller promises.
    let factors = unsafe { F::factors(s, rows) };
    let magnitudes = Rows {
        first: magnitudes.as_ptr().cast(),
        stride: size_of::<Magnitudes>(),
    };
    for group in 0..GROUPS {
        // SAFETY: a row has 256 magnitudes.
        let mut codes = unsafe { s.transpose_32(magnitudes.skip(32 * group)) };
        for word in 0..8 {
            let signed = s.negate(codes[word], factors.signs[group], word);
            codes[word] = s.prepare_signed(signed);
        }
        sink.scales(s, group, 0, factors.scales[group][0]);
        if F::Form::PARTS == 1 {
            sink.codes(s, group, 0, codes);
        } else {
            sink.scales(s, group, 1, factors.scales[group][1]);
            let [a, b, c, d, e, f, g, h] = codes;
            sink.codes(s, group, 0, [a, b, c, d]);
            sink.codes(s, group, 1, [e, f, g, h]);
        }
    }
}

/// The bytes of a point of eight values.
#[inline(always)]
fn eight(point: &[i8; 8]) -> u64 {
    u64::from_ne_bytes(point.map(|value| value as u8))
}

/// The bytes of two points of four values. Put together as numbers: as bytes they were taken apart.
#[inline(always)]
fn two_fours(first: &[i8; 4], second: &[i8; 4]) -> u64 {
    let four = |point: &[i8; 4]| {
        let [a, b, c, d] = *point;
        u64::from(u32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]))
    };
    (four(first) | four(second) << 32).to_le()
}

/// Words of four signs of seven bits each, the eighth being what makes their number even.
#[inline(always)]
fn with_eighth_signs<S: Simd>(s: S, sevens: S::I) -> S::I {
    let odd = s.table(&[0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0]);
    let low_bits = s.splat_bytes(15);
    let low = s.lookup(odd, s.and(sevens, low_bits));
    let high = s.lookup(odd, s.and(s.shift_right(sevens, 4), low_bits));
    let ones = s.and(s.add_bytes(low, high), s.splat_bytes(1));
    s.or(sevens, s.shift_left(ones, 7))
}

/// Four times seven bits, each put into a byte of its own.
#[inline(always)]
fn spread_sevens<S: Simd>(s: S, bits: S::I) -> S::I {
    let part = |by: u32| s.and(s.shift_left(bits, by), s.splat_words(0x7f << (8 * by)));
    s.or(s.or(part(0), part(1)), s.or(part(2), part(3)))
}

/// What a word of 28 bits of signs and four of scale says: the signs, and `d (scale + 1/2)`.
#[inline(always)]
fn signs_and_scale<S: Simd>(s: S, word: S::I, d: S::F) -> (S::I, [S::F; 2]) {
    let scale = s.add(s.splat(0.5), s.to_float(s.shift_right(word, 28)));
    let signs = with_eighth_signs(s, spread_sevens(s, word));
    (signs, [s.mul(d, scale); 2])
}

/// Scales `d (n + 1/2)` of sixteen parts, n being the nibbles of two words.
#[inline(always)]
fn scales_of_nibbles<S: Simd>(s: S, words: [S::I; 2], d: S::F) -> [[S::F; 2]; GROUPS] {
    let mut scales = [[d; 2]; GROUPS];
    for word in 0..2 {
        let [low, high] = nibbles(s, words[word]);
        let (low, high) = (bytes_of(s, low), bytes_of(s, high));
        for index in 0..4 {
            let scale = |n: S::I| s.mul(d, s.add(s.splat(0.5), s.to_float(n)));
            scales[4 * word + index] = [scale(low[index]), scale(high[index])];
        }
    }
    scales
}

/// The scale of a block, times `factor`.
///
/// # Safety
/// The rows must have two bytes each.
#[inline(always)]
unsafe fn block_scale<S: Simd>(s: S, rows: Rows, factor: f32) -> S::F {
    // SAFETY: as the caller promises.
    let d = unsafe { s.half_to_float(s.gather_halves(rows)) };
    s.mul(d, s.splat(factor))
}

impl Book for Iq2Xxs {
    #[inline(never)]
    unsafe fn look_up(block: *const u8, magnitudes: &mut Magnitudes) {
        // SAFETY: as the caller promises.
        let bytes = unsafe { &*block.cast::<[u8; Self::BYTES]>() };
        for group in 0..GROUPS {
            for p in 0..4 {
                let number = usize::from(bytes[2 + 8 * group + p]);
                magnitudes.0[4 * group + p] = eight(&IQ2_XXS[number]);
            }
        }
    }

    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, rows: Rows) -> Factors<S> {
        // SAFETY: behind the scale there are 64 bytes.
        unsafe {
            let d = block_scale(s, rows, 0.25);
            let mut factors = Factors::new(s);
            for half in 0..2 {
                let words = s.transpose_32(rows.skip(2 + 32 * half));
                for index in 0..4 {
                    let group = 4 * half + index;
                    (factors.signs[group], factors.scales[group]) =
                        signs_and_scale(s, words[2 * index + 1], d);
                }
            }
            factors
        }
    }
}

impl Book for Iq2Xs {
    #[inline(never)]
    unsafe fn look_up(block: *const u8, magnitudes: &mut Magnitudes) {
        // SAFETY: as the caller promises.
        let bytes = unsafe { &*block.cast::<[u8; Self::BYTES]>() };
        for p in 0..BLOCK / 8 {
            let code = u16::from_le_bytes([bytes[2 + 2 * p], bytes[3 + 2 * p]]);
            magnitudes.0[p] = eight(&IQ2_XS[usize::from(code & 511)]);
        }
    }

    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, rows: Rows) -> Factors<S> {
        // SAFETY: a scale, 64 bytes of codes, eight of scales.
        unsafe {
            let d = block_scale(s, rows, 0.25);
            let [_, _, low, high] = s.transpose_16(rows.skip(58));
            let mut factors = Factors::new(s);
            factors.scales = scales_of_nibbles(s, [low, high], d);
            for half in 0..2 {
                let codes = s.transpose_32(rows.skip(2 + 32 * half));
                for index in 0..4 {
                    // Each half of a word has nine bits of number and seven of signs.
                    let [a, b] = [codes[2 * index], codes[2 * index + 1]];
                    // Not put together by twos and shifted: at its first level LLVM (21 and before)
                    // then loses every second byte, where it vectorises plain loops itself.
                    let first = s.and(s.shift_right(a, 9), s.splat_words(0x7f));
                    let second = s.and(s.shift_right(a, 17), s.splat_words(0x7f00));
                    let third = s.and(s.shift_left(b, 7), s.splat_words(0x7f_0000));
                    let fourth = s.and(s.shift_right(b, 1), s.splat_words(0x7f00_0000));
                    let sevens = s.or(s.or(first, second), s.or(third, fourth));
                    factors.signs[4 * half + index] = with_eighth_signs(s, sevens);
                }
            }
            factors
        }
    }
}

impl Book for Iq2S {
    #[inline(never)]
    unsafe fn look_up(block: *const u8, magnitudes: &mut Magnitudes) {
        // SAFETY: as the caller promises.
        let bytes = unsafe { &*block.cast::<[u8; Self::BYTES]>() };
        for group in 0..GROUPS {
            let high = usize::from(bytes[66 + group]);
            for p in 0..4 {
                let number = usize::from(bytes[2 + 4 * group + p]) | (high >> (2 * p) & 3) << 8;
                magnitudes.0[4 * group + p] = eight(&IQ2_S[number]);
            }
        }
    }

    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, rows: Rows) -> Factors<S> {
        // SAFETY: a scale, 32 bytes of numbers, 32 of signs, eight of numbers' high bits, eight of scales.
        unsafe {
            let d = block_scale(s, rows, 0.25);
            let [_, _, low, high] = s.transpose_16(rows.skip(66));
            Factors {
                signs: s.transpose_32(rows.skip(34)),
                scales: scales_of_nibbles(s, [low, high], d),
            }
        }
    }
}

impl Book for Iq3Xxs {
    #[inline(never)]
    unsafe fn look_up(block: *const u8, magnitudes: &mut Magnitudes) {
        // SAFETY: as the caller promises.
        let bytes = unsafe { &*block.cast::<[u8; Self::BYTES]>() };
        for p in 0..BLOCK / 8 {
            let [first, second] = [bytes[2 + 2 * p], bytes[3 + 2 * p]].map(usize::from);
            magnitudes.0[p] = two_fours(&IQ3_XXS[first], &IQ3_XXS[second]);
        }
    }

    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, rows: Rows) -> Factors<S> {
        // SAFETY: a scale, 64 bytes of numbers, 32 of signs and scales.
        unsafe {
            let d = block_scale(s, rows, 0.5);
            let words = s.transpose_32(rows.skip(66));
            let mut factors = Factors::new(s);
            for group in 0..GROUPS {
                (factors.signs[group], factors.scales[group]) = signs_and_scale(s, words[group], d);
            }
            factors
        }
    }
}

impl Book for Iq3S {
    #[inline(never)]
    unsafe fn look_up(block: *const u8, magnitudes: &mut Magnitudes) {
        // SAFETY: as the caller promises.
        let bytes = unsafe { &*block.cast::<[u8; Self::BYTES]>() };
        for group in 0..GROUPS {
            let high = usize::from(bytes[66 + group]) << 8;
            for p in 0..4 {
                let low = |index: usize| usize::from(bytes[2 + 8 * group + index]);
                let first = low(2 * p) | high >> (2 * p) & 256;
                let second = low(2 * p + 1) | high >> (2 * p + 1) & 256;
                magnitudes.0[4 * group + p] = two_fours(&IQ3_S[first], &IQ3_S[second]);
            }
        }
    }

    #[inline(always)]
    unsafe fn factors<S: Simd>(s: S, rows: Rows) -> Factors<S> {
        // SAFETY: a scale, 64 bytes of numbers, eight of their high bits, 32 of signs, four of scales.
        unsafe {
            let d = block_scale(s, rows, 1.0);
            let mut factors = Factors::new(s);
            factors.signs = s.transpose_32(rows.skip(74));
            let [_, _, _, word] = s.transpose_16(rows.skip(94));
            let [low, high] = nibbles(s, word);
            let (low, high) = (bytes_of(s, low), bytes_of(s, high));
            for index in 0..4 {
                for (part, n) in [low[index], high[index]].into_iter().enumerate() {
                    let odd = s.add_words(s.add_words(n, n), s.splat_words(1));
                    factors.scales[2 * index + part] = [s.mul(d, s.to_float(odd)); 2];
                }
            }
            factors
        }
    }
}

impl<S: Simd> Factors<S> {
    #[inline(always)]
    fn new(s: S) -> Self {
        Self {
            signs: [s.splat_words(0); GROUPS],
            scales: [[s.splat(0.0); 2]; GROUPS],
        }
    }
}
