//! The directory: one folder per identity, one writer per folder.
//!
//! ```text
//! CACHE_DIR/v1-IDENTITY/lock        held by the process that writes here
//!                       *.pages     runs
//!                       *.state     boundaries
//!                       *.partial   being written; left behind when a process was killed
//!                       gone        names of boundaries that had to go
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::format::{self, Header, PREFIX_BYTES, Shape, Unusable, VERSION};
use super::index::{CacheFile, Content, Tick};
use super::key::{ChainKey, Identity};
use super::medium::{PARTIAL, used};
use crate::cache::Key;

pub(super) const RUN: &str = "pages";
pub(super) const BOUNDARY: &str = "state";

/// The folder of an identity.
pub(super) fn name(identity: &Identity) -> String {
    format!("v{VERSION}-{}", identity.short())
}

/// Becomes the one writer of a folder. `None` if another process is.
///
/// # Errors
/// If the lock file cannot be made, as in a folder that is read-only.
pub(super) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("lock"))?;
    // Who makes room holds the lock for a moment; who serves holds it for good.
    for _ in 0..20 {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) files: Vec<(CacheFile, Tick)>,
    pub(super) unusable: Vec<(PathBuf, String)>,
    /// Left behind by a process that was killed.
    pub(super) partial: Vec<PathBuf>,
}

/// Reads the headers of all files in a folder.
///
/// # Errors
/// If the folder cannot be listed.
pub(super) fn scan(folder: &Path, identity: &Identity, shape: &Shape) -> io::Result<Scan> {
    let mut scan = Scan::default();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|e| e.to_str());
        match extension {
            Some(PARTIAL) => scan.partial.push(path),
            Some(RUN | BOUNDARY) => match read_header(&path, identity, shape) {
                Ok(found) => scan.files.push(found),
                Err(why) => scan.unusable.push((path, why)),
            },
            _ => {}
        }
    }
    Ok(scan)
}

fn read_header(
    path: &Path,
    identity: &Identity,
    shape: &Shape,
) -> Result<(CacheFile, Tick), String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Unusable::Truncated.to_string(),
        _ => error.to_string(),
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Unusable::NotOurs.to_string())?;
    let mut file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mut prefix = [0; PREFIX_BYTES];
    file.read_exact(&mut prefix).map_err(unreadable)?;
    let bytes = format::header_bytes(&prefix).map_err(|why| why.to_string())?;
    let mut header = prefix.to_vec();
    // Grows with what is really there.
    file.take((bytes - PREFIX_BYTES) as u64)
        .read_to_end(&mut header)
        .map_err(unreadable)?;
    if header.len() < bytes {
        return Err(Unusable::Truncated.to_string());
    }
    let decoded = format::decode(&header, metadata.len(), identity, shape);
    let content = content_of(decoded.map_err(|why| why.to_string())?);
    if file_name(&content) != name {
        return Err(Unusable::NotOurs.to_string());
    }
    let file = CacheFile {
        name: name.to_owned(),
        bytes: metadata.len(),
        payload_at: bytes as u64,
        content,
    };
    Ok((file, used(&metadata)))
}

/// What the index keeps of a header.
pub(super) fn content_of(header: Header) -> Content {
    match header {
        Header::Run(run) => {
            let mut key = run.parent;
            let pages = run.pages.iter().map(|page| {
                key = key.then(&page.tokens);
                (key, page.sum)
            });
            let tokens = run.pages.iter().flat_map(|page| &page.tokens);
            Content::Run {
                parent: run.parent,
                pages: pages.collect(),
                first_page: run.first_page,
                tokens: tokens.copied().collect(),
            }
        }
        Header::Boundary(boundary) => Content::Boundary {
            pages_key: boundary.pages_key,
            whole_pages: boundary.whole_pages,
            tail: boundary.tail,
            kind: boundary.kind,
            rows: boundary.rows,
            sum: boundary.sum,
        },
    }
}

/// The name of a file with this content: equal names, equal tokens.
pub(super) fn file_name(content: &Content) -> String {
    match content {
        Content::Run {
            first_page, pages, ..
        } => {
            let last = pages.last().map_or(String::new(), |(key, _)| key.short());
            format!("{first_page:06}-{last}.{RUN}")
        }
        Content::Boundary {
            pages_key,
            whole_pages,
            tail,
            ..
        } => boundary_name(*whole_pages, *pages_key, tail),
    }
}

/// The name of a boundary's file, the same for every model.
pub(super) fn boundary_name(whole_pages: u32, pages_key: ChainKey, tail: &[Key]) -> String {
    let key = boundary_key(pages_key, tail).short();
    format!("{whole_pages:06}-{key}.{BOUNDARY}")
}

/// Names a boundary. A tail is shorter than a page, so that no page has this key.
pub(super) fn boundary_key(pages_key: ChainKey, tail: &[Key]) -> ChainKey {
    pages_key.then(tail)
}
