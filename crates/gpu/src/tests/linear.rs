//! Products with every storage type.

use formats::DType;
use proptest::prelude::*;
use tensor::{Ops, Reference, Tensor};

use super::{
    Random, assert_close, assert_same, cases, gpu, is_refused, read, rounded, select, upload,
};
use crate::Gpu;

const PLAIN: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
const QUANTISED: [DType; 15] = [
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::MXFP4,
    DType::Q3_K,
    DType::Q2_K,
    DType::IQ4_XS,
    DType::IQ4_NL,
    DType::IQ3_S,
    DType::IQ3_XXS,
    DType::IQ2_S,
    DType::IQ2_XS,
    DType::IQ2_XXS,
];

fn cols(random: &mut Random, dtype: DType) -> usize {
    match dtype.block_len() {
        // Whole and aligned as models have them, or not.
        1 => match random.index(2) {
            0 => 1 + random.index(300),
            _ => 4 * (1 + random.index(75)),
        },
        32 => 32 * (1 + random.index(24)),
        _ => 256 * (1 + random.index(3)),
    }
}

/// Products of all types with `rows` inputs of size `scale` agree with the reference's.
pub(super) fn check_products(gpu: &Gpu, seed: u64, rows: usize, scale: f32) {
    let mut random = Random::new(seed);
    let reference = Reference::default();
    for dtype in PLAIN.into_iter().chain(QUANTISED) {
        let cols = cols(&mut random, dtype);
        let outputs = [1 + random.index(70), 1 + random.index(20)];
        let stored = outputs.map(|rows| random.matrix(dtype, rows, cols));
        let mut x = random.tensor(rows, cols);
        x.data_mut().iter_mut().for_each(|value| *value *= scale);
        let seen = if QUANTISED.contains(&dtype) {
            rounded(&x)
        } else {
            x.clone()
        };
        let expected = reference.linear(&seen, stored.each_ref()).unwrap();
        let weights = stored.map(|stored| gpu.load_matrix(stored).unwrap());
        let found = gpu.linear(&upload(gpu, &x), weights.each_ref()).unwrap();
        for (found, expected) in found.into_iter().zip(&expected) {
            let found = read(gpu, found);
            assert_eq!(
                (found.rows(), found.cols()),
                (expected.rows(), expected.cols())
            );
            assert_close(
                &format!("{dtype} x{scale}"),
                found.data(),
                expected.data(),
                1e-5,
            );
        }
    }
}

/// Products of `rows` inputs are the same bits as those of some of them.
pub(super) fn check_same(gpu: &Gpu, seed: u64, rows: usize) {
    let mut random = Random::new(seed);
    let some_quantised = [DType::Q8_0, DType::Q4_K, DType::Q6_K, DType::IQ2_XS];
    for dtype in PLAIN.into_iter().chain(some_quantised) {
        let cols = cols(&mut random, dtype);
        let weight = gpu.load_matrix(random.matrix(dtype, 40, cols)).unwrap();
        let x = random.tensor(rows, cols);
        let product = |x: &Tensor| {
            let [out] = gpu.linear(&upload(gpu, x), [&weight]).unwrap();
            read(gpu, out)
        };
        let all = product(&x);
        for _ in 0..4 {
            let count = 1 + random.index(rows);
            let some: Vec<usize> = (0..count).map(|_| random.index(rows)).collect();
            assert_same(
                &format!("{dtype}"),
                product(&select(&x, &some)).data(),
                select(&all, &some).data(),
            );
        }
    }
}

proptest! {
    #![proptest_config(cases(5))]

    #[test]
    fn products_are_those_of_the_reference(seed: u64, few in 1..9usize, many in 9..90usize) {
        let Some(gpu) = gpu() else { return Ok(()) };
        check_products(&gpu, seed, few, 1.0);
        check_products(&gpu, seed, many, 1.0);
    }

    #[test]
    fn an_input_does_not_depend_on_the_others(seed: u64, rows in 2..80usize) {
        let Some(gpu) = gpu() else { return Ok(()) };
        check_same(&gpu, seed, rows);
    }
}

#[test]
fn sizes_at_the_ends_of_f32_are_no_trouble() {
    let Some(gpu) = gpu() else { return };
    for scale in [1e-30, 1e-12, 1e12, 1e25] {
        check_products(&gpu, 7, 3, scale);
    }
    // Nothing but zeros, and codes of nothing but zeros.
    let weight = gpu
        .load_matrix(Random::new(1).matrix(DType::Q4_K, 9, 512))
        .unwrap();
    let [out] = gpu
        .linear(&upload(&*gpu, &Tensor::zeros(2, 512)), [&weight])
        .unwrap();
    assert_same("zeros", read(&*gpu, out).data(), &[0.0; 18]);
}

#[test]
fn types_without_a_kernel_are_held_as_f32() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(5);
    for dtype in [DType::Q5_1, DType::TQ2_0] {
        let stored = random.matrix(dtype, 5, 256);
        let x = random.tensor(2, 256);
        let [expected] = Reference::default().linear(&x, [&stored]).unwrap();
        let [found] = gpu
            .linear(&upload(&*gpu, &x), [&gpu.load_matrix(stored).unwrap()])
            .unwrap();
        assert_close(
            &format!("{dtype}"),
            read(&*gpu, found).data(),
            expected.data(),
            1e-5,
        );
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(4);
    let weight = gpu.load_matrix(random.matrix(DType::Q8_0, 5, 64)).unwrap();
    assert!(is_refused(
        gpu.linear(&upload(&*gpu, &random.tensor(2, 32)), [&weight])
    ));
    assert!(is_refused(gpu.upload(2, 3, vec![0.0; 5])));
    let none = gpu
        .linear(&upload(&*gpu, &Tensor::zeros(0, 64)), [&weight])
        .unwrap();
    assert_eq!(none[0].rows(), 0);
}
