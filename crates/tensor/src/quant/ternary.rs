//! TQ1_0 and TQ2_0: values -1, 0 and 1 times one scale for 256, as ternary models are trained.

use super::rows::{ScaleOverflow, f16_at, f16_bits, field, index_of_largest};

/// The parts of a TQ1_0 block: values before it, bytes before it, bytes, values a byte holds.
const TQ1_0_PARTS: [(usize, usize, usize, usize); 3] =
    [(0, 0, 32, 5), (160, 32, 16, 5), (240, 48, 4, 4)];

/// TQ1_0: `d * (digit - 1)`, the digits of base 3.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..32 | digits | byte i holds 5 digits, the first for value i, the next for 32 + i .. 128 + i |
/// | 32..48 | digits | byte i holds 5 digits, for values 160 + i, 176 + i .. 224 + i |
/// | 48..52 | digits | byte i holds 4 digits, for values 240 + i, 244 + i .. 252 + i |
/// | 52..54 | `d` | scale, f16 |
///
/// A byte is the fraction `0.d1 d2 d3 d4 d5` in base 3, times 256, rounded up: multiplying by a
/// power of 3 modulo 256 and then by 3 pushes the wanted digit out over the top.
pub(super) fn decode_tq1_0(block: &[u8; 54], out: &mut [f32; 256]) {
    let d = f16_at(block, 52);
    for (value, byte, bytes, digits) in TQ1_0_PARTS {
        let mut power = 1u8;
        for digit in 0..digits {
            for i in 0..bytes {
                let fraction = block[byte + i].wrapping_mul(power);
                let digit_value = ((u16::from(fraction) * 3) >> 8) as i8;
                out[value + digit * bytes + i] = d * f32::from(digit_value - 1);
            }
            power = power.wrapping_mul(3);
        }
    }
}

/// TQ2_0: `d * (q - 1)`.
///
/// | bytes | field | meaning |
/// |---|---|---|
/// | 0..64 | `q` | 2 bits each; a half of 128 values takes 32 bytes, its value 32 k + i in bits 2 k and 2 k + 1 of byte i |
/// | 64..66 | `d` | scale, f16 |
pub(super) fn decode_tq2_0(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = f16_at(block, 64);
    let (runs, _) = out.as_chunks_mut::<32>();
    for (run, out) in runs.iter_mut().enumerate() {
        let quants: &[u8; 32] = field(block, run / 4 * 32);
        for (out, q) in out.iter_mut().zip(quants) {
            *out = d * f32::from((q >> (run % 4 * 2) & 3) as i8 - 1);
        }
    }
}

pub(super) fn encode_tq1_0(values: &[f32; 256]) -> Result<[u8; 54], ScaleOverflow> {
    let (d, quants) = quantise(values);
    let mut block = [0; 54];
    for (value, byte, bytes, digits) in TQ1_0_PARTS {
        for i in 0..bytes {
            // Always five digits, so that a part of four leaves the last one 0.
            let number = (0..5).fold(0, |number, digit| {
                let is_stored = digit < digits;
                number * 3
                    + if is_stored {
                        u16::from(quants[value + digit * bytes + i])
                    } else {
                        0
                    }
            });
            block[byte + i] = (number * 256).div_ceil(243) as u8;
        }
    }
    block[52..].copy_from_slice(&f16_bits(d)?);
    Ok(block)
}

pub(super) fn encode_tq2_0(values: &[f32; 256]) -> Result<[u8; 66], ScaleOverflow> {
    let (d, quants) = quantise(values);
    let mut block = [0; 66];
    for (v, q) in quants.iter().enumerate() {
        block[v / 128 * 32 + v % 32] |= q << (v / 32 % 4 * 2);
    }
    block[64..].copy_from_slice(&f16_bits(d)?);
    Ok(block)
}

/// The largest magnitude, and each value's nearest multiple of it, plus 1.
fn quantise(values: &[f32; 256]) -> (f32, [u8; 256]) {
    let d = values[index_of_largest(values)].abs();
    let inverse = d.recip();
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let quants = values.map(|value| ((value * inverse).round() as i8 + 1) as u8);
    (d, quants)
}
