//! Reading: nothing leaves this file unverified.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use tensor::StateSnapshot;

use super::index::{CacheFile, Content, FileId, Found};
use super::key::{Checksum, checksum};
use super::store::{Store, count};
use crate::cache::{Loaded, Snapshot};

/// The entry cannot be read any more: it was evicted, or its files are damaged. Damaged ones are
/// out of the index now; the same prompt may have a shorter entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryLost;

/// An entry that is being read.
pub(super) struct Hit<'a> {
    store: &'a Store,
    found: Found,
    /// The file that the last page came from.
    open: Option<(FileId, File)>,
}

impl<'a> Hit<'a> {
    pub(super) fn new(store: &'a Store, found: Found) -> Self {
        Self {
            store,
            found,
            open: None,
        }
    }

    /// Reads and verifies all of it, and notes that it was of use.
    pub(super) fn read(mut self) -> Result<Loaded, EntryLost> {
        let mut pages = Vec::with_capacity(self.found.pages.len() + 1);
        for index in 0..self.found.pages.len() {
            pages.push(self.page(index)?);
        }
        let (tail_page, loaded) = self.boundary()?;
        pages.extend(tail_page);
        self.touch();
        count(&self.store.counters.hits);
        Ok(Loaded { pages, ..loaded })
    }

    fn page(&mut self, index: usize) -> Result<Vec<u8>, EntryLost> {
        let (id, slot) = self.found.pages[index];
        let file = self.file(id)?;
        let Content::Run { pages, .. } = &file.content else {
            return Err(EntryLost);
        };
        let (_, sum) = *pages.get(slot as usize).ok_or(EntryLost)?;
        let bytes = self.store.shape.page_bytes;
        let at = file.payload_at + u64::from(slot) * bytes as u64;
        self.verified(id, &file, at, bytes, sum)
    }

    /// The page of the tokens behind the last whole one, if there are any, and the rest.
    fn boundary(&mut self) -> Result<(Option<Vec<u8>>, Loaded), EntryLost> {
        let id = self.found.boundary;
        let file = self.file(id)?;
        let Content::Boundary {
            tail,
            kind,
            rows,
            sum,
            ..
        } = &file.content
        else {
            return Err(EntryLost);
        };
        let shape = &self.store.shape;
        let (hidden_bytes, logits_bytes) = rows.bytes(shape);
        let tail_bytes = if tail.is_empty() { 0 } else { shape.page_bytes };
        let bytes = tail_bytes + shape.state_bytes + hidden_bytes + logits_bytes;
        let payload = self.verified(id, &file, file.payload_at, bytes, *sum)?;

        let (tail_page, rest) = payload.split_at(tail_bytes);
        let (state, rest) = rest.split_at(self.store.shape.state_bytes);
        let (hidden, logits) = rest.split_at(hidden_bytes);
        let row = |is_there: bool, bytes| is_there.then(|| to_values(bytes).into());
        let snapshot = Snapshot {
            state: Arc::new(StateSnapshot {
                values: to_values(state).into(),
            }),
            hidden: row(rows.hidden, hidden),
            logits: row(rows.logits, logits),
        };
        let loaded = Loaded {
            kind: *kind,
            pages: Vec::new(),
            snapshot,
        };
        Ok(((!tail.is_empty()).then(|| tail_page.to_vec()), loaded))
    }

    /// The index's knowledge of a file. Eviction may have come first.
    fn file(&self, id: FileId) -> Result<CacheFile, EntryLost> {
        let books = self.store.books();
        books.index.file(id).cloned().ok_or(EntryLost)
    }

    fn verified(
        &mut self,
        id: FileId,
        file: &CacheFile,
        at: u64,
        bytes: usize,
        sum: Checksum,
    ) -> Result<Vec<u8>, EntryLost> {
        let why = match self.read_bytes(id, file, at, bytes) {
            Ok(payload) if checksum(&[&payload]) == sum => return Ok(payload),
            Ok(_) => "its checksum is wrong".to_owned(),
            Err(error) => error.to_string(),
        };
        self.open = None;
        self.store.drop_unusable(id, &why);
        Err(EntryLost)
    }

    fn read_bytes(
        &mut self,
        id: FileId,
        file: &CacheFile,
        at: u64,
        bytes: usize,
    ) -> io::Result<Vec<u8>> {
        let mut input = match self.open.take() {
            Some((open, input)) if open == id => input,
            _ => File::open(self.store.folder.join(&file.name))?,
        };
        input.seek(SeekFrom::Start(at))?;
        let mut payload = vec![0; bytes];
        input.read_exact(&mut payload)?;
        self.open = Some((id, input));
        Ok(payload)
    }

    fn touch(&self) {
        let mut files: Vec<FileId> = self.found.pages.iter().map(|&(file, _)| file).collect();
        files.dedup();
        files.push(self.found.boundary);
        let now = {
            let mut books = self.store.books();
            let now = books.tick();
            books.index.touch(&files, now);
            now
        };
        self.store.note_used(&files, now);
    }
}

fn to_values(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<4>();
    values
        .iter()
        .map(|&value| f32::from_le_bytes(value))
        .collect()
}
