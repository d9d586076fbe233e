//! Q4_K, Q5_K and Q6_K: 256 values with scales of scales.

use super::super::panel::{Form, FormOf, Format, Sink, Unit};
use super::super::source::Source;
use super::super::words::Words;
use crate::simd::Simd;

/// Q4_K
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q4K;
/// Q5_K
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q5K;
/// Q6_K
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q6K;

impl Format for Q4K {
    const BYTES: usize = 144;
    const LAYOUT: &[Unit] = &[Unit::Words(36)];
    type Form = FormOf<1, true, 0, 15>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        // SAFETY: the fields of a block of 144 bytes.
        unsafe {
            factors(s, rows, sink);
            for pair in 0..4 {
                sink.look_ahead(pair, 4);
                let bytes = rows.skip::<S>(16 + 32 * pair).words_8(s);
                let (mut low, mut high) = (bytes, bytes);
                for word in 0..8 {
                    [low[word], high[word]] = nibbles(s, bytes[word]);
                }
                sink.codes(s, 2 * pair, 0, low);
                sink.codes(s, 2 * pair + 1, 0, high);
            }
        }
    }
}

impl Format for Q5K {
    const BYTES: usize = 176;
    const LAYOUT: &[Unit] = &[Unit::Words(44)];
    type Form = FormOf<1, true, 0, 31>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        // SAFETY: the fields of a block of 176 bytes.
        unsafe {
            factors(s, rows, sink);
            // Bit g belongs to group g.
            let mut fifths = rows.skip::<S>(16).words_8(s);
            for pair in 0..4 {
                sink.look_ahead(pair, 4);
                let bytes = rows.skip::<S>(48 + 32 * pair).words_8(s);
                let (mut low, mut high) = (bytes, bytes);
                for word in 0..8 {
                    let bit = s.splat_bytes(16);
                    let first = s.and(s.shift_left(fifths[word], 4), bit);
                    let second = s.and(s.shift_left(fifths[word], 3), bit);
                    fifths[word] = s.shift_right(fifths[word], 2);
                    [low[word], high[word]] = nibbles(s, bytes[word]);
                    low[word] = s.or(low[word], first);
                    high[word] = s.or(high[word], second);
                }
                sink.codes(s, 2 * pair, 0, low);
                sink.codes(s, 2 * pair + 1, 0, high);
            }
        }
    }
}

impl Format for Q6K {
    const BYTES: usize = 210;
    const LAYOUT: &[Unit] = &[Unit::Words(52), Unit::Halves(1)];
    type Form = FormOf<2, false, 32, 63>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        // SAFETY: the fields of a block of 210 bytes.
        unsafe {
            let d = s.half_to_float(rows.skip::<S>(208).half(s));
            let packed = rows.skip::<S>(192).words_4(s);
            for word in 0..4 {
                let bytes = signed_bytes(s, packed[word]);
                for index in 0..4 {
                    let (group, part) = (word * 2 + index / 2, index % 2);
                    let scales = s.mul(d, s.to_float(bytes[index]));
                    sink.scales(s, group, part, scales);
                }
            }
            for half in 0..2 {
                // Both in pieces of 16 bytes, so that all fits the registers.
                for piece in 0..2 {
                    let high = rows.skip::<S>(128 + 32 * half + 16 * piece).words_4(s);
                    for run in 0..2 {
                        sink.look_ahead(4 * half + 2 * piece + run, 8);
                        let low = rows.skip::<S>(64 * half + 32 * run + 16 * piece).words_4(s);
                        let (mut first, mut second) = (low, low);
                        for word in 0..4 {
                            [first[word], second[word]] = nibbles(s, low[word]);
                            // Bits 4 and 5 of quarter k's codes are bits 2 k and 2 k + 1.
                            let mask = s.splat_bytes(0x30);
                            let high = high[word];
                            let (left, right) = if run == 0 {
                                (s.shift_left(high, 4), high)
                            } else {
                                (s.shift_left(high, 2), s.shift_right(high, 2))
                            };
                            let codes = s.or(first[word], s.and(left, mask));
                            first[word] = Self::Form::prepare(s, codes);
                            let codes = s.or(second[word], s.and(right, mask));
                            second[word] = Self::Form::prepare(s, codes);
                        }
                        sink.codes(s, 4 * half + run, piece, first);
                        sink.codes(s, 4 * half + run + 2, piece, second);
                    }
                }
            }
        }
    }
}

/// The low and the high halves of bytes.
#[inline(always)]
pub(super) fn nibbles<S: Words>(s: S, bytes: S::I) -> [S::I; 2] {
    let mask = s.splat_bytes(15);
    [s.and(bytes, mask), s.and(s.shift_right(bytes, 4), mask)]
}

/// The four signed bytes of each word.
#[inline(always)]
fn signed_bytes<S: Words>(s: S, words: S::I) -> [S::I; 4] {
    [
        s.shift_right_signed(s.shift_left(words, 24), 24),
        s.shift_right_signed(s.shift_left(words, 16), 24),
        s.shift_right_signed(s.shift_left(words, 8), 24),
        s.shift_right_signed(words, 24),
    ]
}

/// The four unsigned bytes of each word.
#[inline(always)]
pub(super) fn bytes_of<S: Words>(s: S, words: S::I) -> [S::I; 4] {
    let mask = s.splat_words(0xff);
    [
        s.and(words, mask),
        s.and(s.shift_right(words, 8), mask),
        s.and(s.shift_right(words, 16), mask),
        s.shift_right(words, 24),
    ]
}

/// Scales and minima of Q4_K and Q5_K.
///
/// Groups 0 to 3 have theirs in the low six bits of bytes 0..4 and 4..8 of twelve. Those of groups
/// 4 to 7 have their low four bits in the nibbles of bytes 8..12, and their high two are the high
/// two of the first eight bytes.
///
/// # Safety
/// Rows must have 16 bytes.
#[inline(always)]
unsafe fn factors<S: Simd, F: Format>(s: S, rows: impl Source, sink: &mut impl Sink<S, F>) {
    // SAFETY: as the caller promises.
    let [d_dmin, scales, mins, joined] = unsafe { rows.words_4(s) };
    let d = s.half_to_float(d_dmin);
    let dmin = s.half_to_float(s.shift_right(d_dmin, 16));
    let (six, two) = (s.splat_bytes(0x3f), s.splat_bytes(0x30));
    let [low_scales, low_mins] = nibbles(s, joined);
    let high_scales = s.and(s.shift_right(scales, 2), two);
    let high_mins = s.and(s.shift_right(mins, 2), two);
    let scales = [s.and(scales, six), s.or(low_scales, high_scales)];
    let mins = [s.and(mins, six), s.or(low_mins, high_mins)];
    for half in 0..2 {
        let (scales, mins) = (bytes_of(s, scales[half]), bytes_of(s, mins[half]));
        for index in 0..4 {
            let group = half * 4 + index;
            sink.scales(s, group, 0, s.mul(d, s.to_float(scales[index])));
            sink.mins(s, group, 0, s.mul(dmin, s.to_float(mins[index])));
        }
    }
}
