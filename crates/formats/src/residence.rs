//! How the bytes of a model's files come into memory and stay there.
//!
//! A file is mapped when it is opened. Before it is computed with, its pages are made present,
//! all at once and by several threads: thousands of page faults in the middle of the first tokens
//! cost more. Or its bytes are read into memory of our own, in huge pages.
//!
//! This crate starts no threads: the caller says how tasks are run ([`RunTasks`]).

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::bytes::{LargeBuffer, SharedBytes};
use crate::ram::Ram;

/// Bytes per task: a whole number of huge pages, enough for the disk to read in one go, and small
/// enough that memory is spread over the nodes of the threads that fill it.
const TASK_BYTES: usize = 16 << 20;

/// Calls the function once for each of `0..tasks`, on any threads, and returns when all are done.
pub type RunTasks<'a> = dyn Fn(usize, &(dyn Fn(usize) + Sync)) + 'a;

/// How the bytes of a model come into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Use the file as the system caches it, shared with other processes. Otherwise its bytes are
    /// read into memory of our own: that takes longer and as much memory again.
    pub mmap: bool,
    /// Keep the bytes from being swapped out or dropped.
    pub mlock: bool,
    /// Ask for huge pages.
    pub huge_pages: bool,
    /// Copy weights into the order in which kernels read them, while they are used already, if
    /// there is memory for a copy.
    pub repack: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            mmap: true,
            mlock: false,
            huge_pages: true,
            repack: true,
        }
    }
}

/// Why a file's bytes could not be brought into memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResidenceError {
    /// The file cannot be read, or is shorter than it was.
    #[error("cannot read {path} into memory")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no memory for a copy of the file.
    #[error("no {bytes} bytes of memory for a copy of {path}; use the file as it is mapped (mmap)")]
    NoMemory {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The system does not let us lock as much.
    #[error(
        "cannot lock the {bytes} bytes of {path} in memory, {limit}; raise the limit \
         (ulimit -l unlimited) or go without locking (mlock)"
    )]
    Lock {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
        /// What the process may lock, in words.
        limit: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Brings the bytes of the file at `path`, which are a map of all of it, into memory.
///
/// # Errors
/// If the file cannot be read, memory is short, or locking is not allowed.
pub(crate) fn bring_into_memory(
    path: &Path,
    bytes: &mut SharedBytes,
    options: LoadOptions,
    run: &RunTasks<'_>,
) -> Result<(), ResidenceError> {
    if bytes.is_mapped() {
        if options.mmap {
            make_present(bytes, options, run);
        } else {
            *bytes = read(path, bytes.len(), options, run)?;
        }
    }
    if options.mlock {
        bytes.lock().map_err(|source| ResidenceError::Lock {
            path: path.to_owned(),
            bytes: bytes.len(),
            limit: lock_limit(),
            source,
        })?;
    }
    Ok(())
}

/// Maps all pages of a file that fits into memory. One that does not would push out its own first
/// pages, so it is left to be read as it is used.
fn make_present(bytes: &SharedBytes, options: LoadOptions, run: &RunTasks<'_>) {
    if options.huge_pages {
        bytes.prefer_huge_pages();
    }
    if available_memory().is_some_and(|available| bytes.len() as u64 > available) {
        return;
    }
    let tasks = bytes.len().div_ceil(TASK_BYTES);
    run(tasks, &|task| {
        let start = task * TASK_BYTES;
        let end = bytes.len().min(start + TASK_BYTES);
        if let Some(part) = bytes.slice(start..end) {
            part.populate();
        }
    });
}

/// A copy of the file in memory of our own.
fn read(
    path: &Path,
    len: usize,
    options: LoadOptions,
    run: &RunTasks<'_>,
) -> Result<SharedBytes, ResidenceError> {
    // The system promises memory more freely than it can give it.
    let buffer = match available_memory() {
        Some(available) if len as u64 > available => Err(io::ErrorKind::OutOfMemory.into()),
        _ => LargeBuffer::<u8>::zeroed(len),
    };
    let mut buffer = buffer.map_err(|source| ResidenceError::NoMemory {
        path: path.to_owned(),
        bytes: len,
        source,
    })?;
    if !options.huge_pages {
        buffer = buffer.in_small_pages();
    }
    let failed = Mutex::new(None);
    let parts: Vec<Mutex<&mut [u8]>> = buffer.chunks_mut(TASK_BYTES).map(Mutex::new).collect();
    run(parts.len(), &|task| {
        let mut part = parts[task].lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = read_part(path, task * TASK_BYTES, &mut part) {
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
        }
    });
    drop(parts);
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(SharedBytes::from_large(buffer)),
        Some(source) => Err(ResidenceError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn read_part(path: &Path, start: usize, part: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start as u64))?;
    file.read_exact(part)
}

/// The bytes of memory that can be had without swapping, what is cached of files included; `None`
/// where the system does not say.
pub fn available_memory() -> Option<u64> {
    Ram::look().map(|ram| ram.free)
}

/// Whether there is memory for a copy of so many bytes, and a fourth more for what else is computed
/// with. What the system keeps of files does not count: it is dropped when memory is needed.
pub fn fits_copy_of(bytes: u64) -> bool {
    available_memory().is_some_and(|available| bytes + bytes / 4 <= available)
}

/// Whether a copy of so many bytes takes the place of what the system keeps of files, since that
/// much memory is not free.
pub fn displaces_cached_files(bytes: u64) -> bool {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = field(&info, "MemFree:").and_then(|kib| kib.parse::<u64>().ok());
    free.is_some_and(|kib| kib.saturating_mul(1024) < bytes + bytes / 4)
}

/// What the system lets this process lock, in words.
fn lock_limit() -> String {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match field(&limits, "Max locked memory") {
        Some(limit) => format!("of which this process may lock {limit}"),
        None => "more than this process may".to_owned(),
    }
}

/// The first word after `name` at the start of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Backwards, since nothing may depend on the order.
    fn run(tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).rev().for_each(task);
    }

    fn every_option() -> impl Iterator<Item = LoadOptions> {
        [true, false].into_iter().flat_map(|mmap| {
            [true, false].map(|huge_pages| LoadOptions {
                mmap,
                huge_pages,
                ..LoadOptions::default()
            })
        })
    }

    #[test]
    fn bytes_stay_the_same_wherever_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        for len in [0, 1, 5000, TASK_BYTES + 3] {
            let content: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            fs::write(&path, &content).unwrap();
            for options in every_option() {
                let mut bytes = SharedBytes::map_file(&path).unwrap();
                bring_into_memory(&path, &mut bytes, options, &run).unwrap();
                assert_eq!(bytes.is_mapped(), options.mmap && len > 0);
                assert!(*bytes == *content, "{len} bytes with {options:?}");
            }
        }
    }

    #[test]
    fn a_file_that_shrank_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        fs::write(&path, [1; 100]).unwrap();
        let options = LoadOptions {
            mmap: false,
            ..LoadOptions::default()
        };
        let error = read(&path, 101, options, &run).unwrap_err();
        assert!(matches!(error, ResidenceError::Read { .. }));
    }

    #[test]
    fn fields_are_found() {
        let text = "MemFree:  12 kB\nMax locked memory         8388608   9 bytes\n";
        assert_eq!(field(text, "MemFree:"), Some("12"));
        assert_eq!(field(text, "Max locked memory"), Some("8388608"));
        assert_eq!(field(text, "MemAvailable:"), None);
    }
}
