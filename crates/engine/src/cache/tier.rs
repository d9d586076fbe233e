//! A second place for cached prompts, behind the device's pages and RAM: for example a disk.

use std::sync::Arc;

use tensor::StateSnapshot;

use super::{BoundaryKind, Key};
use crate::error::EngineError;

/// What is kept of a place in a prompt, beside the pages.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The recurrent state behind the last token, in f32 as the model computes it.
    pub state: Arc<StateSnapshot>,
    /// The last token's hidden row `[hidden]`, from which drafts go on.
    pub hidden: Option<Arc<[f32]>>,
    /// The last token's logits `[vocabulary]`, where an answer begins: the same prompt once more
    /// needs no step at all.
    pub logits: Option<Arc<[f32]>>,
}

impl Snapshot {
    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        let rows = [&self.hidden, &self.logits];
        let values: usize = rows.into_iter().flatten().map(|row| row.len()).sum();
        self.state.bytes() + values * size_of::<f32>()
    }
}

/// When an entry is offered to a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// It has just been made.
    Made,
    /// It is about to leave the memory.
    Evicted,
}

/// An entry offered to a tier.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The prompt up to the entry.
    pub keys: &'a [Key],
    /// What the place is.
    pub kind: BoundaryKind,
    /// Why it is offered.
    pub occasion: Occasion,
}

/// What a tier knows of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The longest entry that the prompt begins with.
    Entry {
        /// Names it for [`Tier::load`].
        id: u64,
        /// How many tokens it covers.
        tokens: usize,
    },
    /// There is one, but of another model or other settings.
    OtherModel,
    /// There is none.
    Nothing,
}

/// An entry read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What place it is.
    pub kind: BoundaryKind,
    /// The bytes of each page, as the engine read them out.
    pub pages: Vec<Vec<u8>>,
    /// State and rows.
    pub snapshot: Snapshot,
}

/// How reading an entry back goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// Here it is.
    Ready(Box<Loaded>),
    /// It is being read; ask again in the next step. Others run meanwhile.
    Pending,
    /// It turned out damaged, or was removed meanwhile.
    Gone,
}

/// What a tier knows of a prompt beyond the entry to go on from: why there is none that is longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Tokens with which a stored prompt begins as well.
    pub matched: usize,
    /// What that one has behind them, if they part there.
    pub other: Option<Key>,
    /// Tokens of the longest entry that had to go.
    pub evicted: Option<usize>,
    /// Whether nothing is stored at all.
    pub is_empty: bool,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            matched: 0,
            other: None,
            evicted: None,
            is_empty: true,
        }
    }
}

/// A second place for cached prompts.
///
/// It is made for one model and its settings, and never hands out what was stored under others.
/// Page bytes are equal for equal prompts, so whole pages that several entries share need
/// storing once.
pub trait Tier: Send {
    /// Whether to be given this entry. Making one costs a copy of the state; when it is evicted,
    /// this is the last occasion.
    fn wants(&mut self, offer: &Offer<'_>) -> bool;

    /// Takes an entry of `offer.keys.len()` tokens. `page` reads the bytes of the page of an
    /// index, of `pages`; those that the tier has already it need not ask for. A tier that cannot
    /// store (full, broken) drops the entry and says so in its own log.
    ///
    /// # Errors
    /// Only those of `page`.
    fn store(
        &mut self,
        offer: &Offer<'_>,
        snapshot: &Snapshot,
        pages: usize,
        page: &mut dyn FnMut(usize) -> Result<Vec<u8>, EngineError>,
    ) -> Result<(), EngineError>;

    /// The longest entry that `keys` begin with and that covers more than `longer_than` tokens.
    /// An entry of all of `keys` counts only if it has logits.
    fn find(&mut self, keys: &[Key], longer_than: usize) -> Found;

    /// Reads an entry back.
    fn load(&mut self, id: u64) -> Load;

    /// Why it has no entry of `keys` that covers more than so many tokens.
    fn known(&self, keys: &[Key], than: usize) -> Known;
}
