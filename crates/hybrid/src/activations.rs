//! Activations that are on one side, or on both.

use std::cell::OnceCell;

use tensor::{Accelerator, Host, OpError, Tensor};

use crate::hybrid::{Hybrid, Place};

/// Activations f32 `[rows, cols]`. A side that lacks them gets a copy when it needs them.
pub struct Activations<A: Accelerator> {
    accelerator: OnceCell<A::Tensor>,
    host: OnceCell<Tensor>,
}

impl<A: Accelerator> Activations<A> {
    pub(crate) fn on_accelerator(tensor: A::Tensor) -> Self {
        Self {
            accelerator: OnceCell::from(tensor),
            host: OnceCell::new(),
        }
    }

    pub(crate) fn on_host(tensor: Tensor) -> Self {
        Self {
            accelerator: OnceCell::new(),
            host: OnceCell::from(tensor),
        }
    }

    pub(crate) fn rows(&self, accelerator: &A) -> usize {
        match (self.host.get(), self.accelerator.get()) {
            (Some(tensor), _) => tensor.rows(),
            (None, Some(tensor)) => accelerator.rows(tensor),
            (None, None) => 0,
        }
    }

    /// Where they can be used without a copy; on both sides, the accelerator.
    pub(crate) fn place(&self) -> Place {
        match self.accelerator.get() {
            Some(_) => Place::Accelerator,
            None => Place::Host,
        }
    }
}

impl<A: Accelerator, H: Host> Hybrid<A, H> {
    /// For the accelerator to read.
    pub(crate) fn here<'x>(&self, x: &'x Activations<A>) -> Result<&'x A::Tensor, OpError> {
        if let Some(tensor) = x.accelerator.get() {
            return Ok(tensor);
        }
        let tensor = match x.host.get() {
            Some(tensor) => self.up(tensor.clone())?,
            None => return Err(nowhere()),
        };
        Ok(x.accelerator.get_or_init(|| tensor))
    }

    /// For the host to read.
    pub(crate) fn there<'x>(&self, x: &'x Activations<A>) -> Result<&'x Tensor, OpError> {
        if let Some(tensor) = x.host.get() {
            return Ok(tensor);
        }
        let tensor = match x.accelerator.get() {
            Some(tensor) => self.accelerator.download(tensor)?,
            None => return Err(nowhere()),
        };
        Ok(x.host.get_or_init(|| tensor))
    }

    /// For the accelerator to change: what the host has of them is forgotten.
    pub(crate) fn to_change<'x>(
        &self,
        x: &'x mut Activations<A>,
    ) -> Result<&'x mut A::Tensor, OpError> {
        self.here(x)?;
        x.host = OnceCell::new();
        x.accelerator.get_mut().ok_or_else(nowhere)
    }

    /// For the accelerator alone.
    pub(crate) fn taken_here(&self, x: Activations<A>) -> Result<A::Tensor, OpError> {
        match (x.accelerator.into_inner(), x.host.into_inner()) {
            (Some(tensor), _) => Ok(tensor),
            (None, Some(tensor)) => self.up(tensor),
            (None, None) => Err(nowhere()),
        }
    }

    /// For the host alone.
    pub(crate) fn taken_there(&self, x: Activations<A>) -> Result<Tensor, OpError> {
        match (x.host.into_inner(), x.accelerator.into_inner()) {
            (Some(tensor), _) => Ok(tensor),
            (None, Some(tensor)) => self.accelerator.read(tensor),
            (None, None) => Err(nowhere()),
        }
    }

    pub(crate) fn up(&self, tensor: Tensor) -> Result<A::Tensor, OpError> {
        let (rows, cols) = (tensor.rows(), tensor.cols());
        self.accelerator.upload(rows, cols, tensor.into_vec())
    }
}

/// Activations are made with one side.
fn nowhere() -> OpError {
    OpError::Memory("activations that are nowhere".into())
}
