//! How much is kept of prompts.

/// How much is kept of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// RAM for snapshots of states (`--cache-ram`); 0 switches the cache off. Pages are those that
    /// no sequence needs.
    pub snapshot_bytes: usize,
    /// The fewest tokens between a place that is not worth a snapshot by itself and the places
    /// around it.
    pub gap: usize,
    /// Tokens between places in long stretches without boundaries.
    pub spacing: usize,
    /// How many of those there are at the end of a prompt.
    pub tail: usize,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            snapshot_bytes: 2 << 30,
            gap: 256,
            spacing: 4096,
            tail: 2,
        }
    }
}

impl CacheSettings {
    /// No cache.
    pub fn off() -> Self {
        Self {
            snapshot_bytes: 0,
            ..Self::default()
        }
    }
}
