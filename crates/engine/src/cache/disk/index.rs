//! What lies in the directory and which of it goes first. No input or output here.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::format::Rows;
use super::key::{ChainKey, Checksum};
use crate::cache::{BoundaryKind, Key};

/// Names a file of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileId(u64);

/// A point of time: nanoseconds since 1970, made strictly increasing by the caller.
pub(super) type Tick = u64;

/// A file and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CacheFile {
    /// Inside the directory. Equal names have equal contents.
    pub(super) name: String,
    /// Header and payload.
    pub(super) bytes: u64,
    /// Where the payload starts.
    pub(super) payload_at: u64,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Run {
        /// Of the tokens before the first page.
        parent: ChainKey,
        first_page: u32,
        /// The key up to the end of each page, and the checksum of the page.
        pages: Vec<(ChainKey, Checksum)>,
        /// Those of all pages.
        tokens: Arc<[Key]>,
    },
    Boundary {
        pages_key: ChainKey,
        whole_pages: u32,
        tail: Vec<Key>,
        kind: BoundaryKind,
        rows: Rows,
        sum: Checksum,
    },
}

#[derive(Debug)]
struct Entry {
    file: CacheFile,
    used: Tick,
    /// Where it starts in its sequence, in pages, boundaries behind pages. Of files used at the
    /// same time the deepest goes first, so that nothing loses what it stands on.
    depth: u64,
}

/// A boundary and the pages that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) boundary: FileId,
    /// Tokens up to the boundary.
    pub(super) tokens: usize,
    /// For each whole page its file and the place in it.
    pub(super) pages: Vec<(FileId, u32)>,
}

/// The files of one directory.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<FileId, Entry>,
    names: HashMap<String, FileId>,
    by_age: BTreeSet<(Tick, Reverse<u64>, FileId)>,
    pages: HashMap<ChainKey, (FileId, u32)>,
    /// By the key of the tokens before, to see where prompts part.
    pages_behind: HashMap<ChainKey, Vec<(FileId, u32)>>,
    /// By the key of their whole pages.
    boundaries: HashMap<ChainKey, Vec<FileId>>,
    /// Keys of pages and boundaries that are on their way to the directory.
    pending: HashSet<ChainKey>,
    bytes: u64,
    next_id: u64,
}

impl Index {
    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of boundaries and of pages.
    pub(super) fn counts(&self) -> (usize, usize) {
        (
            self.boundaries.values().map(Vec::len).sum(),
            self.pages.len(),
        )
    }

    pub(super) fn file(&self, id: FileId) -> Option<&CacheFile> {
        self.entries.get(&id).map(|entry| &entry.file)
    }

    fn boundary(&self, id: FileId) -> Option<(BoundaryKind, Rows)> {
        match self.file(id)?.content {
            Content::Boundary { kind, rows, .. } => Some((kind, rows)),
            Content::Run { .. } => None,
        }
    }

    /// Adds a file; one of the same name is replaced.
    pub(super) fn insert(&mut self, file: CacheFile, used: Tick) -> FileId {
        if let Some(&old) = self.names.get(&file.name) {
            self.remove(old);
        }
        let id = FileId(self.next_id);
        self.next_id += 1;
        let depth = match &file.content {
            Content::Run {
                parent,
                first_page,
                pages,
                ..
            } => {
                let mut before = *parent;
                for (slot, (key, _)) in pages.iter().enumerate() {
                    // A page that is there twice is read from the newer file.
                    self.pages.insert(*key, (id, slot as u32));
                    let behind = self.pages_behind.entry(before).or_default();
                    behind.push((id, slot as u32));
                    before = *key;
                }
                2 * u64::from(*first_page)
            }
            Content::Boundary {
                pages_key,
                whole_pages,
                ..
            } => {
                self.boundaries.entry(*pages_key).or_default().push(id);
                2 * u64::from(*whole_pages) + 1
            }
        };
        self.bytes += file.bytes;
        self.names.insert(file.name.clone(), id);
        self.by_age.insert((used, Reverse(depth), id));
        self.entries.insert(id, Entry { file, used, depth });
        id
    }

    pub(super) fn remove(&mut self, id: FileId) -> Option<CacheFile> {
        let Entry { file, used, depth } = self.entries.remove(&id)?;
        self.by_age.remove(&(used, Reverse(depth), id));
        self.names.remove(&file.name);
        self.bytes -= file.bytes;
        match &file.content {
            Content::Run { parent, pages, .. } => {
                let mut before = *parent;
                for (key, _) in pages {
                    if self.pages.get(key).is_some_and(|&(holder, _)| holder == id) {
                        self.pages.remove(key);
                    }
                    if let Some(behind) = self.pages_behind.get_mut(&before) {
                        behind.retain(|&(holder, _)| holder != id);
                        if behind.is_empty() {
                            self.pages_behind.remove(&before);
                        }
                    }
                    before = *key;
                }
            }
            Content::Boundary { pages_key, .. } => {
                if let Some(here) = self.boundaries.get_mut(pages_key) {
                    here.retain(|&other| other != id);
                    if here.is_empty() {
                        self.boundaries.remove(pages_key);
                    }
                }
            }
        }
        Some(file)
    }

    /// Makes files the most recently used.
    pub(super) fn touch(&mut self, files: &[FileId], now: Tick) {
        for &id in files {
            if let Some(entry) = self.entries.get_mut(&id) {
                self.by_age.remove(&(entry.used, Reverse(entry.depth), id));
                entry.used = now;
                self.by_age.insert((now, Reverse(entry.depth), id));
            }
        }
    }

    /// The file that goes first.
    pub(super) fn oldest(&self) -> Option<(Tick, FileId)> {
        self.by_age.first().map(|&(used, _, id)| (used, id))
    }

    /// How many of these pages are there or on their way, without a gap from the first.
    pub(super) fn known_pages(&self, keys: &[ChainKey]) -> usize {
        let is_known = |key| self.pages.contains_key(key) || self.pending.contains(key);
        keys.iter().take_while(|key| is_known(key)).count()
    }

    /// The files of these pages, each once.
    pub(super) fn files_of(&self, keys: &[ChainKey]) -> Vec<FileId> {
        let mut files: Vec<FileId> = keys
            .iter()
            .filter_map(|key| self.pages.get(key).map(|&(file, _)| file))
            .collect();
        files.dedup();
        files
    }

    /// All boundaries that are prefixes of `tokens` and whose pages are there, shortest first,
    /// each with its tokens.
    pub(super) fn boundaries_along(
        &self,
        tokens: &[Key],
        page_tokens: usize,
    ) -> Vec<(usize, FileId)> {
        let mut found = Vec::new();
        self.boundaries_at(ChainKey::ROOT, tokens, 0, &mut found);
        let keys = ChainKey::pages(tokens, page_tokens);
        for (index, key) in keys.enumerate() {
            if !self.pages.contains_key(&key) {
                break;
            }
            let past = (index + 1) * page_tokens;
            self.boundaries_at(key, &tokens[past..], past, &mut found);
        }
        found.sort_unstable();
        found
    }

    fn boundaries_at(
        &self,
        key: ChainKey,
        rest: &[Key],
        past: usize,
        found: &mut Vec<(usize, FileId)>,
    ) {
        for &id in self.boundaries.get(&key).map_or(&[][..], Vec::as_slice) {
            if let Some(Content::Boundary { tail, .. }) = self.file(id).map(|file| &file.content)
                && rest.starts_with(tail)
            {
                found.push((past + tail.len(), id));
            }
        }
    }

    /// The longest boundary that is a prefix of `tokens`, with its pages. One of all tokens counts
    /// only if it has logits: there must be something to go on with.
    pub(super) fn find(&self, tokens: &[Key], page_tokens: usize) -> Option<Found> {
        let is_usable = |count: usize, id: FileId| {
            count < tokens.len() || self.boundary(id).is_some_and(|(_, rows)| rows.logits)
        };
        let along = self.boundaries_along(tokens, page_tokens);
        let &(count, boundary) = along
            .iter()
            .rev()
            .find(|&&(count, id)| is_usable(count, id))?;
        let pages = ChainKey::pages(&tokens[..count], page_tokens)
            .map(|key| self.pages.get(&key).copied())
            .collect::<Option<Vec<_>>>()?;
        Some(Found {
            boundary,
            tokens: count,
            pages,
        })
    }

    /// How far `tokens` go along with what is stored, whether or not there is a state to go on from,
    /// and what the prompt that goes along with them longest has behind that, if they part there.
    /// `keys` are those of all whole pages.
    pub(super) fn parting(
        &self,
        tokens: &[Key],
        keys: &[ChainKey],
        page_tokens: usize,
    ) -> (usize, Option<Key>) {
        let is_here = |key: &&ChainKey| self.pages.contains_key(key);
        let whole = keys.iter().take_while(is_here).count();
        let last = whole.checked_sub(1).map_or(ChainKey::ROOT, |at| keys[at]);
        let rest = &tokens[whole * page_tokens..];
        let along = |other: &[Key]| {
            let same = rest.iter().zip(other).take_while(|(a, b)| a == b).count();
            (same, other.get(same).filter(|_| same < rest.len()).copied())
        };
        let pages = self.pages_behind.get(&last).into_iter().flatten();
        let pages = pages.filter_map(|&(id, slot)| match &self.file(id)?.content {
            Content::Run { tokens, .. } => {
                let first = slot as usize * page_tokens;
                tokens.get(first..first + page_tokens).map(along)
            }
            Content::Boundary { .. } => None,
        });
        let tails = self.boundaries.get(&last).into_iter().flatten();
        let tails = tails.filter_map(|&id| match &self.file(id)?.content {
            Content::Boundary { tail, .. } => Some(along(tail)),
            Content::Run { .. } => None,
        });
        let longest = pages.chain(tails).max();
        let (same, other) = longest.unwrap_or_default();
        (whole * page_tokens + same, other)
    }

    /// Whether exactly this boundary is there.
    pub(super) fn has_boundary(&self, pages_key: ChainKey, tail: &[Key]) -> bool {
        self.boundaries.get(&pages_key).is_some_and(|here| {
            here.iter().any(|&id| {
                matches!(self.file(id).map(|file| &file.content),
                    Some(Content::Boundary { tail: other, .. }) if other == tail)
            })
        })
    }

    /// Of the boundaries along a chain (shortest first), those to give up so that the `most`
    /// longest stay. Those behind system messages stay, and do not count: other conversations
    /// begin with them. So does that behind the last question: the next one may go on from there.
    pub(super) fn surplus(&self, along: &[(usize, FileId)], most: usize) -> Vec<FileId> {
        let kind = |id| self.boundary(id).map(|(kind, _)| kind);
        let is_own = |id: &FileId| kind(*id) != Some(BoundaryKind::EndOfSystem);
        let is_question = |&&id: &&FileId| matches!(kind(id), Some(BoundaryKind::EndOfQuestion(_)));
        let own: Vec<FileId> = along.iter().map(|&(_, id)| id).filter(is_own).collect();
        let last_question = own.iter().rfind(is_question);
        let surplus = &own[..own.len().saturating_sub(most)];
        let gone = surplus.iter().filter(|&id| Some(id) != last_question);
        gone.copied().collect()
    }

    pub(super) fn is_pending(&self, key: ChainKey) -> bool {
        self.pending.contains(&key)
    }

    pub(super) fn set_pending(&mut self, keys: &[ChainKey]) {
        self.pending.extend(keys);
    }

    pub(super) fn clear_pending(&mut self, keys: &[ChainKey]) {
        keys.iter().for_each(|key| {
            self.pending.remove(key);
        });
    }

    /// Checks that all its tables agree.
    ///
    /// # Panics
    /// If they do not.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        let bytes: u64 = self.entries.values().map(|entry| entry.file.bytes).sum();
        assert_eq!(bytes, self.bytes, "bytes add up");
        assert_eq!(self.entries.len(), self.names.len());
        assert_eq!(self.entries.len(), self.by_age.len());
        for (used, Reverse(depth), id) in &self.by_age {
            let entry = &self.entries[id];
            assert_eq!((entry.used, entry.depth), (*used, *depth));
        }
        for (key, (id, slot)) in &self.pages {
            let Content::Run { pages, .. } = &self.entries[id].file.content else {
                panic!("pages lie in runs");
            };
            assert_eq!(pages[*slot as usize].0, *key);
        }
        let runs = self
            .entries
            .values()
            .map(|entry| match &entry.file.content {
                Content::Run { pages, .. } => pages.len(),
                Content::Boundary { .. } => 0,
            });
        let behind = self.pages_behind.values().map(Vec::len);
        assert_eq!(behind.sum::<usize>(), runs.sum::<usize>(), "pages of runs");
        for (key, here) in &self.boundaries {
            assert!(!here.is_empty());
            for id in here {
                assert!(matches!(&self.entries[id].file.content,
                    Content::Boundary { pages_key, .. } if pages_key == key));
            }
        }
    }
}
