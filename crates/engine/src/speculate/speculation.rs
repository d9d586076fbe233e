//! The engine's drafter: prompt lookup and the model's own head or another model, as deep as it pays.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::acceptance::{Acceptance, MOST_DRAFTS};
use super::counts::DraftCounts;
use super::depth::{DepthController, Prospect};
use super::draft_model::DraftModel;
use super::guesser::Guesser;
use super::head::{Done, Head, ToGuess};
use super::lookup::Lookup;
use crate::drafter::{Drafter, ToDraft};
use crate::engine::{Engine, SequenceId};
use crate::error::EngineError;
use crate::held::DraftVocabulary;

/// Which drafts to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeculationSettings {
    /// Whether the model's multi-token-prediction head drafts, if it has one.
    pub head: bool,
    /// Whether prompts are looked up.
    pub lookup: bool,
    /// The most drafts for a sequence in a step.
    pub most: usize,
    /// How many of these.
    pub depth: Depth,
}

impl Default for SpeculationSettings {
    fn default() -> Self {
        Self {
            head: true,
            lookup: true,
            most: 4,
            depth: Depth::Adaptive,
        }
    }
}

/// How many drafts to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// As many as pay, going by measured acceptance and cost.
    Adaptive,
    /// Always as many as possible.
    Full,
}

/// Where a draft comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The model's head, or a draft model.
    Guesser,
    Lookup,
}

const SOURCES: usize = 2;
/// How likely drafts are taken to be right before any was verified: computed ones, and what
/// followed elsewhere.
const GUESSES: [f64; SOURCES] = [0.6, 0.5];

/// When the guesser could have drafted for a sequence in so many steps in a row, and it was not worth
/// it, it is told no more of it.
const SLEEP_AFTER: u32 = 16;

/// What is known of one sequence.
#[derive(Debug)]
struct Followed {
    lookup: Option<Lookup>,
    acceptance: [Acceptance; SOURCES],
    /// Steps in a row in which the guesser could have drafted and did not.
    idle: u32,
    /// Where its drafts in the present step come from.
    source: Source,
}

/// Tells the time since some moment. The engine has no clock of its own.
pub type Clock = Box<dyn FnMut() -> Duration + Send>;

/// What would be drafted if the future were known: after these tokens at most so many.
pub type Oracle = Box<dyn FnMut(&[u32], usize) -> Vec<u32> + Send>;

/// Drafts for all sequences of an engine.
pub struct Speculation {
    settings: SpeculationSettings,
    guesser: Option<Guesser>,
    controller: DepthController,
    /// Of all sequences.
    acceptance: [Acceptance; SOURCES],
    followed: HashMap<SequenceId, Followed>,
    counts: DraftCounts,
    /// How often the guesser was told of a sequence to try it.
    woken: usize,
    clock: Clock,
    /// When the present step began to run.
    began: Duration,
    oracle: Option<Oracle>,
}

impl Speculation {
    /// A drafter for an engine, whose model has hidden rows of this size. Steps are measured with
    /// `clock`.
    pub fn new(
        engine: &Engine,
        hidden_size: usize,
        settings: SpeculationSettings,
        clock: Clock,
    ) -> Self {
        let has_head = settings.head && engine.can_draft();
        Self {
            settings,
            guesser: has_head.then(|| Guesser::Head(Head::new(hidden_size, engine.page_tokens()))),
            controller: DepthController::new(),
            acceptance: GUESSES.map(Acceptance::guess),
            followed: HashMap::new(),
            counts: DraftCounts::default(),
            woken: 0,
            clock,
            began: Duration::ZERO,
            oracle: None,
        }
    }

    /// Drafts with another model, in place of the head.
    #[must_use]
    pub fn with_model(mut self, model: DraftModel) -> Self {
        self.guesser = Some(Guesser::Model(Box::new(model)));
        self
    }

    /// Replaces the drafts by what an oracle says, at the same cost. For measurements: weights
    /// that were never trained accept no draft, so the speed with speculation on can only be
    /// measured with an acceptance that is prescribed. Answers stay what they are. Such weights say
    /// any token, as no text does: so it is prescribed too from which tokens the head drafts.
    #[must_use]
    pub fn with_oracle(mut self, oracle: Oracle, vocabulary: DraftVocabulary) -> Self {
        self.oracle = Some(oracle);
        if let Some(Guesser::Head(head)) = &mut self.guesser {
            head.prescribe(vocabulary);
        }
        self
    }

    /// The best source for a sequence, with its prospect and what it would draft without a model.
    fn prospect(&mut self, asked: &ToDraft<'_>, most: usize) -> (Prospect, Source, Vec<u32>) {
        let past = asked.tokens.len().saturating_sub(1);
        let guesser = self.guesser.as_ref();
        let is_ready = guesser.is_some_and(|guesser| guesser.is_ready(asked.sequence, past));
        let followed = self.followed_mut(asked.sequence);
        let found = followed.lookup_after(asked.tokens, most);
        let [guessed, lookup] = [Source::Guesser, Source::Lookup]
            .map(|source| followed.acceptance[source as usize].probabilities());
        let (guessed_most, lookup_most) = (if is_ready { most } else { 0 }, found.len());
        let (source, most, probabilities) =
            if expected(&lookup, lookup_most) > expected(&guessed, guessed_most) {
                (Source::Lookup, lookup_most, lookup)
            } else {
                (Source::Guesser, guessed_most, guessed)
            };
        let prospect = Prospect {
            most,
            probabilities,
            is_free: source == Source::Lookup,
        };
        (prospect, source, found)
    }

    fn followed_mut(&mut self, sequence: SequenceId) -> &mut Followed {
        let (acceptance, has_lookup) = (&self.acceptance, self.settings.lookup);
        self.followed.entry(sequence).or_insert_with(|| Followed {
            lookup: has_lookup.then(Lookup::new),
            acceptance: std::array::from_fn(|source| Acceptance::like(&acceptance[source])),
            idle: 0,
            source: Source::Guesser,
        })
    }

    fn depths(
        &mut self,
        sequences: &[ToDraft<'_>],
        prospects: &[Prospect],
        others: usize,
    ) -> Vec<usize> {
        if self.settings.depth == Depth::Full {
            return prospects.iter().map(|prospect| prospect.most).collect();
        }
        let depths = self.controller.plan(prospects, others);
        for ((asked, prospect), &depth) in sequences.iter().zip(prospects).zip(&depths) {
            let followed = self.followed_mut(asked.sequence);
            let could = followed.source == Source::Guesser && prospect.most > 0;
            followed.idle = match (could, depth) {
                (true, 0) => followed.idle + 1,
                (true, _) => 0,
                (false, _) => followed.idle,
            };
            let is_idle = followed.idle >= SLEEP_AFTER;
            if let (Some(guesser), true) = (&mut self.guesser, is_idle) {
                guesser.forget(asked.sequence);
            }
        }
        self.wake(sequences, others);
        depths
    }

    /// Where the guesser follows nobody and a trial is affordable, it is told of one sequence from
    /// now on, so that it can be tried.
    fn wake(&mut self, sequences: &[ToDraft<'_>], others: usize) {
        let Some(guesser) = &mut self.guesser else {
            return;
        };
        let is_asleep = !sequences
            .iter()
            .any(|asked| guesser.follows(asked.sequence));
        let probability = self.acceptance[Source::Guesser as usize].probabilities()[0];
        let count = sequences.len() + others;
        if sequences.is_empty() || !is_asleep || !self.controller.can_try(count, probability) {
            return;
        }
        let asked = &sequences[self.woken % sequences.len()];
        self.woken += 1;
        let known = asked.tokens.len();
        guesser.begin(asked.sequence, known - 1, known, None);
        self.followed_mut(asked.sequence).idle = 0;
    }

    /// Whether computed drafts are expected to be worth it with so many sequences, or worth a
    /// trial.
    fn is_awake(&self, sequences: usize) -> bool {
        let prospect = Prospect {
            most: self.settings.most.min(MOST_DRAFTS),
            probabilities: self.acceptance[Source::Guesser as usize].probabilities(),
            is_free: false,
        };
        let controller = &self.controller;
        let likeliest = prospect.probabilities[0];
        controller.would_draft(sequences, prospect) || controller.can_try(sequences, likeliest)
    }

    /// Asks the guesser for those that it drafts for, and puts its drafts into theirs.
    fn ask_guesser(
        &mut self,
        engine: &mut Engine,
        sequences: &[ToDraft<'_>],
        depths: &[usize],
        drafts: &mut [Vec<u32>],
    ) -> Result<(), EngineError> {
        let Some(guesser) = &mut self.guesser else {
            return Ok(());
        };
        let mut to_guess = Vec::new();
        let mut whose = Vec::new();
        for (index, (asked, &depth)) in sequences.iter().zip(depths).enumerate() {
            if depth > 0 && self.followed[&asked.sequence].source == Source::Guesser {
                whose.push(index);
                to_guess.push(ToGuess {
                    sequence: asked.sequence,
                    tokens: asked.tokens,
                    depth,
                });
            }
        }
        let mut last = (self.clock)();
        let (clock, controller) = (&mut self.clock, &mut self.controller);
        let guessed = guesser.guess(engine, &to_guess, |done| {
            let now = clock();
            let took = now.saturating_sub(last);
            match done {
                Done::CaughtUp => controller.preparing_took(took),
                Done::Guessed(count) => controller.draft_took(count, took),
            }
            last = now;
        })?;
        for (index, guessed) in whose.into_iter().zip(guessed) {
            drafts[index] = guessed;
        }
        Ok(())
    }
}

impl Followed {
    fn lookup_after(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        let found = self.lookup.as_mut().and_then(|lookup| {
            lookup.follow(tokens);
            lookup.draft(most)
        });
        found.map_or_else(Vec::new, |found| found.draft)
    }
}

/// How many drafts of a run are expected to be right.
fn expected(probabilities: &[f64; MOST_DRAFTS], most: usize) -> f64 {
    let mut reached = 1.0;
    let mut sum = 0.0;
    for probability in &probabilities[..most.min(MOST_DRAFTS)] {
        reached *= probability;
        sum += reached;
    }
    sum
}

impl Drafter for Speculation {
    fn begin(&mut self, sequence: SequenceId, past: usize, known: usize, hidden: Option<&[f32]>) {
        self.followed_mut(sequence);
        let is_wanted = self.settings.depth == Depth::Full || self.is_awake(self.followed.len());
        if let (Some(guesser), true) = (&mut self.guesser, is_wanted) {
            guesser.begin(sequence, past, known, hidden);
        }
    }

    fn wants_hidden(&self, sequence: SequenceId, positions: Range<usize>) -> bool {
        let guesser = self.guesser.as_ref();
        guesser.is_some_and(|guesser| guesser.wants(sequence, &positions))
    }

    fn ran(
        &mut self,
        engine: &Engine,
        sequence: SequenceId,
        hidden: &[f32],
    ) -> Result<(), EngineError> {
        match &mut self.guesser {
            Some(guesser) => guesser.ran(engine, sequence, hidden),
            None => Ok(()),
        }
    }

    fn settle(
        &mut self,
        engine: &mut Engine,
        sequence: SequenceId,
        tokens: &[u32],
    ) -> Result<Option<Arc<[f32]>>, EngineError> {
        match &mut self.guesser {
            Some(guesser) => guesser.settle(engine, sequence, tokens),
            None => Ok(None),
        }
    }

    fn draft(
        &mut self,
        engine: &mut Engine,
        sequences: &[ToDraft<'_>],
        others: usize,
    ) -> Result<Vec<Vec<u32>>, EngineError> {
        let limit = self.settings.most.min(engine.most_drafts());
        let mut prospects = Vec::with_capacity(sequences.len());
        let mut drafts = Vec::with_capacity(sequences.len());
        for asked in sequences {
            let most = asked.most.min(limit).min(MOST_DRAFTS);
            let (prospect, source, found) = self.prospect(asked, most);
            self.followed_mut(asked.sequence).source = source;
            prospects.push(prospect);
            drafts.push(found);
        }
        let depths = self.depths(sequences, &prospects, others);
        self.ask_guesser(engine, sequences, &depths, &mut drafts)?;
        for ((asked, draft), depth) in sequences.iter().zip(&mut drafts).zip(depths) {
            draft.truncate(depth);
            if let Some(oracle) = &mut self.oracle {
                *draft = oracle(asked.tokens, depth);
            }
        }
        self.began = (self.clock)();
        Ok(drafts)
    }

    fn verified(&mut self, sequence: SequenceId, drafted: usize, accepted: usize) {
        self.counts.note(drafted, accepted);
        let Some(followed) = self.followed.get_mut(&sequence) else {
            return;
        };
        let source = followed.source as usize;
        self.controller.verified(accepted);
        followed.acceptance[source].note(drafted, accepted);
        self.acceptance[source].note(drafted, accepted);
    }

    fn stepped(&mut self, rows: usize, is_answering: bool) {
        if is_answering {
            let took = (self.clock)().saturating_sub(self.began);
            self.controller.step_took(rows, took);
        }
    }

    fn forget(&mut self, sequence: SequenceId) {
        self.followed.remove(&sequence);
        if let Some(guesser) = &mut self.guesser {
            guesser.forget(sequence);
        }
    }

    fn counts(&self) -> DraftCounts {
        self.counts.clone()
    }
}
