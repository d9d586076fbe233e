//! How often copies of experts were there when they were needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counted since the model was loaded, over all layers whose experts have copies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpertCounts {
    /// Choices that a copy served.
    pub hits: u64,
    /// Choices that the host computed.
    pub misses: u64,
    /// Copies that were made.
    pub brought: u64,
    /// Of them, those that took another one's place.
    pub replaced: u64,
}

impl ExpertCounts {
    /// What was counted since others were.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            hits: self.hits - before.hits,
            misses: self.misses - before.misses,
            brought: self.brought - before.brought,
            replaced: self.replaced - before.replaced,
        }
    }

    /// The share of choices that copies served; `None` if there was none.
    pub fn hit_rate(&self) -> Option<f64> {
        let all = self.hits + self.misses;
        (all > 0).then(|| self.hits as f64 / all as f64)
    }
}

impl std::fmt::Display for ExpertCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(rate) = self.hit_rate() else {
            return f.write_str("no experts were chosen one by one");
        };
        write!(
            f,
            "copies on GPUs served {:.1} % of {} choices of experts that are in RAM; {} were brought, {} of them in \
             another one's place",
            100.0 * rate,
            self.hits + self.misses,
            self.brought,
            self.replaced
        )
    }
}

/// Where it is counted. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct ExpertUse(Arc<[AtomicU64; 4]>);

impl ExpertUse {
    pub(super) fn add(&self, hits: usize, misses: usize, brought: u64, replaced: u64) {
        let numbers = [hits as u64, misses as u64, brought, replaced];
        for (count, number) in self.0.iter().zip(numbers) {
            count.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> ExpertCounts {
        let [hits, misses, brought, replaced] =
            std::array::from_fn(|index| self.0[index].load(Ordering::Relaxed));
        ExpertCounts {
            hits,
            misses,
            brought,
            replaced,
        }
    }
}
