//! Rows looked up, chosen, joined.

use formats::DType;
use tensor::{Ops, Reference, quant};

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
