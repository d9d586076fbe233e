//! Experts on the host of which the accelerators have copies: the bits of a plain reference, whatever is there.
//!
//! Sums are made in another order where some experts are here and others there. So each expert writes outputs
//! of its own: their sums are of one number and zeros, which are the same in any order.

use formats::{DType, SharedBytes};
use tensor::testing::{Random, assert_same};
use tensor::{MoeWeights, Ops, Reference, StoredExperts, StoredMatrix, Tensor};

use super::{Both, FIRST, HIDDEN, SECOND, block, up};
use crate::{Copying, Hybrid, Place, Places};

type Stored = MoeWeights<StoredMatrix, StoredExperts>;
type Loaded = MoeWeights<<Both as Ops>::Matrix, <Both as Ops>::Experts>;

const EXPERTS: usize = 6;
const OWN: usize = 3;

/// With zeros in all rows but some.
fn only_rows(matrix: &StoredMatrix, rows: std::ops::Range<usize>) -> StoredMatrix {
    let mut values = vec![0.0; matrix.cols()];
    let mut bytes = Vec::new();
    for row in 0..matrix.rows() {
        matrix.decode_row(row, &mut values);
        if !rows.contains(&row) {
            values.fill(0.0);
        }
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let bytes = SharedBytes::from_vec(bytes);
    StoredMatrix::from_parts(matrix.name.clone(), DType::F32, rows, cols, bytes).unwrap()
}

fn apart(random: &mut Random, has_shared: bool) -> Stored {
    let mut stored = block(random, has_shared);
    for (index, expert) in stored.experts.experts.iter_mut().enumerate() {
        expert.down = only_rows(&expert.down, index * OWN..(index + 1) * OWN);
    }
    if let Some((shared, _)) = &mut stored.shared {
        shared.down = only_rows(&shared.down, EXPERTS * OWN..HIDDEN);
    }
    stored
}

fn load(hybrid: &Both, stored: &Stored, number: usize, share: f64) -> Loaded {
    let rest = hybrid.loading_to(Place::Accelerator(number));
    let load = |matrix: &StoredMatrix| rest.load_matrix(matrix.clone()).unwrap();
    let experts = hybrid.loading_beside(number, share);
    MoeWeights {
        router: load(&stored.router),
        top_k: stored.top_k,
        renormalise: stored.renormalise,
        experts: experts.load_experts(stored.experts.clone()).unwrap(),
        shared: stored.shared.as_ref().map(|(shared, gate)| {
            let shared = shared.as_ref();
            let shared = crate::weights::mlp(shared, |matrix| Ok(load(matrix)));
            (shared.unwrap(), load(gate))
        }),
    }
}

fn run<O: Ops>(ops: &O, moe: &MoeWeights<O::Matrix, O::Experts>, x: O::Tensor) -> Tensor {
    let moe = moe.as_ref();
    let routing = ops.route(&x, &moe).unwrap();
    ops.read(ops.experts(&x, &routing, &moe).unwrap()).unwrap()
}

fn hybrid(copying: Copying) -> Both {
    let accelerators = vec![Reference::default(); 2];
    Hybrid::new(
        accelerators,
        Reference::default(),
        Places::default(),
        copying,
    )
}

#[test]
fn copies_change_nothing_whatever_is_there() {
    let mut random = Random::new(11);
    for (has_shared, share, bytes_per_step) in [
        (true, 0.5, usize::MAX),
        (true, 0.34, 1),
        (false, 0.5, 1),
        (true, 1.0, usize::MAX),
        (true, 0.5, 0),
        (true, 0.1, usize::MAX),
    ] {
        let hybrid = hybrid(Copying {
            bytes_per_step,
            ..Copying::default()
        });
        // Layers on both accelerators, one of them without copies.
        let layers = [(0, share), (1, share), (0, share), (0, 0.0)];
        let stored: Vec<Stored> = layers
            .iter()
            .map(|_| apart(&mut random, has_shared))
            .collect();
        let loaded: Vec<Loaded> = stored
            .iter()
            .zip(layers)
            .map(|(stored, (number, share))| load(&hybrid, stored, number, share))
            .collect();
        // Inputs that stay alike for a while, so that some experts are used more than others.
        let mut likely = random.tensor(1, HIDDEN);
        for step in 0..120 {
            if step % 40 == 0 {
                likely = random.tensor(1, HIDDEN);
            }
            let rows = 1 + random.index(3);
            let mut x = random.tensor(rows, HIDDEN);
            for row in 0..rows {
                let likely = likely.row(0).iter();
                x.row_mut(row)
                    .iter_mut()
                    .zip(likely)
                    .for_each(|(x, likely)| *x += 2.0 * likely);
            }
            for (stored, loaded) in stored.iter().zip(&loaded) {
                let expected = run(&Reference::default(), stored, x.clone());
                let found = run(&hybrid, loaded, up(&hybrid, &x));
                let what = format!("{has_shared}, {share}, {bytes_per_step}, step {step}");
                assert_same(&what, found.data(), expected.data());
            }
        }
        let counts = hybrid.expert_counts();
        let has_copies = bytes_per_step > 0 && share > 0.2;
        let what = format!("{share}, {bytes_per_step}: {counts:?}");
        assert_eq!(counts.hits > 0, has_copies, "{what}");
        assert_eq!(counts.brought > 0, has_copies, "{what}");
        assert_eq!(counts.replaced > 0, has_copies && share < 1.0, "{what}");
        assert_eq!(counts.misses > 0, share > 0.2, "{what}");
        if share == 1.0 {
            // Each expert once, and then there are only hits.
            assert!(
                counts.brought <= 18 && counts.hits > 9 * counts.misses,
                "{what}"
            );
        }
    }
}

#[test]
fn streamed_layers_change_nothing_whatever_the_rooms() {
    let mut random = Random::new(12);
    for rooms in [1, 2, 3] {
        let hybrid = hybrid(Copying {
            stream_from: Some(4),
            rooms,
            bytes_per_step: 1,
        });
        let places = [FIRST, FIRST, SECOND, FIRST, SECOND, SECOND];
        let stored: Vec<Stored> = places.iter().map(|_| apart(&mut random, true)).collect();
        let loaded: Vec<Loaded> = stored
            .iter()
            .zip(places)
            .map(|(stored, place)| {
                let number = if place == FIRST { 0 } else { 1 };
                load(&hybrid, stored, number, 0.5)
            })
            .collect();
        // Steps of many rows and of few, and once not all layers.
        for (step, rows) in [5, 4, 1, 6, 3, 5, 1, 7].into_iter().enumerate() {
            for (stored, loaded) in stored.iter().zip(&loaded).skip(step % 2) {
                let x = random.tensor(rows, HIDDEN);
                let expected = run(&Reference::default(), stored, x.clone());
                let found = run(&hybrid, loaded, up(&hybrid, &x));
                assert_same(
                    &format!("{rooms} rooms, step {step}"),
                    found.data(),
                    expected.data(),
                );
            }
        }
    }
}
