//! A model on some device, behind one object.
//!
//! The model is compiled per backend; the engine chooses among them at run time, once per step.

use model::Model;
use tensor::{
    Batch, Likely, MemoryLayout, MostLikely, OpError, Ops, PageId, StateId, StateSnapshot, Tensor,
};

use crate::held::DraftVocabulary;

/// Which of a batch's rows are wanted on the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Rows whose logits are.
    pub logits: &'a [usize],
    /// Of these rows, the most likely tokens are enough.
    pub likely: Option<MostLikely>,
    /// Rows whose hidden values, as the drafting head reads them, are.
    pub hidden: &'a [usize],
}

/// What was wanted, in the order in which it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    /// `[wanted.logits, vocabulary]`; no rows where there is `likely` in their place.
    pub logits: Tensor,
    /// The most likely tokens of each row, where they were enough and the device finds them.
    pub likely: Option<Vec<Vec<Likely>>>,
    /// `[wanted.hidden, hidden]`
    pub hidden: Tensor,
}

/// A model with its device and sequence memory.
pub trait Runner: Send {
    /// Runs a batch. Its spans may hold rows back and replay them (see [`tensor::Span`]).
    ///
    /// # Errors
    /// If the batch does not fit the memory or the device fails.
    fn forward(&mut self, batch: &Batch, wanted: Wanted<'_>) -> Result<Outputs, OpError>;

    /// Whether [`Runner::draft`] can be used.
    fn can_draft(&self) -> bool;

    /// How many tokens, the first ones, can be drafted at less cost than all of them; `None` where
    /// that makes no difference.
    fn frequent_tokens(&self) -> Option<usize>;

    /// Guesses the tokens after those of a batch with the multi-token-prediction head. `hidden` is
    /// `[rows, hidden]`: for each row the hidden values of the token before it, from
    /// [`Runner::forward`] or, for a guess after a guess, from this. The batch's tokens are at the
    /// positions of those values (its first token is the sequence's second, with `past` 0), and
    /// only keys and values of the head's own layer move on; no state does, whatever the spans say.
    /// Logits are of the tokens of `vocabulary`.
    ///
    /// # Errors
    /// As [`Runner::forward`], and if the model has no such head.
    fn draft(
        &mut self,
        batch: &Batch,
        hidden: Tensor,
        wanted: Wanted<'_>,
        vocabulary: DraftVocabulary,
    ) -> Result<Outputs, OpError>;

    /// Applies a state's first `rows` held rows and forgets the others, after which it can be
    /// copied.
    ///
    /// # Errors
    /// If it has not so many, or the device fails.
    fn settle(&mut self, state: StateId, rows: usize) -> Result<(), OpError>;

    /// Sets a state to that of an empty sequence.
    ///
    /// # Errors
    /// If the device fails; so for the others.
    fn clear_state(&mut self, state: StateId) -> Result<(), OpError>;

    /// Copies a settled state to another slot.
    #[expect(clippy::missing_errors_doc, reason = "as clear_state")]
    fn copy_state(&mut self, from: StateId, to: StateId) -> Result<(), OpError>;

    /// Copies a page to another.
    #[expect(clippy::missing_errors_doc, reason = "as clear_state")]
    fn copy_page(&mut self, from: PageId, to: PageId) -> Result<(), OpError>;

    /// Copies a page out, in the device's own form.
    #[expect(clippy::missing_errors_doc, reason = "as clear_state")]
    fn read_page(&self, page: PageId) -> Result<Vec<u8>, OpError>;

    /// Puts a page back that was read from memory of the same layout.
    ///
    /// # Errors
    /// If it is of another layout or the device fails.
    fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), OpError>;

    /// Copies a settled state out.
    #[expect(clippy::missing_errors_doc, reason = "as clear_state")]
    fn snapshot(&self, state: StateId) -> Result<StateSnapshot, OpError>;

    /// Puts a snapshot back.
    #[expect(clippy::missing_errors_doc, reason = "as clear_state")]
    fn restore(&mut self, state: StateId, snapshot: &StateSnapshot) -> Result<(), OpError>;
}

/// The runner of any backend.
pub struct OpsRunner<O: Ops> {
    ops: O,
    model: Model<O>,
    memory: O::Memory,
}

impl<O: Ops> OpsRunner<O> {
    /// Makes the memory and joins it with model and device.
    ///
    /// # Errors
    /// If the memory cannot be made.
    pub fn new(ops: O, model: Model<O>, layout: &MemoryLayout) -> Result<Self, OpError> {
        let memory = ops.new_memory(layout)?;
        Ok(Self { ops, model, memory })
    }

    /// Rows of a tensor of `cols` columns, on the host.
    fn read_rows(&self, x: &O::Tensor, rows: &[usize], cols: usize) -> Result<Tensor, OpError> {
        if rows.is_empty() {
            return Ok(Tensor::zeros(0, cols));
        }
        let selected = self.ops.select_rows(x, rows)?;
        self.ops.read(selected)
    }

    /// What is wanted of a forward or drafting pass, given how logits are made of its rows.
    fn outputs(
        &self,
        hidden: &O::Tensor,
        wanted: Wanted<'_>,
        logits: impl FnOnce(&Model<O>, &[usize]) -> Result<O::Tensor, OpError>,
    ) -> Result<Outputs, OpError> {
        let vocabulary = self.model.config.vocab_size;
        let count = wanted.logits.len();
        let (mut read, mut likely) = (Tensor::zeros(0, vocabulary), None);
        if count > 0 {
            let logits = logits(&self.model, wanted.logits)?;
            if let Some(wanted) = wanted.likely {
                likely = self.ops.most_likely(&logits, wanted)?;
            }
            if likely.is_none() {
                read = self.ops.read(logits)?;
            }
        }
        Ok(Outputs {
            logits: read,
            likely,
            hidden: self.read_rows(hidden, wanted.hidden, self.model.config.hidden_size)?,
        })
    }
}

impl<O> Runner for OpsRunner<O>
where
    O: Ops + Send,
    O::Matrix: Send,
    O::Vector: Send,
    O::Experts: Send,
    O::Memory: Send,
{
    fn forward(&mut self, batch: &Batch, wanted: Wanted<'_>) -> Result<Outputs, OpError> {
        let hidden = self.model.forward(&self.ops, &mut self.memory, batch)?;
        self.outputs(&hidden, wanted, |model, rows| {
            model.logits(&self.ops, &hidden, rows)
        })
    }

    fn can_draft(&self) -> bool {
        self.model.has_mtp()
    }

    fn frequent_tokens(&self) -> Option<usize> {
        self.model.frequent_tokens()
    }

    fn draft(
        &mut self,
        batch: &Batch,
        hidden: Tensor,
        wanted: Wanted<'_>,
        vocabulary: DraftVocabulary,
    ) -> Result<Outputs, OpError> {
        let (rows, cols) = (hidden.rows(), hidden.cols());
        let hidden = self.ops.upload(rows, cols, hidden.into_vec())?;
        let drafted = self
            .model
            .draft(&self.ops, &mut self.memory, batch, &hidden)?;
        let Some(drafted) = drafted else {
            return Err(OpError::Shape {
                op: "draft",
                expected: "a model with a multi-token-prediction head".into(),
                found: "none".into(),
            });
        };
        self.outputs(&drafted, wanted, |model, rows| {
            let is_frequent = vocabulary == DraftVocabulary::Frequent;
            model.draft_logits(&self.ops, &drafted, rows, is_frequent)
        })
    }

    fn settle(&mut self, state: StateId, rows: usize) -> Result<(), OpError> {
        self.ops.settle(&mut self.memory, state, rows)
    }

    fn clear_state(&mut self, state: StateId) -> Result<(), OpError> {
        self.ops.clear_state(&mut self.memory, state)
    }

    fn copy_state(&mut self, from: StateId, to: StateId) -> Result<(), OpError> {
        self.ops.copy_state(&mut self.memory, from, to)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) -> Result<(), OpError> {
        self.ops.copy_page(&mut self.memory, from, to)
    }

    fn read_page(&self, page: PageId) -> Result<Vec<u8>, OpError> {
        self.ops.read_page(&self.memory, page)
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), OpError> {
        self.ops.write_page(&mut self.memory, page, bytes)
    }

    fn snapshot(&self, state: StateId) -> Result<StateSnapshot, OpError> {
        self.ops.snapshot(&self.memory, state)
    }

    fn restore(&mut self, state: StateId, snapshot: &StateSnapshot) -> Result<(), OpError> {
        self.ops.restore(&mut self.memory, state, snapshot)
    }
}
