//! Buffers that a thread keeps between tasks, so that kernels allocate nothing in steady state.

use std::cell::Cell;

thread_local! {
    static BUFFER: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Runs `body` with `len` values of unspecified content. Nested calls get buffers of their own;
/// only the outermost one is kept.
pub(crate) fn with_scratch<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = BUFFER.take();
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = body(&mut buffer[..len]);
    BUFFER.set(buffer);
    result
}
