//! Storage types against their written definitions, where no other package can be asked, and the
//! edges of encoding: zeros, subnormal and huge values, infinities and NaN.

use formats::DType;
use half::f16;
use tidemill_tensor::quant::{self, QuantError};

fn decode(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let values = bytes.len() / dtype.block_bytes() * dtype.block_len();
    let mut out = vec![f32::NAN; values];
    quant::decode(dtype, bytes, &mut out).expect("the bytes are whole blocks");
    out
}

fn encode(dtype: DType, values: &[f32]) -> Result<Vec<u8>, QuantError> {
    let mut out = vec![0xaa; dtype.row_bytes(values.len()).expect("whole blocks")];
    quant::encode(dtype, values, &mut out).map(|()| out)
}

fn encodable() -> impl Iterator<Item = DType> {
    DType::all().filter(|dtype| quant::can_encode(*dtype))
}

fn blocked() -> impl Iterator<Item = DType> {
    encodable().filter(|dtype| dtype.block_len() > 1)
}

#[test]
fn plain_numbers_are_their_value() {
    fn check<const N: usize>(dtype: DType, bytes: [u8; N], value: f32) {
        assert_eq!(decode(dtype, &bytes), [value], "{dtype}");
    }
    check(DType::I8, (-128i8).to_le_bytes(), -128.0);
    check(DType::I16, (-12345i16).to_le_bytes(), -12345.0);
    check(DType::I32, 0x0100_0001i32.to_le_bytes(), 16_777_216.0); // a tie, to even
    check(
        DType::I64,
        i64::MIN.to_le_bytes(),
        -9_223_372_036_854_775_808.0,
    );
    check(DType::F64, 0.1f64.to_le_bytes(), 0.1);
    check(DType::F64, 1e300f64.to_le_bytes(), f32::INFINITY);
    check(DType::F8_E4M3, [0xb9], -1.125);
}

#[test]
fn q1_0_stores_signs_and_the_mean_magnitude() {
    let values: Vec<f32> = (0..128)
        .map(|i| if i % 3 == 0 { -2.0 } else { 0.5 })
        .collect();
    let bytes = encode(DType::Q1_0, &values).unwrap();
    let d = f16::from_f32((43.0 * 2.0 + 85.0 * 0.5) / 128.0);
    assert_eq!(bytes[..2], d.to_le_bytes());
    assert_eq!(bytes[2..4], [0b1011_0110, 0b0110_1101]);
    let expected: Vec<f32> = values.iter().map(|v| d.to_f32().copysign(*v)).collect();
    assert_eq!(decode(DType::Q1_0, &bytes), expected);
}

#[test]
fn q8_1_is_q8_0_with_a_sum() {
    let values: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
    let plain = encode(DType::Q8_0, &values).unwrap();
    let summed = encode(DType::Q8_1, &values).unwrap();
    assert_eq!(decode(DType::Q8_1, &summed), decode(DType::Q8_0, &plain));
    for (summed, (plain, values)) in summed
        .chunks(36)
        .zip(plain.chunks(34).zip(values.chunks(32)))
    {
        assert_eq!((&summed[..2], &summed[4..]), plain.split_at(2));
        let d = values.iter().fold(0f32, |a, b| a.max(b.abs())) / 127.0;
        let sum: i32 = summed[4..].iter().map(|q| i32::from(*q as i8)).sum();
        assert_eq!(summed[2..4], f16::from_f32(sum as f32 * d).to_le_bytes());
    }
}

#[test]
fn q8_k_has_an_f32_scale_and_sums_of_sixteen() {
    let values: Vec<f32> = (0..256).map(|i| (i as f32 * 0.3).cos() * -2.5).collect();
    let bytes = encode(DType::Q8_K, &values).unwrap();
    let d = f32::from_le_bytes(bytes[..4].try_into().unwrap());
    let codes: Vec<i8> = bytes[4..260].iter().map(|q| *q as i8).collect();
    for (i, (code, value)) in codes.iter().zip(&values).enumerate() {
        assert_eq!(*code, (value / d).round() as i8, "value {i}");
    }
    for (sum, codes) in bytes[260..].chunks(2).zip(codes.chunks(16)) {
        let expected: i16 = codes.iter().map(|q| i16::from(*q)).sum();
        assert_eq!(sum, expected.to_le_bytes());
    }
    let expected: Vec<f32> = codes.iter().map(|q| d * f32::from(*q)).collect();
    assert_eq!(decode(DType::Q8_K, &bytes), expected);
}

#[test]
fn zeros_decode_to_zeros() {
    for dtype in encodable() {
        for zero in [0.0, -0.0] {
            let values = vec![zero; dtype.block_len() * 2];
            let decoded = decode(dtype, &encode(dtype, &values).unwrap());
            assert!(decoded.iter().all(|v| *v == 0.0), "{dtype}: {decoded:?}");
        }
    }
}

#[test]
fn tiny_values_do_not_grow() {
    for dtype in blocked() {
        for tiny in [f32::from_bits(1), 1e-40, 3e-38, 1e-30, 1e-12] {
            let mut values = vec![0.0; dtype.block_len()];
            values[3] = -tiny;
            values[7] = tiny;
            for decoded in decode(dtype, &encode(dtype, &values).unwrap()) {
                // A 4-bit float may round up by a quarter.
                assert!(
                    decoded.abs() <= tiny * 1.25,
                    "{dtype}: {decoded:e} for {tiny:e}"
                );
            }
        }
    }
}

#[test]
fn scales_that_overflow_are_refused() {
    for dtype in blocked() {
        let mut values = vec![1.0; dtype.block_len() * 2];
        let index = dtype.block_len() + 5;
        values[index] = -3e38;
        let result = encode(dtype, &values);
        if matches!(dtype, DType::MXFP4 | DType::Q8_K) {
            // These scales reach as far as f32 itself.
            let decoded = decode(dtype, &result.unwrap())[index];
            assert!((-3.1e38..-2e38).contains(&decoded), "{dtype}: {decoded:e}");
        } else {
            let value = values[index];
            let expected = QuantError::TooLarge {
                dtype,
                index,
                value,
            };
            assert_eq!(result, Err(expected));
        }
    }
}

#[test]
fn infinities_and_nan_are_refused_with_their_place() {
    for dtype in blocked() {
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut values = vec![1.0; dtype.block_len() * 2];
            let bad_index = dtype.block_len() + 1;
            values[bad_index] = bad;
            match encode(dtype, &values) {
                Err(QuantError::NotFinite { index, value, .. }) => {
                    assert_eq!((index, value.to_bits()), (bad_index, bad.to_bits()));
                }
                other => panic!("{dtype}: {other:?}"),
            }
        }
    }
}

#[test]
fn plain_floats_keep_infinities_and_nan() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let values = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let decoded = decode(dtype, &encode(dtype, &values).unwrap());
        assert_eq!(decoded[..2], values[..2], "{dtype}");
        assert!(decoded[2].is_nan(), "{dtype}");
    }
}

#[test]
fn what_is_not_known_is_said() {
    assert_eq!(
        quant::decode(DType::U8, &[1], &mut [0.0]),
        Err(QuantError::NotDecodable(DType::U8))
    );
    assert_eq!(
        quant::encode(DType::IQ1_S, &[0.0; 256], &mut [0; 50]),
        Err(QuantError::NotEncodable(DType::IQ1_S))
    );
    assert!(!quant::can_decode(DType::U8) && !quant::can_encode(DType::IQ1_S));
    let error = quant::decode(DType::Q4_K, &[0; 143], &mut [0.0; 256]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "143 bytes do not hold 256 values of Q4_K: every 256 values take 144 bytes"
    );
}
