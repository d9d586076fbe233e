//! Routing, experts and the dense MLP.

use formats::DType;
use proptest::prelude::*;
use tensor::{MlpWeights, MoeWeights, Ops, Reference, StoredExperts, StoredMatrix, Tensor};

use super::{Random, assert_close, assert_same, cases, gpu, is_refused, read, select, upload};
use crate::Gpu;

type StoredMoe = MoeWeights<StoredMatrix, StoredExperts>;
type Moe<O> = MoeWeights<<O as Ops>::Matrix, <O as Ops>::Experts>;

/// Types of the gate and up, and of the down projection, as files mix them.
const TYPES: [(DType, DType); 4] = [
    (DType::F32, DType::F32),
    (DType::Q8_0, DType::Q8_0),
    (DType::Q4_K, DType::Q6_K),
    (DType::BF16, DType::Q4_0),
];

fn stored_mlp(
    random: &mut Random,
    (inner, outer): (DType, DType),
    hidden: usize,
    width: usize,
) -> MlpWeights<StoredMatrix> {
    MlpWeights {
        gate: random.matrix(inner, width, hidden),
        up: random.matrix(inner, width, hidden),
        down: random.matrix(outer, hidden, width),
    }
}

fn stored_moe(
    random: &mut Random,
    types: (DType, DType),
    hidden: usize,
    width: usize,
) -> StoredMoe {
    let experts = 1 + random.index(40);
    let shared = random.index(3) > 0;
    MoeWeights {
        router: random.matrix(DType::F32, experts, hidden),
        top_k: 1 + random.index(experts.min(9)),
        renormalise: random.index(2) > 0,
        experts: StoredExperts {
            experts: (0..experts)
                .map(|_| stored_mlp(random, types, hidden, width))
                .collect(),
        },
        shared: shared.then(|| {
            let gate = random.matrix(DType::F32, 1, hidden);
            // Of another width than the others, at times.
            let width = [width / 2, width, 2 * width][random.index(3)];
            let block = types.0.block_len().max(types.1.block_len());
            let width = width.next_multiple_of(block);
            (stored_mlp(random, types, hidden, width), gate)
        }),
    }
}

fn load_mlp<O: Ops>(ops: &O, stored: &MlpWeights<StoredMatrix>) -> MlpWeights<O::Matrix> {
    let load = |stored: &StoredMatrix| ops.load_matrix(stored.clone()).unwrap();
    MlpWeights {
        gate: load(&stored.gate),
        up: load(&stored.up),
        down: load(&stored.down),
    }
}

fn load_moe<O: Ops>(ops: &O, stored: &StoredMoe) -> Moe<O> {
    let load = |stored: &StoredMatrix| ops.load_matrix(stored.clone()).unwrap();
    let shared = stored.shared.as_ref();
    MoeWeights {
        router: load(&stored.router),
        top_k: stored.top_k,
        renormalise: stored.renormalise,
        experts: ops.load_experts(stored.experts.clone()).unwrap(),
        shared: shared.map(|(mlp, gate)| (load_mlp(ops, mlp), load(gate))),
    }
}

fn sizes((inner, outer): (DType, DType)) -> (usize, usize) {
    match inner.block_len().max(outer.block_len()) {
        256 => (256, 256),
        32 => (160, 96),
        _ => (50, 35),
    }
}

fn run<O: Ops>(ops: &O, moe: &Moe<O>, x: &Tensor) -> Tensor {
    let x = upload(ops, x);
    let moe = moe.as_ref();
    let routing = ops.route(&x, &moe).unwrap();
    read(ops, ops.experts(&x, &routing, &moe).unwrap())
}

pub(super) fn check(gpu: &Gpu, seed: u64, rows: usize) {
    let mut random = Random::new(seed);
    for types in TYPES {
        let (hidden, width) = sizes(types);
        let stored = stored_moe(&mut random, types, hidden, width);
        let x = random.tensor(rows, hidden);
        let expected = run(&Reference::default(), &stored, &x);
        let moe = load_moe(gpu, &stored);
        let found = run(gpu, &moe, &x);
        // Inputs and inner values are rounded to bytes for quantised weights.
        let bound = if types == (DType::F32, DType::F32) {
            1e-5
        } else {
            2e-2
        };
        assert_close(&format!("{types:?}"), found.data(), expected.data(), bound);
        // Tokens by themselves, by few and by many: other kernels, the same bits.
        for _ in 0..3 {
            let some: Vec<usize> = (0..1 + random.index(rows))
                .map(|_| random.index(rows))
                .collect();
            assert_same(
                "some",
                run(gpu, &moe, &select(&x, &some)).data(),
                select(&found, &some).data(),
            );
        }
    }
}

proptest! {
    #![proptest_config(cases(6))]

    #[test]
    fn experts_are_those_of_the_reference(seed: u64, rows in 1..30usize) {
        let Some(gpu) = gpu() else { return Ok(()) };
        check(&gpu, seed, rows);
    }

    #[test]
    fn a_dense_mlp_is_that_of_the_reference(seed: u64, rows in 1..20usize) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let mut random = Random::new(seed);
        for types in TYPES {
            let (hidden, width) = sizes(types);
            let stored = stored_mlp(&mut random, types, hidden, width);
            let x = random.tensor(rows, hidden);
            let expected = Reference::default().mlp(&x, stored.as_ref()).unwrap();
            let mlp = load_mlp(&*gpu, &stored);
            let run = |x: &Tensor| read(&*gpu, gpu.mlp(&upload(&*gpu, x), mlp.as_ref()).unwrap());
            let found = run(&x);
            let bound = if types == (DType::F32, DType::F32) { 1e-5 } else { 2e-2 };
            assert_close(&format!("{types:?}"), found.data(), expected.data(), bound);
            let one = random.index(rows);
            assert_same("one", run(&select(&x, &[one])).data(), found.row(one));
        }
    }
}

#[test]
fn ties_and_numbers_that_are_none_choose_experts_that_exist() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(17);
    let mut stored = stored_moe(&mut random, TYPES[0], 8, 4);
    stored.router = random.matrix(DType::F32, 37, 8);
    stored.experts.experts = (0..37)
        .map(|_| stored_mlp(&mut random, TYPES[0], 8, 4))
        .collect();
    stored.top_k = 5;
    let moe = load_moe(&*gpu, &stored);
    // All logits are 0: the first experts, as the reference chooses.
    let zeros = Tensor::zeros(2, 8);
    assert_close(
        "ties",
        run(&*gpu, &moe, &zeros).data(),
        run(&Reference::default(), &stored, &zeros).data(),
        1e-6,
    );
    let none = Tensor::from_vec(1, 8, vec![f32::NAN; 8]);
    assert_eq!(run(&*gpu, &moe, &none).rows(), 1);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(18);
    let stored = stored_moe(&mut random, TYPES[1], 64, 32);
    let moe = load_moe(&*gpu, &stored);
    let (x, wide) = (
        upload(&*gpu, &random.tensor(3, 64)),
        upload(&*gpu, &random.tensor(2, 64)),
    );
    let routing = gpu.route(&x, &moe.as_ref()).unwrap();
    assert!(is_refused(gpu.experts(&wide, &routing, &moe.as_ref())));
    assert!(is_refused(
        gpu.route(&upload(&*gpu, &random.tensor(3, 32)), &moe.as_ref())
    ));
    let mut mixed = stored.experts.clone();
    mixed
        .experts
        .push(stored_mlp(&mut random, TYPES[0], 64, 32));
    assert!(is_refused(gpu.load_experts(mixed)));
    assert!(is_refused(gpu.load_experts(StoredExperts {
        experts: Vec::new()
    })));
}
