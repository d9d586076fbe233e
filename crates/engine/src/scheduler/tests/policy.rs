//! Order, fairness, limits, making room.

use super::*;
use crate::request::SubmitError;
use crate::toy::POISON;

#[test]
fn answers_are_those_of_the_plain_road() {
    for choices in [1, 3] {
        let mut bench = Bench::new(SMALL, settings());
        let mut requests = Vec::new();
        for family in 0..6 {
            let mut request = request(prompt(family, 5 + 9 * family as usize), 12);
            request.choices = choices;
            request.sampling.temperature = 0.8;
            request.sampling.seed = u64::from(family);
            requests.push((bench.submit(request.clone()), request));
        }
        bench.run();
        for (id, request) in &requests {
            check_answers(request, &bench.outcomes[id], SMALL.context);
        }
        bench.assert_all_is_free();
    }
}

#[test]
fn limits_end_answers() {
    let mut bench = Bench::new(SMALL, settings());
    let plain = request(prompt(1, 10), 8);
    let (answer, _) = expected(&plain, 0, SMALL.context);
    let mut check = |request: &Request, tokens: &[u32], reason: FinishReason| {
        let outcome = bench.answer(request.clone());
        assert_eq!(outcome.answers[&0], tokens, "{:?}", request.limits);
        assert_eq!(outcome.ends[&0].0, reason, "{:?}", request.limits);
    };
    check(&plain, &answer, FinishReason::Length);
    check(&request(prompt(1, 10), 0), &[], FinishReason::Length);
    let mut stopped = plain.clone();
    stopped.limits.stop_tokens = vec![answer[3]];
    let first = answer.iter().position(|&token| token == answer[3]).unwrap();
    check(&stopped, &answer[..first], FinishReason::Stop);
    stopped.sampling.ignore_eos = true;
    let (other, _) = expected(&stopped, 0, SMALL.context);
    assert_eq!(other.len(), 8);
    check(&stopped, &other, FinishReason::Length);
    let mut endless = plain.clone();
    endless.limits.max_tokens = None;
    let (all, _) = expected(&endless, 0, SMALL.context);
    assert_eq!(
        all.len(),
        SMALL.context - 10 + 1,
        "the last token is not run"
    );
    check(&endless, &all, FinishReason::ContextFull);
}

#[test]
fn what_can_never_be_answered_is_refused_with_numbers() {
    let mut bench = Bench::new(
        ToySize { pages: 8, ..SMALL },
        SchedulerSettings {
            queue: 1,
            ..settings()
        },
    );
    let mut check = |request: Request, expected: SubmitError| {
        assert_eq!(bench.scheduler.submit(request), Err(expected));
    };
    check(Request::new(vec![]), SubmitError::EmptyPrompt);
    check(
        Request::new(vec![1; 128]),
        SubmitError::PromptTooLong {
            prompt: 128,
            context: 128,
        },
    );
    check(
        Request::new(vec![1; 32]),
        SubmitError::TooLittleMemory {
            needed: 9,
            pages: 8,
            page_tokens: 4,
        },
    );
    check(
        Request::new(vec![99]),
        SubmitError::TokenOutOfRange {
            token: 99,
            vocabulary: 24,
        },
    );
    let mut many = Request::new(vec![1]);
    many.choices = 9;
    check(
        many,
        SubmitError::BadChoices {
            choices: 9,
            limit: 8,
        },
    );
    bench.submit(Request::new(vec![1]));
    assert_eq!(
        bench.scheduler.submit(Request::new(vec![1])),
        Err(SubmitError::QueueFull {
            waiting: 1,
            limit: 1
        })
    );
}

#[test]
fn answers_go_on_while_a_long_prompt_is_read() {
    let mut bench = Bench::new(SMALL, settings());
    let talker = bench.submit(request(prompt(1, 4), 40));
    bench.step();
    bench.submit(request(prompt(2, 100), 4));
    for _ in 0..8 {
        let events = bench.step();
        let told =
            |event: &Event| matches!(event, Event::Token { request, .. } if *request == talker);
        assert!(events.iter().any(told), "a token in each step");
    }
}

#[test]
fn short_prompts_pass_long_ones_which_still_get_on() {
    let mut bench = Bench::new(SMALL, settings());
    let long = bench.submit(request(prompt(1, 100), 1));
    bench.step();
    let short = bench.submit(request(prompt(2, 6), 1));
    let mut ended = Vec::new();
    while !bench.scheduler.is_idle() {
        for event in bench.step() {
            if let Event::Finished { request, .. } = event {
                ended.push(request);
            }
        }
    }
    assert_eq!(ended, [short, long]);
}

#[test]
fn higher_priorities_go_first_and_low_ones_in_time() {
    let size = ToySize { states: 1, ..SMALL };
    let mut bench = Bench::new(size, settings());
    let low = bench.submit(request(prompt(1, 10), 30));
    for _ in 0..5 {
        bench.step();
    }
    let mut urgent = request(prompt(2, 10), 5);
    urgent.priority = 1;
    let high = bench.submit(urgent);
    let mut first = None;
    while first.is_none() {
        for event in bench.step() {
            if let Event::Finished { request, .. } = event {
                first.get_or_insert(request);
            }
        }
    }
    assert_eq!(first, Some(high), "it takes the state");
    bench.run();
    assert_eq!(bench.outcomes[&low].pauses, 1);
    assert_eq!(bench.outcomes[&low].again, 0, "nothing is computed again");
    check_answers(&request(prompt(1, 10), 30), &bench.outcomes[&low], 128);

    // A stream of urgent ones does not keep the other out for ever.
    let low = bench.submit(request(prompt(1, 10), 2));
    let mut steps = 0;
    while !bench.outcomes.contains_key(&low) {
        if bench.scheduler.requests().len() < 3 {
            let mut urgent = request(prompt(2, 10), 5);
            urgent.priority = 1;
            bench.submit(urgent);
        }
        bench.step();
        steps += 1;
        assert!(steps < 2 * PRIORITY_STEPS, "its turn comes");
    }
}

#[test]
fn short_memory_pauses_the_last_and_loses_nothing() {
    // Two answers of 60 tokens each need 30 pages.
    for (parked_bytes, is_dropped) in [(1 << 20, false), (0, true)] {
        let size = ToySize { pages: 20, ..SMALL };
        let mut bench = Bench::new(
            size,
            SchedulerSettings {
                parked_bytes,
                ..settings()
            },
        );
        let requests: Vec<Request> = (0..2).map(|f| request(prompt(f, 10), 50)).collect();
        let ids: Vec<RequestId> = requests.iter().map(|r| bench.submit(r.clone())).collect();
        bench.run();
        for (request, id) in requests.iter().zip(&ids) {
            check_answers(request, &bench.outcomes[id], SMALL.context);
        }
        assert_eq!(
            bench.outcomes[&ids[0]].pauses, 0,
            "the first is not disturbed"
        );
        assert_eq!(bench.outcomes[&ids[1]].pauses, 1);
        assert_eq!(bench.outcomes[&ids[1]].again > 0, is_dropped);
        bench.assert_all_is_free();
    }
}

#[test]
fn cancelling_frees_at_once() {
    for steps in 0..12 {
        let size = ToySize { states: 2, ..SMALL };
        let mut bench = Bench::new(size, settings());
        let ids: Vec<RequestId> = (0..4)
            .map(|family| {
                let mut request = request(prompt(family, 30), 10);
                request.choices = 2;
                bench.submit(request)
            })
            .collect();
        (0..steps).for_each(|_| drop(bench.step()));
        for id in ids {
            assert!(bench.scheduler.cancel(id));
            assert!(!bench.scheduler.cancel(id));
            bench.scheduler.assert_consistent();
        }
        assert!(bench.scheduler.is_idle());
        bench.assert_all_is_free();
    }
}

#[test]
fn a_request_that_breaks_the_device_ends_alone() {
    let mut bench = Bench::new(SMALL, settings());
    let good = request(prompt(1, 20), 10);
    let before = bench.submit(good.clone());
    let mut poisoned = prompt(2, 20);
    poisoned[17] = POISON;
    let bad = bench.submit(request(poisoned, 10));
    let after = bench.submit(good.clone());
    bench.run();
    let error = bench.outcomes[&bad].error.as_deref();
    assert!(
        error.is_some_and(|error| error.contains("poison")),
        "{error:?}"
    );
    check_answers(&good, &bench.outcomes[&before], SMALL.context);
    check_answers(&good, &bench.outcomes[&after], SMALL.context);
    bench.assert_all_is_free();
}
