//! Norms, and the codes that they leave for products.

use formats::DType;
use proptest::prelude::*;
use tensor::{Ops, Reference};

use super::{Random, assert_close, assert_same, cases, gpu, is_refused, read, upload};
use crate::Gpu;

pub(super) fn check_add_norm(gpu: &Gpu, seed: u64, rows: usize, cols: usize) {
    let mut random = Random::new(seed);
    let reference = Reference::default();
    let (x, addend, weight) = (
        random.tensor(rows, cols),
        random.tensor(rows, cols),
        random.values(cols),
    );
    let on_gpu = gpu.load_vector(weight.clone()).unwrap();
    for addend in [None, Some(&addend)] {
        let mut expected_x = x.clone();
        let expected = reference
            .add_norm(&mut expected_x, addend, &weight, 1e-6)
            .unwrap();
        let (mut x, addend) = (upload(gpu, &x), addend.map(|addend| upload(gpu, addend)));
        let found = gpu
            .add_norm(&mut x, addend.as_ref(), &on_gpu, 1e-6)
            .unwrap();
        assert_same("residual", read(gpu, x).data(), expected_x.data());
        // What the norm leaves for products is what a product would make of its values.
        if cols.is_multiple_of(32) {
            let matrix = gpu
                .load_matrix(random.matrix(DType::Q8_0, 7, cols))
                .unwrap();
            let [fused] = gpu.linear(&found, [&matrix]).unwrap();
            let [apart] = gpu.linear(&upload(gpu, &expected), [&matrix]).unwrap();
            assert_close(
                "codes",
                read(gpu, fused).data(),
                read(gpu, apart).data(),
                1e-2,
            );
            let values = read(gpu, found);
            let [apart] = gpu.linear(&upload(gpu, &values), [&matrix]).unwrap();
            let mut x = upload(gpu, &expected_x);
            let again = gpu.add_norm(&mut x, None, &on_gpu, 1e-6).unwrap();
            let [fused] = gpu.linear(&again, [&matrix]).unwrap();
            assert_same("codes", read(gpu, fused).data(), read(gpu, apart).data());
            assert_close("norm", values.data(), expected.data(), 1e-5);
        } else {
            assert_close("norm", read(gpu, found).data(), expected.data(), 1e-5);
        }
    }
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn add_norm_is_that_of_the_reference(seed: u64, rows in 1..6usize, odd in 1..1500usize, groups in 1..80usize) {
        let Some(gpu) = gpu() else { return Ok(()) };
        check_add_norm(&gpu, seed, rows, odd);
        check_add_norm(&gpu, seed, rows, 32 * groups);
    }

    #[test]
    fn gated_norm_is_that_of_the_reference(
        seed: u64, rows in 1..5usize, heads in 1..7usize, dim in prop::sample::select(vec![5, 32, 96, 128, 160]),
    ) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let mut random = Random::new(seed);
        let (x, gate) = (random.tensor(rows, heads * dim), random.tensor(rows, heads * dim));
        let weight = random.values(dim);
        let expected = Reference::default().gated_norm(x.clone(), &gate, &weight, 1e-6).unwrap();
        let on_gpu = gpu.load_vector(weight).unwrap();
        let found = gpu.gated_norm(upload(&*gpu, &x), &upload(&*gpu, &gate), &on_gpu, 1e-6).unwrap();
        let matrix = (dim % 32 == 0).then(|| gpu.load_matrix(random.matrix(DType::Q4_0, 7, heads * dim)).unwrap());
        let fused = matrix.as_ref().map(|matrix| gpu.linear(&found, [matrix]).unwrap());
        let values = read(&*gpu, found);
        assert_close("norm", values.data(), expected.data(), 1e-5);
        if let (Some(matrix), Some([fused])) = (&matrix, fused) {
            let [apart] = gpu.linear(&upload(&*gpu, &values), [matrix]).unwrap();
            assert_same("codes", read(&*gpu, fused).data(), read(&*gpu, apart).data());
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(4);
    let weight = gpu.load_vector(random.values(64)).unwrap();
    let mut x = upload(&*gpu, &random.tensor(2, 32));
    let right = upload(&*gpu, &random.tensor(2, 64));
    assert!(is_refused(gpu.add_norm(&mut x, None, &weight, 1e-6)));
    assert!(is_refused(gpu.gated_norm(x, &right, &weight, 1e-6)));
}
