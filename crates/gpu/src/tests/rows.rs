//! Rows looked up, chosen, joined.

use formats::DType;
use tensor::{Likely, MostLikely, Ops, Reference, quant};

use super::{Random, assert_close, assert_same, gpu, is_refused, read, upload};

#[test]
fn embeddings_of_every_type_are_looked_up() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(3);
    let reference = Reference::default();
    for dtype in DType::all().filter(|dtype| quant::can_decode(*dtype)) {
        if dtype.block_len() == 1 && !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
            continue;
        }
        if matches!(dtype, DType::IQ1_S | DType::IQ1_M) {
            continue; // no encoder, and held as f32 like others here
        }
        let table = random.matrix(dtype, 11, 256 + 64 * usize::from(dtype.block_len() == 32));
        let tokens = [10, 0, 7, 7];
        let expected = reference.embed(&table, &tokens).unwrap();
        let found = gpu
            .embed(&gpu.load_matrix(table).unwrap(), &tokens)
            .unwrap();
        assert_close(
            &format!("{dtype}"),
            read(&*gpu, found).data(),
            expected.data(),
            1e-6,
        );
    }
}

#[test]
fn tokens_outside_the_vocabulary_are_refused() {
    let Some(gpu) = gpu() else { return };
    let table = gpu
        .load_matrix(Random::new(3).matrix(DType::F16, 11, 20))
        .unwrap();
    assert!(is_refused(gpu.embed(&table, &[3, 11])));
    assert_eq!(gpu.embed(&table, &[]).unwrap().rows(), 0);
}

#[test]
fn rows_are_chosen_and_joined() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(6);
    let reference = Reference::default();
    let (left, right) = (random.tensor(5, 33), random.tensor(5, 300));
    let on_gpu = [upload(&*gpu, &left), upload(&*gpu, &right)];
    let rows = [4, 0, 0, 2];
    let found = gpu.select_rows(&on_gpu[1], &rows).unwrap();
    assert_same(
        "rows",
        read(&*gpu, found).data(),
        reference.select_rows(&right, &rows).unwrap().data(),
    );
    assert!(is_refused(gpu.select_rows(&on_gpu[1], &[5])));
    let found = gpu.concat(&on_gpu[0], &on_gpu[1]).unwrap();
    assert_same(
        "joined",
        read(&*gpu, found).data(),
        reference.concat(&left, &right).unwrap().data(),
    );
}

#[test]
fn the_most_likely_are_those_of_the_host() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(12);
    let order = |list: &mut Vec<Likely>| list.sort_unstable_by_key(|likely| likely.token);
    for case in 0..60 {
        let rows = 1 + random.index(3);
        // From less than a group to more than groups of the least size are allowed.
        let cols = [100, 5000, 20_000, 300_001][case % 4] + random.index(50);
        let mut logits = random.tensor(rows, cols);
        for value in logits.data_mut() {
            *value = match (case % 5, random.index(40)) {
                // Many equals, both zeros, what cannot be chosen.
                (1, _) => (*value * 8.0).round(),
                (2, 0) => f32::NAN,
                (2, 1) => f32::INFINITY,
                (2, 2) => -0.0,
                (3, 1..) | (2, 3) => f32::NEG_INFINITY,
                (4, _) => *value * 1e38,
                _ => *value,
            };
        }
        if case % 6 == 5 {
            // All that is likely is in one place.
            let start = random.index(cols - 60);
            logits.data_mut()[start..start + 50].fill(1e30);
        }
        let wanted = MostLikely {
            count: [1, 20, 64, 300][random.index(4)],
            limit: [usize::MAX, cols - random.index(90)][random.index(2)],
        };
        let found = gpu.most_likely(&upload(&*gpu, &logits), wanted).unwrap();
        let exact = wanted.of_rows(&logits);
        let Some(mut found) = found else {
            // Too many are equal, or too few are looked through.
            let are_equal = [1, 2].contains(&(case % 5));
            assert!(are_equal || wanted.count >= cols / 128, "{case}");
            continue;
        };
        found.iter_mut().for_each(order);
        for (found, exact) in found.iter().zip(&exact) {
            let is_in = |likely: &Likely| found.contains(likely);
            assert!(exact.iter().all(is_in), "{case}: {wanted:?} of {cols}");
            let same = |likely: &Likely| {
                likely.logit.to_bits() == logits.row(0)[likely.token as usize].to_bits()
            };
            assert!(rows > 1 || found.iter().all(same), "{case}");
            assert!(found.is_sorted_by(|a, b| a.token < b.token), "each once");
        }
        assert_eq!(found.len(), rows);
    }
}
