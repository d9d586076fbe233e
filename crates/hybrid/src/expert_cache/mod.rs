//! Copies of often used experts on the accelerator of a layer whose experts are on the host.
//!
//! [`residents`] decides which, [`allowance`] how many at a time. A copy is decided on after a layer's choices
//! are known, and begun when the next layer asks for its own: then the accelerator has that layer's mixer to
//! compute, and the host nothing.

mod allowance;
mod counts;
mod residents;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tensor::{Accelerator, HostRouting, OpError, StoredExperts};

pub(crate) use allowance::Allowance;
pub use counts::{ExpertCounts, ExpertUse};
use residents::{Bring, Residents};

/// A layer's copies.
pub struct ExpertCache<A: Accelerator> {
    stored: Arc<StoredExperts>,
    /// Of an expert, as it is stored.
    expert_bytes: usize,
    state: Mutex<State<A>>,
}

pub(crate) struct State<A: Accelerator> {
    pub(crate) slots: A::Slots,
    residents: Residents,
}

/// A copy that is to be begun.
pub(crate) struct Pending<A: Accelerator> {
    cache: Arc<ExpertCache<A>>,
    bring: Bring,
}

/// What an accelerator's layers share.
pub(crate) struct Copies<A: Accelerator> {
    allowance: Allowance,
    pending: Vec<Pending<A>>,
}

/// A layer's choices: what the accelerator computes, and what is left to the host.
pub(crate) struct Split {
    /// Choices that the accelerator has.
    pub(crate) hits: usize,
    /// Those that it has not.
    pub(crate) misses: HostRouting,
    missed: usize,
    /// Experts that were chosen, and of them those that were missed.
    used: Vec<usize>,
    absent: Vec<usize>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept is right after every step of its own.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<A: Accelerator> Copies<A> {
    pub(crate) fn new(bytes_per_step: usize) -> Self {
        Self {
            allowance: Allowance::new(bytes_per_step),
            pending: Vec::new(),
        }
    }

    /// Begins what was decided on.
    pub(crate) fn begin(&mut self, accelerator: &A) -> Result<(), OpError> {
        for Pending { cache, bring } in self.pending.drain(..) {
            let mut state = lock(&cache.state);
            let expert = &cache.stored.experts[bring.expert];
            accelerator.bring_expert(&mut state.slots, bring.slot, expert)?;
        }
        Ok(())
    }
}

impl<A: Accelerator> ExpertCache<A> {
    /// Room for so many of a layer's experts.
    pub(crate) fn new(
        accelerator: &A,
        stored: &Arc<StoredExperts>,
        slots: usize,
    ) -> Result<Self, OpError> {
        let expert_bytes = stored.experts.first().map_or(0, |expert| {
            let matrices = [&expert.gate, &expert.up, &expert.down];
            matrices.map(|matrix| matrix.bytes().len()).iter().sum()
        });
        Ok(Self {
            stored: Arc::clone(stored),
            expert_bytes,
            state: Mutex::new(State {
                slots: accelerator.expert_slots(stored, slots)?,
                residents: Residents::new(stored.experts.len(), slots),
            }),
        })
    }

    /// The state for a step, with all that has come by now.
    pub(crate) fn open(&self, accelerator: &A) -> Result<MutexGuard<'_, State<A>>, OpError> {
        let mut state = lock(&self.state);
        let State { slots, residents } = &mut *state;
        for slot in residents.coming() {
            if accelerator.has_come(slots, slot)? {
                residents.come(slot);
            }
        }
        if let Some(slot_of) = residents.changed() {
            accelerator.set_slots(slots, slot_of)?;
        }
        Ok(state)
    }

    /// Counts a step's choices, and decides what is brought because of them.
    pub(crate) fn decide(
        self: &Arc<Self>,
        state: &mut State<A>,
        split: &Split,
        layer: usize,
        copies: &mut Copies<A>,
        counts: &ExpertUse,
    ) {
        let residents = &mut state.residents;
        residents.used(&split.used);
        copies.allowance.visit(layer);
        let (mut brought, mut replaced) = (0, 0);
        while let Some(bring) = residents.wanted(&split.absent)
            && copies.allowance.take(self.expert_bytes)
        {
            residents.begin(bring);
            brought += 1;
            replaced += u64::from(bring.replaces);
            copies.pending.push(Pending {
                cache: Arc::clone(self),
                bring,
            });
        }
        counts.add(split.hits, split.missed, brought, replaced);
    }
}

impl Split {
    /// Choices of a step, apart by where their experts can be used.
    pub(crate) fn new<A: Accelerator>(state: &State<A>, routing: HostRouting) -> Self {
        let (mut used, mut absent) = (BTreeSet::new(), BTreeSet::new());
        let (mut hits, mut missed) = (0, 0);
        let mut misses = routing;
        for row in &mut misses.choices {
            row.retain(|&(expert, _)| {
                used.insert(expert);
                let has = state.residents.has(expert);
                if has {
                    hits += 1;
                } else {
                    missed += 1;
                    absent.insert(expert);
                }
                !has
            });
        }
        Self {
            hits,
            misses,
            missed,
            used: used.into_iter().collect(),
            absent: absent.into_iter().collect(),
        }
    }

    /// Whether the host has nothing to do.
    pub(crate) fn is_all_there(&self) -> bool {
        self.missed == 0 && self.hits > 0
    }
}
