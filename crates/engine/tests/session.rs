//! A conversation's prompts, run from where they part from the last: the same logits as from
//! nothing, and only the new tokens are run.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::path::Path;

use formats::DType;
use tensor::Reference;
use tidemill_engine::{BackendChoice, Engine, EngineSettings, KvTypes, OpenedModel, Session, Work};

fn engine() -> Engine {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/goldens/moe_composite");
    let settings = EngineSettings {
        kv: KvTypes::both(DType::F32),
        ..EngineSettings::single(256)
    };
    let backend = BackendChoice::Reference(Reference::default());
    OpenedModel::open(&golden)
        .unwrap()
        .load(backend, &settings, |_, _| {})
        .unwrap()
}

/// Prepares all but the last token of a prompt, runs that one, and returns what was cached and
/// the logits.
fn ask(engine: &mut Engine, session: &mut Session, prompt: &[u32]) -> (usize, Vec<f32>) {
    let (last, stable) = prompt.split_last().unwrap();
    let cached = session
        .prepare(engine, prompt, stable.len(), |_| true)
        .unwrap();
    let work = Work {
        sequence: session.sequence(),
        tokens: vec![*last],
        logits: vec![0],
    };
    let logits = engine.step(&[work]).unwrap().remove(0).into_vec();
    session.ran(&[*last]);
    engine.assert_consistent();
    (cached, logits)
}

fn from_nothing(prompt: &[u32]) -> Vec<f32> {
    let mut engine = engine();
    let mut session = Session::new(&mut engine, 7).unwrap();
    ask(&mut engine, &mut session, prompt).1
}

#[test]
fn prompts_go_on_from_the_longest_common_state() {
    let prompt: Vec<u32> = (0..120).map(|i| i * 37 % 250).collect();
    let grown: Vec<u32> = prompt.iter().copied().chain(3..20).collect();
    let mut changed_end = prompt.clone();
    changed_end[119] = 1;
    changed_end.extend(60..80);
    let mut changed_start = grown.clone();
    changed_start[5] = 1;

    let mut engine = engine();
    let mut session = Session::new(&mut engine, 7).unwrap();
    let mut check = |prompt: &[u32], expected: usize, what: &str| {
        let (cached, logits) = ask(&mut engine, &mut session, prompt);
        assert_eq!(cached, expected, "{what}");
        assert_eq!(logits, from_nothing(prompt), "{what}");
    };
    check(&prompt, 0, "the first prompt");
    check(
        &changed_end,
        119,
        "the last token changed: back to the checkpoint",
    );
    check(&prompt, 0, "parts from the last before its checkpoint");
    check(&grown, 120, "goes on");
    check(&changed_start, 0, "another start");
}

#[test]
fn tokens_that_the_session_was_not_told_of_are_not_built_on() {
    let prompt: Vec<u32> = (10..50).collect();
    let mut engine = engine();
    let mut session = Session::new(&mut engine, 7).unwrap();
    ask(&mut engine, &mut session, &prompt);
    let stray = Work {
        sequence: session.sequence(),
        tokens: vec![9, 9],
        logits: vec![],
    };
    engine.step(&[stray]).unwrap();
    let grown: Vec<u32> = (10..60).collect();
    let (cached, logits) = ask(&mut engine, &mut session, &grown);
    assert_eq!(cached, 39, "back to the checkpoint");
    assert_eq!(logits, from_nothing(&grown));
}
