//! What the cache has of a prompt, and why not more.

use std::sync::Arc;

use super::prefix::{Entry, EntryId, PrefixCache, Slot};
use super::tier::{Found, Load};
use super::tree::Walk;
use super::{Boundary, BoundaryKind, Key};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::event::Miss;

/// What the cache has of a prompt.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    /// Where to go on from.
    pub(crate) entry: Option<EntryId>,
    /// How many tokens it covers.
    pub(crate) tokens: usize,
    /// The logits there, if it covers the whole prompt.
    pub(crate) logits: Option<Arc<[f32]>>,
    /// Why it does not cover more.
    pub(crate) miss: Miss,
    /// Where this prompt parts from another: a third may part there as well.
    pub(crate) parting: Option<Boundary>,
    /// Whether it was read back from the second tier.
    pub(crate) is_from_tier: bool,
}

impl Lookup {
    fn nothing(miss: Miss) -> Self {
        Self {
            entry: None,
            tokens: 0,
            logits: None,
            miss,
            parting: None,
            is_from_tier: false,
        }
    }

    /// For requests that do not use the cache.
    pub(crate) fn off() -> Self {
        Self::nothing(Miss::Off)
    }
}

impl PrefixCache {
    /// How many tokens of a prompt need not be read.
    pub(crate) fn longest(&self, keys: &[Key]) -> usize {
        let walk = self.tree.walk(keys);
        self.deepest(&walk, keys)
            .map_or(0, |id| self.tree.depth(id.0))
    }

    /// The longest beginning of a prompt that is stored; `None` while the second tier is reading
    /// it. `boundaries` are the prompt's, to say in which message it parts from others.
    pub(crate) fn find(
        &mut self,
        engine: &mut Engine,
        keys: &[Key],
        boundaries: &[Boundary],
    ) -> Result<Option<Lookup>, EngineError> {
        if !self.is_on() {
            return Ok(Some(Lookup::off()));
        }
        let Some(is_other_model) = self.fetch(engine, keys)? else {
            return Ok(None);
        };
        let walk = self.tree.walk(keys);
        let Some(id) = self.deepest(&walk, keys) else {
            let miss = self.why(&walk, keys, boundaries, 0, is_other_model);
            return Ok(Some(Lookup {
                parting: self.parting(&walk, 0),
                ..Lookup::nothing(miss)
            }));
        };
        let entry = self.entry(id);
        let tokens = self.tree.depth(id.0);
        Ok(Some(Lookup {
            entry: Some(id),
            tokens,
            logits: entry
                .snapshot
                .logits
                .clone()
                .filter(|_| tokens == keys.len()),
            miss: self.why(&walk, keys, boundaries, tokens, is_other_model),
            parting: self.parting(&walk, tokens),
            is_from_tier: entry.is_from_tier,
        }))
    }

    /// The deepest entry on the way of a prompt. One of the whole prompt needs logits, since
    /// nothing is left to be run that could make them.
    fn deepest(&self, walk: &Walk, keys: &[Key]) -> Option<EntryId> {
        let is_usable = |&&node: &&_| match self.tree.value(node) {
            Some(Slot::Entry(Entry { snapshot, .. })) => {
                self.tree.depth(node) < keys.len() || snapshot.logits.is_some()
            }
            _ => false,
        };
        walk.values
            .iter()
            .rev()
            .find(is_usable)
            .map(|&node| EntryId(node))
    }

    /// Reads more of a prompt from the second tier, if that has more. `None` while it is under way,
    /// otherwise whether there is more of another model.
    fn fetch(&mut self, engine: &mut Engine, keys: &[Key]) -> Result<Option<bool>, EngineError> {
        let here = self.longest(keys);
        let Some(tier) = &mut self.tier else {
            return Ok(Some(false));
        };
        let (id, tokens) = match tier.find(keys, here) {
            Found::Entry { id, tokens } if (here + 1..=keys.len()).contains(&tokens) => {
                (id, tokens)
            }
            Found::Entry { .. } | Found::Nothing => return Ok(Some(false)),
            Found::OtherModel => return Ok(Some(true)),
        };
        let pages = tokens.div_ceil(engine.page_tokens());
        if engine.pages().0 + self.evictable_pages(engine) < pages {
            return Ok(Some(false));
        }
        let Some(tier) = &mut self.tier else {
            return Ok(Some(false));
        };
        let loaded = match tier.load(id) {
            Load::Pending => return Ok(None),
            Load::Gone => return Ok(Some(false)),
            Load::Ready(loaded) => *loaded,
        };
        let bytes = loaded.snapshot.bytes();
        let fits = loaded.pages.len() == pages
            && loaded.snapshot.state.bytes() == engine.state_bytes()
            && bytes <= self.settings.snapshot_bytes;
        if !fits {
            return Ok(Some(false));
        }
        self.shrink(engine, self.settings.snapshot_bytes - bytes)?;
        while engine.pages().0 < pages {
            if !self.evict_for_pages(engine)? {
                return Ok(Some(false));
            }
        }
        let held = engine.write_pages(loaded.pages.iter().map(Vec::as_slice))?;
        self.put(&keys[..tokens], loaded.kind, held, loaded.snapshot, true);
        Ok(Some(false))
    }

    /// Why no more than `tokens` of a prompt are cached.
    fn why(
        &self,
        walk: &Walk,
        keys: &[Key],
        boundaries: &[Boundary],
        tokens: usize,
        is_other_model: bool,
    ) -> Miss {
        if is_other_model {
            return Miss::OtherModel;
        }
        let is_evicted = |&&node: &&_| matches!(self.tree.value(node), Some(Slot::Evicted));
        let evicted = walk.values.iter().rev().find(is_evicted);
        let evicted = evicted.map_or(0, |&node| self.tree.depth(node));
        if evicted > tokens {
            return Miss::Evicted { tokens: evicted };
        }
        if self.tree.is_empty() {
            return Miss::NothingStored;
        }
        let Some(other) = walk.other else {
            return Miss::New;
        };
        let token = walk.matched;
        let mut behind = boundaries.iter().filter(|boundary| boundary.offset > token);
        let message = behind.find_map(|boundary| boundary.kind.message());
        Miss::Diverged {
            token,
            message,
            is_media: other.is_media() || keys.get(token).is_some_and(|key| key.is_media()),
        }
    }

    /// Where a prompt parts from another, if that is far enough behind what is cached.
    fn parting(&self, walk: &Walk, tokens: usize) -> Option<Boundary> {
        let is_worth_it = walk.other.is_some() && walk.matched >= tokens + self.settings.gap;
        is_worth_it.then_some(Boundary {
            offset: walk.matched,
            kind: BoundaryKind::Parting,
        })
    }
}
