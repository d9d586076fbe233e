//! What a scheduler tells of itself.

use crate::request::RequestId;
use crate::speculate::DraftCounts;

use super::Scheduler;
use super::stream::{ParkedPages, Place, Stream};

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metrics {
    /// Steps.
    pub steps: u64,
    /// Rows of prompts.
    pub prefill_rows: u64,
    /// Rows of answers, drafts included.
    pub decode_rows: u64,
    /// Tokens of answers.
    pub generated: u64,
    /// Tokens of the prompts that were started.
    pub prompt_tokens: u64,
    /// Of these, cached.
    pub cached_tokens: u64,
    /// Requests taken.
    pub submitted: u64,
    /// Requests answered.
    pub finished: u64,
    /// Requests cancelled.
    pub cancelled: u64,
    /// Requests on which the device failed.
    pub failed: u64,
    /// Steps in which the device failed.
    pub failed_steps: u64,
    /// How often an answer made room for another.
    pub paused: u64,
    /// How often one went on.
    pub resumed: u64,
    /// How often what was kept of one had to go, to be computed again.
    pub dropped: u64,
    /// States put into the prefix cache.
    pub kept: u64,
    /// States that had to leave it.
    pub evicted: u64,
}

/// How memory is used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// Pages there are.
    pub pages: usize,
    /// Of these, free.
    pub free_pages: usize,
    /// Of these, held by the prefix cache alone: free when they are needed.
    pub cached_pages: usize,
    /// Bytes of a page.
    pub page_bytes: usize,
    /// State slots there are.
    pub states: usize,
    /// Of these, free.
    pub free_states: usize,
    /// Bytes of a state.
    pub state_bytes: usize,
    /// Entries of the prefix cache.
    pub cache_entries: usize,
    /// RAM of their snapshots.
    pub cache_bytes: usize,
    /// RAM of parked streams.
    pub parked_bytes: usize,
}

/// What a request is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It waits for its turn.
    Waiting,
    /// Its prompt is being read.
    Prefill,
    /// It is being answered.
    Decode,
    /// It made room for others.
    Paused,
}

/// One answer of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestStatus {
    /// Which request.
    pub request: RequestId,
    /// Which of its answers.
    pub choice: usize,
    /// What it does.
    pub phase: Phase,
    /// Tokens in memory.
    pub in_memory: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of the answer.
    pub generated: usize,
}

impl Scheduler {
    /// Counts since the start.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            kept: self.cache.kept(),
            evicted: self.cache.evicted(),
            ..self.metrics
        }
    }

    /// Figures of speculation since the start.
    pub fn drafts(&self) -> DraftCounts {
        let drafter = self.drafter.as_ref();
        drafter.map(|drafter| drafter.counts()).unwrap_or_default()
    }

    /// How memory is used now.
    pub fn memory(&self) -> MemoryUse {
        let ((free_pages, pages), (free_states, states)) =
            (self.engine.pages(), self.engine.states());
        MemoryUse {
            pages,
            free_pages,
            cached_pages: self.cache.evictable_pages(&self.engine),
            page_bytes: self.engine.page_bytes(),
            states,
            free_states,
            state_bytes: self.engine.state_bytes(),
            cache_entries: self.cache.entries(),
            cache_bytes: self.cache.bytes(),
            parked_bytes: self.parked_bytes(),
        }
    }

    /// Every answer that is not complete, in the order in which they get on.
    pub fn requests(&self) -> Vec<RequestStatus> {
        self.ranked(|_| true)
            .into_iter()
            .map(|id| self.status(self.stream(id)))
            .collect()
    }

    fn status(&self, stream: &Stream) -> RequestStatus {
        let phase = match &stream.place {
            Place::Waiting if stream.is_started => Phase::Paused,
            Place::Waiting => Phase::Waiting,
            Place::Parked(_) => Phase::Paused,
            Place::Running(_) if stream.generated() == 0 => Phase::Prefill,
            Place::Running(_) => Phase::Decode,
        };
        RequestStatus {
            request: stream.request,
            choice: stream.choice,
            phase,
            in_memory: self.past(stream),
            prompt: stream.prompt,
            generated: stream.generated(),
        }
    }

    /// Requests that were not started yet.
    pub fn waiting(&self) -> usize {
        let waits = |stream: &&Stream| !stream.is_started && stream.choice == 0;
        self.streams.values().filter(waits).count()
    }

    /// Checks the books: every page and state is free or held by whom it should be, and the cache
    /// and all streams agree with the engine.
    ///
    /// # Panics
    /// If they are wrong.
    pub fn assert_consistent(&self) {
        self.engine.assert_consistent();
        self.cache.assert_consistent(&self.engine);
        let mut lent = self.cache.holds().to_vec();
        let mut running = 0;
        for stream in self.streams.values() {
            assert!(
                self.requests.contains_key(&stream.request),
                "streams belong to requests"
            );
            assert_eq!(stream.tokens.len(), stream.keys.len(), "a key per token");
            match &stream.place {
                Place::Waiting => {}
                Place::Running(_) => {
                    running += 1;
                    assert!(
                        self.past(stream) < stream.tokens.len(),
                        "there is always a token to run"
                    );
                }
                Place::Parked(parked) => {
                    if let ParkedPages::Device(pages) = &parked.pages {
                        pages
                            .ids()
                            .iter()
                            .for_each(|page| lent[page.0 as usize] += 1);
                    }
                }
            }
        }
        let (free, all) = self.engine.states();
        assert_eq!(free + running, all, "a state for each stream that runs");
        for (page, &expected) in lent.iter().enumerate() {
            let page = tensor::PageId(page as u32);
            assert_eq!(self.engine.lent(page), expected, "holders of {page:?}");
        }
        for request in self.requests.keys() {
            assert!(
                !self.streams_of(*request).is_empty(),
                "requests have streams"
            );
        }
    }
}
