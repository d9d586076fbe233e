//! Activations on the device.

use crate::pool::Buffer;

/// Activations f32 `[rows, cols]`, and what products with quantised weights read of them, where a kernel
/// has written it beside them.
pub struct Activations {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) values: Buffer,
    pub(crate) codes: Option<Codes>,
}

/// Signed bytes `[rows, cols]`, and a scale and two sums for every 32 of them.
pub(crate) struct Codes {
    pub(crate) codes: Buffer,
    pub(crate) scales: Buffer,
}

impl Codes {
    /// Of one group: f32, and two sums of 16 bits.
    pub(crate) const SCALE_BYTES: usize = 8;
}

impl Activations {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
}
