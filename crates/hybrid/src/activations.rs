//! Activations that are on one side, or on several.

use std::cell::OnceCell;

use tensor::{Accelerator, Host, OpError, Tensor};

use crate::hybrid::{Hybrid, Place};

/// Activations f32 `[rows, cols]`. A side that lacks them gets a copy when it needs them.
pub struct Activations<A: Accelerator> {
    /// One for each accelerator.
    accelerators: Box<[OnceCell<A::Tensor>]>,
    host: OnceCell<Tensor>,
}

impl<A: Accelerator> Activations<A> {
    /// Where they can be used without a copy: an accelerator, if one has them.
    pub(crate) fn place(&self) -> Place {
        let mut accelerators = self.accelerators.iter();
        match accelerators.position(|side| side.get().is_some()) {
            Some(number) => Place::Accelerator(number),
            None => Place::Host,
        }
    }

    fn take(self) -> (Option<Tensor>, Option<(usize, A::Tensor)>) {
        let sides = self.accelerators.into_iter().enumerate();
        let mut sides = sides.filter_map(|(number, side)| Some((number, side.into_inner()?)));
        (self.host.into_inner(), sides.next())
    }
}

impl<A: Accelerator, H: Host> Hybrid<A, H> {
    pub(crate) fn on_accelerator(&self, number: usize, tensor: A::Tensor) -> Activations<A> {
        let mut tensor = Some(tensor);
        let side = |index| match tensor.take_if(|_| index == number) {
            Some(tensor) => OnceCell::from(tensor),
            None => OnceCell::new(),
        };
        Activations {
            accelerators: (0..self.accelerators().len()).map(side).collect(),
            host: OnceCell::new(),
        }
    }

    pub(crate) fn on_host(&self, tensor: Tensor) -> Activations<A> {
        let none = (0..self.accelerators().len()).map(|_| OnceCell::new());
        Activations {
            accelerators: none.collect(),
            host: OnceCell::from(tensor),
        }
    }

    pub(crate) fn rows_of(&self, x: &Activations<A>) -> usize {
        if let Some(tensor) = x.host.get() {
            return tensor.rows();
        }
        let mut sides = self.accelerators().iter().zip(&x.accelerators);
        let rows = sides.find_map(|(accelerator, side)| Some(accelerator.rows(side.get()?)));
        rows.unwrap_or(0)
    }

    /// For an accelerator to read.
    pub(crate) fn here<'x>(
        &self,
        number: usize,
        x: &'x Activations<A>,
    ) -> Result<&'x A::Tensor, OpError> {
        let side = x.accelerators.get(number).ok_or_else(nowhere)?;
        if let Some(tensor) = side.get() {
            return Ok(tensor);
        }
        let tensor = self.up(number, self.there(x)?.clone())?;
        Ok(side.get_or_init(|| tensor))
    }

    /// For the host to read.
    pub(crate) fn there<'x>(&self, x: &'x Activations<A>) -> Result<&'x Tensor, OpError> {
        if let Some(tensor) = x.host.get() {
            return Ok(tensor);
        }
        let mut sides = self.accelerators().iter().zip(&x.accelerators);
        let found = sides.find_map(|(accelerator, side)| Some((accelerator, side.get()?)));
        let (accelerator, tensor) = found.ok_or_else(nowhere)?;
        let tensor = accelerator.download(tensor)?;
        Ok(x.host.get_or_init(|| tensor))
    }

    /// For an accelerator to change: what the others have of them is forgotten.
    pub(crate) fn to_change<'x>(
        &self,
        number: usize,
        x: &'x mut Activations<A>,
    ) -> Result<&'x mut A::Tensor, OpError> {
        self.here(number, x)?;
        x.host = OnceCell::new();
        let others = x.accelerators.iter_mut().enumerate();
        for (_, side) in others.filter(|(other, _)| *other != number) {
            *side = OnceCell::new();
        }
        let side = x.accelerators.get_mut(number);
        side.and_then(OnceCell::get_mut).ok_or_else(nowhere)
    }

    /// For an accelerator alone.
    pub(crate) fn taken_here(
        &self,
        number: usize,
        x: Activations<A>,
    ) -> Result<A::Tensor, OpError> {
        let mut x = x;
        let side = x.accelerators.get_mut(number);
        if let Some(tensor) = side.and_then(OnceCell::take) {
            return Ok(tensor);
        }
        self.up(number, self.taken_there(x)?)
    }

    /// For the host alone.
    pub(crate) fn taken_there(&self, x: Activations<A>) -> Result<Tensor, OpError> {
        match x.take() {
            (Some(tensor), _) => Ok(tensor),
            (None, Some((number, tensor))) => self.accelerator(number)?.read(tensor),
            (None, None) => Err(nowhere()),
        }
    }

    pub(crate) fn up(&self, number: usize, tensor: Tensor) -> Result<A::Tensor, OpError> {
        let (rows, cols) = (tensor.rows(), tensor.cols());
        self.accelerator(number)?
            .upload(rows, cols, tensor.into_vec())
    }
}

/// Activations are made with one side.
fn nowhere() -> OpError {
    OpError::Memory("activations that are nowhere".into())
}
