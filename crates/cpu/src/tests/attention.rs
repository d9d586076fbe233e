//! Attention over pages.

use formats::DType;
use proptest::prelude::*;
use tensor::{
    AttentionShape, Batch, DeltaShape, HeadOrder, HostMemory, MemoryLayout, Ops, PageId, Reference,
    Rotary, Tensor,
};

use super::{Random, assert_close, assert_same, batch, cases, distinct_backends, exact_backends};
use crate::Cpu;
use crate::ops::attention::has_whole_numbers;

fn layout(shape: AttentionShape, dtype: DType, page_tokens: usize) -> MemoryLayout {
    MemoryLayout {
        attention_layers: 2,
        attention: shape,
        key_type: dtype,
        value_type: dtype,
        page_tokens,
        pages: 4000 / page_tokens,
        delta_layers: 0,
        delta: DeltaShape {
            key_heads: 1,
            value_heads: 1,
            key_dim: 1,
            value_dim: 1,
            conv_taps: 1,
            order: HeadOrder::Grouped,
        },
        states: 8,
        held_rows: 0,
    }
}

fn shape(random: &mut Random, dtype: DType) -> AttentionShape {
    let kv_heads = 1 + random.index(3);
    AttentionShape {
        heads: kv_heads * (1 + random.index(9)),
        kv_heads,
        head_dim: if dtype.block_len() == 1 {
            [8, 18, 64, 130][random.index(4)]
        } else {
            [32, 96][random.index(2)]
        },
    }
}

/// All inputs of both operations for `rows` rows.
struct Case {
    shape: AttentionShape,
    rotary: Rotary,
    norms: [Vec<f32>; 2],
    query_gate: Tensor,
    key: Tensor,
    value: Tensor,
}

impl Case {
    fn new(random: &mut Random, shape: AttentionShape, rows: usize) -> Self {
        let half = shape.head_dim / 4;
        Self {
            shape,
            rotary: Rotary {
                frequencies: (0..half).map(|j| 0.5f32.powi(j as i32)).collect(),
                axes: (0..half).map(|j| (j % 3) as u8).collect(),
                scale: 1.1,
            },
            norms: [random.values(shape.head_dim), random.values(shape.head_dim)],
            query_gate: random.tensor(rows, shape.heads * 2 * shape.head_dim),
            key: random.tensor(rows, shape.kv_heads * shape.head_dim),
            value: random.tensor(rows, shape.kv_heads * shape.head_dim),
        }
    }

    /// Writes keys and values; returns queries and gates.
    fn inputs<O>(
        &self,
        ops: &O,
        memory: &mut HostMemory,
        batch: &Batch,
        rows: &[usize],
    ) -> [Tensor; 2]
    where
        O: Ops<Tensor = Tensor, Memory = HostMemory>,
    {
        let norms = self
            .norms
            .clone()
            .map(|norm| ops.load_vector(norm).unwrap());
        let select = |x: &Tensor| ops.select_rows(x, rows).unwrap();
        let (query, gate) = ops
            .attention_inputs(
                memory,
                1,
                batch,
                &self.shape,
                &self.rotary,
                (&norms[0], &norms[1], 1e-6),
                select(&self.query_gate),
                select(&self.key),
                select(&self.value),
            )
            .unwrap();
        [query, gate]
    }

    /// Both operations.
    fn run(&self, cpu: &Cpu, memory: &mut HostMemory, batch: &Batch, rows: &[usize]) -> Tensor {
        let [query, gate] = self.inputs(cpu, memory, batch, rows);
        cpu.attention(memory, 1, batch, &self.shape, query, gate)
            .unwrap()
    }
}

fn all_rows(batch: &Batch) -> Vec<usize> {
    (0..batch.rows()).collect()
}

/// How far attention may be from the reference: whole numbers are off by up to 2^-12 of a usual value.
fn bound(cpu: &Cpu, dtype: DType) -> f32 {
    let is_whole = has_whole_numbers(cpu) && dtype != DType::F32;
    if is_whole { 2e-3 } else { 2e-5 }
}

/// All keys and values of a page pool, decoded.
fn pages(memory: &HostMemory) -> Vec<f32> {
    let layout = memory.layout().clone();
    let mut all = Vec::new();
    let mut decoded = vec![0.0; layout.page_tokens * layout.attention.head_dim];
    for page in (0..layout.pages as u32).map(PageId) {
        for head in 0..layout.attention.kv_heads {
            for bytes in [
                memory.page_keys(1, page, head),
                memory.page_values(1, page, head),
            ] {
                tensor::quant::decode(layout.key_type, bytes, &mut decoded).unwrap();
                all.extend_from_slice(&decoded);
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn both_are_those_of_the_reference(
        seed: u64,
        spans in prop::collection::vec((0..700usize, 0..12usize), 1..4),
    ) {
        let mut random = Random::new(seed);
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q5_0] {
            let shape = shape(&mut random, dtype);
            let layout = layout(shape, dtype, [1, 3, 16, 64][random.index(4)]);
            let past: Vec<_> = spans.iter().map(|(past, _)| (0, *past)).collect();
            let all: Vec<_> = spans.iter().map(|(past, new)| (0, past + new)).collect();
            // The same pages in all three.
            let pages_of = batch(&all, layout.page_tokens).spans;
            let with_pages = |mut batch: Batch| {
                for (span, all) in batch.spans.iter_mut().zip(&pages_of) {
                    span.pages.clone_from(&all.pages);
                }
                batch
            };
            let past = with_pages(batch(&past, layout.page_tokens));
            let new = with_pages(batch(&spans, layout.page_tokens));
            let (before, case) = (
                Case::new(&mut random, shape, past.rows()),
                Case::new(&mut random, shape, new.rows()),
            );
            let reference = Reference::default();
            let mut memory = HostMemory::new(&layout).unwrap();
            before.inputs(&reference, &mut memory, &past, &all_rows(&past));
            let mut expected_memory = memory.clone();
            let expected = case.inputs(&reference, &mut expected_memory, &new, &all_rows(&new));
            let [query, gate] = expected.clone();
            let attended = reference
                .attention(&expected_memory, 1, &new, &shape, query, gate)
                .unwrap();
            for cpu in distinct_backends(3) {
                let mut memory = memory.clone();
                let found = case.inputs(&cpu, &mut memory, &new, &all_rows(&new));
                assert_close("queries", found[0].data(), expected[0].data(), 1e-5);
                assert_same("gates", found[1].data(), expected[1].data());
                let step = match dtype {
                    DType::F32 => 1e-5,
                    DType::Q4_0 | DType::Q5_0 => 0.15,
                    _ => 1e-2,
                };
                assert_close("pages", &pages(&memory), &pages(&expected_memory), step);
            }
            // Rounding of keys may differ, so compare on the reference's memory.
            for cpu in exact_backends(3).into_iter().chain(distinct_backends(3)) {
                let [query, gate] = expected.clone();
                let out = cpu.attention(&expected_memory, 1, &new, &shape, query, gate).unwrap();
                assert_close(&format!("{dtype}"), out.data(), attended.data(), bound(&cpu, dtype));
            }
        }
    }

    #[test]
    fn a_span_does_not_depend_on_the_road(
        seed: u64,
        lengths in prop::collection::vec(1..600usize, 1..3),
    ) {
        let mut random = Random::new(seed);
        for dtype in [DType::F32, DType::F16, DType::Q8_0, DType::Q4_0] {
            let shape = shape(&mut random, dtype);
            let spans: Vec<_> = lengths.iter().map(|len| (0, *len)).collect();
            let whole = batch(&spans, 64);
            let case = Case::new(&mut random, shape, whole.rows());
            for (one, three) in distinct_backends(1).iter().zip(distinct_backends(3)) {
                let mut memory = HostMemory::new(&layout(shape, dtype, 64)).unwrap();
                let expected = case.run(one, &mut memory, &whole, &all_rows(&whole));
                for (cpu, page_tokens) in [(one, 16), (&three, 7), (&three, 64)] {
                    let paged = batch(&spans, page_tokens);
                    let mut memory = HostMemory::new(&layout(shape, dtype, page_tokens)).unwrap();
                    for span in &paged.spans {
                        let mut at = span.rows.start;
                        while at < span.rows.end {
                            let end = span.rows.end.min(at + 1 + random.index(120));
                            let rows: Vec<usize> = (at..end).collect();
                            let past = at - span.rows.start;
                            let mut part = Batch::default();
                            part.push_text(&vec![0; rows.len()], past, span.pages.clone(), span.state);
                            let found = case.run(cpu, &mut memory, &part, &rows);
                            for (index, row) in rows.iter().enumerate() {
                                assert_same("rows", found.row(index), expected.row(*row));
                            }
                            at = end;
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let mut random = Random::new(9);
    let shape = AttentionShape {
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
    };
    let mut memory = HostMemory::new(&layout(shape, DType::F16, 4)).unwrap();
    let good = batch(&[(0, 3), (2, 1)], 4);
    let case = Case::new(&mut random, shape, 4);
    for cpu in distinct_backends(1) {
        let [query, gate] = case.inputs(&cpu, &mut memory, &good, &all_rows(&good));
        let attend = |layer, batch: &Batch, shape: &AttentionShape, query: &Tensor| {
            cpu.attention(&memory, layer, batch, shape, query.clone(), gate.clone())
                .is_ok()
        };
        assert!(attend(1, &good, &shape, &query));
        assert!(!attend(2, &good, &shape, &query));
        assert!(!attend(1, &good, &shape, &Tensor::zeros(4, 1)));
        let mut other = shape;
        other.kv_heads = 0;
        assert!(!attend(1, &good, &other, &query));
        other = shape;
        other.heads = 3;
        assert!(!attend(1, &good, &other, &query));
        let mut twice = good.clone();
        twice.spans[1].past = 0;
        twice.spans[1].pages = twice.spans[0].pages.clone();
        let inputs = |batch: &Batch, memory: &mut HostMemory, key: Tensor| {
            let norms = case
                .norms
                .clone()
                .map(|norm| cpu.load_vector(norm).unwrap());
            let (query_gate, value) = (case.query_gate.clone(), case.value.clone());
            let norms = (&norms[0], &norms[1], 1e-6);
            cpu.attention_inputs(
                memory,
                1,
                batch,
                &shape,
                &case.rotary,
                norms,
                query_gate,
                key,
                value,
            )
            .is_ok()
        };
        let mut copy = memory.clone();
        assert!(inputs(&good, &mut copy, case.key.clone()));
        assert!(!inputs(&twice, &mut copy, case.key.clone()));
        assert!(!inputs(&good, &mut copy, Tensor::zeros(4, 15)));
        let mut beyond = good.clone();
        beyond.spans[0].pages[0] = PageId(100_000);
        assert!(!attend(1, &beyond, &shape, &query));
    }
}

#[test]
fn rows_of_any_size_are_those_of_the_reference() {
    let mut random = Random::new(11);
    let shape = AttentionShape {
        heads: 4,
        kv_heads: 1,
        head_dim: 64,
    };
    for dtype in [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q8_0,
        DType::Q4_0,
    ] {
        // f16, and the scales of blocks, end at 65,504.
        for size in [
            0.0_f32, 1e-42, 1e-37, 1e-30, 1e-25, 1e-20, 1e-10, 1e-5, 1.0, 1e3,
        ] {
            for rows in [1, 3, 40] {
                let layout = layout(shape, dtype, 16);
                let past = batch(&[(0, 70)], layout.page_tokens);
                let mut new = batch(&[(70, rows)], layout.page_tokens);
                new.spans[0].pages[..past.spans[0].pages.len()]
                    .clone_from_slice(&past.spans[0].pages);
                let mut sized = |rows| {
                    let mut case = Case::new(&mut random, shape, rows);
                    // Keys are normalised. Large ones would make single keys decide.
                    case.norms[1].iter_mut().for_each(|v| *v *= size.min(1.0));
                    case.value.data_mut().iter_mut().for_each(|v| *v *= size);
                    case
                };
                let (mut before, case) = (sized(past.rows()), sized(rows));
                before.key.row_mut(5).fill(0.0);
                before.value.row_mut(6).fill(0.0);
                let reference = Reference::default();
                let mut memory = HostMemory::new(&layout).unwrap();
                before.inputs(&reference, &mut memory, &past, &all_rows(&past));
                let [mut query, gate] = case.inputs(&reference, &mut memory, &new, &all_rows(&new));
                query.row_mut(rows - 1).iter_mut().for_each(|v| *v *= 1e-35);
                let expected = reference
                    .attention(&memory, 1, &new, &shape, query.clone(), gate.clone())
                    .unwrap();
                let what = format!("{dtype}, size {size:e}, {rows} rows");
                assert!(expected.data().iter().all(|v| v.is_finite()), "{what}");
                for cpu in exact_backends(2).into_iter().chain(distinct_backends(2)) {
                    let found = cpu
                        .attention(&memory, 1, &new, &shape, query.clone(), gate.clone())
                        .unwrap();
                    let most = size * bound(&cpu, dtype) + 1e-33;
                    for (found, expected) in found.data().iter().zip(expected.data()) {
                        let difference = (found - expected).abs();
                        let isa = cpu.isa();
                        assert!(
                            difference <= most,
                            "{what}, {isa:?}: {found}, not {expected}"
                        );
                    }
                }
            }
        }
    }
}
