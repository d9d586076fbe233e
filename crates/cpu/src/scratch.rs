//! Buffers that a thread keeps between tasks, so that kernels allocate nothing in steady state.

use std::cell::RefCell;

thread_local! {
    /// Those not in use, the outermost one last.
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with `len` values of unspecified content. Nested calls get buffers of their own.
pub(crate) fn with_scratch<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = body(&mut buffer[..len]);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}
