//! A model on some device, behind one object.
//!
//! The model is compiled per backend; the engine chooses among them at run time, once per step.

use model::Model;
use tensor::{Batch, MemoryLayout, OpError, Ops, PageId, StateId, StateSnapshot, Tensor};

/// A model with its device and sequence memory.
pub trait Runner: Send {
    /// Runs a batch and returns the logits `[rows, vocabulary]` of the rows asked for.
    ///
    /// # Errors
    /// If the batch does not fit the memory or the device fails.
    fn forward(&mut self, batch: &Batch, rows: &[usize]) -> Result<Tensor, OpError>;

    /// Sets a state to that of an empty sequence.
    ///
    /// # Errors
    /// If the device fails; so for the others.
    fn clear_state(&mut self, state: StateId) -> Result<(), OpError>;

    /// Copies a state to another slot.
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

    /// Copies a state out.
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
}

impl<O> Runner for OpsRunner<O>
where
    O: Ops + Send,
    O::Matrix: Send,
    O::Vector: Send,
    O::Experts: Send,
    O::Memory: Send,
{
    fn forward(&mut self, batch: &Batch, rows: &[usize]) -> Result<Tensor, OpError> {
        let hidden = self.model.forward(&self.ops, &mut self.memory, batch)?;
        let vocabulary = self.model.config.vocab_size;
        if rows.is_empty() {
            return Ok(Tensor::zeros(0, vocabulary));
        }
        let logits = self.model.logits(&self.ops, &hidden, rows)?;
        Ok(Tensor::from_vec(
            rows.len(),
            vocabulary,
            self.ops.read(&logits)?,
        ))
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
