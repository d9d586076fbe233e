//! Sequences and the memory they own; one step runs any number of them.

use std::collections::BTreeMap;

use formats::DType;
use model::Config;
use tensor::{Batch, MemoryLayout, OpError, PageId, Span, StateId, StateSnapshot, Tensor};

use crate::pages::Pool;
use crate::runner::Runner;

/// What can go wrong in a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A sequence would grow past the context.
    #[error(
        "the sequence would hold {wanted} tokens and the context is {context}; shorten the prompt \
         or raise --ctx-size (-c)"
    )]
    ContextFull {
        /// Tokens it would hold.
        wanted: usize,
        /// Tokens it may hold.
        context: usize,
    },
    /// A token the model has no row for.
    #[error(
        "token id {token} is outside the vocabulary of {vocabulary}; were these ids made with \
         another model's tokenizer?"
    )]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// The rows of the embedding.
        vocabulary: usize,
    },
    /// No page or state is free.
    #[error("no {what} is free; end a sequence or start with more memory")]
    OutOfMemory {
        /// Page or state.
        what: &'static str,
    },
    /// A sequence that was ended or never started.
    #[error("there is no sequence {0:?}")]
    NoSuchSequence(SequenceId),
    /// The same sequence twice in one step.
    #[error("{0:?} appears twice in one step")]
    Twice(SequenceId),
    /// The backend failed.
    #[error(transparent)]
    Op(#[from] OpError),
}

/// Names a sequence of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(u64);

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvTypes {
    /// Of keys.
    pub key: DType,
    /// Of values.
    pub value: DType,
}

impl KvTypes {
    /// Both the same.
    pub fn both(dtype: DType) -> Self {
        Self {
            key: dtype,
            value: dtype,
        }
    }
}

/// How much memory an engine makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSettings {
    /// The most tokens a sequence may hold.
    pub context: usize,
    /// Tokens of all sequences together; at least the context.
    pub total_tokens: usize,
    /// The most sequences at once.
    pub sequences: usize,
    /// How keys and values are stored.
    pub kv: KvTypes,
}

/// Tokens per page: small enough that forks copy little, large enough that tables stay short.
const PAGE_TOKENS: usize = 64;

impl EngineSettings {
    /// One sequence of this context, f16 keys and values.
    pub fn single(context: usize) -> Self {
        Self {
            context,
            total_tokens: context,
            sequences: 1,
            kv: KvTypes::both(DType::F16),
        }
    }

    /// The memory that a model needs under these settings.
    pub fn layout(&self, config: &Config) -> MemoryLayout {
        // One page more per sequence: each one's last page is partly filled.
        let pages = self.total_tokens.max(self.context).div_ceil(PAGE_TOKENS) + self.sequences;
        config.memory_layout(
            self.kv.key,
            self.kv.value,
            PAGE_TOKENS,
            pages,
            self.sequences,
        )
    }
}

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
struct Sequence {
    /// Tokens in pages and state.
    past: usize,
    pages: Vec<PageId>,
    state: StateId,
}

/// A point in a sequence's life to go back to: its pages are shared, its state is copied out.
///
/// Hand it back with [`Engine::discard`]; its pages stay held until then.
#[derive(Debug)]
pub struct Checkpoint {
    past: usize,
    pages: Vec<PageId>,
    state: StateSnapshot,
}

impl Checkpoint {
    /// The tokens it covers.
    pub fn tokens(&self) -> usize {
        self.past
    }

    /// The bytes of its copied state.
    pub fn state_bytes(&self) -> usize {
        self.state.bytes()
    }
}

/// A model, its memory and the sequences in it.
pub struct Engine {
    runner: Box<dyn Runner>,
    pool: Pool,
    sequences: BTreeMap<SequenceId, Sequence>,
    next_id: u64,
    context: usize,
    vocabulary: usize,
    checkpoint_pages: Vec<PageId>,
}

impl Engine {
    /// Takes over a runner whose memory was made for `layout`.
    pub fn new(runner: Box<dyn Runner>, config: &Config, settings: &EngineSettings) -> Self {
        let layout = settings.layout(config);
        Self {
            runner,
            pool: Pool::new(layout.pages, layout.states),
            sequences: BTreeMap::new(),
            next_id: 0,
            context: settings.context,
            vocabulary: config.vocab_size,
            checkpoint_pages: Vec::new(),
        }
    }

    /// The most tokens a sequence may hold.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The tokens a sequence holds.
    ///
    /// # Errors
    /// If there is no such sequence.
    pub fn tokens(&self, id: SequenceId) -> Result<usize, EngineError> {
        self.sequences
            .get(&id)
            .map(|sequence| sequence.past)
            .ok_or(EngineError::NoSuchSequence(id))
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
        let parent = self
            .sequences
            .get(&id)
            .ok_or(EngineError::NoSuchSequence(id))?;
        let state = self
            .pool
            .take_state()
            .ok_or(EngineError::OutOfMemory { what: "state" })?;
        let (past, pages, from) = (parent.past, parent.pages.clone(), parent.state);
        self.runner.copy_state(from, state)?;
        pages.iter().for_each(|&page| self.pool.hold(page));
        Ok(self.insert(Sequence { past, pages, state }))
    }

    /// Remembers where a sequence is.
    ///
    /// # Errors
    /// If there is no such sequence or the device fails.
    pub fn checkpoint(&mut self, id: SequenceId) -> Result<Checkpoint, EngineError> {
        let sequence = self
            .sequences
            .get(&id)
            .ok_or(EngineError::NoSuchSequence(id))?;
        let state = self.runner.snapshot(sequence.state)?;
        let (past, pages) = (sequence.past, sequence.pages.clone());
        pages.iter().for_each(|&page| self.pool.hold(page));
        self.checkpoint_pages.extend_from_slice(&pages);
        Ok(Checkpoint { past, pages, state })
    }

    /// Puts a sequence back (or another one forward) to a checkpoint, exactly.
    ///
    /// # Errors
    /// If there is no such sequence or the device fails.
    pub fn restore(&mut self, id: SequenceId, point: &Checkpoint) -> Result<(), EngineError> {
        let sequence = self
            .sequences
            .get_mut(&id)
            .ok_or(EngineError::NoSuchSequence(id))?;
        self.runner.restore(sequence.state, &point.state)?;
        point.pages.iter().for_each(|&page| self.pool.hold(page));
        sequence
            .pages
            .iter()
            .for_each(|&page| self.pool.release(page));
        sequence.pages.clone_from(&point.pages);
        sequence.past = point.past;
        Ok(())
    }

    /// Frees a checkpoint.
    pub fn discard(&mut self, point: Checkpoint) {
        for page in point.pages {
            self.pool.release(page);
            let at = self.checkpoint_pages.iter().position(|&held| held == page);
            self.checkpoint_pages
                .swap_remove(at.expect("checkpoints list their pages"));
        }
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
        self.check(work)?;
        for Work {
            sequence, tokens, ..
        } in work
        {
            self.reserve(*sequence, tokens.len())?;
        }
        let mut batch = Batch::default();
        let mut rows = Vec::new();
        for Work {
            sequence,
            tokens,
            logits,
        } in work
        {
            let Sequence { past, pages, state } = &self.sequences[sequence];
            let first = batch.rows();
            rows.extend(logits.iter().map(|at| first + at));
            batch.push_text(tokens, *past, pages.clone(), *state);
        }
        let all = self.runner.forward(&batch, &rows)?;
        let mut outputs = Vec::with_capacity(work.len());
        let mut next = 0;
        for (
            Work {
                sequence, logits, ..
            },
            Span { rows, .. },
        ) in work.iter().zip(&batch.spans)
        {
            let range = next * all.cols()..(next + logits.len()) * all.cols();
            outputs.push(Tensor::from_vec(
                logits.len(),
                all.cols(),
                all.data()[range].to_vec(),
            ));
            next += logits.len();
            if let Some(sequence) = self.sequences.get_mut(sequence) {
                sequence.past += rows.len();
            }
        }
        Ok(outputs)
    }

    /// Checks the books: free + held = all, for pages and states.
    ///
    /// # Panics
    /// If they are wrong.
    pub fn assert_consistent(&self) {
        let held = self.sequences.values().flat_map(|sequence| &sequence.pages);
        let held = held.chain(&self.checkpoint_pages).copied();
        self.pool.assert_consistent(held, self.sequences.len());
    }

    fn insert(&mut self, sequence: Sequence) -> SequenceId {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        self.sequences.insert(id, sequence);
        id
    }

    fn check(&self, work: &[Work]) -> Result<(), EngineError> {
        for (
            index,
            Work {
                sequence,
                tokens,
                logits,
            },
        ) in work.iter().enumerate()
        {
            let wanted = self.tokens(*sequence)? + tokens.len();
            if wanted > self.context {
                return Err(EngineError::ContextFull {
                    wanted,
                    context: self.context,
                });
            }
            if work[..index]
                .iter()
                .any(|other| other.sequence == *sequence)
            {
                return Err(EngineError::Twice(*sequence));
            }
            let vocabulary = self.vocabulary;
            if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(EngineError::TokenOutOfRange { token, vocabulary });
            }
            debug_assert!(
                logits.iter().all(|&at| at < tokens.len()),
                "logits of given tokens"
            );
        }
        Ok(())
    }

    /// Gives a sequence pages of its own for `count` more tokens.
    fn reserve(&mut self, id: SequenceId, count: usize) -> Result<(), EngineError> {
        let sequence = self
            .sequences
            .get_mut(&id)
            .ok_or(EngineError::NoSuchSequence(id))?;
        let needed = (sequence.past + count).div_ceil(PAGE_TOKENS);
        let short = EngineError::OutOfMemory { what: "page" };
        if needed.saturating_sub(sequence.pages.len()) > self.pool.free_pages() {
            return Err(short);
        }
        // The page that the next token goes to may be shared with a fork or checkpoint, which
        // reads its first tokens only: write to a copy.
        if let Some(page) = sequence.pages.get_mut(sequence.past / PAGE_TOKENS)
            && self.pool.is_shared(*page)
        {
            let Some(copy) = self.pool.take_page() else {
                return Err(short);
            };
            self.runner.copy_page(*page, copy)?;
            self.pool.release(*page);
            *page = copy;
        }
        while sequence.pages.len() < needed {
            let Some(page) = self.pool.take_page() else {
                return Err(short);
            };
            sequence.pages.push(page);
        }
        Ok(())
    }
}
