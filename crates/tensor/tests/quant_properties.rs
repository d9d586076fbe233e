//! Properties of decoding and encoding over random rows, and how good the searching encoders are.

use formats::DType;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tidemill_tensor::quant::{self, QuantError};

/// The largest error of a value that encoding may make: a fraction of the block's largest magnitude
/// (half a step, or a whole one where the codes reach less far on one side), and what f16 loses in
/// scales near its smallest.
const BOUNDS: [(DType, f32, f32); 18] = [
    (DType::F32, 0.0, 0.0),
    (DType::F16, 0.0005, 3e-8),
    (DType::BF16, 0.004, 0.0),
    (DType::Q4_0, 0.126, 1e-6),
    (DType::Q4_1, 0.068, 1e-6),
    (DType::Q5_0, 0.064, 1e-6),
    (DType::Q5_1, 0.034, 2e-6),
    (DType::Q8_0, 0.0045, 8e-6),
    (DType::Q8_1, 0.0045, 8e-6),
    (DType::Q8_K, 0.004, 0.0),
    (DType::Q2_K, 0.6, 2e-6),
    (DType::Q3_K, 0.35, 8e-6),
    (DType::Q4_K, 0.15, 3e-5),
    (DType::Q5_K, 0.08, 6e-5),
    (DType::Q6_K, 0.05, 1e-4),
    (DType::IQ4_NL, 0.2, 4e-6),
    (DType::MXFP4, 0.251, 0.0),
    (DType::NVFP4, 0.23, 6e-3),
];

/// Rows of three blocks whose magnitudes differ wildly from row to row, less so within one.
fn rows(dtype: DType) -> impl Strategy<Value = Vec<f32>> {
    let len = 3 * dtype.block_len().max(8);
    (vec(-1f32..1.0, len), vec(0..4u8, len), -6..3i32).prop_map(|(values, kinds, power)| {
        let scale = 10f32.powi(power);
        let kinds = kinds.into_iter();
        let shape = |(value, kind): (f32, u8)| match kind {
            0 => 0.0,
            1 => value.powi(5),
            _ => value,
        };
        values
            .into_iter()
            .zip(kinds)
            .map(|pair| shape(pair) * scale)
            .collect()
    })
}

fn round_trip(dtype: DType, values: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; dtype.row_bytes(values.len()).expect("whole blocks")];
    quant::encode(dtype, values, &mut bytes).expect("finite and of ordinary size");
    let mut decoded = vec![f32::NAN; values.len()];
    quant::decode(dtype, &bytes, &mut decoded).expect("the same sizes");
    decoded
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn errors_are_bounded(
        ((dtype, relative, absolute), values) in select(&BOUNDS)
            .prop_flat_map(|bound| (Just(bound), rows(bound.0)))
    ) {
        let decoded = round_trip(dtype, &values);
        let block_len = dtype.block_len();
        for (values, decoded) in values.chunks(block_len).zip(decoded.chunks(block_len)) {
            let largest = values.iter().fold(0f32, |a, b| a.max(b.abs()));
            for (value, decoded) in values.iter().zip(decoded) {
                let error = (value - decoded).abs();
                prop_assert!(
                    error <= largest * relative + absolute,
                    "{dtype}: {value:e} became {decoded:e} beside {largest:e}"
                );
            }
        }
    }

    #[test]
    fn encoding_what_was_decoded_changes_nothing(
        (dtype, values) in select(vec![
            DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q5_0, DType::MXFP4,
        ]).prop_flat_map(|dtype| (Just(dtype), rows(dtype)))
    ) {
        let values: Vec<f32> = values.iter().map(|v| v * 100.0).collect();
        let once = round_trip(dtype, &values);
        let twice = round_trip(dtype, &once);
        let largest = values.iter().fold(0f32, |a, b| a.max(b.abs()));
        for (once, twice) in once.iter().zip(&twice) {
            prop_assert!((once - twice).abs() <= largest * 1e-3, "{dtype}: {once:e} {twice:e}");
        }
    }

    #[test]
    fn any_bytes_decode_without_panic(
        (dtype, bytes) in select(DType::all().collect::<Vec<_>>())
            .prop_flat_map(|dtype| (Just(dtype), vec(any::<u8>(), dtype.block_bytes() * 2)))
    ) {
        let mut values = vec![0.0; dtype.block_len() * 2];
        let result = quant::decode(dtype, &bytes, &mut values);
        prop_assert_eq!(result.is_ok(), quant::can_decode(dtype));
    }

    #[test]
    fn any_values_encode_without_panic(
        dtype in select(DType::all().filter(|d| quant::can_encode(*d)).collect::<Vec<_>>()),
        bits in vec(any::<u32>(), 256),
        is_tame in any::<bool>(),
    ) {
        // Half of the cases stay below 2^31, so that scales rarely overflow.
        let tame = |bits: u32| if is_tame { bits & 0x8fff_ffff } else { bits };
        let values: Vec<f32> = bits.iter().map(|b| f32::from_bits(tame(*b))).collect();
        let mut bytes = vec![0; dtype.row_bytes(256).expect("a multiple of every block")];
        if quant::encode(dtype, &values, &mut bytes).is_ok() {
            let mut decoded = vec![0.0; 256];
            quant::decode(dtype, &bytes, &mut decoded).expect("the same sizes");
            if dtype.block_len() > 1 {
                prop_assert!(decoded.iter().all(|v| v.is_finite()), "{dtype}");
            }
        }
    }

    #[test]
    fn wrong_sizes_are_errors(
        dtype in select(DType::all().collect::<Vec<_>>()),
        bytes in 0..600usize,
        values in 0..600usize,
    ) {
        prop_assume!(dtype.row_bytes(values) != Some(bytes));
        let expected = Err(QuantError::Size { dtype, bytes, values });
        prop_assert_eq!(quant::decode(dtype, &vec![0; bytes], &mut vec![0.0; values]), expected);
        prop_assert_eq!(quant::encode(dtype, &vec![0.0; values], &mut vec![0; bytes]), expected);
    }
}

/// Normally distributed values from a fixed seed: Box and Muller over a congruential generator.
fn gaussian(len: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 + 0.5) / 16_777_216.0
    };
    (0..len)
        .map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f32::consts::TAU * uniform()).cos())
        .collect()
}

#[test]
fn searching_encoders_beat_ggml_on_gaussian_rows() {
    // What ggml 0.13.1's `ggml_quantize_chunk` leaves (without an importance matrix): the root of
    // the squared error over the squared values, on a million normally distributed values.
    let ggml = [
        (DType::Q2_K, 0.2967),
        (DType::Q3_K, 0.1510),
        (DType::Q4_K, 0.0714),
        (DType::Q5_K, 0.0361),
        (DType::Q6_K, 0.0178),
        (DType::IQ4_NL, 0.0762),
    ];
    let values: Vec<f32> = gaussian(1 << 16).iter().map(|v| v * 0.02).collect();
    for (dtype, theirs) in ggml {
        let decoded = round_trip(dtype, &values);
        let squares = |of: &dyn Fn(usize) -> f32| -> f64 {
            (0..values.len()).map(|i| f64::from(of(i)).powi(2)).sum()
        };
        let error = squares(&|i| values[i] - decoded[i]);
        let ours = (error / squares(&|i| values[i])).sqrt();
        println!("{dtype}: {ours:.4}, ggml {theirs:.4}");
        assert!(ours < theirs, "{dtype}: {ours:.5}, ggml has {theirs:.5}");
    }
}
