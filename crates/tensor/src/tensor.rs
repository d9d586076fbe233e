//! Activations in host memory.

use std::cell::RefCell;
use std::fmt;

/// A dense f32 matrix `[rows, cols]`, row-major; one row per token.
///
/// Its memory comes from and returns to a store of the thread: a step makes the same tensors as
/// the step before it, and fresh memory costs more than most operations do with it.
pub struct Tensor {
    rows: usize,
    cols: usize,
    /// At least as many values.
    data: Vec<f32>,
}

impl Tensor {
    /// All zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        let data = match store::take(rows * cols) {
            Some(mut data) => {
                data[..rows * cols].fill(0.0);
                data
            }
            None => vec![0.0; rows * cols],
        };
        Self { rows, cols, data }
    }

    /// Any values, for who writes all of them. Where debug assertions are on they are NaN.
    pub fn unspecified(rows: usize, cols: usize) -> Self {
        let mut data = store::take(rows * cols).unwrap_or_else(|| vec![0.0; rows * cols]);
        if cfg!(debug_assertions) {
            data[..rows * cols].fill(f32::NAN);
        }
        Self { rows, cols, data }
    }

    /// Takes over `data`, row after row.
    ///
    /// # Panics
    /// If `data` does not hold `rows * cols` values.
    pub fn from_vec(rows: usize, cols: usize, data: Vec<f32>) -> Self {
        assert_eq!(
            data.len(),
            rows * cols,
            "a [{rows}, {cols}] tensor needs as many values"
        );
        Self { rows, cols, data }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All values, row after row.
    pub fn data(&self) -> &[f32] {
        &self.data[..self.rows * self.cols]
    }

    /// All values, row after row.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.cols]
    }

    /// All values, row after row, taken out.
    pub fn into_vec(mut self) -> Vec<f32> {
        let mut data = std::mem::take(&mut self.data);
        data.truncate(self.rows * self.cols);
        data
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data()[row * self.cols..][..self.cols]
    }

    /// One row.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let cols = self.cols;
        &mut self.data_mut()[row * cols..][..cols]
    }

    /// A copy of some consecutive rows.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn copy_rows(&self, rows: std::ops::Range<usize>) -> Self {
        let mut copy = Self::unspecified(rows.len(), self.cols);
        let range = rows.start * self.cols..rows.end * self.cols;
        copy.data_mut().copy_from_slice(&self.data()[range]);
        copy
    }
}

impl Clone for Tensor {
    fn clone(&self) -> Self {
        self.copy_rows(0..self.rows)
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        (self.rows, self.cols, self.data()) == (other.rows, other.cols, other.data())
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tensor")
            .field("rows", &self.rows)
            .field("cols", &self.cols)
            .field("data", &self.data())
            .finish()
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        store::put(std::mem::take(&mut self.data));
    }
}

/// Memory that tensors of a thread have left, for the next ones.
mod store {
    use super::RefCell;

    /// Buffers kept.
    const MOST_BUFFERS: usize = 64;
    /// Values kept in all (1 GiB).
    const MOST_VALUES: usize = 1 << 28;

    thread_local! {
        /// In the order in which they were left.
        static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
    }

    /// The smallest buffer of at least `len` values that does not waste more than it holds.
    pub(super) fn take(len: usize) -> Option<Vec<f32>> {
        FREE.with_borrow_mut(|free| {
            let fits = |index: &usize| (len..=2 * len).contains(&free[*index].len());
            let best = (0..free.len()).filter(fits);
            let best = best.min_by_key(|&index| free[index].len())?;
            Some(free.remove(best))
        })
    }

    pub(super) fn put(buffer: Vec<f32>) {
        if buffer.is_empty() {
            return;
        }
        // When the thread ends, the store may have ended before the tensor.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            free.push(buffer);
            while free.len() > MOST_BUFFERS
                || free.iter().map(Vec::len).sum::<usize>() > MOST_VALUES
            {
                free.remove(0);
            }
        });
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_best_fitting_buffer_is_taken_and_the_oldest_are_let_go() {
            FREE.with_borrow_mut(Vec::clear);
            for len in [100, 60, 50, 1000] {
                put(vec![1.0; len]);
            }
            assert!(take(400).is_none());
            assert_eq!(take(50).unwrap().len(), 50);
            assert_eq!(take(50).unwrap().len(), 60);
            assert_eq!(take(50).unwrap().len(), 100);
            assert!(take(50).is_none());
            (0..2 * MOST_BUFFERS).for_each(|len| put(vec![0.0; len]));
            assert!(take(MOST_BUFFERS / 2 - 1).is_none());
            assert!(take(2 * MOST_BUFFERS - 1).is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_in_used_memory_is_as_new() {
        for cols in [3, 4, 5, 4, 3] {
            let mut tensor = Tensor::zeros(4, cols);
            assert!(tensor.data().iter().all(|value| *value == 0.0));
            tensor.data_mut().fill(7.0);
            assert_eq!(tensor.clone(), tensor);
            assert_eq!(tensor.copy_rows(1..3).data(), vec![7.0; 2 * cols]);
            assert_eq!(tensor.clone().into_vec(), vec![7.0; 4 * cols]);
        }
    }
}
