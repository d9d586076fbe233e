//! What a model is doing, as it is told to clients.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::{Value, json};

use super::KeptLoaded;
use crate::model::ServedModel;
use crate::worker::Worker;

/// A model that is loaded.
pub(super) struct Running {
    pub(super) worker: Worker,
    /// One for each profile.
    pub(super) served: Vec<Arc<ServedModel>>,
    pub(super) thread: JoinHandle<()>,
    /// Tells this time of being loaded from others.
    pub(super) number: u64,
}

/// Where a model is in its life.
pub(super) enum Phase {
    Unloaded,
    Loading {
        /// Whether its memory is granted: from then on it counts as loaded.
        has_room: bool,
        done: usize,
        total: usize,
    },
    Loaded(Running),
    /// Its thread is about to end.
    Ending,
    Failed {
        why: String,
        /// `None` for what was known from the start.
        at: Option<Instant>,
    },
}

impl Phase {
    /// Loading failed just now.
    pub(super) fn failed(why: String) -> Self {
        Self::Failed {
            why,
            at: Some(Instant::now()),
        }
    }
}

/// Whether and why a loaded model is to be unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// Another one needs its place; it may stay if nobody waits for that one any more.
    ForRoom,
    /// Somebody said so.
    Asked,
}

/// A model's place in the registry.
pub(super) struct Slot {
    pub(super) phase: Phase,
    /// Requests that use it or wait until it is loaded.
    pub(super) leases: usize,
    /// Whether and why it is unloaded as soon as nobody uses it; new requests wait for that.
    pub(super) leaving: Leaving,
    /// When it was last used.
    pub(super) used: Instant,
    /// What a client asked for in place of the server's setting.
    pub(super) kept: Option<KeptLoaded>,
}

impl Slot {
    pub(super) fn new(fault: Option<&String>) -> Self {
        Self {
            phase: fault.map_or(Phase::Unloaded, |why| Phase::Failed {
                why: why.clone(),
                at: None,
            }),
            leases: 0,
            leaving: Leaving::No,
            used: Instant::now(),
            kept: None,
        }
    }

    /// Whether it has memory.
    pub(super) fn holds_memory(&self) -> bool {
        match self.phase {
            Phase::Loading { has_room, .. } => has_room,
            Phase::Loaded(_) | Phase::Ending => true,
            Phase::Unloaded | Phase::Failed { .. } => false,
        }
    }

    pub(super) fn status(&self) -> Status {
        match &self.phase {
            Phase::Unloaded | Phase::Ending => Status::Unloaded,
            Phase::Loading { done, total, .. } => Status::Loading {
                done: *done,
                total: *total,
            },
            Phase::Loaded(_) => Status::Loaded {
                in_use: self.leases,
            },
            Phase::Failed { why, .. } => Status::Failed(why.clone()),
        }
    }
}

/// What a model is doing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Status {
    Unloaded,
    /// So many of its parts are loaded.
    Loading {
        done: usize,
        total: usize,
    },
    /// So many requests use it.
    Loaded {
        in_use: usize,
    },
    /// The last try failed; the next request tries again.
    Failed(String),
}

impl Status {
    /// In one word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading { .. } => "loading",
            Self::Loaded { .. } => "loaded",
            Self::Failed(_) => "failed",
        }
    }

    /// How much of it is loaded, from 0 to 1.
    pub(crate) fn progress(&self) -> f64 {
        match self {
            Self::Loaded { .. } => 1.0,
            Self::Loading { done, total } if *total > 0 => *done as f64 / *total as f64,
            _ => 0.0,
        }
    }

    pub(crate) fn json(&self) -> Value {
        let mut status = json!({"value": self.word()});
        match self {
            Self::Loading { .. } => status["progress"] = json!(self.progress()),
            Self::Loaded { in_use } => status["requests"] = json!(in_use),
            Self::Failed(why) => status["error"] = json!(why),
            Self::Unloaded => {}
        }
        status
    }
}
