//! Matrix products: right, and the same on every road.

use formats::DType;
use proptest::prelude::*;
use tensor::matrix::BlockScales;
use tensor::{OpError, Ops, Reference, StoredMatrix, Tensor};

use super::{Random, assert_same, backends, cases, exact_backends};
use crate::activations::{Quantised, dequantise, quantise_row};
use crate::{Cpu, Isa};

pub(super) const INTEGER: [DType; 18] = [
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::IQ4_NL,
    DType::IQ4_XS,
    DType::IQ3_S,
    DType::IQ3_XXS,
    DType::IQ2_S,
    DType::IQ2_XS,
    DType::IQ2_XXS,
    DType::MXFP4,
];
pub(super) const FLOAT: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
const GENERIC: [DType; 3] = [DType::NVFP4, DType::F8_E4M3, DType::I8];

fn all_types() -> Vec<DType> {
    [&INTEGER[..], &FLOAT, &GENERIC].concat()
}

/// A number of columns for the type, about `units` times 32.
fn cols_for(dtype: DType, units: usize) -> usize {
    match dtype.block_len() {
        1 => units * 29 + 1,
        len => (units * 32).div_ceil(len) * len,
    }
}

fn multiply(cpu: &Cpu, x: &Tensor, weight: &StoredMatrix) -> Tensor {
    let weight = cpu.load_matrix(weight.clone()).unwrap();
    let [y] = cpu.linear(x, [&weight]).unwrap();
    y
}

/// Compares with sums in f64 of `inputs` times the decoded weights, relative to the sum of
/// magnitudes.
fn check(what: &str, y: &Tensor, inputs: &[Vec<f64>], weight: &StoredMatrix, tolerance: f64) {
    let weights = weight.decode();
    for (t, input) in inputs.iter().enumerate() {
        for (r, row) in weights.chunks(weight.cols()).enumerate() {
            let products = || row.iter().zip(input).map(|(w, x)| f64::from(*w) * x);
            let (exact, size) = (
                products().sum::<f64>(),
                products().map(f64::abs).sum::<f64>(),
            );
            let found = f64::from(y.row(t)[r]);
            assert!(
                (found - exact).abs() <= tolerance * size + 1e-36,
                "{what}: {} y[{t}, {r}] is {found}, not {exact}, of {size}",
                weight.name
            );
        }
    }
}

fn exact_inputs(x: &Tensor) -> Vec<Vec<f64>> {
    let widened = |row| x.row(row).iter().map(|v| f64::from(*v)).collect();
    (0..x.rows()).map(widened).collect()
}

/// What the integer kernels are given.
fn rounded_inputs(cpu: &Cpu, x: &Tensor) -> Vec<Vec<f64>> {
    let rounded = |row| {
        let mut quantised = Quantised::unspecified(1, x.cols());
        quantise_row(cpu.dispatch, x.row(row), quantised.groups_mut().0);
        dequantise(quantised.row(0), x.cols())
    };
    (0..x.rows()).map(rounded).collect()
}

fn check_everywhere(x: &Tensor, weight: &StoredMatrix) {
    for cpu in backends(2) {
        let y = multiply(&cpu, x, weight);
        let inputs = if INTEGER.contains(&weight.dtype()) {
            rounded_inputs(&cpu, x)
        } else {
            exact_inputs(x)
        };
        check(&cpu.isa().to_string(), &y, &inputs, weight, 2e-6);
    }
    for cpu in exact_backends(2) {
        let y = multiply(&cpu, x, weight);
        check(
            &format!("{}, exact", cpu.isa()),
            &y,
            &exact_inputs(x),
            weight,
            2e-6,
        );
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn products_are_right(seed: u64, rows in 1..40usize, units in 1..30usize, tokens in 1..10usize) {
        let mut random = Random::new(seed);
        for dtype in all_types() {
            let cols = cols_for(dtype, units);
            let weight = random.matrix(dtype, rows, cols);
            check_everywhere(&random.tensor(tokens, cols), &weight);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_road(
        seed: u64,
        rows in 1..70usize,
        units in 1..20usize,
        tokens in 2..20usize,
    ) {
        let mut random = Random::new(seed);
        for dtype in all_types() {
            let cols = cols_for(dtype, units);
            let weight = random.matrix(dtype, rows, cols);
            let x = random.tensor(tokens, cols);
            for one_thread in backends(1) {
                let what = format!("{} {}", one_thread.isa(), weight.name);
                let y = multiply(&one_thread, &x, &weight);
                for t in 0..tokens {
                    let alone = Tensor::from_vec(1, cols, x.row(t).to_vec());
                    assert_same(&what, multiply(&one_thread, &alone, &weight).row(0), y.row(t));
                }
                // Another stripe and another tile.
                let cut = random.index(rows);
                let rest = multiply(&one_thread, &x, &weight.slice_rows(cut..rows));
                for t in 0..tokens {
                    assert_same(&what, rest.row(t), &y.row(t)[cut..]);
                }
            }
            for threads in [2, 3] {
                for (cpu, one_thread) in backends(threads).iter().zip(backends(1)) {
                    let y = multiply(&one_thread, &x, &weight);
                    assert_same("threads", multiply(cpu, &x, &weight).data(), y.data());
                }
            }
        }
    }
}

/// Roads that must give the same bits: an instruction set with and without products of pairs.
fn with_and_without_pairs(threads: usize) -> Vec<[Cpu; 2]> {
    let of = |isa| backends(threads).into_iter().find(|cpu| cpu.isa() == isa);
    let scalar = of(Isa::Scalar).expect("every machine has it");
    let mut plain = scalar.clone();
    plain.dispatch = plain.dispatch.with_plain_pairs();
    let neon = of(Isa::Neon).zip(of(Isa::NeonI8mm));
    let neon = neon.map(|(without, with)| [without, with]);
    std::iter::once([scalar, plain]).chain(neon).collect()
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn inputs_two_by_two_give_the_same_bits(
        seed: u64,
        rows in 1..40usize,
        units in 1..30usize,
        tokens in 1..14usize,
    ) {
        let mut random = Random::new(seed);
        for dtype in INTEGER {
            let cols = cols_for(dtype, units);
            let weight = random.matrix(dtype, rows, cols);
            let x = random.tensor(tokens, cols);
            for [without, with] in with_and_without_pairs(1) {
                let what = format!("{} {dtype} [{rows}, {cols}] x {tokens}", with.isa());
                let expected = multiply(&without, &x, &weight);
                assert_same(&what, multiply(&with, &x, &weight).data(), expected.data());
            }
        }
    }
}

#[test]
fn extreme_inputs_and_blocks_of_zeros() {
    let mut random = Random::new(7);
    for dtype in all_types() {
        let cols = cols_for(dtype, 20);
        let weight = random.matrix(dtype, 9, cols);
        for scale in [0.0, 1e-42, 1e-30, 1e-10, 1e10, 1e30] {
            let mut x = random.tensor(3, cols);
            x.data_mut().iter_mut().for_each(|v| *v *= scale);
            // A stretch of zeros, and one value that dwarfs its neighbours.
            x.row_mut(1)[..cols / 2].fill(0.0);
            x.row_mut(2)[cols / 3] = 1e3 * scale;
            if scale != 1e-42 {
                check_everywhere(&x, &weight);
            }
            // With subnormal inputs nothing but finite results is asked for.
            for cpu in backends(1) {
                assert!(
                    multiply(&cpu, &x, &weight)
                        .data()
                        .iter()
                        .all(|y| y.is_finite())
                );
            }
        }
        let zeros = StoredMatrix::from_parts(
            "zeros".into(),
            dtype,
            9,
            cols,
            formats::SharedBytes::from_vec(vec![0; 9 * dtype.row_bytes(cols).unwrap()]),
        );
        check_everywhere(&random.tensor(2, cols), &zeros.unwrap());
    }
}

#[test]
fn the_largest_codes_do_not_overflow() {
    for dtype in INTEGER {
        let mut bytes = vec![0xffu8; 3 * dtype.row_bytes(512).unwrap()];
        for (index, block) in bytes.chunks_exact_mut(dtype.block_bytes()).enumerate() {
            let d = half::f16::from_f32(0.5).to_le_bytes();
            match dtype {
                DType::Q8_0 => {
                    block.fill([0x80, 0x7f, 0x81][index % 3]);
                    block[..2].copy_from_slice(&d);
                }
                DType::Q6_K => {
                    block[192..208].fill(0x80);
                    block[208..].copy_from_slice(&d);
                }
                DType::Q2_K => {
                    block[80..82].copy_from_slice(&d);
                    block[82..].copy_from_slice(&d);
                }
                DType::Q3_K => block[108..].copy_from_slice(&d),
                DType::MXFP4 => block[0] = 120,
                _ => {
                    block[..2].copy_from_slice(&d);
                    block[2..4].copy_from_slice(&d);
                }
            }
        }
        let bytes = formats::SharedBytes::from_vec(bytes);
        let weight = StoredMatrix::from_parts(dtype.to_string(), dtype, 3, 512, bytes).unwrap();
        for sign in [1.0, -1.0] {
            check_everywhere(&Tensor::from_vec(1, 512, vec![sign; 512]), &weight);
        }
    }
}

#[test]
fn rounding_activations_costs_little() {
    let mut random = Random::new(11);
    let x = random.tensor(8, 2048);
    for dtype in INTEGER {
        let weight = random.matrix(dtype, 64, 2048);
        for (rounded, exact) in backends(1).iter().zip(exact_backends(1)) {
            let exact = multiply(&exact, &x, &weight);
            let rounded = multiply(rounded, &x, &weight);
            let square = |v: f32| f64::from(v) * f64::from(v);
            let pairs = rounded.data().iter().zip(exact.data());
            let error: f64 = pairs.map(|(r, e)| square(r - e)).sum();
            let size: f64 = exact.data().iter().map(|e| square(*e)).sum();
            let relative = (error / size).sqrt();
            // 1 / (254 sqrt(3)) of the largest of 32 even values, over their mean square's root.
            assert!(relative < 0.005, "{dtype}: {relative}");
        }
    }
}

#[test]
fn several_weights_share_a_region() {
    let mut random = Random::new(3);
    let x = random.tensor(5, 256);
    let stored = [(DType::Q4_K, 67), (DType::F32, 10), (DType::Q8_0, 33)]
        .map(|(dtype, rows)| random.matrix(dtype, rows, 256));
    for cpu in backends(3) {
        let loaded = stored.clone().map(|m| cpu.load_matrix(m).unwrap());
        let together = cpu.linear(&x, loaded.each_ref()).unwrap();
        for (y, weight) in together.iter().zip(&stored) {
            assert_same(
                "one of several",
                y.data(),
                multiply(&cpu, &x, weight).data(),
            );
        }
    }
}

#[test]
fn block_scales_are_applied() {
    let mut random = Random::new(5);
    let scales = BlockScales {
        block: [4, 32],
        factors: random.values(3 * 3).into(),
    };
    let weight = random
        .matrix(DType::F8_E4M3, 10, 80)
        .with_scales(scales)
        .unwrap();
    let x = random.tensor(6, 80);
    check_everywhere(&x, &weight);
}

#[test]
fn an_embedding_is_decoded_as_the_reference_does() {
    let mut random = Random::new(6);
    for dtype in all_types() {
        let table = random.matrix(dtype, 50, cols_for(dtype, 9));
        let tokens: Vec<u32> = (0..20).map(|_| random.index(50) as u32).collect();
        let expected = Reference::default().embed(&table, &tokens).unwrap();
        for cpu in backends(2) {
            let table = cpu.load_matrix(table.clone()).unwrap();
            let rows = cpu.embed(&table, &tokens).unwrap();
            assert_same("embed", rows.data(), expected.data());
            assert!(matches!(
                cpu.embed(&table, &[3, 50]),
                Err(OpError::TokenOutOfRange { token: 50, .. })
            ));
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let mut random = Random::new(8);
    let weight = random.matrix(DType::Q8_0, 4, 64);
    let x = random.tensor(2, 32);
    for cpu in backends(1) {
        let weight = cpu.load_matrix(weight.clone()).unwrap();
        assert!(matches!(
            cpu.linear(&x, [&weight]),
            Err(OpError::Shape { .. })
        ));
        let none = cpu.linear(&Tensor::zeros(0, 64), [&weight]).unwrap();
        assert_eq!(none[0].rows(), 0);
    }
}
