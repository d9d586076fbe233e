//! Types of 32 values with one scale.

use super::super::panel::{Form, FormOf, Format, GROUPS, Sink, Unit};
use super::super::source::Source;
use super::super::words::Words;
use super::k::nibbles;
use crate::simd::Simd;

/// Q8_0
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q8_0;
/// Q4_0
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q4_0;

/// Q4_1
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q4_1;
/// Q5_0
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q5_0;
/// Q5_1
#[derive(Debug, Clone, Copy)]
pub(crate) struct Q5_1;

impl Format for Q8_0 {
    const BYTES: usize = 8 * 34;
    const LAYOUT: &[Unit] = &[Unit::Halves(1), Unit::Words(8)];
    type Form = FormOf<1, false, 128, 255>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        for group in 0..GROUPS {
            sink.look_ahead(group, GROUPS);
            let rows = rows.skip::<S>(34 * group);
            // SAFETY: the fields of a block of 34 bytes.
            let (scales, mut codes) = unsafe { (rows.half(s), rows.skip::<S>(2).words_8(s)) };
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
    const LAYOUT: &[Unit] = &[Unit::Halves(1), Unit::Words(4)];
    type Form = FormOf<1, false, 8, 15>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        for group in 0..GROUPS {
            sink.look_ahead(group, GROUPS);
            let rows = rows.skip::<S>(18 * group);
            // SAFETY: the fields of a block of 18 bytes.
            let (scales, codes) = unsafe { (rows.half(s), rows.skip::<S>(2).words_4(s)) };
            sink.scales(s, group, 0, s.half_to_float(scales));
            let mut codes = split(s, codes);
            for word in 0..8 {
                codes[word] = Self::Form::prepare(s, codes[word]);
            }
            sink.codes(s, group, 0, codes);
        }
    }
}

impl Format for Q4_1 {
    const BYTES: usize = 8 * 20;
    const LAYOUT: &[Unit] = &[Unit::Halves(2), Unit::Words(4)];
    type Form = FormOf<1, true, 0, 15>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        for group in 0..GROUPS {
            sink.look_ahead(group, GROUPS);
            let rows = rows.skip::<S>(20 * group);
            // SAFETY: the fields of a block of 20 bytes.
            let (scales, mins, codes) = unsafe {
                let (scales, mins) = (rows.half(s), rows.skip::<S>(2).half(s));
                (scales, mins, rows.skip::<S>(4).words_4(s))
            };
            sink.scales(s, group, 0, s.half_to_float(scales));
            sink.mins(s, group, 0, s.sub(s.splat(0.0), s.half_to_float(mins)));
            sink.codes(s, group, 0, split(s, codes));
        }
    }
}

impl Format for Q5_0 {
    const BYTES: usize = 8 * 22;
    const LAYOUT: &[Unit] = &[Unit::Halves(3), Unit::Words(4)];
    type Form = FormOf<1, false, 16, 31>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        for group in 0..GROUPS {
            sink.look_ahead(group, GROUPS);
            let rows = rows.skip::<S>(22 * group);
            // SAFETY: the fields of a block of 22 bytes.
            let (scales, high, codes) = unsafe {
                let high = gather_words(s, rows.skip::<S>(2));
                (rows.half(s), high, rows.skip::<S>(6).words_4(s))
            };
            sink.scales(s, group, 0, s.half_to_float(scales));
            let mut codes = with_fifths(s, split(s, codes), high);
            for word in 0..8 {
                codes[word] = Self::Form::prepare(s, codes[word]);
            }
            sink.codes(s, group, 0, codes);
        }
    }
}

impl Format for Q5_1 {
    const BYTES: usize = 8 * 24;
    const LAYOUT: &[Unit] = &[Unit::Halves(4), Unit::Words(4)];
    type Form = FormOf<1, true, 0, 31>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        for group in 0..GROUPS {
            sink.look_ahead(group, GROUPS);
            let rows = rows.skip::<S>(24 * group);
            // SAFETY: the fields of a block of 24 bytes.
            let (scales, mins, high, codes) = unsafe {
                let (scales, mins) = (rows.half(s), rows.skip::<S>(2).half(s));
                let high = gather_words(s, rows.skip::<S>(4));
                (scales, mins, high, rows.skip::<S>(8).words_4(s))
            };
            sink.scales(s, group, 0, s.half_to_float(scales));
            sink.mins(s, group, 0, s.sub(s.splat(0.0), s.half_to_float(mins)));
            sink.codes(s, group, 0, with_fifths(s, split(s, codes), high));
        }
    }
}

/// The first word of each row.
///
/// # Safety
/// Each row must have 4 bytes.
#[inline(always)]
unsafe fn gather_words<S: Simd>(s: S, rows: impl Source) -> S::I {
    // SAFETY: as the caller promises.
    let (low, high) = unsafe { (rows.half(s), rows.skip::<S>(2).half(s)) };
    s.or(low, s.shift_left(high, 16))
}

/// Adds bit i of `high` to code i, as its fifth.
#[inline(always)]
fn with_fifths<S: Words>(s: S, mut codes: [S::I; 8], high: S::I) -> [S::I; 8] {
    for word in 0..8 {
        let four = s.and(s.shift_right(high, 4 * word as u32), s.splat_words(15));
        // Bit i goes to bit 4 of byte i.
        let low = s.or(s.shift_left(four, 4), s.shift_left(four, 11));
        let high = s.or(s.shift_left(four, 18), s.shift_left(four, 25));
        let fifths = s.and(s.or(low, high), s.splat_bytes(16));
        codes[word] = s.or(codes[word], fifths);
    }
    codes
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
