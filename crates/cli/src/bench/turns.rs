//! A conversation: what each further question costs until its answer begins.
//!
//! Prompts are as templates of the family make them. An answer starts behind a header, thinks for
//! its first half, and loses header and thinking when it becomes history. So a turn cannot go on
//! from where the last one ended: it goes on from the end of the last question, and reads the
//! answer's second half again with the new question. The scheduler does that, as in a server.

use std::sync::Arc;
use std::time::Instant;

use engine::cache::{Boundary, BoundaryKind};
use engine::{Engine, Event, Request, Scheduler, SchedulerSettings, TokenRules};

use super::plan::{HEADER, QUESTION};
use super::runner::Sample;
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

/// Holds it, and gives a sample per turn: the time until the first token of the answer. Hands the
/// engine back.
pub(super) fn run(
    engine: Engine,
    talk: &Talk,
    tokens: &mut Tokens,
) -> anyhow::Result<(Engine, Vec<Sample>)> {
    let settings = SchedulerSettings {
        batch_tokens: talk.chunk,
        chunk_tokens: talk.chunk,
        ..SchedulerSettings::default()
    };
    let rules = Arc::new(TokenRules::all(engine.vocabulary()));
    let mut scheduler = Scheduler::new(engine, rules, settings);
    let mut history = Vec::new();
    let mut samples = Vec::new();
    for turn in 1..=talk.turns {
        let question = if turn == 1 { talk.prompt } else { QUESTION };
        history.extend(tokens.take(question));
        let mut request = Request::new([&history[..], &tokens.take(HEADER)].concat());
        request.boundaries = vec![Boundary {
            offset: history.len(),
            kind: BoundaryKind::EndOfQuestion(turn),
        }];
        request.limits.max_tokens = Some(talk.answer);
        let (answer, sample) = ask(&mut scheduler, request)?;
        history.extend_from_slice(&answer[answer.len() / 2..]);
        samples.push(Sample { turn, ..sample });
    }
    Ok((scheduler.into_engine(), samples))
}

fn ask(scheduler: &mut Scheduler, request: Request) -> anyhow::Result<(Vec<u32>, Sample)> {
    let start = Instant::now();
    let mut sample = Sample::new(start.elapsed(), request.prompt.len(), 0);
    let mut answer = Vec::new();
    scheduler.submit(request)?;
    while !scheduler.is_idle() {
        interrupt::check()?;
        for event in scheduler.step() {
            match event {
                Event::Started { reuse, .. } => {
                    sample.tokens -= reuse.cached;
                    sample.cached = reuse.cached;
                }
                Event::Token { token, .. } => {
                    if answer.is_empty() {
                        sample.time = start.elapsed();
                        sample.first_token = Some(sample.time);
                    }
                    answer.push(token);
                }
                Event::Failed { error, .. } => anyhow::bail!(error),
                _ => {}
            }
        }
    }
    Ok((answer, sample))
}
