//! What the engine and the writer thread share: the directory and the books about it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::folder;
use super::format::Shape;
use super::gone::Gone;
use super::index::{Content, FileId, Index, Tick};
use super::key::Identity;
use super::medium::{Medium, set_used, tick_after};
use super::others::Others;
use super::{DiskError, DiskSettings};

/// The books.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) index: Index,
    pub(super) others: Others,
    pub(super) gone: Gone,
    last_tick: Tick,
}

impl Books {
    pub(super) fn tick(&mut self) -> Tick {
        self.last_tick = tick_after(self.last_tick);
        self.last_tick
    }
}

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) unusable: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(super) struct Store {
    pub(super) folder: PathBuf,
    pub(super) identity: Identity,
    pub(super) shape: Shape,
    pub(super) budget_bytes: u64,
    pub(super) chain_boundaries: usize,
    pub(super) medium: Box<dyn Medium>,
    pub(super) counters: Counters,
    /// Bytes that wait for the writer.
    pub(super) queued_bytes: AtomicU64,
    books: Mutex<Books>,
    /// Held for as long as this process writes here; without it the folder is only read.
    lock: Option<File>,
    /// Set for good when a write fails.
    is_quiet: AtomicBool,
}

impl Store {
    pub(super) fn open(
        settings: &DiskSettings,
        medium: Box<dyn Medium>,
    ) -> Result<Self, DiskError> {
        let own = folder::name(&settings.identity);
        let folder = settings.folder.join(&own);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::Folder { path, source }
        };
        if let Err(error) = fs::create_dir_all(&folder)
            && !folder.is_dir()
        {
            return Err(failed(&folder)(error));
        }
        let lock = folder::lock(&folder).unwrap_or_else(|error| {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "the prefix cache on disk is read, not written");
            None
        });
        let is_writer = lock.is_some();
        let others = Others::list(&settings.folder, &own, is_writer);
        let store = Self {
            identity: settings.identity,
            shape: settings.shape,
            budget_bytes: settings.budget_bytes,
            chain_boundaries: settings.chain_boundaries.max(1),
            medium,
            counters: Counters::default(),
            queued_bytes: AtomicU64::new(0),
            books: Mutex::new(Books {
                others: others.map_err(failed(&settings.folder))?,
                gone: Gone::read(&folder, is_writer),
                ..Books::default()
            }),
            lock,
            is_quiet: AtomicBool::new(false),
            folder,
        };
        store.scan().map_err(failed(&store.folder))?;
        if is_writer {
            store.make_room(0);
        }
        Ok(store)
    }

    fn scan(&self) -> std::io::Result<()> {
        let scan = folder::scan(&self.folder, &self.identity, &self.shape)?;
        for (path, why) in &scan.unusable {
            tracing::warn!(file = %path.display(), "dropped from the prefix cache: {why}");
            count(&self.counters.unusable);
        }
        if self.may_write() {
            let leftover = scan.unusable.iter().map(|(path, _)| path);
            for path in leftover.chain(&scan.partial) {
                fs::remove_file(path).ok();
            }
        }
        let mut books = self.books();
        for (file, used) in scan.files {
            books.last_tick = books.last_tick.max(used);
            books.index.insert(file, used);
        }
        Ok(())
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        // The books change in small steps that do not panic half way.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn may_write(&self) -> bool {
        self.lock.is_some() && !self.is_quiet.load(Ordering::Relaxed)
    }

    /// Notes on disk when files were used, for the next start.
    pub(super) fn note_used(&self, files: &[FileId], used: Tick) {
        if !self.may_write() {
            return;
        }
        let paths: Vec<PathBuf> = {
            let books = self.books();
            let known = files.iter().filter_map(|&id| books.index.file(id));
            known.map(|file| self.folder.join(&file.name)).collect()
        };
        for path in paths {
            // Lost recency is no harm.
            set_used(&path, used).ok();
        }
    }

    /// Gives up writing, and says so once.
    pub(super) fn go_quiet(&self, path: &Path, error: &std::io::Error) {
        if !self.is_quiet.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                file = %path.display(),
                %error,
                "the prefix cache on disk cannot be written; it goes on with what it has"
            );
        }
    }

    /// Removes the least recently used files until `bytes` more fit the budget. `false` if they
    /// cannot.
    pub(super) fn make_room(&self, bytes: u64) -> bool {
        let mut books = self.books();
        loop {
            let total = books.index.bytes() + books.others.bytes();
            if total.saturating_add(bytes) <= self.budget_bytes {
                return true;
            }
            match (books.index.oldest(), books.others.oldest()) {
                (None, None) => return false,
                (Some((own, id)), other) if other.is_none_or(|other| own < other) => {
                    self.note_gone(&mut books, id);
                    self.remove(&mut books, id);
                }
                _ => books.others.remove_oldest(),
            }
            count(&self.counters.evicted);
        }
    }

    /// Remembers what goes for others, to tell whoever asks for it.
    fn note_gone(&self, books: &mut Books, id: FileId) {
        let Books { index, gone, .. } = books;
        if let Some(Content::Boundary {
            pages_key,
            whole_pages,
            tail,
            ..
        }) = index.file(id).map(|file| &file.content)
        {
            gone.note(*pages_key, *whole_pages, tail, self.shape.page_tokens);
        }
    }

    /// Removes a file from the books and the folder.
    pub(super) fn remove(&self, books: &mut Books, id: FileId) {
        if let Some(file) = books.index.remove(id)
            && self.lock.is_some()
        {
            // Should it stay, the next start finds it again.
            fs::remove_file(self.folder.join(file.name)).ok();
        }
    }

    /// Drops a file that turned out to be unusable.
    pub(super) fn drop_unusable(&self, id: FileId, why: &str) {
        let mut books = self.books();
        if let Some(file) = books.index.file(id) {
            let path = self.folder.join(&file.name);
            tracing::warn!(file = %path.display(), "dropped from the prefix cache: {why}");
            count(&self.counters.unusable);
            self.remove(&mut books, id);
        }
    }
}
