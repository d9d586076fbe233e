//! Buffers that a thread keeps between tasks, so that kernels allocate nothing in steady state.

use std::cell::RefCell;

thread_local! {
    /// Those not in use.
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with `len` values of unspecified content. Nested calls get buffers of their own.
pub(crate) fn with_scratch<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE.with_borrow_mut(|free| take(free, len));
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = body(&mut buffer[..len]);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}

/// The smallest buffer that is large enough, or the largest.
fn take(free: &mut Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let fit = |buffer: &Vec<f32>| match buffer.len() >= len {
        true => (0, buffer.len()),
        false => (1, usize::MAX - buffer.len()),
    };
    let best = (0..free.len()).min_by_key(|&index| fit(&free[index]));
    best.map(|index| free.swap_remove(index))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_that_fits_best_is_taken() {
        let mut free: Vec<Vec<f32>> = [10, 1000, 100].map(|len| vec![0.0; len]).into();
        assert_eq!(take(&mut free, 50).len(), 100);
        assert_eq!(take(&mut free, 5000).len(), 1000);
        assert_eq!(take(&mut free, 1).len(), 10);
        assert_eq!(take(&mut free, 1).len(), 0);
    }
}
