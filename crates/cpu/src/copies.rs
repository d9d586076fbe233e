//! Copies of weights: in the order in which kernels read them, and in huge pages.
//!
//! A mapped file is there at once, but costs its readers twice: rows have to be transposed whenever
//! they are multiplied, and small pages have to be looked up. A copy costs neither. So matrices ask
//! for one when they are first used, a thread makes them while the model answers already, and
//! whoever multiplies next finds it. What nobody uses is not copied, and the file's pages are given
//! back to the system as the copies take their place.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use formats::{LargeBuffer, SharedBytes};
use tensor::StoredMatrix;

use crate::dots::interleave::Interleaving;
use crate::simd::Dispatch;
use crate::topology;

/// Bytes of small matrices that are copied together, so that they share huge pages.
const TOGETHER: usize = 32 << 20;
/// Bytes after whose copying the system is asked to drop cached files: it looks at all of them.
const BETWEEN_DROPS: usize = 512 << 20;
/// Where each copy begins: at a cache line.
const ALIGNMENT: usize = 64;

/// How copies are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopySettings {
    /// In huge pages where the system has them.
    pub huge_pages: bool,
    /// Never swapped out. A copy that cannot be locked is not used.
    pub locked: bool,
    /// The system is asked to drop what it keeps of a file in memory as copies take its place. It
    /// would find memory for them also without being asked, but not huge pages.
    pub replaces_file: bool,
}

/// Makes the copies that matrices ask for. Several threads may have a clone each.
#[derive(Debug, Clone)]
pub struct Copier {
    dispatch: Dispatch,
    settings: CopySettings,
    queue: Arc<Queue>,
}

/// What all clones of a copier take from.
#[derive(Debug)]
struct Queue {
    requests: Mutex<Receiver<Request>>,
    progress: CopyProgress,
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Nobody is left to make what is still asked for.
        self.progress.is_over.store(true, Ordering::Release);
    }
}

/// Tells how many copies are still to be made.
#[derive(Debug, Clone, Default)]
pub struct CopyProgress {
    waiting: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl CopyProgress {
    /// Matrices that have asked for a copy and do not have it yet; 0 once nobody makes any more.
    pub fn waiting(&self) -> usize {
        match self.is_over.load(Ordering::Acquire) {
            true => 0,
            false => self.waiting.load(Ordering::Acquire),
        }
    }
}

/// Where matrices ask.
#[derive(Debug, Clone)]
pub(crate) struct Copies {
    requests: Sender<Request>,
    progress: CopyProgress,
}

/// A matrix's copy, once it was made.
#[derive(Debug)]
pub(crate) struct Copied {
    bytes: OnceLock<SharedBytes>,
    /// See [`Copied::get`].
    interleaved: usize,
    is_asked: AtomicBool,
    request: (SharedBytes, Option<Interleaving>),
    copies: Copies,
}

/// Asks for a copy, unless its matrix is gone.
type Request = Weak<Copied>;

pub(crate) fn channel(dispatch: Dispatch, settings: CopySettings) -> (Copies, Copier) {
    let (sender, requests) = mpsc::channel();
    let copies = Copies {
        requests: sender,
        progress: CopyProgress::default(),
    };
    let queue = Queue {
        requests: Mutex::new(requests),
        progress: copies.progress.clone(),
    };
    let copier = Copier {
        dispatch,
        settings,
        queue: Arc::new(queue),
    };
    (copies, copier)
}

impl Copies {
    /// A place for the copy of a matrix.
    pub(crate) fn of(
        &self,
        stored: &StoredMatrix,
        interleaving: Option<Interleaving>,
    ) -> Arc<Copied> {
        let whole_panels = |i: Interleaving| stored.rows() / i.lanes * i.lanes;
        Arc::new(Copied {
            bytes: OnceLock::new(),
            interleaved: interleaving.map_or(0, whole_panels),
            is_asked: AtomicBool::new(false),
            request: (stored.shared_bytes().clone(), interleaving),
            copies: self.clone(),
        })
    }
}

impl Copied {
    /// The copy, and how many rows from the first one on lie in interleaved panels.
    pub(crate) fn get(&self) -> Option<(&[u8], usize)> {
        let bytes = self.bytes.get()?;
        Some((bytes, self.interleaved))
    }

    /// Asks for the copy, the first time it is called.
    pub(crate) fn ask(self: &Arc<Self>) {
        if !self.is_asked.load(Ordering::Relaxed) && !self.is_asked.swap(true, Ordering::Relaxed) {
            self.copies.progress.waiting.fetch_add(1, Ordering::Relaxed);
            // Nobody may be there to make it.
            let _ = self.copies.requests.send(Arc::downgrade(self));
        }
    }
}

impl Copier {
    /// How far it is.
    pub fn progress(&self) -> CopyProgress {
        self.queue.progress.clone()
    }

    /// Makes copies as they are asked for, until the backend and all its matrices are gone. `false`
    /// if it ended before, because the system has no memory left for them or does not let it be
    /// locked: the other matrices are then used as they are stored.
    ///
    /// The calling thread gets a lower priority: it has time, and on a machine without spare cores it
    /// would take a third of them from the first prompts. On a machine whose memory belongs to
    /// several nodes it spreads copies over all of them, since any thread may read any weight.
    pub fn run(self) -> bool {
        topology::lower_priority();
        topology::spread_memory_over_nodes();
        self.serve(|queue| queue.recv().ok())
    }

    /// Makes the copies that have been asked for so far. Whether there was memory for them.
    pub fn run_once(&self) -> bool {
        self.serve(|queue| queue.try_recv().ok())
    }

    fn serve(&self, next: impl Fn(&Receiver<Request>) -> Option<Request>) -> bool {
        let mut since_drop = 0;
        while let Some(requests) = self.take(&next) {
            let is_copied = self.copy(&requests);
            since_drop += TOGETHER;
            if self.settings.replaces_file && since_drop >= BETWEEN_DROPS {
                since_drop = 0;
                drop_files(&requests);
            }
            let waiting = &self.queue.progress.waiting;
            waiting.fetch_sub(requests.len(), Ordering::Release);
            if !is_copied {
                return false;
            }
        }
        true
    }

    /// One request, and small ones that are waiting.
    fn take(&self, first: impl Fn(&Receiver<Request>) -> Option<Request>) -> Option<Vec<Request>> {
        // A thread that panicked has left the queue as it was.
        let queue = self.queue.requests.lock();
        let queue = queue.unwrap_or_else(PoisonError::into_inner);
        let mut requests = vec![first(&queue)?];
        let len = |request: &Request| request.upgrade().map_or(0, |m| m.request.0.len());
        let mut together = len(&requests[0]);
        while together < TOGETHER {
            let Ok(next) = queue.try_recv() else { break };
            together += len(&next);
            requests.push(next);
        }
        Some(requests)
    }

    /// Makes copies that share huge pages.
    fn copy(&self, requests: &[Request]) -> bool {
        let (mut matrices, mut len) = (Vec::new(), 0);
        // Matrices that are gone need none.
        for matrix in requests.iter().filter_map(Weak::upgrade) {
            let start = len;
            len += matrix.request.0.len().next_multiple_of(ALIGNMENT);
            matrices.push((matrix, start));
        }
        let Ok(buffer) = LargeBuffer::<u8>::zeroed(len) else {
            return false;
        };
        let mut buffer = match self.settings.huge_pages {
            true => buffer,
            false => buffer.in_small_pages(),
        };
        for (matrix, start) in &matrices {
            let (from, interleaving) = &matrix.request;
            let to = &mut buffer[*start..start + from.len()];
            match interleaving {
                Some(interleaving) => interleaving.copy(self.dispatch, from, to),
                None => to.copy_from_slice(from),
            }
        }
        let buffer = SharedBytes::from_large(buffer);
        if self.settings.locked && buffer.lock().is_err() {
            return false;
        }
        for (matrix, start) in matrices {
            let from = &matrix.request.0;
            if let Some(copy) = buffer.slice(start..start + from.len()) {
                // Nobody else sets it.
                let _ = matrix.bytes.set(copy);
                from.release();
            }
        }
        true
    }
}

/// Drops from the system's cache the files whose bytes were copied.
fn drop_files(requests: &[Request]) {
    let mut files: Vec<SharedBytes> = Vec::new();
    for matrix in requests.iter().filter_map(Weak::upgrade) {
        let bytes = &matrix.request.0;
        if !files.iter().any(|file| file.shares_owner(bytes)) {
            files.push(bytes.clone());
        }
    }
    files.iter().for_each(SharedBytes::drop_cached_file);
}
