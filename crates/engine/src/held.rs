//! Tokens that were run before it is known whether they stay.
//!
//! A recurrent state cannot be cropped, so a device keeps such rows beside it until the engine
//! says how many stay (see docs/decisions/0007).

use crate::engine::{Engine, Sequence, SequenceId};
use crate::error::EngineError;

/// What a device holds back of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Held {
    /// Nothing.
    #[default]
    Nothing,
    /// As many rows, of which nobody has said yet how many stay.
    Open(usize),
    /// Rows of which as many stay, to be applied with the next ones.
    Staying(usize),
}

impl Held {
    /// How many rows are to be applied before the next ones.
    pub(crate) fn replay(self) -> usize {
        match self {
            Self::Staying(count) => count,
            Self::Nothing | Self::Open(_) => 0,
        }
    }
}

impl Sequence {
    /// Its next rows were run.
    pub(crate) fn ran(&mut self, rows: usize, hold: bool) {
        if hold {
            self.held = Held::Open(rows);
        } else {
            self.held = Held::Nothing;
            self.past += rows;
        }
    }
}

impl Engine {
    /// Tells how many of the tokens that the last step held back stay, from the first; the others
    /// were never there. Without being told, none stays.
    ///
    /// # Errors
    /// If there is no such sequence, or it holds fewer back.
    pub fn keep(&mut self, id: SequenceId, count: usize) -> Result<(), EngineError> {
        let sequence = self.sequence_mut(id)?;
        let held = match sequence.held {
            Held::Open(rows) => rows,
            Held::Nothing | Held::Staying(_) => 0,
        };
        if count > held {
            return Err(EngineError::NotHeld { count, held });
        }
        if held > 0 {
            sequence.held = Held::Staying(count);
            sequence.past += count;
        }
        Ok(())
    }

    /// Applies what stays of held tokens to the state, so that it can be copied.
    pub(crate) fn settle(&mut self, id: SequenceId) -> Result<(), EngineError> {
        let sequence = self.sequence(id)?;
        let (held, state) = (sequence.held, sequence.state);
        if held != Held::Nothing {
            self.runner.settle(state, held.replay())?;
            self.sequence_mut(id)?.held = Held::Nothing;
        }
        Ok(())
    }
}
