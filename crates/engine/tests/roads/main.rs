//! The same tokens, whatever the road: greedy answers of a trained model and of models of random
//! weights do not depend on what else runs, how prompts are cut, what was cached, where, what had
//! to go, forks, pauses, drafts, or threads.
//!
//! By default few prompts on a selection of roads, in which any two turns meet. All roads with
//! `TIDEMILL_PROMPTS=200 cargo test --release -p tidemill-engine --test roads -- --ignored --nocapture`,
//! or in parts that add up, each with some of the prompts (over a GPU: of the roads): the third of ten with
//! `TIDEMILL_PART=3/10`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests end where they are surprised, and report"
)]

mod journey;
mod road;
mod rounding;
mod subject;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use formats::DType;
use tidemill_engine::speculate::{DraftCounts, Tally};

use journey::{Answer, is_sampled, judge, take};
use road::{Drafts, Road};
use subject::{InRam, Subject};

/// Where two answers part.
struct Difference {
    prompt: usize,
    at: usize,
    /// Between the two best logits there, on the plain road.
    margin: f32,
}

fn differences(plain: &[Answer], other: &[Answer]) -> Vec<Difference> {
    assert_eq!(plain.len(), other.len());
    let answers = plain.iter().zip(other).enumerate();
    answers
        .filter(|(_, (plain, other))| plain.tokens != other.tokens)
        .map(|(prompt, (plain, other))| {
            let both = plain.tokens.iter().zip(&other.tokens);
            let at = both.take_while(|(a, b)| a == b).count();
            // An answer that only ended elsewhere has no token there.
            let margin = plain.margins.get(at).copied().unwrap_or(f32::INFINITY);
            Difference { prompt, at, margin }
        })
        .collect()
}

fn list(what: &str, differences: &[Difference]) {
    for Difference { prompt, at, margin } in differences {
        println!("  {what}: prompt {prompt} parts at token {at}, margin {margin:.5}");
    }
}

/// Greedy answers with f16 and with f32 keys and values part only where rounding explains it: where
/// the margin is smaller than what it moved logits apart there, and than what it may anywhere.
/// (Other roads may not part at all: every value is summed in one order, whatever the road.)
fn check_rounding(subject: &Subject, fine: &[Answer], coarse: &[Answer]) -> usize {
    let moved = rounding::moved_by_f16(subject, fine);
    let rows = moved.iter().flatten();
    let (count, most) = (rows.clone().count(), rows.copied().fold(0.0, f32::max));
    let bound = subject.most_by_f16;
    println!(
        "{}: f16 keys and values move logits apart by at most {most:.5} in {count} rows; bound {bound}",
        subject.name
    );
    assert!(most <= bound, "f16 moves more than it may");
    let mut parted = differences(fine, coarse);
    parted.retain(|difference| !is_sampled(difference.prompt));
    list("f16 and f32 keys and values", &parted);
    for Difference { prompt, at, margin } in &parted {
        let here = moved[*prompt][*at];
        assert!(
            *margin <= here,
            "prompt {prompt}, token {at}: {margin} of {here}"
        );
    }
    parted.len()
}

/// Compares the answers of these roads with those of the plain one. Returns what became of drafts.
fn compare(subject: &Subject, roads: &[Road]) -> BTreeMap<String, DraftCounts> {
    let start = Instant::now();
    let [fine, coarse] = [DType::F32, DType::F16].map(|kv| judge(subject, road::plain(kv)));
    let of_f16 = check_rounding(subject, &fine, &coarse);

    let mut drafts: BTreeMap<String, DraftCounts> = BTreeMap::new();
    let (mut parted, mut compared) = (0, 0);
    for (number, &road) in roads.iter().enumerate() {
        let plain = match road.kv {
            DType::F32 => &fine,
            _ => &coarse,
        };
        let outcome = take(subject, road, plain);
        let found = differences(plain, &outcome.answers);
        list(&format!("{road:?}"), &found);
        parted += found.len();
        compared += outcome.compared;
        let counts = drafts.entry(format!("{:?}", road.drafts)).or_default();
        counts.add(&outcome.drafts);
        if number % 100 == 99 {
            println!("  {} roads, {:.0?}", number + 1, start.elapsed());
        }
    }
    println!(
        "{}: {} roads, {} prompts, {} answers of {} tokens in {:.0?}: {parted} part from the plain \
         road; {of_f16} plain ones with f16 keys and values from f32",
        subject.name,
        roads.len(),
        subject.prompts.len(),
        compared,
        fine.iter().map(|answer| answer.tokens.len()).sum::<usize>(),
        start.elapsed(),
    );
    assert_eq!(parted, 0, "answers part from the plain road");
    drafts
}

/// The same, and that drafts of all kinds were right and wrong.
fn check(subject: &Subject, roads: &[Road]) {
    for (way, counts) in &compare(subject, roads) {
        let tallies = counts.by_position.iter();
        let rates: Vec<String> = tallies
            .map(|tally| format!("{}/{}", tally.accepted, tally.tried))
            .collect();
        println!(
            "  {way}: {} of {} drafts accepted; by position {}",
            counts.accepted,
            counts.drafted,
            rates.join(" ")
        );
        let is_off = way == &format!("{:?}", Drafts::Off);
        // Text without sense may repeat nothing.
        let may_have_none = is_off || subject.is_random && way == "Lookup";
        assert!(counts.drafted > 0 || may_have_none, "{way}");
        assert!(counts.drafted == 0 || !is_off, "{way}");
        if way.starts_with("Head") || way == "Model" {
            // Drafts of every length, right and wrong at every place.
            let all = |tally: &Tally| 0 < tally.accepted && tally.accepted < tally.tried;
            assert!(counts.by_position.iter().all(all), "{way}: {rates:?}");
        }
    }
}

fn prompts(default: usize) -> usize {
    std::env::var("TIDEMILL_PROMPTS").map_or(default, |count| count.parse().unwrap())
}

/// Which part of the prompts or roads is asked, from 0, and of how many.
fn part() -> (usize, usize) {
    let part = std::env::var("TIDEMILL_PART").unwrap_or("1/1".to_owned());
    let (part, of) = part.split_once('/').unwrap();
    let [part, of]: [usize; 2] = [part, of].map(|number| number.parse().unwrap());
    assert!((1..=of).contains(&part), "parts are counted from 1");
    (part - 1, of)
}

const RANDOM: [&str; 4] = ["moe_text", "moe_composite", "dense_text", "qwen3_next"];

#[test]
fn trained_answers_do_not_depend_on_the_road() {
    check(&subject::tiny(prompts(18)), &road::selection());
}

#[test]
fn random_answers_do_not_depend_on_the_road() {
    for name in ["moe_composite", "dense_text"] {
        check(&subject::random(name, 18), &road::selection());
    }
}

/// The stand-in for a GPU has no locks.
static ONE_GPU: Mutex<()> = Mutex::new(());

/// Takes every `step`th road of the selection from `first` on with the first placement, from the next on with the next.
fn compare_on_gpu(name: &str, most: usize, placements: &[InRam], (first, step): (usize, usize)) {
    let _one = ONE_GPU.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = subject::gpu() else {
        println!("SKIPPED: no g++ to build the stand-in GPU with; no road went over it");
        return;
    };
    for (number, &in_ram) in placements.iter().enumerate() {
        let subject = subject::random(name, 18).short(most).on_gpu(&gpu, in_ram);
        let first = (first + number) % step;
        let roads = road::selection().into_iter().skip(first).step_by(step);
        compare(&subject, &roads.collect::<Vec<_>>());
    }
}

#[test]
fn answers_of_a_gpu_and_the_cpu_beside_it_do_not_depend_on_the_road() {
    compare_on_gpu(
        "moe_composite",
        16,
        &[InRam::Experts, InRam::Layers],
        (0, 12),
    );
}

/// By rounding alone what is there may matter.
#[test]
fn answers_with_copies_of_experts_do_not_depend_on_the_road() {
    compare_on_gpu("moe_composite", 16, &[InRam::ExpertsWithCopies], (6, 24));
}

#[test]
#[ignore = "hours with the stand-in"]
fn answers_of_placements_depend_on_no_road() {
    let placements = [InRam::Nothing, InRam::Experts, InRam::Layers, InRam::Ends];
    compare_on_gpu("moe_composite", 64, &placements, part());
}

#[test]
#[ignore = "an hour, in a release build"]
fn trained_answers_depend_on_no_road() {
    check(&subject::tiny(prompts(200)).part(part()), &road::all());
}

#[test]
#[ignore = "an hour, in a release build"]
fn random_answers_depend_on_no_road() {
    for name in RANDOM {
        check(&subject::random(name, 24), &road::all());
    }
}

/// What docs/decisions/0004 and 0009 say of keys and values in f16 and of states in bf16.
#[test]
#[ignore = "measures, and asserts nothing"]
fn coarser_numbers() {
    let subjects = RANDOM.map(|name| subject::random(name, 24));
    for subject in [subject::tiny(prompts(200))].iter().chain(&subjects) {
        let answers = judge(subject, road::plain(DType::F32));
        let moved = rounding::moved_by_bf16_states(subject, &answers);
        let most = moved.iter().map(|(moved, _)| *moved).fold(0.0, f32::max);
        let others: usize = moved.iter().map(|(_, others)| others).sum();
        let parted = moved.iter().filter(|(_, others)| *others > 0).count();
        println!(
            "{}: bf16 states move logits apart by at most {most:.5}; {others} tokens of {} and {parted} of \
             {} answers would be others",
            subject.name,
            answers
                .iter()
                .map(|answer| answer.tokens.len())
                .sum::<usize>(),
            answers.len(),
        );
    }
}
