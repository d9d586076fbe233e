//! Routing, experts and the dense MLP.

use formats::DType;
use proptest::prelude::*;
use tensor::{MlpWeights, MoeWeights, Ops, Reference, StoredExperts, StoredMatrix, Tensor};

use super::{Random, assert_close, assert_same, cases, gpu, is_refused, read, select, upload};
use crate::Gpu;

pub(super) type StoredMoe = MoeWeights<StoredMatrix, StoredExperts>;
pub(super) type Moe<O> = MoeWeights<<O as Ops>::Matrix, <O as Ops>::Experts>;

/// Types of gate, up and down.
pub(super) type Types = [DType; 3];

/// As files mix them: without codes, with codes, with both, and with a gate and up that tiles cannot take at once.
pub(super) const TYPES: [Types; 6] = [
    [DType::F32; 3],
    [DType::Q8_0; 3],
    [DType::Q4_K, DType::Q4_K, DType::Q6_K],
    [DType::BF16, DType::BF16, DType::Q4_0],
    [DType::Q8_0, DType::Q4_0, DType::Q8_0],
    [DType::F16, DType::F16, DType::BF16],
];

fn stored_mlp(
    random: &mut Random,
    [gate, up, down]: Types,
    hidden: usize,
    width: usize,
) -> MlpWeights<StoredMatrix> {
    MlpWeights {
        gate: random.matrix(gate, width, hidden),
        up: random.matrix(up, width, hidden),
        down: random.matrix(down, hidden, width),
    }
}

fn block_len(types: Types) -> usize {
    types.map(DType::block_len).into_iter().max().unwrap_or(1)
}

/// Inputs and inner values are rounded to bytes for quantised weights.
fn bound(types: Types) -> f32 {
    if block_len(types) == 1 { 1e-5 } else { 2e-2 }
}

pub(super) fn stored_moe(
    random: &mut Random,
    types: Types,
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
            // Of another width and other types than the others, at times.
            let width = [width / 2, width, 2 * width][random.index(3)];
            let width = width.next_multiple_of(block_len(types));
            let fits = |types: &Types| {
                let len = block_len(*types);
                len > 1 && hidden.is_multiple_of(len)
            };
            let others: Vec<Types> = TYPES.into_iter().filter(fits).collect();
            let types = match others.get(random.index(2 * others.len().max(1))) {
                Some(others) if width.is_multiple_of(block_len(*others)) => *others,
                _ => types,
            };
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

pub(super) fn load_moe<O: Ops>(ops: &O, stored: &StoredMoe) -> Moe<O> {
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

pub(super) fn sizes(types: Types) -> (usize, usize) {
    match block_len(types) {
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
        assert_close(
            &format!("{types:?}"),
            found.data(),
            expected.data(),
            bound(types),
        );
        // Tokens by themselves, by few and by many: other kernels and tiles, the same bits.
        for most in [1, 8, 40, rows] {
            let some: Vec<usize> = (0..1 + random.index(most.min(rows)))
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
    #![proptest_config(cases(3))]

    #[test]
    fn experts_are_those_of_the_reference(seed: u64, few in 1..20usize, many in 20..120usize) {
        let Some(gpu) = gpu() else { return Ok(()) };
        check(&gpu, seed, few);
        check(&gpu, seed, many);
    }

    #[test]
    fn a_dense_mlp_is_that_of_the_reference(seed: u64, rows in 1..90usize) {
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
            assert_close(&format!("{types:?}"), found.data(), expected.data(), bound(types));
            for most in [1, 20, 40] {
                let some: Vec<usize> = (0..1 + random.index(most)).map(|_| random.index(rows)).collect();
                assert_same("some", run(&select(&x, &some)).data(), select(&found, &some).data());
            }
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
