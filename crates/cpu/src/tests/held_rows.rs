//! Speculation: rows that are held back, then applied as far as they were right.

use std::collections::VecDeque;

use proptest::prelude::*;
use tensor::{Batch, HostMemory, Ops, Reference, StateId, Tensor};

use super::delta::{Case, layout, memory, states};
use super::{Random, assert_same, batch, cases, distinct_backends};

/// How far a sequence is on the speculative road.
struct Sequence {
    /// Rows of the case that are still to be run.
    rows: VecDeque<usize>,
    /// Held rows that were right.
    accepted: usize,
}

/// Runs the sequences of `whole` with random guesses, some of them wrong, until all their rows
/// were accepted; compares outputs and states with those of running `whole` row by row.
fn check_any_length<O>(seed: u64, lengths: &[usize], plain: &O, speculative: &O)
where
    O: Ops<Tensor = Tensor, Memory = HostMemory>,
{
    let mut random = Random::new(seed);
    let layout = layout(&mut random, lengths.len());
    let memory = memory(&mut random, &layout);
    let spans: Vec<_> = lengths.iter().map(|len| (0, *len)).collect();
    let mut whole = batch(&spans, layout.page_tokens);
    let room = |len: &usize| (0, *len + layout.held_rows);
    let roomy = batch(
        &lengths.iter().map(room).collect::<Vec<_>>(),
        layout.page_tokens,
    );
    for (span, roomy) in whole.spans.iter_mut().zip(roomy.spans) {
        span.pages = roomy.pages;
    }
    // The rows behind the last are wrong guesses.
    let case = Case::new(&mut random, layout.delta, whole.rows() + layout.held_rows);
    let wrong = |index: usize| whole.rows() + index;

    let mut expected_memory = memory.clone();
    let mut expected = vec![Vec::new(); whole.rows()];
    for span in &whole.spans {
        for row in span.rows.clone() {
            let mut part = Batch::default();
            part.push_text(&[0], 0, span.pages.clone(), span.state);
            let found = case.run(plain, &mut expected_memory, &part, &[row]);
            expected[row] = found.map(Tensor::into_vec).concat();
        }
    }

    let mut memory = memory;
    let mut sequences: Vec<Sequence> = whole
        .spans
        .iter()
        .map(|span| Sequence {
            rows: span.rows.clone().collect(),
            accepted: 0,
        })
        .collect();
    while sequences.iter().any(|sequence| !sequence.rows.is_empty()) {
        let (mut step, mut rows, mut right) = (Batch::default(), Vec::new(), Vec::new());
        for (sequence, span) in sequences.iter_mut().zip(&whole.spans) {
            // Some sequences are not in every step, and some steps are no speculation.
            if random.index(4) == 0 {
                continue;
            }
            let hold = random.index(4) > 0;
            let most = sequence.rows.len().min(layout.held_rows);
            let count = random.index(most + 1);
            let guesses = if hold {
                random.index(layout.held_rows - count + 1)
            } else {
                0
            };
            right.extend(sequence.rows.drain(..count).map(Some));
            right.extend((0..guesses).map(|_| None));
            let first = rows.len();
            rows.extend(
                right[first..]
                    .iter()
                    .enumerate()
                    .map(|(i, row)| row.unwrap_or(wrong(i))),
            );
            let tokens = vec![0; count + guesses];
            let (pages, state) = (span.pages.clone(), span.state);
            step.push_speculative(&tokens, 0, pages, state, sequence.accepted, hold);
            sequence.accepted = if hold { count } else { 0 };
        }
        let found = case.run(speculative, &mut memory, &step, &rows);
        for (index, row) in right.iter().enumerate() {
            if let Some(row) = row {
                let found = [found[0].row(index), found[1].row(index)].concat();
                assert_same("rows", &found, &expected[*row]);
            }
        }
    }
    for (state, sequence) in sequences.iter().enumerate() {
        let state = StateId(state as u32);
        // Only layer 1 was run.
        assert!(sequence.accepted <= memory.held(state));
        settle_layer(speculative, &mut memory, state, sequence.accepted);
    }
    let count = lengths.len();
    assert_same(
        "states",
        &states(&memory, count),
        &states(&expected_memory, count),
    );
}

/// [`Ops::settle`] expects held rows in all layers, which a model's steps leave. Here they are in
/// one, so a span without rows does it there.
fn settle_layer<O>(ops: &O, memory: &mut HostMemory, state: StateId, rows: usize)
where
    O: Ops<Tensor = Tensor, Memory = HostMemory>,
{
    let shape = memory.layout().delta;
    let mut step = Batch::default();
    step.push_speculative(&[], 0, Vec::new(), state, rows, false);
    let mut random = Random::new(0);
    Case::new(&mut random, shape, 0).run(ops, memory, &step, &[]);
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn any_number_of_held_rows_can_be_kept(
        seed: u64,
        lengths in prop::collection::vec(1..40usize, 1..4),
    ) {
        check_any_length(seed, &lengths, &Reference::default(), &Reference::default());
        for (one, three) in distinct_backends(1).iter().zip(distinct_backends(3)) {
            check_any_length(seed, &lengths, one, &three);
        }
    }
}

/// Settling, and what is refused before it.
fn check_settle<O>(ops: &O)
where
    O: Ops<Tensor = Tensor, Memory = HostMemory>,
{
    let mut random = Random::new(8);
    let mut layout = layout(&mut random, 2);
    layout.delta_layers = 2;
    let before = memory(&mut random, &layout);
    let case = Case::new(&mut random, layout.delta, 4);
    let run = |memory: &mut HostMemory, step: &Batch, rows: &[usize]| {
        for layer in 0..layout.delta_layers {
            case.run_layer(ops, memory, layer, step, rows);
        }
    };
    let (pages, state) = (
        batch(&[(0, 4)], layout.page_tokens).spans[0].pages.clone(),
        StateId(1),
    );
    for kept in 0..=4 {
        let mut expected = before.clone();
        let mut plain = Batch::default();
        plain.push_text(&vec![0; kept], 0, pages.clone(), state);
        run(&mut expected, &plain, &(0..kept).collect::<Vec<_>>());

        let mut memory = before.clone();
        let mut guessed = Batch::default();
        guessed.push_speculative(&[0; 4], 0, pages.clone(), state, 0, true);
        run(&mut memory, &guessed, &[0, 1, 2, 3]);
        assert_eq!(memory.held(state), 4);
        assert!(ops.snapshot(&memory, state).is_err());
        assert!(ops.copy_state(&mut memory, state, StateId(0)).is_err());
        assert!(ops.settle(&mut memory, state, 5).is_err());
        ops.settle(&mut memory, state, kept).unwrap();
        assert_eq!(memory.held(state), 0);
        assert_same("states", &states(&memory, 2), &states(&expected, 2));
        assert!(ops.settle(&mut memory, state, 1).is_err());
        ops.settle(&mut memory, state, 0).unwrap();
        ops.copy_state(&mut memory, state, StateId(0)).unwrap();
    }

    // Cleared, restored and overwritten states hold nothing back.
    let snapshot = ops.snapshot(&before, state).unwrap();
    let mut memory = before.clone();
    for forget in 0..3 {
        let mut guessed = Batch::default();
        guessed.push_speculative(&[0; 4], 0, pages.clone(), state, 0, true);
        run(&mut memory, &guessed, &[0, 1, 2, 3]);
        match forget {
            0 => ops.clear_state(&mut memory, state).unwrap(),
            1 => ops.restore(&mut memory, state, &snapshot).unwrap(),
            _ => ops.copy_state(&mut memory, StateId(0), state).unwrap(),
        }
        assert_eq!(memory.held(state), 0);
    }

    // More than there is, or than there is room for.
    let mut memory = before;
    for (tokens, replay, hold) in [(1, 1, false), (7, 0, true), (0, 1, true)] {
        let pages = batch(&[(0, 7)], layout.page_tokens).spans[0].pages.clone();
        let mut step = Batch::default();
        step.push_speculative(&vec![0; tokens], 0, pages, state, replay, hold);
        let taps = ops.load_vector(case.taps.clone()).unwrap();
        let input = Tensor::zeros(tokens, layout.delta.channels());
        let found = ops.causal_conv(&mut memory, 0, &step, &layout.delta, &taps, input);
        assert!(found.is_err(), "{tokens} {replay} {hold}");
    }
}

#[test]
fn settling_commits_and_unsettled_states_are_not_copied() {
    check_settle(&Reference::default());
    for cpu in distinct_backends(2) {
        check_settle(&cpu);
    }
}

#[test]
fn snapshots_are_those_of_the_reference_and_go_back_exactly() {
    let mut random = Random::new(12);
    let mut layout = layout(&mut random, 3);
    // More than a task copies at once.
    (layout.delta.key_dim, layout.delta.value_dim) = (300, 500);
    let memory = memory(&mut random, &layout);
    let expected = Reference::default().snapshot(&memory, StateId(1)).unwrap();
    for cpu in distinct_backends(3) {
        let found = cpu.snapshot(&memory, StateId(1)).unwrap();
        assert_same("snapshot", &found.values, &expected.values);
        let mut other = memory.clone();
        cpu.restore(&mut other, StateId(2), &found).unwrap();
        assert_same(
            "restored",
            &states(&other, 3)[2 * found.values.len()..],
            &found.values,
        );
        assert_same("others", &states(&other, 2), &states(&memory, 2));
        let short = vec![0.0; found.values.len() - 1];
        let short = tensor::StateSnapshot {
            values: short.into(),
        };
        assert!(cpu.restore(&mut other, StateId(2), &short).is_err());
    }
}
