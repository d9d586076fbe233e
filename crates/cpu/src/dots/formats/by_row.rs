//! Types whose codes point into books of several values: rows are decoded one by one, to signed
//! bytes, and then unpacked like others. The decoders are functions of their own: compiled for wide
//! vectors their look-ups became gathers, which are slower.

use tensor::quant::codebooks::{IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, SIGNS};
use tensor::quant::float::f16_to_f32;

use super::super::panel::{BLOCK, Form, FormOf, Format, GROUPS, Sink, Unit};
use super::super::source::Source;
use super::super::words::Rows;
use crate::simd::{MAX_LANES, Simd};

/// 256 values of a row: value i is `scales[i / 32 * 2 + part] * codes[i]`, part being 0, or with two
/// scales per group of 32 the number of the half.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct RowBlock {
    codes: [i8; BLOCK],
    scales: [f32; GROUPS * 2],
}

macro_rules! by_row {
    ($name:ident, $bytes:literal, $parts:literal, $decode:ident) => {
        #[doc = stringify!($name)]
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes;
            const LAYOUT: &[Unit] = &[];
            type Form = FormOf<$parts, false, 128, 255>;
            // What stores and loads cost is little beside decoding.
            const MOST_DIRECT: usize = 0;

            #[inline(always)]
            unsafe fn unpack<S: Simd>(s: S, rows: impl Source, sink: &mut impl Sink<S, Self>) {
                let rows = rows.rows();
                let mut decoded = [RowBlock::ZERO; MAX_LANES];
                for row in 0..S::LANES {
                    sink.look_ahead(row, S::LANES);
                    // SAFETY: each row has that many bytes.
                    let bytes = unsafe { &*rows.row(row).cast::<[u8; $bytes]>() };
                    $decode(bytes, &mut decoded[row]);
                }
                unpack_decoded::<S, Self>(s, &decoded, sink);
            }
        }
    };
}

by_row!(Iq2Xxs, 66, 1, decode_iq2_xxs);
by_row!(Iq2Xs, 74, 2, decode_iq2_xs);
by_row!(Iq2S, 82, 2, decode_iq2_s);
by_row!(Iq3Xxs, 98, 1, decode_iq3_xxs);
by_row!(Iq3S, 110, 1, decode_iq3_s);

impl RowBlock {
    const ZERO: Self = Self {
        codes: [0; BLOCK],
        scales: [0.0; GROUPS * 2],
    };
}

#[inline(always)]
fn unpack_decoded<S: Simd, F: Format>(
    s: S,
    decoded: &[RowBlock; MAX_LANES],
    sink: &mut impl Sink<S, F>,
) {
    let rows = Rows {
        first: decoded.as_ptr().cast(),
        stride: size_of::<RowBlock>(),
    };
    for four in 0..GROUPS * 2 / 4 {
        // SAFETY: the scales lie behind the codes.
        let scales = unsafe { s.transpose_16(rows.skip(BLOCK + 16 * four)) };
        for index in 0..4 {
            let (group, part) = (2 * four + index / 2, index % 2);
            if part < F::Form::PARTS {
                sink.scales(s, group, part, s.as_float(scales[index]));
            }
        }
    }
    for group in 0..GROUPS {
        // SAFETY: a row has 256 codes.
        let mut codes = unsafe { s.transpose_32(rows.skip(32 * group)) };
        for word in 0..8 {
            codes[word] = s.prepare_signed(codes[word]);
        }
        if F::Form::PARTS == 1 {
            sink.codes(s, group, 0, codes);
        } else {
            let [a, b, c, d, e, f, g, h] = codes;
            sink.codes(s, group, 0, [a, b, c, d]);
            sink.codes(s, group, 1, [e, f, g, h]);
        }
    }
}

/// The bytes of eight magnitudes, negated where a bit of `signs` is set. None may be 0.
#[inline(always)]
fn signed(magnitudes: u64, signs: u8) -> u64 {
    let negative = MASKS[usize::from(signs)];
    (magnitudes ^ negative) + (negative & 0x0101_0101_0101_0101)
}

/// For each eight bits, bytes that are 0xff where the bit is set.
static MASKS: [u64; 256] = {
    let mut masks = [0; 256];
    let mut bits = 0;
    while bits < 256 {
        let mut bit = 0;
        while bit < 8 {
            if bits >> bit & 1 == 1 {
                masks[bits] |= 0xff << (8 * bit);
            }
            bit += 1;
        }
        bits += 1;
    }
    masks
};

#[inline(always)]
fn eight(point: &[i8; 8]) -> u64 {
    // SAFETY: the same bytes.
    u64::from_le_bytes(unsafe { std::mem::transmute::<[i8; 8], [u8; 8]>(*point) })
}

#[inline(always)]
fn four(point: &[i8; 4]) -> u64 {
    let [a, b, c, d] = *point;
    u64::from(u32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]))
}

#[inline(always)]
fn set_eight(out: &mut RowBlock, index: usize, bytes: u64) {
    let bytes = bytes.to_le_bytes();
    for i in 0..8 {
        out.codes[8 * index + i] = bytes[i] as i8;
    }
}

#[inline(always)]
fn half(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(never)]
fn decode_iq2_xxs(bytes: &[u8; 66], out: &mut RowBlock) {
    let d = half(bytes, 0) * 0.25;
    for group in 0..GROUPS {
        let signs = word(bytes, 6 + 8 * group);
        out.scales[2 * group] = d * (0.5 + (signs >> 28) as f32);
        for p in 0..4 {
            let number = bytes[2 + 8 * group + p];
            let point = eight(&IQ2_XXS[usize::from(number)]);
            let signs = SIGNS[(signs >> (7 * p) & 127) as usize];
            set_eight(out, 4 * group + p, signed(point, signs));
        }
    }
}

#[inline(never)]
fn decode_iq2_xs(bytes: &[u8; 74], out: &mut RowBlock) {
    nibble_scales(half(bytes, 0) * 0.25, bytes, 66, out);
    for p in 0..BLOCK / 8 {
        let code = u16::from_le_bytes([bytes[2 + 2 * p], bytes[3 + 2 * p]]);
        let point = eight(&IQ2_XS[usize::from(code & 511)]);
        set_eight(out, p, signed(point, SIGNS[usize::from(code >> 9)]));
    }
}

#[inline(never)]
fn decode_iq2_s(bytes: &[u8; 82], out: &mut RowBlock) {
    nibble_scales(half(bytes, 0) * 0.25, bytes, 74, out);
    for p in 0..BLOCK / 8 {
        let high = bytes[66 + p / 4] >> (p % 4 * 2) & 3;
        let number = usize::from(bytes[2 + p]) | usize::from(high) << 8;
        set_eight(out, p, signed(eight(&IQ2_S[number]), bytes[34 + p]));
    }
}

/// Sixteen scales `d * (s + 1/2)` with `s` in a nibble each.
#[inline(always)]
fn nibble_scales(d: f32, bytes: &[u8], at: usize, out: &mut RowBlock) {
    for part in 0..16 {
        let nibble = bytes[at + part / 2] >> (part % 2 * 4) & 15;
        out.scales[part] = d * (0.5 + f32::from(nibble));
    }
}

#[inline(never)]
fn decode_iq3_xxs(bytes: &[u8; 98], out: &mut RowBlock) {
    let d = half(bytes, 0) * 0.5;
    for group in 0..GROUPS {
        let signs = word(bytes, 66 + 4 * group);
        out.scales[2 * group] = d * (0.5 + (signs >> 28) as f32);
        for p in 0..4 {
            let at = 2 + 8 * group + 2 * p;
            let first = four(&IQ3_XXS[usize::from(bytes[at])]);
            let second = four(&IQ3_XXS[usize::from(bytes[at + 1])]);
            let signs = SIGNS[(signs >> (7 * p) & 127) as usize];
            set_eight(out, 4 * group + p, signed(first | second << 32, signs));
        }
    }
}

#[inline(never)]
fn decode_iq3_s(bytes: &[u8; 110], out: &mut RowBlock) {
    let d = half(bytes, 0);
    for group in 0..GROUPS {
        let nibble = bytes[106 + group / 2] >> (group % 2 * 4) & 15;
        out.scales[2 * group] = d * f32::from(2 * nibble + 1);
        let high = usize::from(bytes[66 + group]);
        for p in 0..4 {
            let at = 2 + 8 * group + 2 * p;
            let first = usize::from(bytes[at]) | (high >> (2 * p) & 1) << 8;
            let second = usize::from(bytes[at + 1]) | (high >> (2 * p + 1) & 1) << 8;
            let (first, second) = (four(&IQ3_S[first]), four(&IQ3_S[second]));
            let signs = bytes[74 + 4 * group + p];
            set_eight(out, 4 * group + p, signed(first | second << 32, signs));
        }
    }
}
