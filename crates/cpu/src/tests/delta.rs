//! The convolution and the delta rule.

use proptest::prelude::*;
use tensor::{
    AttentionShape, Batch, DeltaShape, HeadOrder, HostMemory, MemoryLayout, Ops, Reference,
    StateId, Tensor,
};

use super::{Random, assert_close, assert_same, batch, cases, distinct_backends};
use crate::Cpu;

pub(super) fn layout(random: &mut Random, states: usize) -> MemoryLayout {
    let key_heads = 1 + random.index(3);
    let tiled = random.index(2) > 0;
    MemoryLayout {
        attention_layers: 1,
        attention: AttentionShape {
            heads: 1,
            kv_heads: 1,
            head_dim: 1,
        },
        key_type: formats::DType::F32,
        value_type: formats::DType::F32,
        page_tokens: 4,
        pages: 400,
        delta_layers: 2,
        delta: DeltaShape {
            key_heads,
            value_heads: key_heads * (1 + random.index(3)),
            key_dim: [1, 5, 16, 64, 128][random.index(5)],
            value_dim: [1, 7, 16, 64, 128, 150][random.index(6)],
            conv_taps: 1 + random.index(5),
            order: if tiled {
                HeadOrder::Tiled
            } else {
                HeadOrder::Grouped
            },
        },
        states,
        held_rows: 6,
    }
}

/// Random states in all slots.
pub(super) fn memory(random: &mut Random, layout: &MemoryLayout) -> HostMemory {
    let mut memory = HostMemory::new(layout).unwrap();
    for layer in 0..layout.delta_layers {
        memory.conv_slots(layer).states.fill_with(|| random.value());
        memory
            .delta_slots(layer)
            .states
            .fill_with(|| random.value());
    }
    memory
}

/// Parameters and inputs of both operations, for a batch of `rows`.
pub(super) struct Case {
    shape: DeltaShape,
    pub(super) taps: Vec<f32>,
    decay: Vec<f32>,
    dt_bias: Vec<f32>,
    qkv: Tensor,
    a: Tensor,
    b: Tensor,
}

impl Case {
    pub(super) fn new(random: &mut Random, shape: DeltaShape, rows: usize) -> Self {
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

    /// The convolution, then the rule, in layer 1: what both return.
    pub(super) fn run<O>(
        &self,
        ops: &O,
        memory: &mut HostMemory,
        batch: &Batch,
        rows: &[usize],
    ) -> [Tensor; 2]
    where
        O: Ops<Tensor = Tensor, Memory = HostMemory>,
    {
        self.run_layer(ops, memory, 1, batch, rows)
    }

    pub(super) fn run_layer<O>(
        &self,
        ops: &O,
        memory: &mut HostMemory,
        layer: usize,
        batch: &Batch,
        rows: &[usize],
    ) -> [Tensor; 2]
    where
        O: Ops<Tensor = Tensor, Memory = HostMemory>,
    {
        let vector = |values: &Vec<f32>| ops.load_vector(values.clone()).unwrap();
        let select = |x: &Tensor| ops.select_rows(x, rows).unwrap();
        let (taps, decay, dt_bias) = (
            vector(&self.taps),
            vector(&self.decay),
            vector(&self.dt_bias),
        );
        let qkv = select(&self.qkv);
        let mixed = ops
            .causal_conv(memory, layer, batch, &self.shape, &taps, qkv)
            .unwrap();
        let (a, b) = (select(&self.a), select(&self.b));
        let out = ops
            .delta_rule(
                memory,
                layer,
                batch,
                &self.shape,
                mixed.clone(),
                &a,
                &b,
                &decay,
                &dt_bias,
            )
            .unwrap();
        [mixed, out]
    }
}

pub(super) fn states(memory: &HostMemory, count: usize) -> Vec<f32> {
    let state = |id| memory.snapshot(StateId(id as u32)).unwrap().values.to_vec();
    (0..count).flat_map(state).collect()
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn both_are_those_of_the_reference(
        seed: u64,
        spans in prop::collection::vec((0..3usize, 0..40usize), 1..4),
    ) {
        let mut random = Random::new(seed);
        let layout = layout(&mut random, spans.len());
        let memory = memory(&mut random, &layout);
        let batch = batch(&spans, layout.page_tokens);
        let case = Case::new(&mut random, layout.delta, batch.rows());
        let rows: Vec<usize> = (0..batch.rows()).collect();
        let mut expected_memory = memory.clone();
        let expected = case.run(&Reference::default(), &mut expected_memory, &batch, &rows);
        let expected_states = states(&expected_memory, spans.len());
        for cpu in distinct_backends(2) {
            let mut memory = memory.clone();
            let found = case.run(&cpu, &mut memory, &batch, &rows);
            assert_close("convolution", found[0].data(), expected[0].data(), 1e-5);
            assert_close("rule", found[1].data(), expected[1].data(), 2e-5);
            assert_close("states", &states(&memory, spans.len()), &expected_states, 2e-5);
        }
    }

    #[test]
    fn a_span_does_not_depend_on_the_road(
        seed: u64,
        lengths in prop::collection::vec(1..50usize, 1..4),
    ) {
        let mut random = Random::new(seed);
        let layout = layout(&mut random, lengths.len());
        let memory = memory(&mut random, &layout);
        let spans: Vec<_> = lengths.iter().map(|len| (0, *len)).collect();
        let whole = batch(&spans, layout.page_tokens);
        let case = Case::new(&mut random, layout.delta, whole.rows());
        let rows: Vec<usize> = (0..whole.rows()).collect();
        for (one, three) in distinct_backends(1).iter().zip(distinct_backends(3)) {
            let mut expected_memory = memory.clone();
            let expected = case.run(one, &mut expected_memory, &whole, &rows);
            let expected_states = states(&expected_memory, lengths.len());
            let check = |cpu: &Cpu, pieces: &mut dyn FnMut() -> usize| {
                let mut memory = memory.clone();
                for span in &whole.spans {
                    let mut at = span.rows.start;
                    while at < span.rows.end {
                        let end = span.rows.end.min(at + pieces());
                        let rows: Vec<usize> = (at..end).collect();
                        let mut part = Batch::default();
                        part.push_text(&vec![0; rows.len()], 0, span.pages.clone(), span.state);
                        let found = case.run(cpu, &mut memory, &part, &rows);
                        for (found, expected) in found.iter().zip(&expected) {
                            for (index, row) in rows.iter().enumerate() {
                                assert_same("rows", found.row(index), expected.row(*row));
                            }
                        }
                        at = end;
                    }
                }
                assert_same("states", &states(&memory, lengths.len()), &expected_states);
            };
            check(&three, &mut || usize::MAX / 2);
            check(one, &mut || 1);
            check(&three, &mut || 1 + random.index(37));
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let mut random = Random::new(4);
    let layout = layout(&mut random, 2);
    let mut memory = memory(&mut random, &layout);
    let good = batch(&[(0, 2), (0, 1)], layout.page_tokens);
    let case = Case::new(&mut random, layout.delta, 3);
    for cpu in distinct_backends(1) {
        let taps = cpu.load_vector(case.taps.clone()).unwrap();
        let mut conv = |layer, batch: &Batch, shape: &DeltaShape, x: &Tensor| {
            cpu.causal_conv(&mut memory, layer, batch, shape, &taps, x.clone())
                .is_ok()
        };
        assert!(conv(0, &good, &case.shape, &case.qkv));
        assert!(!conv(2, &good, &case.shape, &case.qkv));
        assert!(!conv(0, &good, &case.shape, &Tensor::zeros(3, 1)));
        let mut other = case.shape;
        other.key_heads = 0;
        assert!(!conv(0, &good, &other, &case.qkv));
        let mut twice = good.clone();
        twice.spans[1].state = StateId(0);
        assert!(!conv(0, &twice, &case.shape, &case.qkv));
        let mut beyond = good.clone();
        beyond.spans[1].state = StateId(2);
        assert!(!conv(0, &beyond, &case.shape, &case.qkv));
    }
}
