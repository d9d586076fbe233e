//! Small floating-point formats: half precision, bfloat16 and the 8-bit kinds.
//!
//! Everything here is branch-free or a table, so that loops over whole rows vectorise on any
//! instruction set. Rounding from f32 is in the encoders, by the `half` crate.

/// The value of half-precision bits.
///
/// Exact for all 65,536 patterns; a NaN keeps its payload. Takes care to touch no f32 subnormal,
/// which threads that flush them to zero would lose.
#[inline]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    let normal = (magnitude << 13) + (112 << 23); // the exponent's bias grows from 15 to 127
    let subnormal = (magnitude as f32 * (1.0 / 16_777_216.0)).to_bits(); // units of 2^-24
    let not_finite = (magnitude << 13) | 0x7f80_0000;
    let value = if magnitude < 0x0400 {
        subnormal
    } else if magnitude < 0x7c00 {
        normal
    } else {
        not_finite
    };
    f32::from_bits(sign | value)
}

/// The value of bfloat16 bits: the upper half of an f32.
#[inline]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The value of an FP8 E4M3 byte ("FN": no infinities, NaN only where all bits but the sign are
/// set), as in FP8 checkpoints.
#[inline]
pub fn f8_e4m3_to_f32(bits: u8) -> f32 {
    F8_E4M3[usize::from(bits)]
}

/// Half the value of an E8M0 byte, a power of two: `2^(bits - 128)`.
///
/// Halved because the 4-bit values that it scales are stored doubled. Bytes 0 and 1 give subnormal
/// numbers, and 255, a NaN in the specification, the next power.
#[inline]
pub fn e8m0_to_f32_halved(bits: u8) -> f32 {
    f32::from_bits(match bits {
        0 => 0x0020_0000,
        1 => 0x0040_0000,
        _ => (u32::from(bits) - 1) << 23,
    })
}

/// Half the value of an unsigned E4M3 byte, halved as in [`e8m0_to_f32_halved`].
///
/// ggml's reading of bytes that no encoder writes: the sign bit is ignored and 0x7f is 0 (but 0xff
/// is not).
#[inline]
pub fn ue4m3_to_f32_halved(bits: u8) -> f32 {
    UE4M3_HALVED[usize::from(bits)]
}

/// The unsigned E4M3 byte for a scale that is not negative, rounding halves up; `None` above 448,
/// the largest one.
pub(super) fn f32_to_ue4m3(scale: f32) -> Option<u8> {
    if scale > 448.0 {
        return None;
    }
    if scale < 1.0 / 64.0 {
        return Some((scale * 512.0 + 0.5) as u8);
    }
    // Adding half of the last kept bit may carry into the exponent, which is right.
    let rounded = scale.to_bits() + (1 << 19);
    Some(((rounded >> 20) - (120 << 3)) as u8)
}

static UE4M3_HALVED: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut bits = 0;
    while bits < 256 {
        let (exponent, mantissa) = ((bits as u32 >> 3) & 15, bits as u32 & 7);
        table[bits] = if bits == 0x7f {
            0.0
        } else if exponent == 0 {
            mantissa as f32 / 1024.0
        } else {
            f32::from_bits((exponent + 119) << 23 | mantissa << 20)
        };
        bits += 1;
    }
    table
};

static F8_E4M3: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut bits = 0;
    while bits < 256 {
        let (exponent, mantissa) = ((bits as u32 >> 3) & 15, bits as u32 & 7);
        let magnitude = if bits & 0x7f == 0x7f {
            f32::NAN
        } else if exponent == 0 {
            mantissa as f32 / 512.0
        } else {
            f32::from_bits((exponent + 120) << 23 | mantissa << 20)
        };
        table[bits] = if bits >= 128 { -magnitude } else { magnitude };
        bits += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_has_its_value() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "{bits:#06x}"
            );
            let (ours, theirs) = (bf16_to_f32(bits), half::bf16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "{bits:#06x}"
            );
        }
    }

    #[test]
    fn every_e4m3_byte_has_its_value() {
        for bits in 0..=u8::MAX {
            let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
            let magnitude = match exponent {
                15 if mantissa == 7.0 => f32::NAN,
                0 => mantissa * 2f32.powi(-9),
                _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
            };
            let value = if bits & 0x80 == 0 {
                magnitude
            } else {
                -magnitude
            };
            let ours = f8_e4m3_to_f32(bits);
            assert!(
                ours.to_bits() == value.to_bits() || ours.is_nan() && value.is_nan(),
                "{bits:#04x}"
            );
        }
        assert_eq!(f8_e4m3_to_f32(0x7e), 448.0);
    }
}
