//! Which page and which state slot is whose.
//!
//! Pages are shared by reference count: forks and checkpoints hold pages that a sequence still
//! reads. Whoever writes to a shared page takes a copy first.

use tensor::{PageId, StateId};

/// Counted pages and free state slots of one device memory.
#[derive(Debug)]
pub(crate) struct Pool {
    free_pages: Vec<PageId>,
    /// Per page, how many hold it.
    holders: Vec<u32>,
    /// Per page, how many of these are no sequences.
    lent: Vec<u32>,
    free_states: Vec<StateId>,
    states: usize,
}

impl Pool {
    pub(crate) fn new(pages: usize, states: usize) -> Self {
        // Popped from the end: low numbers first, so that memory is touched from its start.
        Self {
            free_pages: (0..pages as u32).rev().map(PageId).collect(),
            holders: vec![0; pages],
            lent: vec![0; pages],
            free_states: (0..states as u32).rev().map(StateId).collect(),
            states,
        }
    }

    pub(crate) fn free_pages(&self) -> usize {
        self.free_pages.len()
    }

    pub(crate) fn take_page(&mut self) -> Option<PageId> {
        let page = self.free_pages.pop()?;
        self.holders[page.0 as usize] = 1;
        Some(page)
    }

    /// One more holder of a page.
    pub(crate) fn hold(&mut self, page: PageId) {
        debug_assert!(self.holders[page.0 as usize] > 0, "held pages only");
        self.holders[page.0 as usize] += 1;
    }

    /// One holder less; the last one frees the page.
    pub(crate) fn release(&mut self, page: PageId) {
        let holders = &mut self.holders[page.0 as usize];
        debug_assert!(*holders > 0, "held pages only");
        *holders -= 1;
        if *holders == 0 {
            self.free_pages.push(page);
        }
    }

    /// One more holder that is no sequence.
    pub(crate) fn lend(&mut self, page: PageId) {
        self.hold(page);
        self.lent[page.0 as usize] += 1;
    }

    /// A free page for a holder that is no sequence.
    pub(crate) fn take_lent_page(&mut self) -> Option<PageId> {
        let page = self.take_page()?;
        self.lent[page.0 as usize] += 1;
        Some(page)
    }

    /// Ends what [`Pool::lend`] or [`Pool::take_lent_page`] began.
    pub(crate) fn take_back(&mut self, page: PageId) {
        debug_assert!(self.lent[page.0 as usize] > 0, "lent pages only");
        self.lent[page.0 as usize] -= 1;
        self.release(page);
    }

    pub(crate) fn holders(&self, page: PageId) -> u32 {
        self.holders[page.0 as usize]
    }

    pub(crate) fn lent(&self, page: PageId) -> u32 {
        self.lent[page.0 as usize]
    }

    pub(crate) fn pages(&self) -> usize {
        self.holders.len()
    }

    pub(crate) fn states(&self) -> usize {
        self.states
    }

    pub(crate) fn free_states(&self) -> usize {
        self.free_states.len()
    }

    pub(crate) fn is_shared(&self, page: PageId) -> bool {
        self.holders[page.0 as usize] > 1
    }

    pub(crate) fn take_state(&mut self) -> Option<StateId> {
        self.free_states.pop()
    }

    pub(crate) fn release_state(&mut self, state: StateId) {
        self.free_states.push(state);
    }

    /// Checks that every page is free, or held as often as `held` lists it and it is lent, and
    /// states likewise.
    ///
    /// # Panics
    /// If the books are wrong.
    pub(crate) fn assert_consistent(
        &self,
        held: impl Iterator<Item = PageId>,
        states_in_use: usize,
    ) {
        let mut counted = self.lent.clone();
        held.for_each(|page| counted[page.0 as usize] += 1);
        assert_eq!(
            counted, self.holders,
            "each page is held as often as its owners say"
        );
        let free = counted.iter().filter(|&&holders| holders == 0).count();
        assert_eq!(free, self.free_pages.len(), "free + held = all pages");
        assert_eq!(
            states_in_use + self.free_states.len(),
            self.states,
            "free + used = all states"
        );
    }
}
