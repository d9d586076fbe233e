//! The scheduler on a toy model whose answers change with any mix-up of memory.

mod cache;
mod fuzz;
mod policy;
mod speculation;

use std::collections::BTreeMap;
use std::time::Duration;

use super::chooser::{Chooser, Row};
use super::*;
use crate::cache::CacheSettings;
use crate::event::{FinishReason, Reuse, Usage};
use crate::speculate::{Speculation, SpeculationSettings};
use crate::toy::{self, ToySize};

/// What became of a request's answers.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) answers: BTreeMap<usize, Vec<u32>>,
    pub(super) ends: BTreeMap<usize, (FinishReason, Usage)>,
    pub(super) reuse: Option<Reuse>,
    pub(super) error: Option<String>,
    pub(super) pauses: usize,
    pub(super) again: usize,
}

/// A scheduler with what it told.
pub(super) struct Bench {
    pub(super) scheduler: Scheduler,
    pub(super) outcomes: BTreeMap<RequestId, Outcome>,
    pub(super) steps: usize,
}

pub(super) const SMALL: ToySize = ToySize {
    page_tokens: 4,
    pages: 64,
    states: 4,
    context: 128,
};

pub(super) fn settings() -> SchedulerSettings {
    SchedulerSettings {
        batch_tokens: 16,
        chunk_tokens: 8,
        queue: 64,
        choices: 8,
        parked_bytes: 1 << 20,
        cache: CacheSettings::off(),
    }
}

/// Snapshots of a toy without logits take 16 bytes.
pub(super) fn caching(settings: SchedulerSettings) -> SchedulerSettings {
    SchedulerSettings {
        cache: CacheSettings {
            snapshot_bytes: 1 << 20,
            gap: 4,
            spacing: 16,
            tail: 2,
        },
        ..settings
    }
}

/// No token ends an answer by itself.
pub(super) fn rules() -> Arc<TokenRules> {
    Arc::new(TokenRules::all(toy::VOCABULARY))
}

impl Bench {
    pub(super) fn new(size: ToySize, settings: SchedulerSettings) -> Self {
        Self {
            scheduler: Scheduler::new(toy::engine(size), rules(), settings),
            outcomes: BTreeMap::new(),
            steps: 0,
        }
    }

    /// Drafts from now on. Time passes by fits and starts, but always the same.
    pub(super) fn speculate(&mut self, settings: SpeculationSettings) {
        self.speculate_with(settings, |drafter| drafter);
    }

    pub(super) fn speculate_with(
        &mut self,
        settings: SpeculationSettings,
        change: impl FnOnce(Speculation) -> Speculation,
    ) {
        let mut now = 0u64;
        let clock = Box::new(move || {
            now += 1 + now * now % 7;
            Duration::from_micros(now)
        });
        let drafter = Speculation::new(&self.scheduler.engine, toy::HIDDEN, settings, clock);
        self.scheduler.drafter = Some(Box::new(change(drafter)));
    }

    pub(super) fn submit(&mut self, request: Request) -> RequestId {
        self.scheduler.submit(request).expect("a good request")
    }

    pub(super) fn step(&mut self) -> Vec<Event> {
        let events = self.scheduler.step();
        self.steps += 1;
        self.scheduler.assert_consistent();
        for event in &events {
            self.note(event);
        }
        events
    }

    fn note(&mut self, event: &Event) {
        let outcomes = &mut self.outcomes;
        match event {
            Event::Started { request, reuse } => {
                let old = outcomes.entry(*request).or_default().reuse.replace(*reuse);
                assert_eq!(old, None, "requests start once");
            }
            Event::PrefillProgress { done, total, .. } => assert!(done <= total),
            Event::PromptLogprobs { .. } => {}
            Event::Token {
                request,
                choice,
                token,
                ..
            } => {
                let outcome = outcomes.entry(*request).or_default();
                assert!(!outcome.ends.contains_key(choice), "nothing behind the end");
                outcome.answers.entry(*choice).or_default().push(*token);
            }
            Event::Paused { request, .. } => outcomes.entry(*request).or_default().pauses += 1,
            Event::Resumed { request, again, .. } => {
                outcomes.entry(*request).or_default().again += again;
            }
            Event::Finished {
                request,
                choice,
                reason,
                usage,
                ..
            } => {
                let outcome = outcomes.entry(*request).or_default();
                outcome.answers.entry(*choice).or_default();
                let old = outcome.ends.insert(*choice, (*reason, *usage));
                assert_eq!(old, None, "answers end once");
            }
            Event::Failed { request, error } => {
                outcomes.entry(*request).or_default().error = Some(error.clone());
            }
        }
    }

    pub(super) fn run(&mut self) {
        let limit = self.steps + 20_000;
        while !self.scheduler.is_idle() {
            self.step();
            assert!(
                self.steps < limit,
                "everything ends: {:?}",
                self.scheduler.requests()
            );
        }
    }

    /// Checks that nothing is held any more but by the cache, and by that neither once it is
    /// cleared.
    pub(super) fn assert_all_is_free(&mut self) {
        self.scheduler.clear_cache();
        self.scheduler.assert_consistent();
        let memory = self.scheduler.memory();
        assert_eq!(memory.free_pages, memory.pages);
        assert_eq!(memory.free_states, memory.states);
        assert_eq!((memory.parked_bytes, memory.cache_bytes), (0, 0));
    }

    /// Runs one request to its end.
    pub(super) fn answer(&mut self, request: Request) -> Outcome {
        let id = self.submit(request);
        self.run();
        self.outcomes[&id].clone()
    }
}

/// The answer to a request, computed without any memory.
pub(super) fn expected(
    request: &Request,
    choice: usize,
    context: usize,
) -> (Vec<u32>, FinishReason) {
    let mut chooser =
        Chooser::new(request, choice, &rules(), Guide::free(), None).expect("good settings");
    let mut tokens = request.prompt.clone();
    let mut answer = Vec::new();
    if request.limits.max_tokens == Some(0) {
        return (answer, FinishReason::Length);
    }
    loop {
        let chosen = chooser
            .choose(Row::All(&mut toy::logits_behind(&tokens)))
            .expect("no grammar");
        if chosen.is_shown {
            tokens.push(chosen.token);
            answer.push(chosen.token);
        }
        if let Some(end) = chosen.end {
            return (answer, end);
        }
        if tokens.len() > context {
            return (answer, FinishReason::ContextFull);
        }
    }
}

/// Checks a request's answers.
pub(super) fn check_answers(request: &Request, outcome: &Outcome, context: usize) {
    for choice in 0..request.choices {
        let (answer, end) = expected(request, choice, context);
        assert_eq!(outcome.answers.get(&choice), Some(&answer), "{request:?}");
        let (reason, usage) = outcome.ends[&choice];
        assert_eq!(reason, end, "{request:?}");
        assert_eq!(usage.generated, answer.len());
        assert_eq!(usage.prompt, request.prompt.len());
        let was_disturbed = outcome.pauses + outcome.again > 0;
        if choice == 0 && !was_disturbed {
            assert_eq!(usage.prefilled, usage.prompt - usage.cached);
        }
    }
}

/// A prompt of a family: those of the same numbers begin the same.
pub(super) fn prompt(family: u32, len: usize) -> Vec<u32> {
    (0..len as u32)
        .map(|at| (at * 7 + at * at * family + family) % 22)
        .collect()
}

pub(super) fn request(prompt: Vec<u32>, max_tokens: usize) -> Request {
    let mut request = Request::new(prompt);
    request.limits.max_tokens = Some(max_tokens);
    request
}
