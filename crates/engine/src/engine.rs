//! Sequences and the memory they own; one step runs any number of them.

use std::collections::BTreeMap;

use hybrid::{ExpertCounts, ExpertUse};
use tensor::{Batch, Likely, MemoryLayout, MostLikely, PageId, StateId, Tensor};

use crate::error::EngineError;
use crate::held::Held;
use crate::pages::Pool;
use crate::runner::{Outputs, Runner, Wanted};

/// Names a sequence of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(u64);

/// New tokens for one sequence in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Whose.
    pub sequence: SequenceId,
    /// The tokens, at least one.
    pub tokens: Vec<u32>,
    /// Which of these tokens' logits are wanted (indices into `tokens`).
    pub logits: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Sequence {
    /// Tokens in pages and state.
    pub(crate) past: usize,
    pub(crate) pages: Vec<PageId>,
    pub(crate) state: StateId,
    /// What its last step left beside the state.
    pub(crate) held: Held,
}

/// New tokens for one sequence in a step, with all that can be asked of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Tokens and wanted logits.
    pub work: Work,
    /// How many of the tokens, the last ones, may turn out wrong: they are run, but do not count
    /// until they are kept with [`Engine::accept`].
    pub drafts: usize,
    /// Of the logits, these are enough, whatever is chosen by them. Used if they are for all of a step.
    pub likely: Option<MostLikely>,
    /// Whether the hidden rows of all tokens are wanted.
    pub hidden: bool,
}

/// What came of one sequence's [`Run`].
#[derive(Debug, Clone, PartialEq)]
pub struct RunOutputs {
    /// `[logits that were asked for, vocabulary]`; no rows where there is `likely` in their place.
    pub logits: Tensor,
    /// The most likely tokens of each row, where they were enough and the device finds them.
    pub likely: Option<Vec<Vec<Likely>>>,
    /// `[tokens, hidden]`, or no rows if they were not wanted.
    pub hidden: Tensor,
}

/// A model, its memory and the sequences in it.
pub struct Engine {
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) pool: Pool,
    sequences: BTreeMap<SequenceId, Sequence>,
    next_id: u64,
    context: usize,
    vocabulary: usize,
    page_tokens: usize,
    page_bytes: usize,
    state_bytes: usize,
    pub(crate) held_rows: usize,
    pub(crate) copies: Option<cpu::CopyProgress>,
    /// Where hits and misses of experts' copies are counted, if GPUs keep any.
    pub(crate) expert_use: Option<ExpertUse>,
}

impl Engine {
    /// Takes over a runner whose memory was made for `layout`. A sequence may hold `context`
    /// tokens, of a vocabulary of `vocabulary`.
    ///
    /// # Errors
    /// If the layout's types cannot hold keys and values.
    pub fn new(
        runner: Box<dyn Runner>,
        layout: &MemoryLayout,
        context: usize,
        vocabulary: usize,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            runner,
            pool: Pool::new(layout.pages, layout.states),
            sequences: BTreeMap::new(),
            next_id: 0,
            context,
            vocabulary,
            page_tokens: layout.page_tokens,
            page_bytes: layout.page_bytes()?,
            state_bytes: layout.state_bytes(),
            held_rows: layout.held_rows,
            copies: None,
            expert_use: None,
        })
    }

    /// Weights that have been used and are still to be copied into the form in which they are read
    /// fastest. Until there are none, steps give the same results more slowly.
    pub fn copies_waiting(&self) -> usize {
        self.copies.as_ref().map_or(0, cpu::CopyProgress::waiting)
    }

    /// How often copies of experts that GPUs keep were there when they were needed; `None` if they keep none.
    pub fn expert_counts(&self) -> Option<ExpertCounts> {
        self.expert_use.as_ref().map(ExpertUse::counts)
    }

    /// The most tokens a sequence may hold.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The ids of tokens are below this.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Tokens per page.
    pub fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// The bytes of a page over all layers.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// The bytes of a sequence's recurrent state.
    pub fn state_bytes(&self) -> usize {
        self.state_bytes
    }

    /// Pages: free, and all.
    pub fn pages(&self) -> (usize, usize) {
        (self.pool.free_pages(), self.pool.pages())
    }

    /// State slots: free, and all.
    pub fn states(&self) -> (usize, usize) {
        (self.pool.free_states(), self.pool.states())
    }

    /// How many sequences and held page sets hold a page.
    pub fn holders(&self, page: PageId) -> u32 {
        self.pool.holders(page)
    }

    /// How many of these are held page sets.
    pub fn lent(&self, page: PageId) -> u32 {
        self.pool.lent(page)
    }

    /// The tokens a sequence holds.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn tokens(&self, id: SequenceId) -> Result<usize, EngineError> {
        Ok(self.sequence(id)?.past)
    }

    /// The pages of a sequence, in the order of the tokens they hold.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn sequence_pages(&self, id: SequenceId) -> Result<&[PageId], EngineError> {
        Ok(&self.sequence(id)?.pages)
    }

    /// The free pages that `count` more tokens of a sequence would take.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn pages_for(&self, id: SequenceId, count: usize) -> Result<usize, EngineError> {
        let sequence = self.sequence(id)?;
        if count == 0 {
            return Ok(0);
        }
        let needed = (sequence.past + count).div_ceil(self.page_tokens);
        let new = needed.saturating_sub(sequence.pages.len());
        let copied = self.shared_tail(sequence).is_some();
        Ok(new + usize::from(copied))
    }

    /// Starts an empty sequence.
    ///
    /// # Errors
    /// If no state is free.
    pub fn start(&mut self) -> Result<SequenceId, EngineError> {
        let state = self
            .pool
            .take_state()
            .ok_or(EngineError::OutOfMemory { what: "state" })?;
        self.runner.clear_state(state)?;
        Ok(self.insert(Sequence {
            past: 0,
            pages: Vec::new(),
            state,
            held: Held::default(),
        }))
    }

    /// Ends a sequence and frees what it held.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn end(&mut self, id: SequenceId) -> Result<(), EngineError> {
        let sequence = self
            .sequences
            .remove(&id)
            .ok_or(EngineError::NoSuchSequence(id))?;
        sequence
            .pages
            .iter()
            .for_each(|&page| self.pool.release(page));
        self.pool.release_state(sequence.state);
        Ok(())
    }

    /// Starts a sequence that continues from where another one is.
    ///
    /// # Errors
    /// If there is no such sequence or no state is free.
    pub fn fork(&mut self, id: SequenceId) -> Result<SequenceId, EngineError> {
        self.settle(id)?;
        let state = self
            .pool
            .take_state()
            .ok_or(EngineError::OutOfMemory { what: "state" })?;
        let (parent, pages) = (self.sequence(id)?, self.used_pages(id)?.to_vec());
        let (past, from) = (parent.past, parent.state);
        if let Err(error) = self.runner.copy_state(from, state) {
            self.pool.release_state(state);
            return Err(error.into());
        }
        pages.iter().for_each(|&page| self.pool.hold(page));
        Ok(self.insert(Sequence {
            past,
            pages,
            state,
            held: Held::default(),
        }))
    }

    /// Runs new tokens of any number of sequences and returns the logits asked for: for each
    /// entry of `work` a tensor `[logits, vocabulary]`. On an error no sequence has moved on;
    /// after [`EngineError::Op`], those in the step are to be ended, since the device may have
    /// stopped half way.
    ///
    /// # Errors
    /// If a sequence is unknown, listed twice or would outgrow the context, a token is outside the
    /// vocabulary, memory is short, or the device fails.
    pub fn step(&mut self, work: &[Work]) -> Result<Vec<Tensor>, EngineError> {
        let plain = |work: &Work| Run {
            work: work.clone(),
            drafts: 0,
            likely: None,
            hidden: false,
        };
        let rows: Vec<Run> = work.iter().map(plain).collect();
        let outputs = self.run(&rows)?;
        Ok(outputs.into_iter().map(|output| output.logits).collect())
    }

    /// As [`Engine::step`], for tokens of which some may be drafts.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn run(&mut self, work: &[Run]) -> Result<Vec<RunOutputs>, EngineError> {
        self.check(work)?;
        for Run { work, .. } in work {
            self.reserve(work.sequence, work.tokens.len())?;
        }
        let mut batch = Batch::default();
        let (mut logits, mut hidden) = (Vec::new(), Vec::new());
        for rows in work {
            let Work {
                sequence,
                tokens,
                logits: wanted,
            } = &rows.work;
            let Sequence {
                past,
                pages,
                state,
                held,
            } = &self.sequences[sequence];
            let first = batch.rows();
            logits.extend(wanted.iter().map(|at| first + at));
            hidden.extend(
                (0..tokens.len())
                    .filter(|_| rows.hidden)
                    .map(|at| first + at),
            );
            let (pages, hold) = (pages.clone(), rows.drafts > 0);
            batch.push_speculative(tokens, *past, pages, *state, held.kept, hold);
        }
        let wanted = Wanted {
            logits: &logits,
            likely: enough_for_all(work),
            hidden: &hidden,
        };
        let outputs = self.runner.forward(&batch, wanted)?;
        for Run { work, drafts, .. } in work {
            let sequence = self.sequence_mut(work.sequence)?;
            let kept = work.tokens.len() - drafts;
            sequence.past += kept;
            sequence.held = match drafts {
                0 => Held::default(),
                _ => Held {
                    rows: work.tokens.len(),
                    kept,
                },
            };
        }
        Ok(share_out(work, outputs))
    }

    /// Checks the books: free + held = all, for pages and states.
    ///
    /// # Panics
    /// If they are wrong.
    pub fn assert_consistent(&self) {
        let held = self.sequences.values().flat_map(|sequence| &sequence.pages);
        self.pool
            .assert_consistent(held.copied(), self.sequences.len());
    }

    fn insert(&mut self, sequence: Sequence) -> SequenceId {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        self.sequences.insert(id, sequence);
        id
    }

    fn check(&self, work: &[Run]) -> Result<(), EngineError> {
        for (index, rows) in work.iter().enumerate() {
            let Work {
                sequence,
                tokens,
                logits,
            } = &rows.work;
            let wanted = self.tokens(*sequence)? + tokens.len();
            if wanted > self.context {
                return Err(EngineError::ContextFull {
                    wanted,
                    context: self.context,
                });
            }
            if work[..index]
                .iter()
                .any(|other| other.work.sequence == *sequence)
            {
                return Err(EngineError::Twice(*sequence));
            }
            let vocabulary = self.vocabulary;
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(EngineError::TokenOutOfRange { token, vocabulary });
            }
            debug_assert!(rows.drafts <= tokens.len(), "drafts are tokens");
            debug_assert!(
                logits.iter().all(|&at| at < tokens.len()),
                "logits of given tokens"
            );
        }
        Ok(())
    }

    /// Gives a sequence pages of its own for `count` more tokens.
    pub(crate) fn reserve(&mut self, id: SequenceId, count: usize) -> Result<(), EngineError> {
        if self.pages_for(id, count)? > self.pool.free_pages() {
            return Err(EngineError::OutOfMemory { what: "page" });
        }
        let short = || EngineError::OutOfMemory { what: "page" };
        // The page that the next token goes to may be shared with a fork or checkpoint, which
        // reads its first tokens only: write to a copy.
        if let Some(at) = self.shared_tail(self.sequence(id)?) {
            let copy = self.pool.take_page().ok_or_else(short)?;
            let page = self.sequence(id)?.pages[at];
            if let Err(error) = self.runner.copy_page(page, copy) {
                self.pool.release(copy);
                return Err(error.into());
            }
            self.pool.release(page);
            self.sequence_mut(id)?.pages[at] = copy;
        }
        let needed = (self.sequence(id)?.past + count).div_ceil(self.page_tokens);
        while self.sequence(id)?.pages.len() < needed {
            let page = self.pool.take_page().ok_or_else(short)?;
            self.sequence_mut(id)?.pages.push(page);
        }
        Ok(())
    }

    /// The index of the page that a sequence's next token goes to, if others hold it too.
    fn shared_tail(&self, sequence: &Sequence) -> Option<usize> {
        let at = sequence.past / self.page_tokens;
        let page = sequence.pages.get(at)?;
        self.pool.is_shared(*page).then_some(at)
    }

    pub(crate) fn sequence(&self, id: SequenceId) -> Result<&Sequence, EngineError> {
        self.sequences
            .get(&id)
            .ok_or(EngineError::NoSuchSequence(id))
    }

    pub(crate) fn sequence_mut(&mut self, id: SequenceId) -> Result<&mut Sequence, EngineError> {
        self.sequences
            .get_mut(&id)
            .ok_or(EngineError::NoSuchSequence(id))
    }

    /// The pages that a sequence's tokens are in: it may have more, for drafts.
    pub(crate) fn used_pages(&self, id: SequenceId) -> Result<&[PageId], EngineError> {
        let sequence = self.sequence(id)?;
        let used = sequence.past.div_ceil(self.page_tokens);
        Ok(&sequence.pages[..used.min(sequence.pages.len())])
    }

    /// Lets a sequence hold these pages instead of its own.
    pub(crate) fn replace_pages(
        &mut self,
        id: SequenceId,
        past: usize,
        pages: Vec<PageId>,
    ) -> Result<(), EngineError> {
        self.sequence(id)?;
        pages.iter().for_each(|&page| self.pool.hold(page));
        let sequence = self.sequence_mut(id)?;
        sequence.past = past;
        sequence.held = Held::default();
        let old = std::mem::replace(&mut sequence.pages, pages);
        old.into_iter().for_each(|page| self.pool.release(page));
        Ok(())
    }
}

/// What is enough of every row of logits, if that is so.
fn enough_for_all(work: &[Run]) -> Option<MostLikely> {
    let mut asked = work.iter().filter(|run| !run.work.logits.is_empty());
    let first = asked.next()?.likely?;
    asked.try_fold(first, |all, run| {
        let likely = run.likely?;
        (likely.limit == all.limit).then(|| MostLikely {
            count: all.count.max(likely.count),
            ..all
        })
    })
}

/// Gives each sequence what it asked for.
fn share_out(work: &[Run], outputs: Outputs) -> Vec<RunOutputs> {
    let Outputs {
        logits,
        likely,
        hidden,
    } = outputs;
    // Nothing is copied for a sequence alone.
    if work.len() == 1 {
        return vec![RunOutputs {
            logits,
            likely,
            hidden,
        }];
    }
    let mut likely = likely.map(Vec::into_iter);
    let (mut next_logits, mut next_hidden) = (0, 0);
    let outputs = work.iter().map(|rows| {
        let (first_logits, first_hidden) = (next_logits, next_hidden);
        let count = rows.work.logits.len();
        if likely.is_none() {
            next_logits += count;
        }
        next_hidden += if rows.hidden {
            rows.work.tokens.len()
        } else {
            0
        };
        let likely = likely.as_mut();
        RunOutputs {
            logits: logits.copy_rows(first_logits..next_logits),
            likely: likely.map(|rows| rows.by_ref().take(count).collect()),
            hidden: hidden.copy_rows(first_hidden..next_hidden),
        }
    });
    outputs.collect()
}
