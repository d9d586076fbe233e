//! Writing an entry: its missing pages, then its boundary.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tensor::StateSnapshot;

use super::folder::{boundary_key, content_of, file_name};
use super::format::{BoundaryHeader, Header, MAX_RUN_PAGES, PageHeader, Rows, RunHeader};
use super::index::{CacheFile, Tick};
use super::key::{ChainKey, checksum};
use super::medium::{set_used, sync_folder};
use super::store::{Store, count};
use crate::cache::{BoundaryKind, Key, Snapshot};

/// A boundary and the pages that are missing on the way to it.
pub(super) struct WriteJob {
    pub(super) tokens: Vec<Key>,
    pub(super) kind: BoundaryKind,
    /// Of all whole pages.
    pub(super) keys: Vec<ChainKey>,
    /// The index of the first page in `pages`; they go on to the last whole one.
    pub(super) first_page: usize,
    pub(super) pages: Vec<Vec<u8>>,
    /// Of the tokens behind the last whole page, if there are any.
    pub(super) tail_page: Option<Vec<u8>>,
    pub(super) snapshot: Snapshot,
}

impl WriteJob {
    /// The memory that it holds.
    pub(super) fn bytes(&self) -> u64 {
        let pages: usize = self.pages.iter().chain(&self.tail_page).map(Vec::len).sum();
        (pages + self.snapshot.bytes()) as u64
    }

    /// What it brings to the directory: page keys and, last, the boundary's.
    pub(super) fn new_keys(&self, page_tokens: usize) -> Vec<ChainKey> {
        let mut keys = self.keys[self.first_page..].to_vec();
        keys.push(boundary_key(self.pages_key(), self.tail(page_tokens)));
        keys
    }

    fn pages_key(&self) -> ChainKey {
        self.keys.last().copied().unwrap_or(ChainKey::ROOT)
    }

    fn tail(&self, page_tokens: usize) -> &[Key] {
        &self.tokens[self.keys.len() * page_tokens..]
    }
}

/// What failed, and on which file.
type WriteError = (PathBuf, io::Error);

/// Writes an entry and books it. Whatever happens, it is not pending any more afterwards.
pub(super) fn write_all(store: &Store, job: WriteJob) {
    if store.may_write()
        && let Err((path, error)) = write(store, &job)
    {
        store.go_quiet(&path, &error);
    }
    let keys = job.new_keys(store.shape.page_tokens);
    store.books().index.clear_pending(&keys);
    store.queued_bytes.fetch_sub(job.bytes(), Ordering::Relaxed);
}

fn write(store: &Store, job: &WriteJob) -> Result<(), WriteError> {
    let now = {
        let mut books = store.books();
        let now = books.tick();
        // What the new files stand on is as new as they are.
        let below = books.index.files_of(&job.keys[..job.first_page]);
        books.index.touch(&below, now);
        now
    };
    for (index, pages) in job.pages.chunks(MAX_RUN_PAGES).enumerate() {
        let first = job.first_page + index * MAX_RUN_PAGES;
        if !write_run(store, job, first, pages, now)? {
            return Ok(());
        }
    }
    if !write_boundary(store, job, now)? {
        return Ok(());
    }
    drop_surplus(store, job);
    sync_folder(&store.folder).map_err(|error| (store.folder.clone(), error))?;
    let files = store.books().index.files_of(&job.keys);
    store.note_used(&files, now);
    count(&store.counters.stored);
    Ok(())
}

/// `false` if there is no room.
fn write_run(
    store: &Store,
    job: &WriteJob,
    first: usize,
    pages: &[Vec<u8>],
    now: Tick,
) -> Result<bool, WriteError> {
    let page_tokens = store.shape.page_tokens;
    let tokens = job.tokens[first * page_tokens..].chunks_exact(page_tokens);
    let headers = pages.iter().zip(tokens).map(|(bytes, tokens)| PageHeader {
        tokens: tokens.to_vec(),
        sum: checksum(&[bytes]),
    });
    let before = first.checked_sub(1).map(|before| job.keys[before]);
    let header = RunHeader {
        parent: before.unwrap_or(ChainKey::ROOT),
        first_page: first as u32,
        pages: headers.collect(),
    };
    let encoded = header.encode(&store.identity);
    let payload: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
    put(store, Header::Run(header), &encoded, &payload, now)
}

/// `false` if there is no room.
fn write_boundary(store: &Store, job: &WriteJob, now: Tick) -> Result<bool, WriteError> {
    let Snapshot {
        state,
        hidden,
        logits,
    } = &job.snapshot;
    let StateSnapshot { values } = Arc::as_ref(state);
    let rows = [Some(&values[..]), hidden.as_deref(), logits.as_deref()];
    let rows: Vec<Vec<u8>> = rows.into_iter().flatten().map(to_bytes).collect();
    let parts = job.tail_page.iter().chain(&rows);
    let payload: Vec<&[u8]> = parts.map(Vec::as_slice).collect();
    let header = BoundaryHeader {
        pages_key: job.pages_key(),
        whole_pages: job.keys.len() as u32,
        tail: job.tail(store.shape.page_tokens).to_vec(),
        kind: job.kind,
        rows: Rows {
            hidden: hidden.is_some(),
            logits: logits.is_some(),
        },
        sum: checksum(&payload),
    };
    let encoded = header.encode(&store.identity);
    put(store, Header::Boundary(header), &encoded, &payload, now)
}

/// Writes one file and books it. `false` if there is no room.
fn put(
    store: &Store,
    header: Header,
    encoded: &[u8],
    payload: &[&[u8]],
    now: Tick,
) -> Result<bool, WriteError> {
    let payload_bytes: usize = payload.iter().map(|part| part.len()).sum();
    let bytes = (encoded.len() + payload_bytes) as u64;
    if !store.make_room(bytes) {
        return Ok(false);
    }
    let content = content_of(header);
    let name = file_name(&content);
    let path = store.folder.join(&name);
    let mut parts = vec![encoded];
    parts.extend(payload);
    if let Err(error) = store.medium.write(&path, &parts) {
        return Err((path, error));
    }
    // Lost recency is no harm.
    set_used(&path, now).ok();
    let file = CacheFile {
        name,
        bytes,
        payload_at: encoded.len() as u64,
        content,
    };
    store.books().index.insert(file, now);
    Ok(true)
}

/// Of a growing conversation only the newest boundaries are worth their bytes.
fn drop_surplus(store: &Store, job: &WriteJob) {
    let mut books = store.books();
    let page_tokens = store.shape.page_tokens;
    let along = books.index.boundaries_along(&job.tokens, page_tokens);
    for id in books.index.surplus(&along, store.chain_boundaries) {
        store.remove(&mut books, id);
    }
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
