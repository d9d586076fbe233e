//! A conversation: what each further question costs until its answer begins.
//!
//! Prompts are as templates of the family make them. An answer starts behind a header, thinks for
//! its first half, and loses header and thinking when it becomes history. So a turn cannot go on
//! from where the last one ended: it goes back to the end of the last question, and runs the
//! answer's second half again with the new question.

use std::time::Instant;

use engine::{Engine, Session};

use super::plan::{HEADER, QUESTION};
use super::runner::{Sample, prefill, work};
use super::tokens::Tokens;
use crate::interrupt;

/// The sizes of a conversation in tokens.
pub(super) struct Talk {
    pub(super) turns: usize,
    /// Of the first question, with system message and tools.
    pub(super) prompt: usize,
    pub(super) answer: usize,
    pub(super) chunk: usize,
}

/// Holds it, and gives a sample per turn: the time until the first token of the answer.
pub(super) fn run(
    engine: &mut Engine,
    talk: &Talk,
    tokens: &mut Tokens,
) -> anyhow::Result<Vec<Sample>> {
    let mut session = Session::new(engine, talk.chunk)?;
    let mut history = Vec::new();
    let mut samples = Vec::new();
    for turn in 1..=talk.turns {
        let question = if turn == 1 { talk.prompt } else { QUESTION };
        history.extend(tokens.take(question));
        let stable = history.len();
        let mut prompt = history.clone();
        prompt.extend(tokens.take(HEADER));

        let start = Instant::now();
        let cached = session.prepare(engine, &prompt, stable, |_| interrupt::check().is_ok())?;
        interrupt::check()?;
        let header = &prompt[stable..];
        let mut logits = prefill(engine, session.sequence(), header, talk.chunk)?;
        let mut answer = vec![engine::argmax(&logits)];
        let time = start.elapsed();
        session.ran(header);

        while answer.len() < talk.answer {
            interrupt::check()?;
            let last = answer[answer.len() - 1];
            let outputs = engine.step(&[work(session.sequence(), &[last], true)])?;
            session.ran(&[last]);
            logits.copy_from_slice(outputs[0].data());
            answer.push(engine::argmax(&logits));
        }
        history.extend_from_slice(&answer[answer.len() / 2..]);
        samples.push(Sample {
            time,
            first_token: Some(time),
            turn,
            tokens: prompt.len() - cached,
            cached,
        });
    }
    session.clear(engine)?;
    engine.end(session.sequence())?;
    Ok(samples)
}
