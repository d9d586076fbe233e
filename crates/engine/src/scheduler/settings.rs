//! How a scheduler shares the machine out.

use crate::cache::CacheSettings;

/// How a scheduler shares the machine out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerSettings {
    /// The most rows of a step (`-b`). It is also how long a streamed token may have to wait for
    /// the prompts of others.
    pub batch_tokens: usize,
    /// The most rows of one prompt in a step (`-ub`).
    pub chunk_tokens: usize,
    /// The most requests that wait; further ones are refused.
    pub queue: usize,
    /// The most answers of one request.
    pub choices: usize,
    /// RAM for sequences that had to make room for others. What exceeds it is computed again.
    pub parked_bytes: usize,
    /// What is kept of prompts.
    pub cache: CacheSettings,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            batch_tokens: 512,
            chunk_tokens: 512,
            queue: 1024,
            choices: 128,
            parked_bytes: 1 << 30,
            cache: CacheSettings::default(),
        }
    }
}

/// How many steps of waiting one step of priority is worth.
pub const PRIORITY_STEPS: i64 = 1000;
