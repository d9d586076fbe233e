//! What the cache has of a prompt, and why not more.

use std::cmp::Ordering;
use std::sync::Arc;

use super::prefix::{Entry, EntryId, PrefixCache, Slot};
use super::tier::{Found, Known, Load};
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
            let known = self.known(&walk, keys, 0);
            let miss = Self::why(&known, keys, boundaries, 0, is_other_model);
            return Ok(Some(Lookup {
                parting: self.parting(&known, 0),
                ..Lookup::nothing(miss)
            }));
        };
        let entry = self.entry(id);
        let tokens = self.tree.depth(id.0);
        let known = self.known(&walk, keys, tokens);
        Ok(Some(Lookup {
            entry: Some(id),
            tokens,
            logits: entry
                .snapshot
                .logits
                .clone()
                .filter(|_| tokens == keys.len()),
            miss: Self::why(&known, keys, boundaries, tokens, is_other_model),
            parting: self.parting(&known, tokens),
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

    /// What memory and the second tier know of a prompt together.
    fn known(&self, walk: &Walk, keys: &[Key], tokens: usize) -> Known {
        let tier = self.tier.as_ref();
        let there = tier.map_or_else(Known::default, |tier| tier.known(keys, tokens));
        let is_evicted = |&&node: &&_| matches!(self.tree.value(node), Some(Slot::Evicted));
        let evicted = walk.values.iter().rev().find(is_evicted);
        let evicted = evicted.map(|&node| self.tree.depth(node));
        let other = match there.matched.cmp(&walk.matched) {
            Ordering::Less => walk.other,
            Ordering::Equal => walk.other.or(there.other),
            Ordering::Greater => there.other,
        };
        Known {
            matched: walk.matched.max(there.matched),
            other,
            evicted: evicted.max(there.evicted),
            is_empty: self.tree.is_empty() && there.is_empty,
        }
    }

    /// Why no more than `tokens` of a prompt are cached.
    fn why(
        known: &Known,
        keys: &[Key],
        boundaries: &[Boundary],
        tokens: usize,
        is_other_model: bool,
    ) -> Miss {
        if is_other_model {
            return Miss::OtherModel;
        }
        if let Some(evicted) = known.evicted.filter(|&evicted| evicted > tokens) {
            return Miss::Evicted { tokens: evicted };
        }
        if known.is_empty {
            return Miss::NothingStored;
        }
        let Some(other) = known.other else {
            return Miss::New;
        };
        let token = known.matched;
        let mut behind = boundaries.iter().filter(|boundary| boundary.offset > token);
        let message = behind.find_map(|boundary| boundary.kind.message());
        Miss::Diverged {
            token,
            message,
            is_media: other.is_media() || keys.get(token).is_some_and(|key| key.is_media()),
        }
    }

    /// Where a prompt parts from another, if that is far enough behind what is cached.
    fn parting(&self, known: &Known, tokens: usize) -> Option<Boundary> {
        let is_worth_it = known.other.is_some() && known.matched >= tokens + self.settings.gap;
        is_worth_it.then_some(Boundary {
            offset: known.matched,
            kind: BoundaryKind::Parting,
        })
    }
}
