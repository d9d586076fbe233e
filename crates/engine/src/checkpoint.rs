//! Points in a sequence's life that outlive it, and pages that are kept beside the sequences.

use std::sync::Arc;

use tensor::{PageId, StateSnapshot};

use crate::engine::{Engine, SequenceId};
use crate::error::EngineError;

/// Pages held beside the sequences: by a checkpoint, the prefix cache, a parked sequence.
///
/// Hand them back with [`Engine::release`]; they stay held until then.
#[derive(Debug)]
#[must_use = "held pages are never free again unless they are released"]
pub struct HeldPages(pub(crate) Vec<PageId>);

impl HeldPages {
    /// Which, in the order of the tokens they hold.
    pub fn ids(&self) -> &[PageId] {
        &self.0
    }
}

/// A point in a sequence's life to go back to: its pages are shared, its state is copied out.
///
/// Hand it back with [`Engine::discard`]; its pages stay held until then.
#[derive(Debug)]
#[must_use = "a checkpoint's pages are never free again unless it is discarded"]
pub struct Checkpoint {
    pub(crate) past: usize,
    pub(crate) pages: HeldPages,
    pub(crate) state: Arc<StateSnapshot>,
}

impl Checkpoint {
    /// A point made of parts that were read back.
    pub fn new(past: usize, pages: HeldPages, state: Arc<StateSnapshot>) -> Self {
        Self { past, pages, state }
    }

    /// The tokens it covers.
    pub fn tokens(&self) -> usize {
        self.past
    }

    /// Its pages.
    pub fn pages(&self) -> &HeldPages {
        &self.pages
    }

    /// Its copied state.
    pub fn state(&self) -> &Arc<StateSnapshot> {
        &self.state
    }

    /// Only its pages.
    pub fn into_pages(self) -> HeldPages {
        self.pages
    }

    /// The bytes of its copied state.
    pub fn state_bytes(&self) -> usize {
        self.state.bytes()
    }
}

impl Engine {
    /// Remembers where a sequence is.
    ///
    /// # Errors
    /// If there is no such sequence or the device fails.
    pub fn checkpoint(&mut self, id: SequenceId) -> Result<Checkpoint, EngineError> {
        self.settle(id)?;
        let (sequence, pages) = (self.sequence(id)?, self.used_pages(id)?.to_vec());
        let state = Arc::new(self.runner.snapshot(sequence.state)?);
        let past = sequence.past;
        let pages = self.lend(pages);
        Ok(Checkpoint { past, pages, state })
    }

    /// The same point once more.
    pub fn copy_checkpoint(&mut self, point: &Checkpoint) -> Checkpoint {
        Checkpoint {
            past: point.past,
            pages: self.lend(point.pages.0.clone()),
            state: Arc::clone(&point.state),
        }
    }

    /// Puts a sequence back (or another one forward) to a checkpoint, exactly.
    ///
    /// # Errors
    /// If there is no such sequence or the device fails.
    pub fn restore(&mut self, id: SequenceId, point: &Checkpoint) -> Result<(), EngineError> {
        let state = self.sequence(id)?.state;
        self.runner.restore(state, &point.state)?;
        self.replace_pages(id, point.past, point.pages.0.clone())
    }

    /// Starts a sequence that goes on from a checkpoint.
    ///
    /// # Errors
    /// If no state is free or the device fails.
    pub fn start_from(&mut self, point: &Checkpoint) -> Result<SequenceId, EngineError> {
        self.start_at(point.past, &point.pages.0, &point.state)
    }

    /// Starts a sequence of `past` tokens that are in these pages, which others hold.
    pub(crate) fn start_at(
        &mut self,
        past: usize,
        pages: &[PageId],
        state: &StateSnapshot,
    ) -> Result<SequenceId, EngineError> {
        let id = self.start()?;
        let slot = self.sequence(id)?.state;
        let put_back = self.runner.restore(slot, state).map_err(EngineError::from);
        match put_back.and_then(|()| self.replace_pages(id, past, pages.to_vec())) {
            Ok(()) => Ok(id),
            Err(error) => {
                self.end(id)?;
                Err(error)
            }
        }
    }

    /// Frees a checkpoint.
    pub fn discard(&mut self, point: Checkpoint) {
        self.release(point.pages);
    }

    /// Gives pages back.
    pub fn release(&mut self, pages: HeldPages) {
        pages
            .0
            .into_iter()
            .for_each(|page| self.pool.take_back(page));
    }

    /// Copies a page's bytes out, in the device's own form.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read_page(&self, page: PageId) -> Result<Vec<u8>, EngineError> {
        Ok(self.runner.read_page(page)?)
    }

    /// Fills free pages with bytes that were read from pages of the same layout.
    ///
    /// # Errors
    /// If too few pages are free, the bytes are of another layout, or the device fails.
    pub fn write_pages<'a>(
        &mut self,
        contents: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<HeldPages, EngineError> {
        if contents.len() > self.pool.free_pages() {
            return Err(EngineError::OutOfMemory { what: "page" });
        }
        let mut held = HeldPages(Vec::with_capacity(contents.len()));
        for bytes in contents {
            let Some(page) = self.pool.take_lent_page() else {
                self.release(held);
                return Err(EngineError::OutOfMemory { what: "page" });
            };
            held.0.push(page);
            if let Err(error) = self.runner.write_page(page, bytes) {
                self.release(held);
                return Err(error.into());
            }
        }
        Ok(held)
    }

    pub(crate) fn lend(&mut self, pages: Vec<PageId>) -> HeldPages {
        pages.iter().for_each(|&page| self.pool.lend(page));
        HeldPages(pages)
    }
}
