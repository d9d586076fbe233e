//! The convolution, the delta rule, and rows that are held back.

use formats::DType;
use proptest::prelude::*;
use tensor::{
    AttentionShape, Batch, DeltaShape, HeadOrder, MemoryLayout, Ops, Reference, StateId,
    StateSnapshot, Tensor,
};

use super::{
    Random, assert_close, assert_same, batch, cases, gpu, is_refused, read, select, upload,
};
use crate::Gpu;

fn layout(random: &mut Random, states: usize) -> MemoryLayout {
    let key_heads = 1 + random.index(3);
    MemoryLayout {
        attention_layers: 0,
        attention: AttentionShape {
            heads: 1,
            kv_heads: 1,
            head_dim: 8,
        },
        key_type: DType::F32,
        value_type: DType::F32,
        page_tokens: 4,
        pages: 400,
        delta_layers: 2,
        delta: DeltaShape {
            key_heads,
            value_heads: key_heads * (1 + random.index(3)),
            key_dim: [1, 5, 16, 64, 128][random.index(5)],
            value_dim: [1, 7, 16, 64, 128][random.index(5)],
            conv_taps: 1 + random.index(5),
            order: if random.index(2) > 0 {
                HeadOrder::Tiled
            } else {
                HeadOrder::Grouped
            },
        },
        states,
        held_rows: 6,
    }
}

/// Memory with random states.
fn memory<O: Ops>(ops: &O, random: &mut Random, layout: &MemoryLayout) -> O::Memory {
    let mut memory = ops.new_memory(layout).unwrap();
    for state in 0..layout.states {
        let values = random.values(layout.state_bytes() / 4).into();
        ops.restore(
            &mut memory,
            StateId(state as u32),
            &StateSnapshot { values },
        )
        .unwrap();
    }
    memory
}

fn states<O: Ops>(ops: &O, memory: &O::Memory, count: usize) -> Vec<f32> {
    let state = |state| {
        ops.snapshot(memory, StateId(state as u32))
            .unwrap()
            .values
            .to_vec()
    };
    (0..count).flat_map(state).collect()
}

/// Parameters and inputs of both operations.
struct Case {
    shape: DeltaShape,
    taps: Vec<f32>,
    decay: Vec<f32>,
    dt_bias: Vec<f32>,
    qkv: Tensor,
    a: Tensor,
    b: Tensor,
}

impl Case {
    fn new(random: &mut Random, shape: DeltaShape, rows: usize) -> Self {
        let heads = shape.value_heads;
        Self {
            shape,
            taps: random.values(shape.channels() * shape.conv_taps),
            decay: (0..heads).map(|_| -random.value().abs()).collect(),
            dt_bias: random.values(heads),
            qkv: random.tensor(rows, shape.channels()),
            a: random.tensor(rows, heads),
            b: random.tensor(rows, heads),
        }
    }

    /// The convolution, then the rule, in both layers: what the second returns of both.
    fn run<O: Ops>(
        &self,
        ops: &O,
        memory: &mut O::Memory,
        batch: &Batch,
        rows: &[usize],
    ) -> [Tensor; 2] {
        let vector = |values: &Vec<f32>| ops.load_vector(values.clone()).unwrap();
        let part = |x: &Tensor| upload(ops, &select(x, rows));
        let (taps, decay, dt_bias) = (
            vector(&self.taps),
            vector(&self.decay),
            vector(&self.dt_bias),
        );
        let mut run = |layer| {
            let mixed = ops
                .causal_conv(memory, layer, batch, &self.shape, &taps, part(&self.qkv))
                .unwrap();
            let mixed = read(ops, mixed);
            let (a, b) = (part(&self.a), part(&self.b));
            let out = ops
                .delta_rule(
                    memory,
                    layer,
                    batch,
                    &self.shape,
                    upload(ops, &mixed),
                    &a,
                    &b,
                    &decay,
                    &dt_bias,
                )
                .unwrap();
            [mixed, read(ops, out)]
        };
        run(0);
        run(1)
    }
}

pub(super) fn check(gpu: &Gpu, seed: u64, lengths: &[usize]) {
    let mut random = Random::new(seed);
    let layout = layout(&mut random, lengths.len());
    let spans: Vec<_> = lengths.iter().map(|len| (0, *len)).collect();
    let new = batch(&spans, layout.page_tokens);
    let rows: Vec<usize> = (0..new.rows()).collect();
    let case = Case::new(&mut random, layout.delta, new.rows());
    let reference = Reference::default();
    let mut expected_memory = memory(&reference, &mut Random::new(seed), &layout);
    let mut found_memory = memory(gpu, &mut Random::new(seed), &layout);
    for _ in 0..2 {
        let expected = case.run(&reference, &mut expected_memory, &new, &rows);
        let found = case.run(gpu, &mut found_memory, &new, &rows);
        assert_close("convolution", found[0].data(), expected[0].data(), 1e-5);
        assert_close("rule", found[1].data(), expected[1].data(), 5e-5);
        let expected = states(&reference, &expected_memory, lengths.len());
        assert_close(
            "states",
            &states(gpu, &found_memory, lengths.len()),
            &expected,
            5e-5,
        );
    }
}

/// Rows held back and applied as far as they were right, against the same rows run one by one.
pub(super) fn check_held(gpu: &Gpu, seed: u64) {
    let mut random = Random::new(seed);
    let layout = layout(&mut random, 2);
    let case = Case::new(&mut random, layout.delta, 40);
    let pages = || batch(&[(0, 60)], layout.page_tokens).spans[0].pages.clone();
    let run = |memory: &mut _, rows: &[usize], state: u32, replay, hold| {
        let mut step = Batch::default();
        step.push_speculative(
            &vec![0; rows.len()],
            0,
            pages(),
            StateId(state),
            replay,
            hold,
        );
        case.run(gpu, memory, &step, rows)
    };
    let mut plain = memory(gpu, &mut Random::new(seed), &layout);
    let mut held = memory(gpu, &mut Random::new(seed), &layout);
    let (mut accepted, mut next) = (0, 0);
    let mut right = Vec::new();
    while next < 20 {
        // Some rows that are right, then wrong guesses.
        let count = random.index(layout.held_rows + 1);
        let guesses = random.index(layout.held_rows - count + 1);
        let hold = random.index(4) > 0;
        let guesses = if hold { guesses } else { 0 };
        let mut rows: Vec<usize> = (next..next + count).collect();
        rows.extend((0..guesses).map(|guess| 30 + guess));
        let found = run(&mut held, &rows, 1, accepted, hold);
        for (index, row) in (next..next + count).enumerate() {
            let expected = run(&mut plain, &[row], 1, 0, false);
            for (found, expected) in found.iter().zip(&expected) {
                assert_same("rows", found.row(index), expected.data());
            }
        }
        right.extend(next..next + count);
        next += count;
        accepted = if hold { count } else { 0 };
        if hold && count > 0 {
            assert!(
                is_refused(gpu.snapshot(&held, StateId(1))),
                "a state that holds rows back"
            );
        }
        if random.index(3) == 0 {
            gpu.settle(&mut held, StateId(1), accepted).unwrap();
            accepted = 0;
            assert_same("states", &states(gpu, &held, 2), &states(gpu, &plain, 2));
        }
    }
    assert!(is_refused(gpu.settle(&mut held, StateId(1), 7)));
    gpu.settle(&mut held, StateId(1), accepted).unwrap();
    assert_same("states", &states(gpu, &held, 2), &states(gpu, &plain, 2));
}

proptest! {
    #![proptest_config(cases(10))]

    #[test]
    fn both_are_those_of_the_reference(seed: u64, lengths in prop::collection::vec(0..150usize, 1..4)) {
        let Some(gpu) = gpu() else { return Ok(()) };
        check(&gpu, seed, &lengths);
    }

    #[test]
    fn rows_can_be_held_back(seed: u64) {
        let Some(gpu) = gpu() else { return Ok(()) };
        check_held(&gpu, seed);
    }

    #[test]
    fn a_span_does_not_depend_on_the_road(seed: u64, lengths in prop::collection::vec(1..150usize, 1..3)) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let mut random = Random::new(seed);
        let layout = layout(&mut random, lengths.len());
        let spans: Vec<_> = lengths.iter().map(|len| (0, *len)).collect();
        let whole = batch(&spans, layout.page_tokens);
        let case = Case::new(&mut random, layout.delta, whole.rows());
        let all: Vec<usize> = (0..whole.rows()).collect();
        let mut expected_memory = memory(&*gpu, &mut Random::new(seed), &layout);
        let expected = case.run(&*gpu, &mut expected_memory, &whole, &all);
        let mut pieces = memory(&*gpu, &mut Random::new(seed), &layout);
        for span in &whole.spans {
            let mut at = span.rows.start;
            while at < span.rows.end {
                let end = span.rows.end.min(at + 1 + random.index(90));
                let rows: Vec<usize> = (at..end).collect();
                let mut part = Batch::default();
                part.push_text(&vec![0; rows.len()], 0, span.pages.clone(), span.state);
                let found = case.run(&*gpu, &mut pieces, &part, &rows);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_same("rows", found.data(), select(expected, &rows).data());
                }
                at = end;
            }
        }
        let count = lengths.len();
        assert_same("states", &states(&*gpu, &pieces, count), &states(&*gpu, &expected_memory, count));
    }
}

#[test]
fn states_are_cleared_copied_and_put_back() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(14);
    let layout = layout(&mut random, 3);
    let mut memory = memory(&*gpu, &mut random, &layout);
    let [a, b, c] = [0, 1, 2].map(StateId);
    let state = |memory: &_, id| gpu.snapshot(memory, id).unwrap();
    let (first, third) = (state(&memory, a), state(&memory, c));
    gpu.copy_state(&mut memory, a, b).unwrap();
    assert_eq!(state(&memory, b), first);
    gpu.clear_state(&mut memory, a).unwrap();
    assert!(state(&memory, a).values.iter().all(|value| *value == 0.0));
    assert_eq!((state(&memory, b), state(&memory, c)), (first, third));
    let other = StateSnapshot {
        values: vec![0.0; 3].into(),
    };
    assert!(is_refused(gpu.restore(&mut memory, a, &other)));
    assert!(is_refused(gpu.snapshot(&memory, StateId(3))));
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(4);
    let layout = layout(&mut random, 2);
    let mut memory = memory(&*gpu, &mut random, &layout);
    let good = batch(&[(0, 2), (0, 1)], layout.page_tokens);
    let case = Case::new(&mut random, layout.delta, 3);
    let taps = gpu.load_vector(case.taps.clone()).unwrap();
    let mut conv = |layer, batch: &Batch, shape: &DeltaShape, x: &Tensor| {
        is_refused(gpu.causal_conv(&mut memory, layer, batch, shape, &taps, upload(&*gpu, x)))
    };
    assert!(!conv(0, &good, &case.shape, &case.qkv));
    assert!(conv(2, &good, &case.shape, &case.qkv));
    assert!(conv(0, &good, &case.shape, &Tensor::zeros(3, 1)));
    assert!(conv(
        0,
        &good,
        &DeltaShape {
            key_heads: 0,
            ..case.shape
        },
        &case.qkv
    ));
    let mut twice = good.clone();
    twice.spans[1].state = StateId(0);
    assert!(conv(0, &twice, &case.shape, &case.qkv));
    let mut beyond = good.clone();
    beyond.spans[1].state = StateId(2);
    assert!(conv(0, &beyond, &case.shape, &case.qkv));
}
