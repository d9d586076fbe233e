//! Drafts by another, smaller model of the same vocabulary.
//!
//! It has an engine of its own, with a sequence for each that it drafts for, and reads only a window
//! of that: its latest tokens. So a long or cached prompt costs it no more than a short one, and its
//! memory stays small; where a sequence outgrows it, it begins again with a new window.
//!
//! What it drafts may be wrong, and its state cannot be cropped either. So only tokens that are
//! known to stay are applied to it; its drafts are held back beside the state, all of a run in each
//! pass, and those that were right are applied with the next tokens.

use std::collections::HashMap;

use tensor::MostLikely;
use text::Tokenizer;

use super::acceptance::MOST_DRAFTS;
use super::head::{Done, ToGuess};
use crate::engine::{Engine, Run, SequenceId, Work};
use crate::error::EngineError;
use crate::sampling::{argmax, most_likely};
use crate::settings::EngineSettings;

/// The tokens before an answer that it reads, the last ones.
const WINDOW: usize = 256;
/// The most tokens that its sequences hold.
const CONTEXT: usize = 4096;
/// Rows of one pass over a window.
const CHUNK: usize = 512;

/// A draft model's tokens are not those of the model that it is to draft for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the draft model has another vocabulary: token {token} is {theirs:?} there and {ours:?} in \
     the model; it takes a smaller model of the same family and generation"
)]
pub struct OtherVocabulary {
    /// The first token that differs.
    pub token: u32,
    /// What it is in the model that answers.
    pub ours: String,
    /// What it is in the draft model.
    pub theirs: String,
}

/// Its view of one sequence.
#[derive(Debug)]
struct Trail {
    /// In its own engine.
    own: SequenceId,
    /// The position of the first token that it has read.
    first: usize,
    /// Drafts that are held back beside its state: they follow what is in its memory.
    held: Vec<u32>,
}

/// A model that drafts.
pub struct DraftModel {
    engine: Engine,
    /// Tokens that may be drafted are below this.
    vocabulary: usize,
    window: usize,
    /// Of those that it follows; nothing where it has read nothing yet.
    trails: HashMap<SequenceId, Option<Trail>>,
    /// Its device failed: it drafts no more.
    is_broken: bool,
}

impl std::fmt::Debug for DraftModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { trails, .. } = self;
        f.debug_struct("DraftModel")
            .field("trails", trails)
            .finish_non_exhaustive()
    }
}

impl DraftModel {
    /// Takes over an engine that was made with [`Self::engine_settings`], to draft for a model of
    /// so many tokens.
    pub fn new(engine: Engine, vocabulary: usize) -> Self {
        Self {
            vocabulary: vocabulary.min(engine.vocabulary()),
            window: WINDOW.min(engine.context() / 2).max(1),
            engine,
            trails: HashMap::new(),
            is_broken: false,
        }
    }

    /// Reads so many tokens of a sequence before it drafts.
    #[must_use]
    pub fn with_window(mut self, tokens: usize) -> Self {
        self.window = tokens.clamp(1, self.engine.context() / 2);
        self
    }

    /// The memory that it needs beside an engine of these settings.
    pub fn engine_settings(of: &EngineSettings) -> EngineSettings {
        let context = of.context.min(CONTEXT);
        EngineSettings {
            context,
            total_tokens: context * of.sequences,
            ..*of
        }
    }

    /// Checks that two models speak the same tokens. Rows of padding at the end may differ.
    ///
    /// # Errors
    /// With the first token that is another one.
    pub fn check_vocabulary(ours: &Tokenizer, theirs: &Tokenizer) -> Result<(), OtherVocabulary> {
        let of = |tokenizer: &Tokenizer, token| {
            let bytes = tokenizer.token_bytes(token).unwrap_or_default();
            (bytes.to_vec(), tokenizer.kind(token))
        };
        let most = ours.vocabulary_size().max(theirs.vocabulary_size()) as u32;
        let name = |(bytes, _): &(Vec<u8>, _)| String::from_utf8_lossy(bytes).into_owned();
        for token in 0..most {
            let [ours, theirs] = [of(ours, token), of(theirs, token)];
            if ours != theirs {
                return Err(OtherVocabulary {
                    token,
                    ours: name(&ours),
                    theirs: name(&theirs),
                });
            }
        }
        Ok(())
    }

    /// Follows a sequence from now on. It is read when it is drafted for.
    pub(super) fn begin(&mut self, sequence: SequenceId) {
        self.forget(sequence);
        if !self.is_broken {
            self.trails.insert(sequence, None);
        }
    }

    pub(super) fn follows(&self, sequence: SequenceId) -> bool {
        self.trails.contains_key(&sequence)
    }

    /// Forgets a sequence.
    pub(super) fn forget(&mut self, sequence: SequenceId) {
        if let Some(Some(trail)) = self.trails.remove(&sequence) {
            // It is there as long as the trail is.
            self.engine.end(trail.own).ok();
        }
    }

    /// Drafts for several sequences at once, as many tokens as each asks for. `done` is told after
    /// each pass. When its device fails, it has no drafts any more: answers can do without.
    pub(super) fn guess(
        &mut self,
        sequences: &[ToGuess<'_>],
        done: impl FnMut(Done),
    ) -> Vec<Vec<u32>> {
        self.try_to_guess(sequences, done).unwrap_or_else(|error| {
            tracing::warn!("the draft model failed and drafts no more: {error}");
            let followed: Vec<SequenceId> = self.trails.keys().copied().collect();
            followed
                .into_iter()
                .for_each(|sequence| self.forget(sequence));
            self.is_broken = true;
            vec![Vec::new(); sequences.len()]
        })
    }

    fn try_to_guess(
        &mut self,
        sequences: &[ToGuess<'_>],
        mut done: impl FnMut(Done),
    ) -> Result<Vec<Vec<u32>>, EngineError> {
        let mut drafts = vec![Vec::new(); sequences.len()];
        let asked = || sequences.iter().filter(|asked| asked.depth > 0);
        for asked in asked() {
            self.keep_what_stays(asked)?;
        }
        if asked().any(|asked| self.unread(asked).1.len() > MOST_DRAFTS + 1) {
            self.catch_up(sequences)?;
            done(Done::CaughtUp);
        }
        let passes = sequences.iter().map(|asked| asked.depth).max();
        for pass in 0..passes.unwrap_or(0) {
            let whose: Vec<usize> = (0..sequences.len())
                .filter(|&index| sequences[index].depth > pass)
                .collect();
            let mut work = Vec::with_capacity(whose.len());
            for &index in &whose {
                let (own, unread) = self.unread(&sequences[index]);
                let (tokens, held) = match pass {
                    0 => (unread.to_vec(), 0),
                    _ => (drafts[index].clone(), pass),
                };
                work.push(Run {
                    drafts: held,
                    likely: Some(MostLikely {
                        count: 1,
                        limit: self.vocabulary,
                    }),
                    hidden: false,
                    work: Work {
                        sequence: own,
                        logits: vec![tokens.len() - 1],
                        tokens,
                    },
                });
            }
            let outputs = self.engine.run(&work)?;
            done(Done::Guessed(whose.len()));
            for ((index, output), run) in whose.into_iter().zip(&outputs).zip(work) {
                if let Some(Some(trail)) = self.trails.get_mut(&sequences[index].sequence) {
                    trail.held = if pass == 0 {
                        Vec::new()
                    } else {
                        run.work.tokens
                    };
                }
                drafts[index].push(match &output.likely {
                    Some(rows) => rows.first().map_or(0, |row| most_likely(row)),
                    None => argmax(&output.logits.row(0)[..self.vocabulary]),
                });
            }
        }
        Ok(drafts)
    }

    /// Its own sequence, and what of the known tokens is not in that one's memory: the last one at
    /// least.
    fn unread<'a>(&self, asked: &ToGuess<'a>) -> (SequenceId, &'a [u32]) {
        let trail = self.trails[&asked.sequence].as_ref();
        let trail = trail.expect("who is drafted for has a sequence here");
        let past = self.engine.tokens(trail.own).unwrap_or(0);
        (trail.own, &asked.tokens[trail.first + past..])
    }

    /// Keeps those drafts of the last time that were right, and makes sure that there is a sequence
    /// with room for what is to come.
    fn keep_what_stays(&mut self, asked: &ToGuess<'_>) -> Result<(), EngineError> {
        if let Some(Some(trail)) = self.trails.get_mut(&asked.sequence) {
            let held = std::mem::take(&mut trail.held);
            let past = self.engine.tokens(trail.own)?;
            // The last known token is run in any case: its logits are the next draft.
            let known = &asked.tokens[trail.first + past..asked.tokens.len() - 1];
            let right = known.iter().zip(&held).take_while(|(a, b)| a == b).count();
            for _ in 0..right {
                self.engine.accept(trail.own)?;
            }
            let needed = asked.tokens.len() - trail.first + MOST_DRAFTS;
            if needed <= self.engine.context() {
                return Ok(());
            }
        }
        self.forget(asked.sequence);
        let trail = Trail {
            own: self.engine.start()?,
            first: asked.tokens.len().saturating_sub(self.window),
            held: Vec::new(),
        };
        self.trails.insert(asked.sequence, Some(trail));
        Ok(())
    }

    /// Reads all but the last token of what is known.
    fn catch_up(&mut self, sequences: &[ToGuess<'_>]) -> Result<(), EngineError> {
        loop {
            let mut room = CHUNK;
            let mut work = Vec::new();
            for asked in sequences.iter().filter(|asked| asked.depth > 0) {
                let (sequence, unread) = self.unread(asked);
                let count = (unread.len() - 1).min(room);
                if count > 0 {
                    room -= count;
                    work.push(Work {
                        sequence,
                        tokens: unread[..count].to_vec(),
                        logits: Vec::new(),
                    });
                }
            }
            if work.is_empty() {
                return Ok(());
            }
            self.engine.step(&work)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::toy::{self, POISON, ToySize, VOCABULARY, logits_behind};

    const WINDOW: usize = 6;
    const CONTEXT: usize = 24;

    fn draft_model() -> DraftModel {
        let engine = toy::engine(ToySize {
            page_tokens: 4,
            pages: 12,
            states: 2,
            context: CONTEXT,
        });
        DraftModel::new(engine, VOCABULARY).with_window(WINDOW)
    }

    /// What it drafts if it has read exactly these tokens.
    fn greedy(tokens: &[u32], depth: usize) -> Vec<u32> {
        let mut all = tokens.to_vec();
        for _ in 0..depth {
            let next = argmax(&logits_behind(&all));
            all.push(next);
        }
        all.split_off(tokens.len())
    }

    fn id(tokens: usize) -> SequenceId {
        let mut engine = toy::engine(ToySize {
            page_tokens: 4,
            pages: 1,
            states: tokens + 1,
            context: 4,
        });
        let ids = (0..=tokens).map(|_| engine.start().unwrap());
        ids.last().unwrap()
    }

    proptest! {
        /// Whatever was right of its drafts, the next ones are those of the known tokens alone.
        #[test]
        fn nothing_stays_of_wrong_drafts(
            prompts in prop::array::uniform2(prop::collection::vec(0..POISON, 1..20)),
            rounds in prop::collection::vec(
                prop::array::uniform2((0..5usize, 0..6usize, 0..POISON)), 1..30,
            ),
        ) {
            let mut model = draft_model();
            let ids = [id(0), id(1)];
            let mut known = prompts;
            let mut first: [Option<usize>; 2] = [None; 2];
            ids.iter().for_each(|&id| model.begin(id));
            for round in rounds {
                let asked = [0, 1].map(|at| ToGuess {
                    sequence: ids[at],
                    tokens: &known[at],
                    depth: round[at].0,
                });
                let drafts = model.guess(&asked, |_| {});
                for at in [0, 1] {
                    let (depth, right, chosen) = round[at];
                    let len = known[at].len();
                    if depth > 0 {
                        let fits = |first: &usize| len - first + MOST_DRAFTS <= CONTEXT;
                        let begin = first[at].filter(fits).unwrap_or(len.saturating_sub(WINDOW));
                        first[at] = Some(begin);
                        prop_assert_eq!(&drafts[at], &greedy(&known[at][begin..], depth));
                    }
                    let right = right.min(drafts[at].len());
                    known[at].extend_from_slice(&drafts[at][..right]);
                    known[at].push(chosen);
                }
                model.engine.assert_consistent();
            }
            ids.iter().for_each(|&id| model.forget(id));
            let ((free, pages), (free_states, states)) = (model.engine.pages(), model.engine.states());
            prop_assert_eq!((free, free_states), (pages, states));
        }
    }

    #[test]
    fn a_device_that_fails_ends_drafts_only() {
        let mut model = draft_model();
        let ids = [id(0), id(1)];
        ids.iter().for_each(|&id| model.begin(id));
        let tokens = [[1, 2, 3], [1, POISON, 3]];
        let asked = [0, 1].map(|at| ToGuess {
            sequence: ids[at],
            tokens: &tokens[at],
            depth: 2,
        });
        assert_eq!(model.guess(&asked, |_| {}), [[], []] as [[u32; 0]; 2]);
        assert!(!model.follows(ids[0]));
        model.begin(ids[0]);
        assert!(!model.follows(ids[0]), "it is not tried again");
        let ((free, pages), (free_states, states)) = (model.engine.pages(), model.engine.states());
        assert_eq!((free, free_states), (pages, states));
    }
}
