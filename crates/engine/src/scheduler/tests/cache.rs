//! Prompts that were read before.

use super::*;
use crate::cache::{Boundary, BoundaryKind, MediaRun};
use crate::event::{Miss, ReusedFrom};

fn message_ends(offsets: &[usize]) -> Vec<Boundary> {
    let end = |(message, &offset): (usize, &usize)| Boundary {
        offset,
        kind: BoundaryKind::EndOfMessage(message),
    };
    offsets.iter().enumerate().map(end).collect()
}

fn turn(tokens: &[u32], ends: &[usize], max_tokens: usize) -> Request {
    let mut request = request(tokens.to_vec(), max_tokens);
    request.boundaries = message_ends(ends);
    request
}

/// Asks and checks the answer, how much was cached and why not more.
fn check(bench: &mut Bench, request: &Request, cached: usize, rest: Miss) -> Vec<u32> {
    let outcome = bench.answer(request.clone());
    check_answers(request, &outcome, SMALL.context);
    let reuse = outcome.reuse.expect("it was started");
    assert_eq!((reuse.cached, reuse.rest), (cached, rest), "{request:?}");
    let from = if cached > 0 {
        ReusedFrom::Memory
    } else {
        ReusedFrom::Nowhere
    };
    assert_eq!(reuse.from, from);
    outcome.answers[&0].clone()
}

#[test]
fn conversations_read_only_what_is_new() {
    let mut bench = Bench::new(SMALL, caching(settings()));
    let mut tokens = prompt(1, 30);
    let mut request = turn(&tokens, &[10, 27], 6);
    let answer = check(&mut bench, &request, 0, Miss::NothingStored);

    // The same question again: nothing is read at all.
    check(&mut bench, &request, 30, Miss::New);
    assert_eq!(
        bench.outcomes.values().last().unwrap().ends[&0].1.prefilled,
        0
    );

    // The next turn, with the answer as it was: up to the last token that was run.
    tokens.extend(&answer);
    let history = tokens.len();
    tokens.extend(prompt(2, 9));
    request = turn(&tokens, &[10, 27, history, history + 6], 6);
    check(&mut bench, &request, history - 1, Miss::New);

    // The next turn, with the answer rendered differently: up to the end of the last message.
    let mut changed = prompt(1, 30);
    changed.extend([21, 20]);
    request = turn(&changed, &[10, 27, 32], 6);
    let rest = Miss::Diverged {
        token: 30,
        message: Some(2),
        is_media: false,
    };
    check(&mut bench, &request, 30, rest);
    let mut changed = prompt(1, 28);
    changed.extend([20, 20, 20]);
    request = turn(&changed, &[10, 27, 31], 6);
    let rest = Miss::Diverged {
        token: 28,
        message: Some(2),
        is_media: false,
    };
    check(&mut bench, &request, 27, rest);
    bench.run();
    bench.assert_all_is_free();
}

#[test]
fn places_where_prompts_part_are_remembered() {
    let mut bench = Bench::new(SMALL, caching(settings()));
    let ask = |end: u32| {
        let mut tokens = prompt(1, 40);
        tokens.extend([end; 10]);
        turn(&tokens, &[], 3)
    };
    let diverged = Miss::Diverged {
        token: 40,
        message: None,
        is_media: false,
    };
    check(&mut bench, &ask(1), 0, Miss::NothingStored);
    check(&mut bench, &ask(2), 32, diverged);
    check(&mut bench, &ask(3), 40, diverged);
}

#[test]
fn evicted_prompts_are_read_again_and_said_so() {
    let mut small = caching(settings());
    // Two snapshots with logits.
    small.cache.snapshot_bytes = 2 * (16 + 4 * toy::VOCABULARY);
    let mut bench = Bench::new(SMALL, small);
    let first = turn(&prompt(1, 15), &[], 1);
    check(&mut bench, &first, 0, Miss::NothingStored);
    for family in 2..5 {
        let other = Miss::Diverged {
            token: 0,
            message: None,
            is_media: false,
        };
        check(&mut bench, &turn(&prompt(family, 15), &[], 1), 0, other);
    }
    check(&mut bench, &first, 0, Miss::Evicted { tokens: 15 });
    assert!(bench.scheduler.metrics().evicted > 0);
    bench.assert_all_is_free();
}

#[test]
fn images_are_told_apart() {
    let mut bench = Bench::new(SMALL, caching(settings()));
    let ask = |hash: u64| {
        let mut request = turn(&prompt(1, 40), &[12, 30], 3);
        request.media = vec![MediaRun {
            tokens: 20..26,
            hash,
        }];
        request
    };
    check(&mut bench, &ask(5), 0, Miss::NothingStored);
    check(&mut bench, &ask(5), 40, Miss::New);
    let rest = Miss::Diverged {
        token: 20,
        message: Some(1),
        is_media: true,
    };
    // The prompt's tail has a place at 16.
    check(&mut bench, &ask(6), 16, rest);
}

#[test]
fn caching_can_be_switched_off() {
    let mut bench = Bench::new(SMALL, caching(settings()));
    let mut request = turn(&prompt(1, 15), &[], 1);
    request.cache = false;
    check(&mut bench, &request, 0, Miss::Off);
    assert_eq!(bench.scheduler.memory().cache_entries, 0);
    request.cache = true;
    check(&mut bench, &request, 0, Miss::NothingStored);
    let mut bench = Bench::new(SMALL, settings());
    check(&mut bench, &request, 0, Miss::Off);
}

#[test]
fn the_same_prompt_at_once_is_read_once() {
    let mut bench = Bench::new(SMALL, caching(settings()));
    let request = turn(&prompt(1, 60), &[40], 5);
    let ids: Vec<RequestId> = (0..4).map(|_| bench.submit(request.clone())).collect();
    bench.run();
    let mut prefilled = 0;
    for id in &ids {
        check_answers(&request, &bench.outcomes[id], SMALL.context);
        prefilled += bench.outcomes[id].ends[&0].1.prefilled;
    }
    assert_eq!(prefilled, 60);
    bench.assert_all_is_free();
}

#[test]
fn tool_calls_can_be_rendered_differently() {
    let mut bench = Bench::new(SMALL, caching(settings()));
    let mut ask = turn(&prompt(1, 20), &[18], 12);
    let (answer, _) = expected(&ask, 0, SMALL.context);
    let call = answer[6];
    let at = answer.iter().position(|&token| token == call).unwrap();
    ask.keep_before = vec![call];
    check(&mut bench, &ask, 0, Miss::NothingStored);
    let mut tokens = ask.prompt.clone();
    tokens.extend(&answer[..=at]);
    tokens.extend([22, 22, 22]);
    let rest = Miss::Diverged {
        token: 20 + at + 1,
        message: None,
        is_media: false,
    };
    check(&mut bench, &turn(&tokens, &[], 3), 20 + at, rest);
}

#[test]
fn the_cache_makes_room_for_those_who_run() {
    let size = ToySize { pages: 34, ..SMALL };
    let mut bench = Bench::new(size, caching(settings()));
    for family in 0..8 {
        let request = request(prompt(family, 60), 60);
        let outcome = bench.answer(request.clone());
        check_answers(&request, &outcome, SMALL.context);
        assert_eq!(outcome.pauses, 0);
    }
    bench.assert_all_is_free();
}

#[test]
fn what_a_cancelled_request_has_read_is_not_lost() {
    let mut bench = Bench::new(SMALL, caching(settings()));
    let request = turn(&prompt(1, 60), &[], 4);
    let id = bench.submit(request.clone());
    (0..3).for_each(|_| drop(bench.step()));
    let done = bench.scheduler.requests()[0].in_memory;
    assert!((1..60).contains(&done));
    assert!(bench.scheduler.cancel(id));
    bench.scheduler.assert_consistent();
    check(&mut bench, &request, done, Miss::New);
}
