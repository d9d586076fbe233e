//! How long steps take, and what speculation takes of that.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_engine::speculate::{DraftCounts, Speculation};
use tidemill_engine::{Drafter, Engine, EngineError, SequenceId, ToDraft};

use crate::Timer;

/// A drafter that is timed.
pub(crate) struct Timed {
    inner: Speculation,
    timer: Timer,
    /// What asking the timer adds to each measurement.
    timer_cost: Duration,
    spent: Arc<Mutex<Duration>>,
}

impl Timed {
    pub(crate) fn new(inner: Speculation, timer: Timer, spent: Arc<Mutex<Duration>>) -> Self {
        let mut costs: Vec<Duration> = (0..1000)
            .map(|_| {
                let began = timer.now();
                timer.now() - began
            })
            .collect();
        costs.sort_unstable();
        Self {
            inner,
            timer,
            timer_cost: costs[costs.len() / 2],
            spent,
        }
    }

    fn time<T>(&mut self, call: impl FnOnce(&mut Speculation) -> T) -> T {
        let began = self.timer.now();
        let result = call(&mut self.inner);
        let took = (self.timer.now() - began).saturating_sub(self.timer_cost);
        *self.spent.lock().unwrap() += took;
        result
    }
}

impl Drafter for Timed {
    fn begin(&mut self, id: SequenceId, past: usize, known: usize, hidden: Option<&[f32]>) {
        self.time(|inner| inner.begin(id, past, known, hidden));
    }

    fn wants_hidden(&self, id: SequenceId, positions: Range<usize>) -> bool {
        self.inner.wants_hidden(id, positions)
    }

    fn ran(&mut self, engine: &Engine, id: SequenceId, hidden: &[f32]) -> Result<(), EngineError> {
        self.time(|inner| inner.ran(engine, id, hidden))
    }

    fn settle(
        &mut self,
        engine: &mut Engine,
        id: SequenceId,
        tokens: &[u32],
    ) -> Result<Option<Arc<[f32]>>, EngineError> {
        self.time(|inner| inner.settle(engine, id, tokens))
    }

    fn draft(
        &mut self,
        engine: &mut Engine,
        sequences: &[ToDraft<'_>],
        others: usize,
    ) -> Result<Vec<Vec<u32>>, EngineError> {
        self.time(|inner| inner.draft(engine, sequences, others))
    }

    fn verified(&mut self, id: SequenceId, drafted: usize, accepted: usize) {
        self.time(|inner| inner.verified(id, drafted, accepted));
    }

    fn stepped(&mut self, rows: usize, is_answering: bool) {
        self.time(|inner| inner.stepped(rows, is_answering));
    }

    fn forget(&mut self, id: SequenceId) {
        self.time(|inner| inner.forget(id));
    }

    fn counts(&self) -> DraftCounts {
        self.inner.counts()
    }
}

/// Steps that take the same but for noise: as many sequences, as many rows, and whether rows of the
/// step before are applied on the way.
pub(crate) type Kind = (usize, usize, bool);

/// What steps of each kind take when nobody disturbs.
pub(crate) struct Usual(HashMap<Kind, f64>);

impl Usual {
    /// The lower quartiles of all steps that were seen: noise only ever makes them longer.
    pub(crate) fn of(steps: &[(Kind, f64)]) -> Self {
        let mut all: HashMap<Kind, Vec<f64>> = HashMap::new();
        for &(kind, seconds) in steps {
            all.entry(kind).or_default().push(seconds);
        }
        let quartile = |(kind, mut seconds): (Kind, Vec<f64>)| {
            seconds.sort_by(f64::total_cmp);
            (kind, seconds[seconds.len() / 4])
        };
        Self(all.into_iter().map(quartile).collect())
    }

    /// What these steps would have taken without noise.
    pub(crate) fn seconds(&self, steps: &[(Kind, f64)]) -> f64 {
        steps.iter().map(|(kind, _)| self.0[kind]).sum()
    }
}
