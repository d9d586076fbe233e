//! Rows looked up, chosen, joined, searched.

use formats::DType;
use tensor::{Ops, Reference, Tensor, quant};

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
fn the_first_of_the_largest_is_found() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(8);
    for cols in [1, 31, 700] {
        let mut x = random.tensor(4, cols);
        // Equal ones, far apart.
        x.row_mut(1).fill(-3.0);
        x.row_mut(2)[cols - 1] = 9.0;
        x.row_mut(2)[cols / 3] = 9.0;
        x.row_mut(3)[0] = f32::NAN;
        let best = |row: &[f32]| {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter().position(|value| *value == largest)
        };
        let found = gpu.argmax(&upload(&*gpu, &x)).unwrap();
        for (row, found) in found.iter().enumerate() {
            let expected = best(x.row(row)).unwrap_or(cols - 1);
            assert_eq!(*found as usize, expected, "row {row} of {cols}");
        }
    }
    assert!(is_refused(gpu.argmax(&upload(&*gpu, &Tensor::zeros(2, 0)))));
}
