//! Types whose 4-bit codes point into a table of sixteen values.

use tensor::quant::codebooks::{E2M1_DOUBLED, IQ4};

use super::super::panel::{Form, FormOf, Format, GROUPS, Sink, Unit};
use super::super::source::Source;
use super::super::words::Words;
use super::simple::split;
use crate::simd::Simd;

/// MXFP4
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mxfp4;
/// IQ4_NL
#[derive(Debug, Clone, Copy)]
pub(crate) struct Iq4Nl;

/// IQ4_XS
#[derive(Debug, Clone, Copy)]
pub(crate) struct Iq4Xs;

/// A table's values with a bias.
const fn biased(table: &[i8; 16], bias: u8) -> [u8; 16] {
    let mut out = [0; 16];
    let mut i = 0;
    while i < 16 {
        out[i] = (table[i] as u8).wrapping_add(bias);
        i += 1;
    }
    out
}

/// The values of a group in 16 bytes: those of the low nibbles, then those of the high ones.
#[inline(always)]
fn looked_up<S: Words>(s: S, bytes: [S::I; 4], table: S::I) -> [S::I; 8] {
    let mut codes = split(s, bytes);
    for word in 0..8 {
        codes[word] = s.lookup(table, codes[word]);
    }
    codes
}

impl Format for Mxfp4 {
    const BYTES: usize = 8 * 17;
    const LAYOUT: &[Unit] = &[Unit::Bytes(1), Unit::Words(4)];
    type Form = FormOf<1, false, 16, 28>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        let table = s.table(const { &biased(&E2M1_DOUBLED, 16) });
        let table = Self::Form::prepare(s, table);
        for group in 0..GROUPS {
            sink.look_ahead(group, GROUPS);
            let rows = rows.skip::<S>(17 * group);
            // SAFETY: the fields of a block of 17 bytes.
            let (exponents, codes) = unsafe { (rows.byte(s), rows.skip::<S>(1).words_4(s)) };
            sink.codes(s, group, 0, looked_up(s, codes, table));
            // The table has twice the values, so the scale is 2^(e - 128): the product of two
            // powers that are normal numbers, whatever e.
            let next = s.add_words(exponents, s.splat_words(1));
            let scales = s.mul(half_power(s, exponents), half_power(s, next));
            sink.scales(s, group, 0, scales);
        }
    }
}

impl Format for Iq4Nl {
    const BYTES: usize = 8 * 18;
    const LAYOUT: &[Unit] = &[Unit::Halves(1), Unit::Words(4)];
    type Form = FormOf<1, false, 128, 255>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        let table = s.table(const { &biased(&IQ4, 128) });
        let table = Self::Form::prepare(s, table);
        for group in 0..GROUPS {
            sink.look_ahead(group, GROUPS);
            let rows = rows.skip::<S>(18 * group);
            // SAFETY: the fields of a block of 18 bytes.
            let (scales, codes) = unsafe { (rows.half(s), rows.skip::<S>(2).words_4(s)) };
            sink.codes(s, group, 0, looked_up(s, codes, table));
            sink.scales(s, group, 0, s.half_to_float(scales));
        }
    }
}

impl Format for Iq4Xs {
    const BYTES: usize = 136;
    const LAYOUT: &[Unit] = &[Unit::Words(34)];
    type Form = FormOf<1, false, 128, 255>;

    #[inline(always)]
    unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
        let table = s.table(const { &biased(&IQ4, 128) });
        let table = Self::Form::prepare(s, table);
        // SAFETY: the fields of a block of 136 bytes.
        let [d_high, low, ..] = unsafe { rows.words_4(s) };
        let d = s.half_to_float(d_high);
        for group in 0..GROUPS {
            sink.look_ahead(group, GROUPS);
            let (at, mask) = (group as u32, s.splat_words(15));
            let low = s.and(s.shift_right(low, 4 * at), mask);
            let high = s.and(s.shift_right(d_high, 16 + 2 * at), s.splat_words(3));
            let scales = s.or(low, s.shift_left(high, 4));
            let scales = s.sub(s.to_float(scales), s.splat(32.0));
            sink.scales(s, group, 0, s.mul(d, scales));
            // SAFETY: as above.
            let codes = unsafe { rows.skip::<S>(8 + 16 * group).words_4(s) };
            sink.codes(s, group, 0, looked_up(s, codes, table));
        }
    }
}

/// `2^(e / 2 - 64)`, the division rounding down.
#[inline(always)]
fn half_power<S: Words>(s: S, exponents: S::I) -> S::F {
    let biased = s.add_words(s.shift_right(exponents, 1), s.splat_words(63));
    s.as_float(s.shift_left(biased, 23))
}
