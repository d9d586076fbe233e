//! Q2_K and Q3_K: 16 parts of 16 values, their codes' bits scattered over the block.

use super::super::panel::{Form, FormOf, Format, Sink, Unit};
use super::super::source::Source;
use super::super::words::Words;
use super::k::{bytes_of, nibbles};
use crate::simd::Simd;

/// Q2_K
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q2K;
/// Q3_K
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q3K;

impl Format for Q2K {
    const BYTES: usize = 84;
    const LAYOUT: &[Unit] = &[Unit::Words(20), Unit::Halves(2)];
    type Form = FormOf<2, true, 0, 3>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        // SAFETY: the fields of a block of 84 bytes.
        unsafe {
            let d = s.half_to_float(rows.skip::<S>(80).half(s));
            let dmin = s.half_to_float(rows.skip::<S>(82).half(s));
            let factors = rows.words_4(s);
            for word in 0..4 {
                let [scales, mins] = nibbles(s, factors[word]);
                let (scales, mins) = (bytes_of(s, scales), bytes_of(s, mins));
                for index in 0..4 {
                    let (group, part) = (word * 2 + index / 2, index % 2);
                    sink.scales(s, group, part, s.mul(d, s.to_float(scales[index])));
                    sink.mins(s, group, part, s.mul(dmin, s.to_float(mins[index])));
                }
            }
            for half in 0..2 {
                for part in 0..2 {
                    sink.look_ahead(2 * half + part, 4);
                    let bytes = rows.skip::<S>(16 + 32 * half + 16 * part).words_4(s);
                    for quarter in 0..4 {
                        let codes = two_bits(s, bytes, quarter);
                        sink.codes(s, 4 * half + quarter, part, codes);
                    }
                }
            }
        }
    }
}

impl Format for Q3K {
    const BYTES: usize = 110;
    const LAYOUT: &[Unit] = &[Unit::Words(27), Unit::Halves(1)];
    type Form = FormOf<2, false, 4, 7>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        // SAFETY: the fields of a block of 110 bytes.
        unsafe {
            let (packed, d) = rows.skip::<S>(96).words_3_and_half(s);
            let d = s.half_to_float(d);
            let scales = q3_scales(s, packed);
            for word in 0..4 {
                let bytes = bytes_of(s, scales[word]);
                for index in 0..4 {
                    let (group, part) = (word * 2 + index / 2, index % 2);
                    let scale = s.sub(s.to_float(bytes[index]), s.splat(32.0));
                    sink.scales(s, group, part, s.mul(d, scale));
                }
            }
            for part in 0..2 {
                // Bit g belongs to group g.
                let mut high = rows.skip::<S>(16 * part).words_4(s);
                for half in 0..2 {
                    sink.look_ahead(2 * part + half, 4);
                    let bytes = rows.skip::<S>(32 + 32 * half + 16 * part).words_4(s);
                    for quarter in 0..4 {
                        let mut codes = two_bits(s, bytes, quarter);
                        for word in 0..4 {
                            let third = s.and(high[word], s.splat_bytes(1));
                            high[word] = s.shift_right(high[word], 1);
                            codes[word] = s.or(codes[word], s.shift_left(third, 2));
                            codes[word] = Self::Form::prepare(s, codes[word]);
                        }
                        sink.codes(s, 4 * half + quarter, part, codes);
                    }
                }
            }
        }
    }
}

/// Bits `2 quarter` and `2 quarter + 1` of each byte.
#[inline(always)]
fn two_bits<S: Words>(s: S, bytes: [S::I; 4], quarter: usize) -> [S::I; 4] {
    let mut codes = bytes;
    for word in 0..4 {
        let shifted = s.shift_right(bytes[word], 2 * quarter as u32);
        codes[word] = s.and(shifted, s.splat_bytes(3));
    }
    codes
}

/// The sixteen scales of Q3_K as bytes, still with their offset of 32.
///
/// The low nibbles of bytes 0..8 begin scales 0..8, the high ones scales 8..16. Byte 8 + i has the
/// two high bits of scales i, 4 + i, 8 + i and 12 + i, lowest first.
#[inline(always)]
fn q3_scales<S: Words>(s: S, packed: [S::I; 3]) -> [S::I; 4] {
    let [first, third] = nibbles(s, packed[0]);
    let [second, fourth] = nibbles(s, packed[1]);
    let (high, mask) = (packed[2], s.splat_bytes(0x30));
    [
        s.or(first, s.and(s.shift_left(high, 4), mask)),
        s.or(second, s.and(s.shift_left(high, 2), mask)),
        s.or(third, s.and(high, mask)),
        s.or(fourth, s.and(s.shift_right(high, 2), mask)),
    ]
}
