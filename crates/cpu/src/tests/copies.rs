//! Copies of weights: the same results before, while and after they are made.

use formats::DType;
use proptest::prelude::*;
use tensor::{Ops, StoredMatrix, Tensor};

use super::linear::{FLOAT, INTEGER};
use super::{Random, assert_same, backends, cases};
use crate::{Copier, CopySettings, Cpu, Matrix};

const SETTINGS: CopySettings = CopySettings {
    huge_pages: true,
    locked: false,
    replaces_file: true,
};

fn copied_types() -> Vec<DType> {
    [&INTEGER[..], &FLOAT].concat()
}

fn is_interleaved(dtype: DType) -> bool {
    let by_row = [
        DType::IQ3_S,
        DType::IQ3_XXS,
        DType::IQ2_S,
        DType::IQ2_XS,
        DType::IQ2_XXS,
    ];
    dtype.block_len() > 1 && !by_row.contains(&dtype)
}

fn copying(threads: usize) -> impl Iterator<Item = (Cpu, Copier)> {
    let with_copies = |cpu: Cpu| cpu.with_copies(SETTINGS);
    backends(threads).into_iter().map(with_copies)
}

fn product(cpu: &Cpu, x: &Tensor, weight: &Matrix) -> Tensor {
    let [y] = cpu.linear(x, [weight]).unwrap();
    y
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_copy_gives_the_same_bits(
        seed: u64,
        rows in 1..70usize,
        units in 1..20usize,
        tokens in 1..20usize,
    ) {
        let mut random = Random::new(seed);
        for dtype in copied_types() {
            // Whole blocks of 256 and others.
            let cols = (32 * units).next_multiple_of(dtype.block_len());
            let cols = if units % 2 == 0 { cols.next_multiple_of(256) } else { cols };
            let stored = random.matrix(dtype, rows, cols);
            let x = random.tensor(tokens, cols);
            for (cpu, copier) in copying(2) {
                let what = format!("{} {dtype} [{rows}, {cols}] x {tokens}", cpu.isa());
                let weight = cpu.load_matrix(stored.clone()).unwrap();
                let before = product(&cpu, &x, &weight);
                assert!(weight.copied_for_tests().is_none());
                assert!(copier.run_once());
                let interleaved = weight.copied_for_tests().expect("it was asked for");
                let lanes = cpu.dispatch.lanes();
                let interleaves = cpu.dispatch.interleaves() && is_interleaved(dtype);
                let expected = match interleaves && cols % 256 == 0 {
                    true => rows / lanes * lanes,
                    false => 0,
                };
                assert_eq!(interleaved, expected, "{what}");
                assert_same(&what, product(&cpu, &x, &weight).data(), before.data());
                // Outputs that do not begin or end with a panel.
                let first = random.index(rows);
                let end = first + random.index(rows - first + 1);
                let cut = weight.outputs_for_tests(&cpu, &x, first..end);
                for t in 0..tokens {
                    assert_same(&what, cut.row(t), &before.row(t)[first..end]);
                }
            }
        }
    }
}

#[test]
fn results_are_the_same_while_copies_are_made() {
    let mut random = Random::new(5);
    let types = copied_types();
    let stored: Vec<StoredMatrix> = (0..40)
        .map(|i| random.matrix(types[i % types.len()], 48, 512))
        .collect();
    let x = random.tensor(3, 512);
    for (cpu, copier) in copying(2) {
        let weights: Vec<Matrix> = stored
            .iter()
            .map(|stored| cpu.load_matrix(stored.clone()).unwrap())
            .collect();
        let plain = cpu.clone().without_copies();
        let expected: Vec<Tensor> = stored
            .iter()
            .map(|stored| product(&plain, &x, &plain.load_matrix(stored.clone()).unwrap()))
            .collect();
        let makers = [copier.clone(), copier].map(|c| std::thread::spawn(|| c.run()));
        let all_are_copied = || weights.iter().all(|w| w.copied_for_tests().is_some());
        loop {
            let done = all_are_copied();
            for (weight, expected) in weights.iter().zip(&expected) {
                assert_same(
                    "meanwhile",
                    product(&cpu, &x, weight).data(),
                    expected.data(),
                );
            }
            if done {
                break;
            }
        }
        // Whoever makes copies ends with those who want them.
        drop((cpu, weights));
        for maker in makers {
            assert!(maker.join().unwrap());
        }
    }
}

#[test]
fn what_is_not_used_is_not_copied() {
    let mut random = Random::new(6);
    let [used, unused, gone] = [(); 3].map(|()| random.matrix(DType::Q4_K, 32, 256));
    for (cpu, copier) in copying(1) {
        let [used, unused, gone] =
            [&used, &unused, &gone].map(|stored| cpu.load_matrix(stored.clone()).unwrap());
        let x = random.tensor(1, 256);
        product(&cpu, &x, &used);
        product(&cpu, &x, &gone);
        drop(gone);
        let progress = copier.progress();
        assert_eq!(progress.waiting(), 2);
        assert!(copier.run_once());
        assert_eq!(progress.waiting(), 0);
        assert!(used.copied_for_tests().is_some());
        assert_eq!(unused.copied_for_tests(), None);
        // Nobody waits for copies that nobody makes.
        product(&cpu, &x, &unused);
        assert_eq!(progress.waiting(), 1);
        drop(copier);
        assert_eq!(progress.waiting(), 0);
    }
}
