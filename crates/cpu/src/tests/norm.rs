//! Norms.

use proptest::prelude::*;
use tensor::{Ops, Reference};

use super::{Random, assert_close, cases, exact_backends};

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn norms_are_those_of_the_reference(seed: u64, rows in 1..30usize, cols in 1..600usize) {
        let mut random = Random::new(seed);
        let x = random.tensor(rows, cols);
        let addend = random.tensor(rows, cols);
        let weight = random.values(cols);
        for addend in [None, Some(&addend)] {
            let mut expected_x = x.clone();
            let expected = Reference::default()
                .add_norm(&mut expected_x, addend, &weight, 1e-6)
                .unwrap();
            for cpu in exact_backends(2) {
                let mut x = x.clone();
                let weight = cpu.load_vector(weight.clone()).unwrap();
                let y = cpu.add_norm(&mut x, addend, &weight, 1e-6).unwrap();
                assert_close("norm", y.data(), expected.data(), 2e-6);
                assert_eq!(x.data(), expected_x.data());
            }
        }
    }

    #[test]
    fn gated_norms_are_those_of_the_reference(
        seed: u64,
        rows in 1..30usize,
        heads in 1..5usize,
        dim in 1..150usize,
    ) {
        let mut random = Random::new(seed);
        let x = random.tensor(rows, heads * dim);
        let mut gate = random.tensor(rows, heads * dim);
        gate.data_mut().iter_mut().for_each(|v| *v *= 20.0);
        let weight = random.values(dim);
        let expected = Reference::default()
            .gated_norm(x.clone(), &gate, &weight, 1e-6)
            .unwrap();
        for cpu in exact_backends(2) {
            let weight = cpu.load_vector(weight.clone()).unwrap();
            let y = cpu.gated_norm(x.clone(), &gate, &weight, 1e-6).unwrap();
            assert_close("gated norm", y.data(), expected.data(), 3e-6);
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let mut random = Random::new(1);
    for cpu in exact_backends(1) {
        let weight = cpu.load_vector(random.values(5)).unwrap();
        let (mut x, y) = (random.tensor(2, 6), random.tensor(3, 6));
        assert!(cpu.add_norm(&mut x, None, &weight, 1e-6).is_err());
        assert!(cpu.add_norm(&mut x, Some(&y), &weight, 1e-6).is_err());
        assert!(cpu.gated_norm(x.clone(), &y, &weight, 1e-6).is_err());
        assert!(cpu.gated_norm(x.clone(), &x, &weight, 1e-6).is_err());
    }
}
