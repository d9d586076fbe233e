//! Three references, of which two play accelerators: what all do together has the bits of one alone.

mod copies;

use formats::DType;
use tensor::testing::{Random, assert_same, batch};
use tensor::{
    AttentionShape, Batch, DeltaShape, HeadOrder, MemoryLayout, MlpWeights, MoeWeights, OpError,
    Ops, PageId, Reference, Rotary, StateId, StateSnapshot, StoredExperts, StoredMatrix, Tensor,
};

use crate::Place::{self, Accelerator, Host};
use crate::{Copying, Hybrid, Places};

type Both = Hybrid<Reference, Reference>;

const FIRST: Place = Accelerator(0);
const SECOND: Place = Accelerator(1);

const HIDDEN: usize = 24;
const SHAPE: AttentionShape = AttentionShape {
    heads: 4,
    kv_heads: 2,
    head_dim: 8,
};
const DELTA: DeltaShape = DeltaShape {
    key_heads: 2,
    value_heads: 4,
    key_dim: 8,
    value_dim: 8,
    conv_taps: 4,
    order: HeadOrder::Tiled,
};

fn both(attention: &[Place], delta: &[Place], stream_from: Option<usize>) -> Both {
    let places = Places {
        attention: attention.to_vec(),
        delta: delta.to_vec(),
    };
    let accelerators = vec![Reference::default(); 2];
    let copying = Copying {
        stream_from,
        ..Copying::default()
    };
    Hybrid::new(accelerators, Reference::default(), places, copying)
}

fn up(hybrid: &Both, x: &Tensor) -> <Both as Ops>::Tensor {
    let values = x.clone().into_vec();
    hybrid.upload(x.rows(), x.cols(), values).unwrap()
}

fn mlp(random: &mut Random) -> MlpWeights<StoredMatrix> {
    MlpWeights {
        gate: random.matrix(DType::F32, 16, HIDDEN),
        up: random.matrix(DType::F32, 16, HIDDEN),
        down: random.matrix(DType::F32, HIDDEN, 16),
    }
}

fn block(random: &mut Random, has_shared: bool) -> MoeWeights<StoredMatrix, StoredExperts> {
    MoeWeights {
        router: random.matrix(DType::F32, 6, HIDDEN),
        top_k: 2,
        renormalise: true,
        experts: StoredExperts {
            experts: (0..6).map(|_| mlp(random)).collect(),
        },
        shared: has_shared.then(|| (mlp(random), random.matrix(DType::F32, 1, HIDDEN))),
    }
}

/// What a block says of `x` with its experts, and the rest of it, in these places.
fn run(
    hybrid: &Both,
    stored: &MoeWeights<StoredMatrix, StoredExperts>,
    (rest, experts): (Place, Place),
    x: &Tensor,
) -> Result<Tensor, OpError> {
    let ops = hybrid.loading_to(rest);
    // A place that there is not is refused.
    ops.load_matrix(stored.router.clone())?;
    let load = |matrix: &StoredMatrix| ops.load_matrix(matrix.clone()).unwrap();
    let moe = MoeWeights {
        router: load(&stored.router),
        top_k: stored.top_k,
        renormalise: stored.renormalise,
        experts: hybrid
            .loading_to(experts)
            .load_experts(stored.experts.clone())?,
        shared: stored.shared.as_ref().map(|(mlp, gate)| {
            let mlp = MlpWeights {
                gate: load(&mlp.gate),
                up: load(&mlp.up),
                down: load(&mlp.down),
            };
            (mlp, load(gate))
        }),
    };
    let moe = moe.as_ref();
    let x = up(hybrid, x);
    let routing = hybrid.route(&x, &moe)?;
    hybrid.read(hybrid.experts(&x, &routing, &moe)?)
}

#[test]
fn experts_say_the_same_wherever_they_are() {
    let mut random = Random::new(1);
    for has_shared in [true, false] {
        let stored = block(&mut random, has_shared);
        let x = random.tensor(5, HIDDEN);
        let reference = Reference::default();
        let routing = reference.route(&x, &stored.as_ref()).unwrap();
        let expected = reference.experts(&x, &routing, &stored.as_ref()).unwrap();
        for stream_from in [None, Some(5), Some(6)] {
            let hybrid = both(&[], &[], stream_from);
            for places in [(FIRST, FIRST), (SECOND, Host), (Host, Host)] {
                let found = run(&hybrid, &stored, places, &x).unwrap();
                let what = format!("{places:?}, {stream_from:?}");
                assert_same(&what, found.data(), expected.data());
            }
            // Nobody can do that, and it is said.
            for places in [(Host, FIRST), (FIRST, SECOND), (Accelerator(2), Host)] {
                assert!(run(&hybrid, &stored, places, &x).is_err(), "{places:?}");
            }
        }
    }
}

#[test]
fn products_run_where_their_weights_are() {
    let mut random = Random::new(2);
    let hybrid = both(&[], &[], None);
    let weights = [7, 3, 5].map(|rows| random.matrix(DType::F32, rows, HIDDEN));
    let x = random.tensor(3, HIDDEN);
    let expected = Reference::default().linear(&x, weights.each_ref()).unwrap();
    for places in [[FIRST; 3], [SECOND; 3], [Host; 3], [Host, SECOND, FIRST]] {
        let loaded = [0, 1, 2].map(|index| {
            let ops = hybrid.loading_to(places[index]);
            ops.load_matrix(weights[index].clone()).unwrap()
        });
        let found = hybrid.linear(&up(&hybrid, &x), loaded.each_ref()).unwrap();
        for (found, expected) in found.into_iter().zip(&expected) {
            let found = hybrid.read(found).unwrap();
            assert_same(&format!("{places:?}"), found.data(), expected.data());
        }
    }
}

#[test]
fn what_the_accelerator_changes_the_host_reads_again() {
    let mut random = Random::new(3);
    let hybrid = both(&[], &[], None);
    let (x, addend) = (random.tensor(2, HIDDEN), random.tensor(2, HIDDEN));
    let weight = random.values(HIDDEN);
    let (mut exact, mut found) = (x.clone(), up(&hybrid, &x));
    let reference = Reference::default();
    let expected = reference.add_norm(&mut exact, Some(&addend), &weight, 1e-6);
    let weight = hybrid.load_vector(weight).unwrap();
    let normed = hybrid.add_norm(&mut found, Some(&up(&hybrid, &addend)), &weight, 1e-6);
    let normed = hybrid.read(normed.unwrap()).unwrap();
    assert_same("normed", normed.data(), expected.unwrap().data());
    let head = hybrid.loading_to(Host);
    let ones = StoredMatrix::from_parts(
        "ones".into(),
        DType::F32,
        1,
        HIDDEN,
        formats::SharedBytes::from_vec(
            [1.0f32; HIDDEN]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        ),
    );
    let ones = ones.unwrap();
    let [sum] = hybrid
        .linear(&found, [&head.load_matrix(ones.clone()).unwrap()])
        .unwrap();
    let [expected] = reference.linear(&exact, [&ones]).unwrap();
    assert_same("sums", hybrid.read(sum).unwrap().data(), expected.data());
}

fn layout(attention_layers: usize, delta_layers: usize) -> MemoryLayout {
    MemoryLayout {
        attention_layers,
        attention: SHAPE,
        key_type: DType::F16,
        value_type: DType::F16,
        page_tokens: 4,
        pages: 6,
        delta_layers,
        delta: DELTA,
        states: 3,
        held_rows: 0,
    }
}

/// A stretch of a sequence through every layer, with outputs of each.
fn walk<O: Ops>(
    ops: &O,
    memory: &mut O::Memory,
    batch: &Batch,
    (attention, delta): (usize, usize),
    seed: u64,
) -> Vec<Tensor> {
    let mut random = Random::new(seed);
    let rows = batch.tokens.len();
    let mut up = |cols: usize| {
        let values = random.values(rows * cols);
        ops.upload(rows, cols, values).unwrap()
    };
    let vector = |len: usize| ops.load_vector(vec![0.5; len]).unwrap();
    let rotary = Rotary {
        frequencies: vec![1.0, 0.1],
        axes: vec![0, 0],
        scale: 1.0,
    };
    let mut outputs = Vec::new();
    for layer in 0..attention {
        let (queries, keys) = (
            SHAPE.heads * SHAPE.head_dim,
            SHAPE.kv_heads * SHAPE.head_dim,
        );
        let norms = (vector(SHAPE.head_dim), vector(SHAPE.head_dim));
        let (query_gate, key, value) = (up(2 * queries), up(keys), up(keys));
        let norms = (&norms.0, &norms.1, 1e-6);
        let (query, gate) = ops
            .attention_inputs(
                memory, layer, batch, &SHAPE, &rotary, norms, query_gate, key, value,
            )
            .unwrap();
        let mixed = ops.attention(memory, layer, batch, &SHAPE, query, gate);
        outputs.push(ops.read(mixed.unwrap()).unwrap());
    }
    for layer in 0..delta {
        let (heads, width) = (DELTA.value_heads, DELTA.value_heads * DELTA.value_dim);
        let conv = vector(DELTA.channels() * DELTA.conv_taps);
        let (qkv, a, b, z) = (up(DELTA.channels()), up(heads), up(heads), up(width));
        let qkv = ops.causal_conv(memory, layer, batch, &DELTA, &conv, qkv);
        let (decay, dt_bias) = (vector(heads), vector(heads));
        let mixed = ops.delta_rule(
            memory,
            layer,
            batch,
            &DELTA,
            qkv.unwrap(),
            &a,
            &b,
            &decay,
            &dt_bias,
        );
        let gated = ops.gated_norm(mixed.unwrap(), &z, &vector(DELTA.value_dim), 1e-6);
        outputs.push(ops.read(gated.unwrap()).unwrap());
    }
    outputs
}

fn check_same(what: &str, found: &[Tensor], expected: &[Tensor]) {
    assert_eq!(found.len(), expected.len());
    for (layer, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_same(
            &format!("{what}, layer {layer}"),
            found.data(),
            expected.data(),
        );
    }
}

#[test]
fn memory_is_where_its_layers_are() {
    let counts = (3, 2);
    let layout = layout(counts.0, counts.1);
    let reference = Reference::default();
    let first = batch(&[(0, 5)], 4);
    // The same sequence goes on elsewhere: other pages, another state.
    let mut second = batch(&[(5, 3)], 4);
    second.spans[0].pages = vec![PageId(4), PageId(2)];
    second.spans[0].state = StateId(2);
    let move_on = |moved: &mut dyn FnMut(PageId, PageId)| {
        for (from, to) in first.spans[0].pages.iter().zip(&second.spans[0].pages) {
            moved(*from, *to);
        }
    };
    let mut memory = reference.new_memory(&layout).unwrap();
    let before = walk(&reference, &mut memory, &first, counts, 7);
    move_on(&mut |from, to| reference.copy_page(&mut memory, from, to).unwrap());
    reference
        .copy_state(&mut memory, StateId(0), StateId(2))
        .unwrap();
    let after = walk(&reference, &mut memory, &second, counts, 8);

    let (a, b, h) = (FIRST, SECOND, Host);
    for (attention, delta) in [
        ([a, a, a], [a, a]),
        ([h, a, h], [a, h]),
        ([a, h, a], [h, h]),
        ([h, h, h], [h, h]),
        ([a, b, b], [a, b]),
        ([b, h, a], [b, a]),
        ([a, a, a], [b, h]),
        ([h, h, h], [b, b]),
    ] {
        let what = format!("{attention:?}, {delta:?}");
        let hybrid = both(&attention, &delta, None);
        let mut memory = hybrid.new_memory(&layout).unwrap();
        check_same(
            &what,
            &walk(&hybrid, &mut memory, &first, counts, 7),
            &before,
        );
        let kept = hybrid.snapshot(&memory, StateId(0)).unwrap();
        let pages = first.spans[0].pages.clone();
        let pages: Vec<_> = pages
            .iter()
            .map(|page| hybrid.read_page(&memory, *page).unwrap())
            .collect();
        assert_eq!(pages[0].len(), layout.page_bytes().unwrap(), "{what}");
        assert_eq!(kept.bytes(), layout.state_bytes(), "{what}");

        // Copied on the devices, by way of the host, and by way of another memory.
        move_on(&mut |from, to| hybrid.copy_page(&mut memory, from, to).unwrap());
        hybrid
            .copy_state(&mut memory, StateId(0), StateId(2))
            .unwrap();
        check_same(
            &what,
            &walk(&hybrid, &mut memory, &second, counts, 8),
            &after,
        );
        let mut fresh = hybrid.new_memory(&layout).unwrap();
        for memory in [&mut memory, &mut fresh] {
            for (page, bytes) in second.spans[0].pages.iter().zip(&pages) {
                hybrid.write_page(memory, *page, bytes).unwrap();
            }
            hybrid.restore(memory, StateId(2), &kept).unwrap();
            check_same(&what, &walk(&hybrid, memory, &second, counts, 8), &after);
        }

        // Another placement's pages and states.
        let short = &pages[0][..pages[0].len() - 2];
        assert!(hybrid.write_page(&mut memory, PageId(0), short).is_err());
        let mut values = tensor::Buffer::zeroed(kept.values.len() - 1).unwrap();
        values.copy_from_slice(&kept.values[1..]);
        let wrong = StateSnapshot { values };
        assert!(hybrid.restore(&mut memory, StateId(1), &wrong).is_err());
        hybrid.clear_state(&mut memory, StateId(2)).unwrap();
        hybrid.settle(&mut memory, StateId(2), 0).unwrap();
    }
}

#[test]
fn places_have_to_fit_the_model() {
    let hybrid = both(&[SECOND], &[Host], None);
    assert!(hybrid.new_memory(&layout(2, 1)).is_err());
    assert!(hybrid.new_memory(&layout(1, 2)).is_err());
    let mut memory = hybrid.new_memory(&layout(1, 1)).unwrap();
    let x = || up(&hybrid, &Tensor::zeros(1, DELTA.channels()));
    let conv = hybrid
        .load_vector(vec![0.0; DELTA.channels() * DELTA.conv_taps])
        .unwrap();
    let one = batch(&[(0, 1)], 4);
    let mut run = |layer| hybrid.causal_conv(&mut memory, layer, &one, &DELTA, &conv, x());
    assert!(run(0).is_ok());
    assert!(run(1).is_err());
}
