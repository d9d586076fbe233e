//! Speculation on the toy, whose head is right two times of three.

use super::*;
use crate::DraftVocabulary;
use crate::constraint::ThinkingTokens;
use crate::speculate::Depth;
use text::ThinkingState;

fn full(head: bool, lookup: bool, most: usize) -> SpeculationSettings {
    SpeculationSettings {
        head,
        lookup,
        most,
        depth: Depth::Full,
    }
}

fn acceptance(bench: &Bench, position: usize) -> f64 {
    let tally = bench.scheduler.drafts().by_position[position];
    tally.accepted as f64 / tally.tried as f64
}

#[test]
fn the_head_is_fed_everything() {
    let mut bench = Bench::new(SMALL, settings());
    bench.speculate(full(true, false, 4));
    let mut steps = 0;
    for family in 0..12 {
        let request = request(prompt(family, 30), 60);
        let outcome = bench.answer(request.clone());
        check_answers(&request, &outcome, SMALL.context);
        let (_, usage) = outcome.ends[&0];
        assert!(usage.drafted > 0 && usage.accepted <= usage.drafted);
        steps += usage.generated - usage.accepted;
    }
    for position in 0..4 {
        // One in three is wrong on purpose, and nothing else is.
        let rate = acceptance(&bench, position);
        assert!((0.55..0.78).contains(&rate), "{position}: {rate}");
    }
    assert!(steps < 12 * 60 * 6 / 10, "{steps}");
    bench.assert_all_is_free();
}

#[test]
fn drafts_go_on_behind_cached_prompts_pauses_and_forks() {
    let mut bench = Bench::new(SMALL, caching(settings()));
    bench.speculate(full(true, false, 4));
    for round in 0..6 {
        let mut request = request(prompt(1, 40 + 4 * round), 30);
        request.choices = 2;
        let outcome = bench.answer(request.clone());
        check_answers(&request, &outcome, SMALL.context);
        let reuse = outcome.reuse.unwrap();
        assert_eq!(reuse.cached > 0, round > 0, "{reuse:?}");
    }
    let rate = acceptance(&bench, 0);
    assert!((0.5..0.85).contains(&rate), "{rate}");
    bench.assert_all_is_free();
}

#[test]
fn a_request_can_do_without() {
    let mut bench = Bench::new(SMALL, settings());
    bench.speculate(full(true, true, 4));
    let mut request = request(prompt(1, 30), 40);
    request.speculation = false;
    let outcome = bench.answer(request.clone());
    check_answers(&request, &outcome, SMALL.context);
    assert_eq!(outcome.ends[&0].1.drafted, 0);
    assert_eq!(bench.scheduler.drafts().drafted, 0);
}

#[test]
fn lookups_draft_what_was_there_before() {
    let mut bench = Bench::new(SMALL, settings());
    bench.speculate(full(false, true, 4));
    let mut request = request([9, 8, 7, 6, 5].repeat(12), 40);
    // Of two tokens all runs of three come again soon.
    request.sampling.logit_bias = vec![(8, 100.0), (9, 100.0)];
    let outcome = bench.answer(request.clone());
    check_answers(&request, &outcome, SMALL.context);
    let (_, usage) = outcome.ends[&0];
    assert!(usage.drafted > 20 && usage.accepted > 5, "{usage:?}");
    bench.assert_all_is_free();
}

#[test]
fn drafts_never_need_more_memory_than_there_is() {
    let tight = ToySize {
        page_tokens: 1,
        pages: SMALL.context + 1,
        ..SMALL
    };
    let mut bench = Bench::new(tight, settings());
    bench.speculate(full(true, true, 5));
    let requests: Vec<Request> = (0..4).map(|n| request(prompt(n, 40), 60)).collect();
    let ids: Vec<RequestId> = requests.iter().map(|r| bench.submit(r.clone())).collect();
    bench.run();
    for (id, request) in ids.iter().zip(&requests) {
        check_answers(request, &bench.outcomes[id], tight.context);
    }
    assert!(bench.scheduler.drafts().accepted > 0);
    bench.assert_all_is_free();
}

/// Behind the token that uses up the time, the words that end the thinking follow in the same step.
/// What was drafted for its place is not what follows.
#[test]
fn words_that_end_thinking_are_no_drafts() {
    const LAST: u32 = 5;
    let tokens = Arc::new(ThinkingTokens::of_ids(20, 21, &[6, 7], &[LAST]));
    let answer = |bench: &mut Bench, family: u32, budget: usize| {
        let guide = Guide::new(
            Some(Arc::clone(&tokens)),
            ThinkingState::Inside,
            Some(budget),
            None,
            toy::VOCABULARY,
        );
        let request = request(prompt(family, 20), 24);
        let id = bench.scheduler.submit_guided(request, guide).unwrap();
        bench.run();
        bench.outcomes[&id].answers[&0].clone()
    };
    let mut plain = Bench::new(SMALL, settings());
    let mut drafting = Bench::new(SMALL, settings());
    drafting.speculate_with(full(true, false, 4), |drafter| {
        let last = Box::new(|_: &[u32], most: usize| vec![LAST; most]);
        drafter.with_oracle(last, DraftVocabulary::Whole)
    });
    for family in 0..8 {
        for budget in 0..6 {
            let expected = answer(&mut plain, family, budget);
            let found = answer(&mut drafting, family, budget);
            assert_eq!(found, expected, "family {family}, budget {budget}");
            assert!(expected.contains(&21), "{expected:?}");
        }
    }
    assert!(drafting.scheduler.drafts().drafted > 100);
    drafting.assert_all_is_free();
}
