//! How the bytes of a model's files come into memory and stay there.
//!
//! A file is mapped when it is opened. Before it is computed with, its pages are made present,
//! all at once and by several threads: thousands of page faults in the middle of the first tokens
//! cost more. Or its bytes are read into memory of our own, in huge pages.
//!
//! This crate starts no threads: the caller says how tasks are run ([`RunTasks`]).

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::bytes::{LargeBuffer, SharedBytes};
use crate::ram::Ram;
use crate::tensor_info::TensorInfo;

/// Bytes per task: a whole number of huge pages, enough for the disk to read in one go, and small
/// enough that memory is spread over the nodes of the threads that fill it.
const TASK_BYTES: usize = 16 << 20;

/// Bytes between two parts of a file that are brought with them, since as many would be read anyway.
const SMALL_GAP: usize = 64 << 10;

/// Calls the function once for each of `0..tasks`, on any threads, and returns when all are done.
pub type RunTasks<'a> = dyn Fn(usize, &(dyn Fn(usize) + Sync)) + 'a;

/// How the bytes of a model come into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Use the file as the system caches it, shared with other processes. Otherwise bytes that are used are
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
    #[error(
        "no {bytes} bytes of memory for a copy of what is used of {path}; use the file as it is mapped (mmap)"
    )]
    NoMemory {
        /// The file.
        path: PathBuf,
        /// How much of it.
        bytes: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The system does not let us lock as much.
    #[error(
        "cannot lock {bytes} bytes of {path} in memory, {limit}; raise the limit \
         (ulimit -l unlimited) or go without locking (mlock)"
    )]
    Lock {
        /// The file.
        path: PathBuf,
        /// How much of it.
        bytes: usize,
        /// What the process may lock, in words.
        limit: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A file of a model.
#[derive(Debug)]
pub(crate) struct ModelFile {
    pub(crate) path: PathBuf,
    /// All of it.
    pub(crate) bytes: SharedBytes,
    own: OwnBytes,
}

impl ModelFile {
    pub(crate) fn new(path: PathBuf, bytes: SharedBytes) -> Self {
        Self {
            path,
            bytes,
            own: OwnBytes::default(),
        }
    }

    /// Maps it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(path.to_owned(), SharedBytes::map_file(path)?))
    }

    /// The bytes of a tensor, in memory of our own if they are there; `None` if the file does not have them.
    pub(crate) fn bytes_of(&self, tensor: &TensorInfo) -> Option<SharedBytes> {
        let range = tensor.range()?;
        let own = self.own.slice(&range);
        own.or_else(|| self.bytes.slice(range))
    }

    /// Brings tensors into memory, for computing with them.
    ///
    /// # Errors
    /// If the file cannot be read, memory is short, or locking is not allowed.
    pub(crate) fn bring_into_memory<'t>(
        &mut self,
        tensors: impl Iterator<Item = &'t TensorInfo>,
        options: LoadOptions,
        run: &RunTasks<'_>,
    ) -> Result<(), ResidenceError> {
        let wanted: Vec<_> = tensors.filter_map(TensorInfo::range).collect();
        self.own = bring_into_memory(&self.path, &self.bytes, &wanted, options, run)?;
        Ok(())
    }
}

/// What of a file is in memory of our own: where it begins in the file, and its bytes.
#[derive(Debug, Clone, Default)]
struct OwnBytes(Vec<(usize, SharedBytes)>);

impl OwnBytes {
    /// The part `range` of the file, if all of it is there.
    fn slice(&self, range: &Range<usize>) -> Option<SharedBytes> {
        self.0.iter().find_map(|(first, bytes)| {
            let start = range.start.checked_sub(*first)?;
            bytes.slice(start..range.end.checked_sub(*first)?)
        })
    }
}

/// Ranges of a file of `len` bytes, in order, as few as may be.
fn merged(mut ranges: Vec<Range<usize>>, len: usize) -> Vec<Range<usize>> {
    ranges.retain(|range| !range.is_empty() && range.end <= len);
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut all: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(SMALL_GAP) => {
                last.end = last.end.max(range.end);
            }
            _ => all.push(range),
        }
    }
    all
}

/// Brings parts of the file at `path`, of which `bytes` are a map of all, into memory; returns those that are
/// in memory of our own then.
///
/// # Errors
/// If the file cannot be read, memory is short, or locking is not allowed.
fn bring_into_memory(
    path: &Path,
    bytes: &SharedBytes,
    wanted: &[Range<usize>],
    options: LoadOptions,
    run: &RunTasks<'_>,
) -> Result<OwnBytes, ResidenceError> {
    if !bytes.is_mapped() {
        return Ok(OwnBytes::default());
    }
    let wanted = merged(wanted.to_vec(), bytes.len());
    let own = match options.mmap {
        true => OwnBytes::default(),
        false => read(path, &wanted, options, run)?,
    };
    let in_map = wanted.into_iter().filter_map(|range| bytes.slice(range));
    let parts: Vec<SharedBytes> = match options.mmap {
        true => in_map.collect(),
        false => own.0.iter().map(|(_, bytes)| bytes.clone()).collect(),
    };
    if options.mmap {
        make_present(&parts, options, run);
    }
    if options.mlock {
        let locked = parts.iter().try_for_each(SharedBytes::lock);
        locked.map_err(|source| ResidenceError::Lock {
            path: path.to_owned(),
            bytes: parts.iter().map(|part| part.len()).sum(),
            limit: lock_limit(),
            source,
        })?;
    }
    Ok(own)
}

/// Maps all pages of a file's parts that fit into memory together. Those that do not would push out their own
/// first pages, so they are left to be read as they are used.
fn make_present(parts: &[SharedBytes], options: LoadOptions, run: &RunTasks<'_>) {
    if options.huge_pages {
        parts.iter().for_each(SharedBytes::prefer_huge_pages);
    }
    let len: usize = parts.iter().map(|part| part.len()).sum();
    if available_memory().is_some_and(|available| len as u64 > available) {
        return;
    }
    let tasks: Vec<SharedBytes> = parts
        .iter()
        .flat_map(|part| {
            let starts = (0..part.len()).step_by(TASK_BYTES);
            starts.filter_map(|start| part.slice(start..part.len().min(start + TASK_BYTES)))
        })
        .collect();
    run(tasks.len(), &|task| tasks[task].populate());
}

/// Copies of a file's parts in memory of our own.
fn read(
    path: &Path,
    wanted: &[Range<usize>],
    options: LoadOptions,
    run: &RunTasks<'_>,
) -> Result<OwnBytes, ResidenceError> {
    let len: usize = wanted.iter().map(Range::len).sum();
    // The system promises memory more freely than it can give it.
    let buffers: io::Result<Vec<_>> = match available_memory() {
        Some(available) if len as u64 > available => Err(io::ErrorKind::OutOfMemory.into()),
        _ => wanted
            .iter()
            .map(|range| LargeBuffer::<u8>::zeroed(range.len()))
            .collect(),
    };
    let mut buffers = buffers.map_err(|source| ResidenceError::NoMemory {
        path: path.to_owned(),
        bytes: len,
        source,
    })?;
    if !options.huge_pages {
        let small = buffers.into_iter().map(LargeBuffer::in_small_pages);
        buffers = small.collect();
    }
    let failed = Mutex::new(None);
    let parts = wanted.iter().zip(&mut buffers).flat_map(|(range, buffer)| {
        let starts = range.clone().step_by(TASK_BYTES);
        starts.zip(buffer.chunks_mut(TASK_BYTES)).map(Mutex::new)
    });
    let parts: Vec<Mutex<(usize, &mut [u8])>> = parts.collect();
    run(parts.len(), &|task| {
        let mut part = parts[task].lock().unwrap_or_else(PoisonError::into_inner);
        let (start, bytes) = &mut *part;
        if let Err(error) = read_part(path, *start, bytes) {
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
        }
    });
    drop(parts);
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => {
            let buffers = buffers.into_iter().map(SharedBytes::from_large);
            let starts = wanted.iter().map(|range| range.start);
            Ok(OwnBytes(starts.zip(buffers).collect()))
        }
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
                let bytes = SharedBytes::map_file(&path).unwrap();
                let all = 0..len;
                let all = std::slice::from_ref(&all);
                let own = bring_into_memory(&path, &bytes, all, options, &run).unwrap();
                let own = own.slice(&(0..len));
                assert_eq!(own.is_some(), !options.mmap && len > 0);
                let bytes = own.unwrap_or(bytes);
                assert!(*bytes == *content, "{len} bytes with {options:?}");
            }
        }
    }

    #[test]
    fn only_what_is_wanted_is_brought() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let content: Vec<u8> = (0..3 * TASK_BYTES).map(|i| (i % 241) as u8).collect();
        fs::write(&path, &content).unwrap();
        let wanted = [100..2000, TASK_BYTES + 5..2 * TASK_BYTES + 7];
        for options in every_option() {
            let bytes = SharedBytes::map_file(&path).unwrap();
            let own = bring_into_memory(&path, &bytes, &wanted, options, &run).unwrap();
            for range in wanted.iter().cloned().chain([150..1000, 2000..2000]) {
                let part = own.slice(&range);
                assert_eq!(part.is_some(), !options.mmap, "{range:?}");
                if let Some(part) = part {
                    assert!(*part == content[range]);
                }
            }
            for range in [0..100, 99..101, 1999..2001, 0..content.len()] {
                assert!(own.slice(&range).is_none(), "{range:?}");
            }
            let kept: usize = own.0.iter().map(|(_, bytes)| bytes.len()).sum();
            let expected: usize = wanted.iter().map(Range::len).sum();
            assert_eq!(kept, if options.mmap { 0 } else { expected });
        }
    }

    #[test]
    fn ranges_that_are_near_become_one() {
        let far = 10 * SMALL_GAP;
        let ranges = vec![
            far..far + 9,
            3..10,
            5..8,
            20..20,
            10 + SMALL_GAP..SMALL_GAP + 11,
            far..far + 11,
        ];
        assert_eq!(merged(ranges, far + 10), [3..SMALL_GAP + 11, far..far + 9]);
    }

    #[test]
    fn parts_are_locked_where_the_system_lets_us() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        fs::write(&path, vec![7; 300_000]).unwrap();
        for options in every_option() {
            let options = LoadOptions {
                mlock: true,
                ..options
            };
            let bytes = SharedBytes::map_file(&path).unwrap();
            let wanted = [100_001..100_500, 200_000..200_001];
            match bring_into_memory(&path, &bytes, &wanted, options, &run) {
                Ok(_) => {}
                Err(error) => assert!(error.to_string().contains("500 bytes of"), "{error}"),
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
        let more = std::slice::from_ref(&(0..101));
        let error = read(&path, more, options, &run).unwrap_err();
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
