//! The prefix cache's tier on disk: what was computed for a prompt, kept over restarts.
//!
//! An entry is a boundary: the recurrent state after some tokens, and the key/value pages of all
//! of them. Pages are stored once, named by the tokens up to their end, so a conversation that
//! grows writes only what is new, and conversations that begin alike share.
//!
//! The tier is a pure optimisation, and acts like one. What cannot be read is dropped with a
//! warning, what cannot be written is left out with one; every byte is verified before it is
//! used. Writing and reading happen on threads of their own, writing behind a bounded queue.
//!
//! One process writes to a folder; others with the same model and settings read what was there
//! when they started. The reasons are in docs/decisions/0012.

mod folder;
mod format;
mod gone;
mod hit;
mod index;
mod key;
mod medium;
mod others;
mod store;
mod threads;
mod writer;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use format::Shape;
pub use key::Identity;

use super::{BoundaryKind, Found, Key, Known, Load, Occasion, Offer, Snapshot, Tier};
use crate::error::EngineError;
use crate::open::{OpenError, OpenedModel};
use crate::settings::EngineSettings;
use folder::boundary_key;
use key::ChainKey;
use medium::{Files, Medium};
use store::{Store, count};
use threads::{Reader, Writer};
use writer::WriteJob;

/// Where and how much to keep.
#[derive(Debug, Clone)]
pub struct DiskSettings {
    /// The directory. It is made if need be; several models may share it.
    pub folder: PathBuf,
    /// The most bytes of all files in the directory, of all models.
    pub budget_bytes: u64,
    /// The most bytes that may wait for the writer; what comes then is not stored.
    pub queue_bytes: u64,
    /// How many boundaries of one growing conversation are kept, besides those behind its system
    /// message and its last question.
    pub chain_boundaries: usize,
    /// What entries must have in common with this engine.
    pub identity: Identity,
    /// The sizes of what is stored.
    pub shape: Shape,
}

impl DiskSettings {
    /// For a model with its settings, on a device that computes like [`crate::BackendChoice::numerics`]
    /// says. Up to a gigabyte may wait for the writer.
    ///
    /// # Errors
    /// If the model's tensors lie outside its files.
    pub fn new(
        folder: PathBuf,
        budget_bytes: u64,
        opened: &OpenedModel,
        settings: &EngineSettings,
        numerics: &str,
    ) -> Result<Self, OpenError> {
        let layout = settings.layout(&opened.config);
        let page_bytes = layout.page_bytes()?;
        let facts = format!(
            "{} {} {} {page_bytes} {}",
            layout.key_type,
            layout.value_type,
            layout.page_tokens,
            layout.state_bytes()
        );
        let identity = Identity::new(&[
            ("program", env!("CARGO_PKG_VERSION").as_bytes()),
            ("model", &opened.fingerprint()?),
            ("memory", facts.as_bytes()),
            ("device", numerics.as_bytes()),
        ]);
        Ok(Self {
            folder,
            budget_bytes,
            queue_bytes: 1 << 30,
            chain_boundaries: 4,
            identity,
            shape: Shape {
                page_tokens: layout.page_tokens,
                page_bytes,
                state_bytes: layout.state_bytes(),
                hidden_bytes: opened.config.hidden_size * size_of::<f32>(),
                logits_bytes: opened.config.vocab_size * size_of::<f32>(),
            },
        })
    }
}

/// The directory cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// It cannot be made or listed.
    #[error("the cache directory {} cannot be used", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system starts no thread.
    #[error("the cache's threads cannot be started: {0}")]
    Thread(std::io::Error),
}

/// What the tier holds and has done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes of this model's files.
    pub bytes: u64,
    /// Boundaries in the directory.
    pub boundaries: usize,
    /// Pages in the directory.
    pub pages: usize,
    /// Entries that were read.
    pub hits: u64,
    /// Entries that were written.
    pub stored: u64,
    /// Entries left out because the queue was full.
    pub skipped: u64,
    /// Files removed to make room.
    pub evicted: u64,
    /// Files dropped because something was wrong with them.
    pub unusable: u64,
}

/// What of an entry is not on disk yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    /// Of all whole pages.
    keys: Vec<ChainKey>,
    missing_pages: Range<usize>,
}

/// The tier. Dropping it waits until everything queued is written.
pub struct DiskTier {
    store: Arc<Store>,
    queue_bytes: u64,
    writer: Writer,
    reader: Reader,
}

impl DiskTier {
    /// Opens or makes the directory and reads the headers in it. Leftovers of killed processes
    /// and files that cannot be used are removed.
    ///
    /// # Errors
    /// If the directory can be neither made nor listed. A directory that is read-only, or written
    /// by another process, is used as it is, with a warning.
    pub fn open(settings: &DiskSettings) -> Result<Self, DiskError> {
        Self::open_with(settings, Box::new(Files))
    }

    fn open_with(settings: &DiskSettings, medium: Box<dyn Medium>) -> Result<Self, DiskError> {
        let store = Arc::new(Store::open(settings, medium)?);
        Ok(Self {
            queue_bytes: settings.queue_bytes,
            writer: Writer::start(&store)?,
            reader: Reader::start(&store)?,
            store,
        })
    }

    /// Waits until everything queued so far is written.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// What it holds and has done.
    pub fn stats(&self) -> DiskStats {
        let books = self.store.books();
        let (boundaries, pages) = books.index.counts();
        let counters = &self.store.counters;
        DiskStats {
            bytes: books.index.bytes(),
            boundaries,
            pages,
            hits: counters.hits.load(Ordering::Relaxed),
            stored: counters.stored.load(Ordering::Relaxed),
            skipped: counters.skipped.load(Ordering::Relaxed),
            evicted: counters.evicted.load(Ordering::Relaxed),
            unusable: counters.unusable.load(Ordering::Relaxed),
        }
    }

    /// `None` if the entry is there already, does not fit the budget, or nothing can be written.
    fn plan(&self, tokens: &[Key]) -> Option<Plan> {
        if !self.store.may_write() || tokens.is_empty() {
            return None;
        }
        let shape = self.store.shape;
        let all_pages = tokens.len().div_ceil(shape.page_tokens) as u64;
        let pages_bytes = all_pages.saturating_mul(shape.page_bytes as u64);
        if pages_bytes.saturating_add(shape.state_bytes as u64) > self.store.budget_bytes {
            return None;
        }
        let keys: Vec<ChainKey> = ChainKey::pages(tokens, shape.page_tokens).collect();
        let pages_key = keys.last().copied().unwrap_or(ChainKey::ROOT);
        let tail = &tokens[keys.len() * shape.page_tokens..];
        let books = self.store.books();
        let known = books.index.known_pages(&keys);
        let is_known = known == keys.len()
            && (books.index.has_boundary(pages_key, tail)
                || books.index.is_pending(boundary_key(pages_key, tail)));
        (!is_known).then_some(Plan {
            missing_pages: known..keys.len(),
            keys,
        })
    }
}

/// Whether an entry is worth its bytes, some 60 MB, before the memory gives it up: what the next
/// turn or the next conversation begins with, so that it survives a restart.
fn is_written_at_once(kind: BoundaryKind) -> bool {
    match kind {
        BoundaryKind::EndOfSystem
        | BoundaryKind::EndOfMessage(_)
        | BoundaryKind::EndOfQuestion(_)
        | BoundaryKind::Parting
        | BoundaryKind::EndOfGeneration => true,
        BoundaryKind::StartOfGeneration | BoundaryKind::StartOfToolCall | BoundaryKind::Spaced => {
            false
        }
    }
}

impl Tier for DiskTier {
    fn wants(&mut self, offer: &Offer<'_>) -> bool {
        if offer.occasion == Occasion::Made && !is_written_at_once(offer.kind) {
            return false;
        }
        if self.plan(offer.keys).is_none() {
            return false;
        }
        let is_full = self.store.queued_bytes.load(Ordering::Relaxed) >= self.queue_bytes;
        if is_full {
            count(&self.store.counters.skipped);
        }
        !is_full
    }

    fn store(
        &mut self,
        offer: &Offer<'_>,
        snapshot: &Snapshot,
        pages: usize,
        page: &mut dyn FnMut(usize) -> Result<Vec<u8>, EngineError>,
    ) -> Result<(), EngineError> {
        let Some(Plan {
            keys,
            missing_pages,
        }) = self.plan(offer.keys)
        else {
            return Ok(());
        };
        let shape = self.store.shape;
        debug_assert_eq!(pages, offer.keys.len().div_ceil(shape.page_tokens));
        let tail = (pages > keys.len()).then_some(keys.len());
        let job = WriteJob {
            tokens: offer.keys.to_vec(),
            kind: offer.kind,
            first_page: missing_pages.start,
            pages: missing_pages.map(&mut *page).collect::<Result<_, _>>()?,
            tail_page: tail.map(page).transpose()?,
            keys,
            snapshot: snapshot.clone(),
        };
        let fits = |row: &Option<Arc<[f32]>>, bytes| {
            row.as_ref()
                .is_none_or(|row| row.len() * size_of::<f32>() == bytes)
        };
        let all_fit = snapshot.state.bytes() == shape.state_bytes
            && fits(&snapshot.hidden, shape.hidden_bytes)
            && fits(&snapshot.logits, shape.logits_bytes)
            && job
                .pages
                .iter()
                .chain(&job.tail_page)
                .all(|page| page.len() == shape.page_bytes);
        assert!(all_fit, "entries of the sizes that the tier was made for");

        let keys = job.new_keys(shape.page_tokens);
        self.store.books().index.set_pending(&keys);
        let queued = &self.store.queued_bytes;
        queued.fetch_add(job.bytes(), Ordering::Relaxed);
        self.writer.write(job);
        Ok(())
    }

    fn find(&mut self, keys: &[Key], longer_than: usize) -> Found {
        let page_tokens = self.store.shape.page_tokens;
        let books = self.store.books();
        let Some(found) = books.index.find(keys, page_tokens) else {
            return match books.others.know_prefix(keys, page_tokens) {
                true => Found::OtherModel,
                false => Found::Nothing,
            };
        };
        drop(books);
        let tokens = found.tokens;
        if tokens <= longer_than {
            return Found::Nothing;
        }
        let id = self.reader.keep(found);
        Found::Entry { id, tokens }
    }

    fn load(&mut self, id: u64) -> Load {
        self.reader.load(id)
    }

    fn known(&self, keys: &[Key], than: usize) -> Known {
        let page_tokens = self.store.shape.page_tokens;
        let pages: Vec<ChainKey> = ChainKey::pages(keys, page_tokens).collect();
        let books = self.store.books();
        let (matched, other) = books.index.parting(keys, &pages, page_tokens);
        Known {
            matched,
            other,
            evicted: books.gone.longest(keys, &pages, page_tokens, than),
            is_empty: books.index.bytes() == 0,
        }
    }
}
