//! FP8 weights with a scale for each block of a matrix, as checkpoints of the hub have them: kernels know none
//! of that, so they are held as f32, which has their values.

use formats::DType;
use tensor::matrix::BlockScales;
use tensor::{Accelerator, MlpWeights, MoeWeights, Ops, Reference, StoredExperts, StoredMatrix};

use super::experts::{StoredMoe, load_moe};
use super::{Random, assert_close, assert_same, gpu, read, upload};

/// Values with scales of between 1/2 and 2, some of them negative.
fn scaled(
    random: &mut Random,
    dtype: DType,
    (rows, cols): (usize, usize),
    block: [usize; 2],
) -> StoredMatrix {
    let count = rows.div_ceil(block[0]) * cols.div_ceil(block[1]);
    let factors = random.values(count).into_iter();
    let factors = factors
        .map(|value| value + 1.0f32.copysign(value))
        .collect();
    let scales = BlockScales { block, factors };
    let matrix = random.matrix(dtype, rows, cols);
    matrix.with_scales(scales).unwrap()
}

#[test]
fn block_scales_are_applied() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(21);
    let reference = Reference::default();
    // Whole blocks, parts of blocks at both ends, and less than a block; other types have them nowhere, and
    // would be right.
    for (dtype, size, block) in [
        (DType::F8_E4M3, (256, 384), [128, 128]),
        (DType::F8_E4M3, (200, 300), [128, 128]),
        (DType::F8_E4M3, (7, 33), [128, 128]),
        (DType::F8_E4M3, (10, 80), [4, 32]),
        (DType::BF16, (10, 80), [4, 32]),
        (DType::Q8_0, (9, 96), [4, 32]),
    ] {
        let what = format!("{dtype} {size:?} {block:?}");
        let stored = scaled(&mut random, dtype, size, block);
        let matrix = gpu.load_matrix(stored.clone()).unwrap();
        let tokens: Vec<u32> = (0..size.0 as u32).collect();
        let rows = read(&*gpu, gpu.embed(&matrix, &tokens).unwrap());
        assert_same(&what, rows.data(), &stored.decode());
        for rows in [1, 5, 40] {
            let x = random.tensor(rows, size.1);
            let [expected] = reference.linear(&x, [&stored]).unwrap();
            let [found] = gpu.linear(&upload(&*gpu, &x), [&matrix]).unwrap();
            assert_close(&what, read(&*gpu, found).data(), expected.data(), 1e-5);
        }
    }
}

#[test]
fn experts_with_block_scales_are_those_of_the_reference() {
    let Some(gpu) = gpu() else { return };
    const HIDDEN: usize = 48;
    const WIDTH: usize = 40;
    let mut random = Random::new(22);
    let mut matrix = |size| scaled(&mut random, DType::F8_E4M3, size, [32, 32]);
    let mut mlp = || MlpWeights {
        gate: matrix((WIDTH, HIDDEN)),
        up: matrix((WIDTH, HIDDEN)),
        down: matrix((HIDDEN, WIDTH)),
    };
    let experts = StoredExperts {
        experts: (0..6).map(|_| mlp()).collect(),
    };
    let shared = mlp();
    let stored: StoredMoe = MoeWeights {
        router: random.matrix(DType::F32, 6, HIDDEN),
        top_k: 2,
        renormalise: true,
        experts,
        shared: Some((shared, random.matrix(DType::F32, 1, HIDDEN))),
    };
    let moe = load_moe(&*gpu, &stored);
    let mut room = gpu.room();
    gpu.fill_room(&mut room, &stored.experts).unwrap();
    for rows in [1, 30] {
        let x = random.tensor(rows, HIDDEN);
        let reference = Reference::default();
        let routing = reference.route(&x, &stored.as_ref()).unwrap();
        let expected = reference.experts(&x, &routing, &stored.as_ref()).unwrap();
        let x = upload(&*gpu, &x);
        let routing = gpu.route(&x, &moe.as_ref()).unwrap();
        let found = read(&*gpu, gpu.experts(&x, &routing, &moe.as_ref()).unwrap());
        assert_close("experts", found.data(), expected.data(), 1e-5);
        let weights = MoeWeights {
            router: &moe.router,
            experts: &mut room,
            top_k: moe.top_k,
            renormalise: moe.renormalise,
            shared: moe.as_ref().shared,
        };
        let in_room = gpu.experts_in_room(&x, &routing, weights).unwrap();
        assert_same("a room", read(&*gpu, in_room).data(), found.data());
    }
}
