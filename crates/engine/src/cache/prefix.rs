//! The prefix cache: entries in a tree, least recently used ones first to go.
//!
//! An entry is a place in a prompt with all that is needed to go on from there: the pages up to it,
//! shared by reference with whoever else has them, and the state. So entries do not depend on each
//! other, and a page is free when its last holder is gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tensor::PageId;

use super::settings::CacheSettings;
use super::tier::{Occasion, Offer, Snapshot, Tier};
use super::tree::{NodeId, Tree};
use super::{BoundaryKind, Key};
use crate::checkpoint::HeldPages;
use crate::engine::{Engine, SequenceId};
use crate::error::EngineError;

/// Keys of evicted entries are remembered, to tell why a prompt was not found, while the tree has
/// no more than this many: 64 MB.
const MOST_KEYS: usize = 8 << 20;

/// What is stored at a place.
#[derive(Debug)]
pub(super) enum Slot {
    Entry(Entry),
    /// An entry was here and had to go.
    Evicted,
}

/// A place to go on from.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: BoundaryKind,
    pages: HeldPages,
    pub(super) snapshot: Snapshot,
    /// When it was last used, in uses of the cache.
    used: u64,
    /// Whether the second tier handed it out and nobody has used it yet.
    pub(super) is_from_tier: bool,
}

/// A token's hidden row and its logits, as far as they are known.
pub(crate) type Rows = (Option<Arc<[f32]>>, Option<Arc<[f32]>>);

/// Names an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryId(pub(super) NodeId);

/// Places in prompts to go on from.
pub(crate) struct PrefixCache {
    pub(super) settings: CacheSettings,
    pub(super) tree: Tree<Slot>,
    pub(super) tier: Option<Box<dyn Tier>>,
    /// Entries by their last use.
    order: BTreeMap<u64, NodeId>,
    evictions: VecDeque<NodeId>,
    clock: u64,
    bytes: usize,
    /// Per page, how many entries hold it.
    holds: Vec<u32>,
    kept: u64,
    evicted: u64,
}

impl PrefixCache {
    /// A cache over an engine of this many pages.
    pub(crate) fn new(settings: CacheSettings, pages: usize) -> Self {
        Self {
            settings,
            tree: Tree::new(),
            tier: None,
            order: BTreeMap::new(),
            evictions: VecDeque::new(),
            clock: 0,
            bytes: 0,
            holds: vec![0; pages],
            kept: 0,
            evicted: 0,
        }
    }

    pub(crate) fn set_tier(&mut self, tier: Box<dyn Tier>) {
        self.tier = Some(tier);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.settings.snapshot_bytes > 0
    }

    pub(crate) fn entries(&self) -> usize {
        self.order.len()
    }

    /// The RAM of the snapshots.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries made so far.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// Entries that had to go so far.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Per page, how many entries hold it.
    pub(crate) fn holds(&self) -> &[u32] {
        &self.holds
    }

    /// Keeps where a sequence is. `keys` are those of its tokens; `rows` are its last token's.
    pub(crate) fn keep(
        &mut self,
        engine: &mut Engine,
        sequence: SequenceId,
        keys: &[Key],
        kind: BoundaryKind,
        rows: Rows,
    ) -> Result<(), EngineError> {
        if !self.is_on() || keys.is_empty() {
            return Ok(());
        }
        let node = self.exact(keys);
        if let Some(Slot::Entry(entry)) = node.and_then(|node| self.tree.value_mut(node)) {
            // A hidden row would be of no use: it goes with pages that the head has read, and the
            // entry has those that it was made with.
            let known = &mut entry.snapshot.logits;
            if let (None, Some(row)) = (&known, rows.1) {
                self.bytes += size_of_val(&row[..]);
                *known = Some(row);
            }
            node.into_iter().for_each(|node| self.touch(node));
            return self.shrink(engine, self.settings.snapshot_bytes);
        }
        let (hidden, logits) = rows;
        let of_rows = [&hidden, &logits].into_iter().flatten();
        let of_rows: usize = of_rows.map(|row| size_of_val(&row[..])).sum();
        let bytes = engine.state_bytes() + of_rows;
        if bytes > self.settings.snapshot_bytes {
            return Ok(());
        }
        self.shrink(engine, self.settings.snapshot_bytes - bytes)?;
        let point = engine.checkpoint(sequence)?;
        let snapshot = Snapshot {
            state: Arc::clone(point.state()),
            hidden,
            logits,
        };
        self.kept += 1;
        let node = self.put(keys, kind, point.into_pages(), snapshot, false);
        self.offer(engine, node, Occasion::Made)
    }

    /// Stores an entry.
    pub(super) fn put(
        &mut self,
        keys: &[Key],
        kind: BoundaryKind,
        pages: HeldPages,
        snapshot: Snapshot,
        is_from_tier: bool,
    ) -> NodeId {
        for page in pages.ids() {
            self.holds[page.0 as usize] += 1;
        }
        self.bytes += snapshot.bytes();
        let node = self.tree.insert(keys);
        self.clock += 1;
        let entry = Entry {
            kind,
            pages,
            snapshot,
            used: self.clock,
            is_from_tier,
        };
        self.order.insert(self.clock, node);
        self.tree.set(node, Slot::Entry(entry));
        node
    }

    /// Starts a sequence that goes on from an entry.
    pub(crate) fn start_from(
        &mut self,
        engine: &mut Engine,
        id: EntryId,
    ) -> Result<SequenceId, EngineError> {
        let keys = self.tree.keys_of(id.0);
        // So that the beginnings that several prompts share stay as long as any of them.
        for node in self.tree.walk(&keys).values {
            let is_shared = match self.tree.value(node) {
                Some(Slot::Entry(entry)) => {
                    entry.kind == BoundaryKind::EndOfSystem || self.tree.is_fork(node)
                }
                _ => false,
            };
            if is_shared && node != id.0 {
                self.touch(node);
            }
        }
        self.touch(id.0);
        let tokens = self.tree.depth(id.0);
        if let Some(Slot::Entry(entry)) = self.tree.value_mut(id.0) {
            entry.is_from_tier = false;
        }
        let entry = self.entry(id);
        engine.start_at(tokens, entry.pages.ids(), &entry.snapshot.state)
    }

    /// The hidden row of an entry's last token, if it is known.
    pub(crate) fn hidden(&self, id: EntryId) -> Option<Arc<[f32]>> {
        self.entry(id).snapshot.hidden.clone()
    }

    /// Pages that would be free without the cache.
    pub(crate) fn evictable_pages(&self, engine: &Engine) -> usize {
        let held = self.holds.iter().enumerate();
        held.filter(|&(page, &holds)| holds > 0 && engine.holders(PageId(page as u32)) == holds)
            .count()
    }

    /// Pages of an entry that others than the cache hold.
    pub(crate) fn pages_in_use(&self, engine: &Engine, id: EntryId) -> usize {
        let is_used = |page: &&PageId| engine.holders(**page) > self.holds[page.0 as usize];
        self.entry(id).pages.ids().iter().filter(is_used).count()
    }

    /// Lets the least recently used entry go that has a page nobody else needs. `false` if there
    /// is none.
    pub(crate) fn evict_for_pages(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        let frees = |node: &&NodeId| match self.tree.value(**node) {
            Some(Slot::Entry(entry)) => entry
                .pages
                .ids()
                .iter()
                .any(|&page| engine.holders(page) == self.holds[page.0 as usize]),
            _ => false,
        };
        let Some(&node) = self.order.values().find(frees) else {
            return Ok(false);
        };
        self.evict(engine, node)?;
        Ok(true)
    }

    /// Lets entries go until their snapshots take no more than this.
    pub(super) fn shrink(&mut self, engine: &mut Engine, bytes: usize) -> Result<(), EngineError> {
        while self.bytes > bytes {
            let Some((_, &node)) = self.order.first_key_value() else {
                return Ok(());
            };
            self.evict(engine, node)?;
        }
        Ok(())
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self, engine: &mut Engine) {
        let nodes: Vec<NodeId> = self.tree.ids().collect();
        for node in nodes {
            if let Some(Slot::Entry(entry)) = self.tree.remove(node) {
                self.release(engine, entry);
            }
        }
        self.evictions.clear();
    }

    fn evict(&mut self, engine: &mut Engine, node: NodeId) -> Result<(), EngineError> {
        let offered = self.offer(engine, node, Occasion::Evicted);
        if let Some(Slot::Entry(entry)) = self.tree.set(node, Slot::Evicted) {
            self.release(engine, entry);
            self.evicted += 1;
            self.evictions.push_back(node);
        }
        while self.tree.keys() > MOST_KEYS {
            let Some(oldest) = self.evictions.pop_front() else {
                break;
            };
            if matches!(self.tree.value(oldest), Some(Slot::Evicted)) {
                self.tree.remove(oldest);
            }
        }
        offered
    }

    fn release(&mut self, engine: &mut Engine, entry: Entry) {
        self.bytes -= entry.snapshot.bytes();
        self.order.remove(&entry.used);
        for page in entry.pages.ids() {
            self.holds[page.0 as usize] -= 1;
        }
        engine.release(entry.pages);
    }

    fn offer(
        &mut self,
        engine: &Engine,
        node: NodeId,
        occasion: Occasion,
    ) -> Result<(), EngineError> {
        let (Some(tier), Some(Slot::Entry(entry))) = (&mut self.tier, self.tree.value(node)) else {
            return Ok(());
        };
        let offer = Offer {
            keys: &self.tree.keys_of(node),
            kind: entry.kind,
            occasion,
        };
        if !tier.wants(&offer) {
            return Ok(());
        }
        let pages = entry.pages.ids();
        tier.store(&offer, &entry.snapshot, pages.len(), &mut |index| {
            engine.read_page(pages[index])
        })
    }

    fn touch(&mut self, node: NodeId) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(Slot::Entry(entry)) = self.tree.value_mut(node) {
            self.order
                .remove(&std::mem::replace(&mut entry.used, clock));
            self.order.insert(clock, node);
        }
    }

    /// The node of exactly these keys.
    fn exact(&self, keys: &[Key]) -> Option<NodeId> {
        let last = *self.tree.walk(keys).values.last()?;
        (self.tree.depth(last) == keys.len()).then_some(last)
    }

    pub(super) fn entry(&self, id: EntryId) -> &Entry {
        match self.tree.value(id.0) {
            Some(Slot::Entry(entry)) => entry,
            _ => unreachable!("ids are of entries, and are not kept over evictions"),
        }
    }

    /// Checks the books.
    ///
    /// # Panics
    /// If they are wrong.
    pub(crate) fn assert_consistent(&self, engine: &Engine) {
        self.tree.assert_consistent();
        let (mut bytes, mut entries) = (0, 0);
        let mut holds = vec![0u32; self.holds.len()];
        for node in self.tree.ids() {
            let Some(Slot::Entry(entry)) = self.tree.value(node) else {
                continue;
            };
            entries += 1;
            bytes += entry.snapshot.bytes();
            assert_eq!(
                self.order.get(&entry.used),
                Some(&node),
                "entries are in order"
            );
            let pages = entry.pages.ids();
            let needed = self.tree.depth(node).div_ceil(engine.page_tokens());
            assert_eq!(
                pages.len(),
                needed,
                "entries have the pages of their tokens"
            );
            pages.iter().for_each(|page| holds[page.0 as usize] += 1);
        }
        assert_eq!(entries, self.order.len(), "all entries are in order");
        assert_eq!(bytes, self.bytes, "bytes of snapshots");
        assert!(bytes <= self.settings.snapshot_bytes, "the budget is kept");
        assert_eq!(holds, self.holds, "pages of entries");
    }
}
