//! Types of 32 values with one scale.

use super::super::panel::{Form, FormOf, Format, GROUPS, Sink};
use super::super::words::{Rows, Words};
use super::k::nibbles;
use crate::simd::Simd;

/// Q8_0
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q8_0;
/// Q4_0
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q4_0;

impl Format for Q8_0 {
    const BYTES: usize = 8 * 34;
    type Form = FormOf<1, false, 128>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: Rows, sink: &mut impl Sink<S, Self>) {
        for group in 0..GROUPS {
            sink.look_ahead(group, GROUPS);
            let rows = rows.skip(34 * group);
            // SAFETY: the fields of a block of 34 bytes.
            let (scales, mut codes) =
                unsafe { (s.gather_halves(rows), s.transpose_32(rows.skip(2))) };
            sink.scales(s, group, 0, s.half_to_float(scales));
            for word in 0..8 {
                codes[word] = s.prepare_signed(codes[word]);
            }
            sink.codes(s, group, 0, codes);
        }
    }
}

impl Format for Q4_0 {
    const BYTES: usize = 8 * 18;
    type Form = FormOf<1, false, 8>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: Rows, sink: &mut impl Sink<S, Self>) {
        for group in 0..GROUPS {
            sink.look_ahead(group, GROUPS);
            let rows = rows.skip(18 * group);
            // SAFETY: the fields of a block of 18 bytes.
            let (scales, codes) = unsafe { (s.gather_halves(rows), s.transpose_16(rows.skip(2))) };
            sink.scales(s, group, 0, s.half_to_float(scales));
            let mut codes = split(s, codes);
            for word in 0..8 {
                codes[word] = Self::Form::prepare(s, codes[word]);
            }
            sink.codes(s, group, 0, codes);
        }
    }
}

/// The codes of a group in 16 bytes: the low nibbles, then the high ones.
#[inline(always)]
pub(super) fn split<S: Words>(s: S, bytes: [S::I; 4]) -> [S::I; 8] {
    let mut codes = [bytes[0]; 8];
    for word in 0..4 {
        [codes[word], codes[word + 4]] = nibbles(s, bytes[word]);
    }
    codes
}
