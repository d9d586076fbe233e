//! What the engine's thread tells of itself, so that nobody has to ask it in the middle of a step.

use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::scheduler::{MemoryUse, Metrics, RequestStatus};
use engine::speculate::DraftCounts;
use engine::{ExpertCounts, Scheduler};

use super::Histogram;

/// Figures of one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) metrics: Metrics,
    pub(crate) memory: MemoryUse,
    pub(crate) drafts: DraftCounts,
    /// Of copies of experts, if GPUs keep any.
    pub(crate) experts: Option<ExpertCounts>,
    /// Every answer that is not complete.
    pub(crate) answers: Vec<RequestStatus>,
    /// Tokens of a page.
    pub(crate) page_tokens: usize,
}

impl Figures {
    pub(super) fn of(scheduler: &Scheduler) -> Self {
        Self {
            metrics: scheduler.metrics(),
            memory: scheduler.memory(),
            drafts: scheduler.drafts(),
            experts: scheduler.engine().expert_counts(),
            answers: scheduler.requests(),
            page_tokens: scheduler.engine().page_tokens(),
        }
    }
}

/// How long things took, in seconds, and how many tokens requests had.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    /// From taking a request to the start of its prompt.
    pub(crate) queue: Histogram,
    /// From taking a request to each answer's first token.
    pub(crate) first_token: Histogram,
    pub(crate) between_tokens: Histogram,
    /// From taking a request to the end of each answer.
    pub(crate) whole: Histogram,
    pub(crate) prompt_tokens: Histogram,
    pub(crate) answer_tokens: Histogram,
}

const SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
const STEP_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
    5.0, 10.0,
];
const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5,
];

impl Default for Latencies {
    fn default() -> Self {
        Self {
            queue: Histogram::new(SECONDS),
            first_token: Histogram::new(SECONDS),
            between_tokens: Histogram::new(STEP_SECONDS),
            whole: Histogram::new(SECONDS),
            prompt_tokens: Histogram::new(TOKENS),
            answer_tokens: Histogram::new(TOKENS),
        }
    }
}

/// Where the engine's thread writes and others read.
#[derive(Debug)]
pub(crate) struct Board {
    figures: Mutex<Figures>,
    latencies: Mutex<Latencies>,
}

impl Board {
    pub(super) fn new(figures: Figures) -> Self {
        Self {
            figures: Mutex::new(figures),
            latencies: Mutex::default(),
        }
    }

    pub(super) fn publish(&self, figures: Figures) {
        *held(&self.figures) = figures;
    }

    pub(super) fn latencies(&self, change: impl FnOnce(&mut Latencies)) {
        change(&mut held(&self.latencies));
    }

    /// The latest figures; those of a busy engine are up to a tenth of a second or a step old.
    pub(crate) fn figures(&self) -> Figures {
        held(&self.figures).clone()
    }

    /// The latencies so far.
    pub(crate) fn latencies_so_far(&self) -> Latencies {
        held(&self.latencies).clone()
    }
}

/// Nobody panics while they hold one of these, and figures would be as good if they did.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
