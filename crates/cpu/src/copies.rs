//! Copies of weights: in the order in which kernels read them, and in huge pages.
//!
//! A mapped file is there at once, but costs its readers twice: rows have to be transposed whenever
//! they are multiplied, and small pages have to be looked up. A copy costs neither. So matrices ask
//! for one when they are first used, a thread makes them while the model answers already, and
//! whoever multiplies next finds it. What nobody uses is not copied, and the file's pages are given
//! back to the system as the copies take their place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock, Weak};

use formats::{LargeBuffer, SharedBytes};
use tensor::StoredMatrix;

use crate::dots::interleave::Interleaving;
use crate::simd::Dispatch;
use crate::topology;

/// Bytes of small matrices that are copied together, so that they share huge pages.
const TOGETHER: usize = 32 << 20;
/// Where each copy begins: at a cache line.
const ALIGNMENT: usize = 64;

/// How copies are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopySettings {
    /// In huge pages where the system has them.
    pub huge_pages: bool,
    /// Never swapped out. A copy that cannot be locked is not used.
    pub locked: bool,
}

/// Makes the copies that matrices ask for.
#[derive(Debug)]
pub struct Copier {
    dispatch: Dispatch,
    settings: CopySettings,
    requests: Receiver<Request>,
}

/// Where matrices ask.
#[derive(Debug, Clone)]
pub(crate) struct Copies {
    requests: Sender<Request>,
}

/// A matrix's copy, once it was made.
#[derive(Debug)]
pub(crate) struct Copied {
    bytes: OnceLock<SharedBytes>,
    /// See [`Copied::get`].
    interleaved: usize,
    is_asked: AtomicBool,
    request: (SharedBytes, Option<Interleaving>),
    requests: Sender<Request>,
}

/// Asks for a copy, unless its matrix is gone.
type Request = Weak<Copied>;

pub(crate) fn channel(dispatch: Dispatch, settings: CopySettings) -> (Copies, Copier) {
    let (sender, requests) = mpsc::channel();
    let copier = Copier {
        dispatch,
        settings,
        requests,
    };
    (Copies { requests: sender }, copier)
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
            requests: self.requests.clone(),
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
            // Nobody may be there to make it.
            let _ = self.requests.send(Arc::downgrade(self));
        }
    }
}

impl Copier {
    /// Makes copies as they are asked for, until the backend and all its matrices are gone. `false`
    /// if it ended before, because the system has no memory left for them or does not let it be
    /// locked: the other matrices are then used as they are stored.
    ///
    /// The calling thread gets a lower priority: it has time, and on a machine without spare cores it
    /// would take a third of them from the first prompts.
    pub fn run(self) -> bool {
        topology::lower_priority();
        while let Ok(first) = self.requests.recv() {
            if !self.copy_with_those_waiting(first) {
                return false;
            }
        }
        true
    }

    /// Makes the copies that have been asked for so far. Whether there was memory for them.
    pub fn run_once(&self) -> bool {
        while let Ok(first) = self.requests.try_recv() {
            if !self.copy_with_those_waiting(first) {
                return false;
            }
        }
        true
    }

    /// Copies one matrix, and small ones that are waiting.
    fn copy_with_those_waiting(&self, first: Request) -> bool {
        let (mut matrices, mut len) = (Vec::new(), 0);
        let waiting = std::iter::from_fn(|| self.requests.try_recv().ok());
        for request in std::iter::once(first).chain(waiting) {
            // Those that are gone need none.
            if let Some(matrix) = request.upgrade() {
                let start = len;
                len += matrix.request.0.len().next_multiple_of(ALIGNMENT);
                matrices.push((matrix, start));
            }
            if len >= TOGETHER {
                break;
            }
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
