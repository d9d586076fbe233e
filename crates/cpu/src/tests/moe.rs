//! Routing, experts and the dense MLP.

use formats::DType;
use proptest::prelude::*;
use tensor::{MlpWeights, MoeWeights, Ops, Reference, StoredExperts, StoredMatrix, Tensor};

use super::{Random, assert_close, assert_same, backends, cases, exact_backends};
use crate::{Cpu, Experts, Matrix};

type StoredMoe = MoeWeights<StoredMatrix, StoredExperts>;

fn stored_mlp(
    random: &mut Random,
    dtype: DType,
    hidden: usize,
    width: usize,
) -> MlpWeights<StoredMatrix> {
    MlpWeights {
        gate: random.matrix(dtype, width, hidden),
        up: random.matrix(dtype, width, hidden),
        down: random.matrix(dtype, hidden, width),
    }
}

fn stored_moe(random: &mut Random, dtype: DType, hidden: usize, width: usize) -> StoredMoe {
    let experts = 1 + random.index(9);
    let shared = random.index(3) > 0;
    let shared_width = if dtype == DType::Q4_K { 512 } else { 96 };
    MoeWeights {
        router: random.matrix(DType::F32, experts, hidden),
        top_k: 1 + random.index(experts),
        renormalise: random.index(2) > 0,
        experts: StoredExperts {
            experts: (0..experts)
                .map(|_| stored_mlp(random, dtype, hidden, width))
                .collect(),
        },
        shared: shared.then(|| {
            let gate = random.matrix(DType::F32, 1, hidden);
            (stored_mlp(random, DType::Q8_0, hidden, shared_width), gate)
        }),
    }
}

fn load_mlp(cpu: &Cpu, stored: &MlpWeights<StoredMatrix>) -> MlpWeights<Matrix> {
    let load = |stored: &StoredMatrix| cpu.load_matrix(stored.clone()).unwrap();
    MlpWeights {
        gate: load(&stored.gate),
        up: load(&stored.up),
        down: load(&stored.down),
    }
}

fn load_moe(cpu: &Cpu, stored: &StoredMoe) -> MoeWeights<Matrix, Experts> {
    let load = |stored: &StoredMatrix| cpu.load_matrix(stored.clone()).unwrap();
    MoeWeights {
        router: load(&stored.router),
        top_k: stored.top_k,
        renormalise: stored.renormalise,
        experts: cpu.load_experts(stored.experts.clone()).unwrap(),
        shared: stored
            .shared
            .as_ref()
            .map(|(shared, gate)| (load_mlp(cpu, shared), load(gate))),
    }
}

fn sizes(dtype: DType) -> (usize, usize) {
    match dtype.block_len() {
        256 => (256, 512),
        32 => (160, 96),
        _ => (50, 35),
    }
}

fn run(cpu: &Cpu, x: &Tensor, moe: &MoeWeights<Matrix, Experts>) -> Tensor {
    let moe = moe.as_ref();
    let routing = cpu.route(x, &moe).unwrap();
    cpu.experts(x, &routing, &moe).unwrap()
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn experts_are_those_of_the_reference(seed: u64, rows in 1..20usize) {
        let mut random = Random::new(seed);
        for dtype in [DType::F32, DType::Q8_0, DType::Q4_K] {
            let (hidden, width) = sizes(dtype);
            let stored = stored_moe(&mut random, dtype, 32 * hidden.div_ceil(32), width);
            let x = random.tensor(rows, stored.router.cols());
            let reference = Reference::default();
            let expected_routing = reference.route(&x, &stored.as_ref()).unwrap();
            let expected = reference.experts(&x, &expected_routing, &stored.as_ref()).unwrap();
            for cpu in exact_backends(3) {
                let moe = load_moe(&cpu, &stored);
                let routing = cpu.route(&x, &moe.as_ref()).unwrap();
                for (row, expected) in expected_routing.choices.iter().enumerate() {
                    let numbers = |(expert, _): &(u32, f32)| *expert as usize;
                    let found: Vec<usize> = routing.row(row).iter().map(numbers).collect();
                    let expected_numbers: Vec<usize> = expected.iter().map(|c| c.0).collect();
                    assert_eq!(found, expected_numbers);
                    let found: Vec<f32> = routing.row(row).iter().map(|c| c.1).collect();
                    let expected: Vec<f32> = expected.iter().map(|c| c.1).collect();
                    assert_close("weights", &found, &expected, 1e-5);
                }
                let y = cpu.experts(&x, &routing, &moe.as_ref()).unwrap();
                assert_close(&format!("{} {dtype}", cpu.isa()), y.data(), expected.data(), 1e-5);
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_road(seed: u64, rows in 2..20usize) {
        let mut random = Random::new(seed);
        for dtype in [DType::F32, DType::Q8_0, DType::Q4_K, DType::Q4_0] {
            let (hidden, width) = sizes(dtype);
            let stored = stored_moe(&mut random, dtype, 32 * hidden.div_ceil(32), width);
            let x = random.tensor(rows, stored.router.cols());
            let three_threads = backends(3);
            for (one, three) in backends(1).iter().zip(&three_threads) {
                let moe = load_moe(one, &stored);
                let (y, mlp) = (run(one, &x, &moe), one.mlp(&x, moe.experts.first_for_tests().as_ref()).unwrap());
                assert_same("threads", run(three, &x, &moe).data(), y.data());
                for row in 0..rows {
                    let alone = Tensor::from_vec(1, x.cols(), x.row(row).to_vec());
                    assert_same("experts", run(three, &alone, &moe).row(0), y.row(row));
                    let alone = three.mlp(&alone, moe.experts.first_for_tests().as_ref()).unwrap();
                    assert_same("mlp", alone.row(0), mlp.row(row));
                }
            }
        }
    }

    #[test]
    fn a_dense_mlp_is_that_of_the_reference(seed: u64, rows in 1..10usize) {
        let mut random = Random::new(seed);
        for dtype in [DType::F32, DType::BF16, DType::Q4_K] {
            let (hidden, width) = sizes(dtype);
            let stored = stored_mlp(&mut random, dtype, hidden, width);
            let x = random.tensor(rows, hidden);
            let expected = Reference::default().mlp(&x, stored.as_ref()).unwrap();
            for cpu in exact_backends(2) {
                let y = cpu.mlp(&x, load_mlp(&cpu, &stored).as_ref()).unwrap();
                assert_close("mlp", y.data(), expected.data(), 1e-5);
            }
        }
    }
}

#[test]
fn ties_go_to_the_lower_index() {
    let mut random = Random::new(1);
    let mut stored = stored_moe(&mut random, DType::F32, 64, 32);
    stored.router = {
        let bytes = formats::SharedBytes::from_vec(vec![0; 4 * 64 * stored.router.rows()]);
        StoredMatrix::from_parts("router".into(), DType::F32, stored.router.rows(), 64, bytes)
            .unwrap()
    };
    let x = random.tensor(1, 64);
    for cpu in backends(1) {
        let routing = cpu.route(&x, &load_moe(&cpu, &stored).as_ref()).unwrap();
        let numbers: Vec<u32> = routing.row(0).iter().map(|c| c.0).collect();
        assert_eq!(numbers, (0..stored.top_k as u32).collect::<Vec<_>>());
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let mut random = Random::new(2);
    let stored = stored_moe(&mut random, DType::F32, 64, 32);
    for cpu in backends(1) {
        let moe = load_moe(&cpu, &stored);
        assert!(cpu.route(&random.tensor(2, 63), &moe.as_ref()).is_err());
        let routing = cpu.route(&random.tensor(2, 64), &moe.as_ref()).unwrap();
        assert!(
            cpu.experts(&random.tensor(3, 64), &routing, &moe.as_ref())
                .is_err()
        );
        assert!(
            cpu.experts(&random.tensor(2, 63), &routing, &moe.as_ref())
                .is_err()
        );
        let mut fewer = load_moe(&cpu, &stored);
        let rows = fewer.router.rows() - 1;
        fewer.router = cpu
            .load_matrix(random.matrix(DType::F32, rows, 64))
            .unwrap();
        let x = random.tensor(2, 64);
        let routing = cpu.route(&x, &fewer.as_ref()).unwrap();
        assert!(cpu.experts(&x, &routing, &fewer.as_ref()).is_err());
        let mut mixed = stored.experts.clone();
        mixed
            .experts
            .push(stored_mlp(&mut random, DType::F32, 64, 33));
        assert!(cpu.load_experts(mixed).is_err());
        let mut wrong = stored.experts.experts[0].clone();
        wrong.up = random.matrix(DType::F32, 31, 64);
        assert!(
            cpu.mlp(&random.tensor(1, 64), load_mlp(&cpu, &wrong).as_ref())
                .is_err()
        );
    }
}
