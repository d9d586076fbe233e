//! Runs the tests on a loaded engine and takes their times.

use std::time::{Duration, Instant};

use anyhow::Context;
use engine::{Checkpoint, Engine, ExpertCounts, SequenceId, Work};

use super::lists::Pair;
use super::plan::{Case, Test};
use super::tokens::Tokens;
use super::turns;
use crate::interrupt;

/// Sequences at some depth, to come back to before each repetition.
struct Base {
    sequence: SequenceId,
    /// `None` at depth 0, where the sequence is started anew.
    point: Option<Checkpoint>,
}

/// An engine and the depth it is prepared for.
pub(super) struct Runner {
    /// Conversations have it for as long as they last.
    engine: Option<Engine>,
    vocabulary: usize,
    depth: usize,
    bases: Vec<Base>,
    repetition: u64,
}

/// What one repetition took.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) time: Duration,
    /// Until the first token of an answer was chosen, where there was one.
    pub(super) first_token: Option<Duration>,
    /// What belongs to one turn of a conversation, otherwise 0.
    pub(super) turn: usize,
    /// Tokens run, and tokens that were there already.
    pub(super) tokens: usize,
    pub(super) cached: usize,
}

impl Sample {
    pub(super) fn new(time: Duration, tokens: usize, cached: usize) -> Self {
        Self {
            time,
            first_token: None,
            turn: 0,
            tokens,
            cached,
        }
    }
}

impl Runner {
    pub(super) fn new(engine: Engine, vocabulary: usize) -> Self {
        Self {
            engine: Some(engine),
            vocabulary,
            depth: 0,
            bases: Vec::new(),
            repetition: 0,
        }
    }

    /// What became of choices of experts that are in RAM, if GPUs keep copies of such.
    pub(super) fn expert_counts(&self) -> Option<ExpertCounts> {
        self.engine.as_ref().and_then(Engine::expert_counts)
    }

    fn engine(&mut self) -> anyhow::Result<&mut Engine> {
        self.engine
            .as_mut()
            .context("an earlier conversation failed")
    }

    /// Makes as many sequences as the case needs hold its depth. `progress` is told the tokens
    /// done of all.
    ///
    /// # Errors
    /// If memory is short, the device fails or Ctrl-C was pressed.
    pub(super) fn reach(
        &mut self,
        case: &Case,
        mut progress: impl FnMut(usize, usize),
    ) -> anyhow::Result<()> {
        let sequences = case.test.sequences();
        if case.depth < self.depth {
            self.leave()?;
        }
        // Each sequence goes on from where it is; new ones begin at the beginning.
        for index in 0..sequences {
            if index == self.bases.len() {
                let sequence = self.engine()?.start()?;
                self.bases.push(Base {
                    sequence,
                    point: None,
                });
            }
            self.deepen(index, case, &mut progress)?;
        }
        // A greater depth for some would leave the others behind.
        for base in self.bases.drain(sequences..).collect::<Vec<_>>() {
            self.drop_base(base)?;
        }
        self.depth = case.depth;
        Ok(())
    }

    fn deepen(
        &mut self,
        index: usize,
        case: &Case,
        progress: &mut impl FnMut(usize, usize),
    ) -> anyhow::Result<()> {
        let held = self.rewind(index)?;
        if held == case.depth {
            return Ok(());
        }
        let sequence = self.bases[index].sequence;
        // The same tokens at the same places, whether they are run in one go or in several.
        let tokens = Tokens::new(DEPTH_STREAM + index as u64, self.vocabulary).take(case.depth);
        for (at, chunk) in tokens[held..].chunks(case.chunk()).enumerate() {
            interrupt::check()?;
            progress(held + at * case.chunk(), case.depth);
            self.engine()?.step(&[work(sequence, chunk, false)])?;
        }
        if let Some(old) = self.bases[index].point.take() {
            self.engine()?.discard(old);
        }
        let point = self.engine()?.checkpoint(sequence)?;
        self.bases[index].point = Some(point);
        Ok(())
    }

    /// Puts a sequence back to its depth; returns the tokens it holds.
    fn rewind(&mut self, index: usize) -> anyhow::Result<usize> {
        let engine = self
            .engine
            .as_mut()
            .context("an earlier conversation failed")?;
        let Base { sequence, point } = &mut self.bases[index];
        if let Some(point) = point {
            engine.restore(*sequence, point)?;
        } else if engine.tokens(*sequence)? > 0 {
            engine.end(*sequence)?;
            *sequence = engine.start()?;
        }
        Ok(engine.tokens(*sequence)?)
    }

    /// Ends all sequences, for what makes its own.
    ///
    /// # Errors
    /// If the device fails.
    pub(super) fn leave(&mut self) -> anyhow::Result<()> {
        for base in std::mem::take(&mut self.bases) {
            self.drop_base(base)?;
        }
        self.depth = 0;
        Ok(())
    }

    fn drop_base(&mut self, base: Base) -> anyhow::Result<()> {
        if let Some(point) = base.point {
            self.engine()?.discard(point);
        }
        Ok(self.engine()?.end(base.sequence)?)
    }

    /// Waits until weights are copied that were used so far: what is measured is how fast an engine
    /// is that has been running for a while, and the copying would slow down whatever runs beside.
    ///
    /// # Errors
    /// If Ctrl-C was pressed.
    fn settle(&self) -> anyhow::Result<()> {
        let waits = |engine: &Engine| engine.copies_waiting() > 0;
        while self.engine.as_ref().is_some_and(waits) {
            interrupt::check()?;
            std::thread::sleep(SETTLING);
        }
        Ok(())
    }

    /// Runs a little of a case, so that its first repetition finds threads awake and memory made.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub(super) fn warm_up(&mut self, case: &Case) -> anyhow::Result<()> {
        let test = match case.test {
            // Every size of step occurs once; more would only cost time.
            Test::Prefill(tokens) | Test::Class { tokens, .. } => {
                Test::Prefill(tokens.min(case.chunk()))
            }
            Test::Decode { tokens, sequences } => Test::Decode {
                tokens: tokens.min(WARM_UP),
                sequences,
            },
            Test::Both(Pair { prompt, generated }) => Test::Both(Pair {
                prompt: prompt.min(case.chunk()),
                generated: generated.min(WARM_UP),
            }),
            Test::Turns { prompt, .. } => Test::Prefill(prompt.min(case.chunk())),
            other => other,
        };
        self.run(&Case { test, ..*case }).map(drop)
    }

    /// Runs a case once, from its depth, then waits for copies of the weights it used.
    /// Conversations give a sample per turn.
    ///
    /// # Errors
    /// If memory is short, the device fails or Ctrl-C was pressed.
    ///
    /// # Panics
    /// If the depth was not reached before.
    pub(super) fn run(&mut self, case: &Case) -> anyhow::Result<Vec<Sample>> {
        let samples = self.measure(case)?;
        self.settle()?;
        Ok(samples)
    }

    fn measure(&mut self, case: &Case) -> anyhow::Result<Vec<Sample>> {
        interrupt::check()?;
        self.repetition += 1;
        let mut tokens = Tokens::new(self.repetition, self.vocabulary);
        if let Test::Turns {
            turns,
            prompt,
            answer,
        } = case.test
        {
            self.leave()?;
            let talk = turns::Talk {
                turns,
                prompt,
                answer,
                chunk: case.chunk(),
            };
            let engine = self
                .engine
                .take()
                .context("an earlier conversation failed")?;
            let (engine, samples) = turns::run(engine, &talk, &mut tokens)?;
            self.engine = Some(engine);
            return Ok(samples);
        }
        assert_eq!(self.depth, case.depth, "reach comes first");
        let count = case.test.sequences();
        for index in 0..count {
            self.rewind(index)?;
        }
        let sequences: Vec<_> = self.bases[..count]
            .iter()
            .map(|base| base.sequence)
            .collect();
        let sample = match case.test {
            Test::Prefill(count) => {
                let prompt = tokens.take(count);
                let start = Instant::now();
                self.prefill(sequences[0], &prompt, case.chunk())?;
                Sample::new(start.elapsed(), count, case.depth)
            }
            Test::Decode { tokens: count, .. } => {
                let steps: Vec<_> = (0..count).map(|_| tokens.take(sequences.len())).collect();
                let start = Instant::now();
                self.decode(&sequences, &steps)?;
                Sample::new(start.elapsed(), count * sequences.len(), case.depth)
            }
            Test::Both(Pair { prompt, generated }) => {
                let text = tokens.take(prompt);
                let steps: Vec<_> = (0..generated).map(|_| tokens.take(1)).collect();
                let start = Instant::now();
                self.prefill(sequences[0], &text, case.chunk())?;
                self.decode(&sequences, &steps)?;
                Sample::new(start.elapsed(), prompt + generated, case.depth)
            }
            Test::Class { tokens: count, .. } => {
                let prompt = tokens.take(count);
                let start = Instant::now();
                let logits = self.prefill(sequences[0], &prompt, case.chunk())?;
                std::hint::black_box(engine::argmax(&logits));
                let time = start.elapsed();
                let first_token = Some(time);
                Sample {
                    first_token,
                    ..Sample::new(time, count, 0)
                }
            }
            Test::StateSave => {
                let start = Instant::now();
                let point = self.engine()?.checkpoint(sequences[0])?;
                let time = start.elapsed();
                self.engine()?.discard(point);
                Sample::new(time, 0, 0)
            }
            Test::StateRestore => {
                let point = self.engine()?.checkpoint(sequences[0])?;
                let start = Instant::now();
                self.engine()?.restore(sequences[0], &point)?;
                let time = start.elapsed();
                self.engine()?.discard(point);
                Sample::new(time, 0, 0)
            }
            Test::Turns { .. } => unreachable!("conversations have returned above"),
        };
        Ok(vec![sample])
    }

    /// Runs a prompt; returns the logits of its last token.
    fn prefill(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        chunk: usize,
    ) -> anyhow::Result<Vec<f32>> {
        prefill(self.engine()?, sequence, tokens, chunk)
    }

    /// Runs steps of one token per sequence, with logits.
    fn decode(&mut self, sequences: &[SequenceId], steps: &[Vec<u32>]) -> anyhow::Result<()> {
        for step in steps {
            interrupt::check()?;
            let each = sequences.iter().zip(step);
            let step: Vec<Work> = each
                .map(|(&sequence, &token)| work(sequence, &[token], true))
                .collect();
            std::hint::black_box(self.engine()?.step(&step)?);
        }
        Ok(())
    }
}

/// How often it is looked whether copies are made.
const SETTLING: Duration = Duration::from_millis(20);

/// Tokens decoded before it counts.
const WARM_UP: usize = 4;

/// Streams of tokens from here on fill sequences up to a depth; those below are repetitions.
const DEPTH_STREAM: u64 = 1 << 20;

/// Runs a prompt in chunks; returns the logits of its last token.
pub(super) fn prefill(
    engine: &mut Engine,
    sequence: SequenceId,
    tokens: &[u32],
    chunk: usize,
) -> anyhow::Result<Vec<f32>> {
    let mut logits = Vec::new();
    let last = tokens.len().div_ceil(chunk).saturating_sub(1);
    for (index, part) in tokens.chunks(chunk).enumerate() {
        interrupt::check()?;
        let outputs = engine.step(&[work(sequence, part, index == last)])?;
        logits = outputs
            .into_iter()
            .next()
            .map(tensor::Tensor::into_vec)
            .unwrap_or_default();
    }
    Ok(logits)
}

/// Tokens of a sequence, with logits of the last one if they are wanted.
pub(super) fn work(sequence: SequenceId, tokens: &[u32], wants_logits: bool) -> Work {
    let logits = if wants_logits {
        vec![tokens.len() - 1]
    } else {
        Vec::new()
    };
    Work {
        sequence,
        tokens: tokens.to_vec(),
        logits,
    }
}
