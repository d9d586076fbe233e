//! The kernels of the delta rule: some tokens of one value head.
//!
//! The columns of a state are independent of each other, so they are walked in blocks of two
//! vectors, which stay in the first-level cache through all tokens. One pass over a block finishes
//! a token and reads the state for the next one: a load, a store and four operations a vector,
//! which is what the arithmetic needs. The order of operations on each value is that of one token
//! after the other, whatever is run at once.

use crate::simd::{Kernel, MAX_LANES, Simd};

/// Added to the sum of squares of q and k before the root.
const L2_EPS: f32 = 1e-6;

/// The values of a prepared token: q, k (each `[key_dim]`), v `[value_dim]`, alpha and beta.
pub(super) fn token_len(key_dim: usize, value_dim: usize) -> usize {
    2 * key_dim + value_dim + 2
}

/// The values of scratch space that [`Steps`] needs.
pub(super) fn scratch_len(key_dim: usize, value_dim: usize) -> usize {
    value_dim + key_dim * 2 * MAX_LANES
}

/// Gathers q, k and v of one head from some rows of channels, and scales q and k to length one
/// (q also by `key_dim^-1/2`).
pub(super) struct Prepare<'a> {
    pub(super) key_dim: usize,
    pub(super) value_dim: usize,
    /// A row of channels per token, `stride` apart.
    pub(super) channels: *const f32,
    pub(super) stride: usize,
    /// The head's first channels of each kind.
    pub(super) query: usize,
    pub(super) key: usize,
    pub(super) value: usize,
    /// See [`token_len`]; alpha and beta are left as they are.
    pub(super) tokens: &'a mut [f32],
}

impl Kernel for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (key_dim, value_dim) = (self.key_dim, self.value_dim);
        let scale = 1.0 / (key_dim as f32).sqrt();
        let tokens = self.tokens.chunks_exact_mut(token_len(key_dim, value_dim));
        for (row, token) in tokens.enumerate() {
            // SAFETY: the row has these channels, and the token room for them.
            unsafe {
                let channels = self.channels.add(row * self.stride);
                let (query, key) = (channels.add(self.query), channels.add(self.key));
                let mut squares = [s.splat(0.0); 2];
                for at in (0..key_dim).step_by(S::LANES) {
                    let q = s.load_up_to(query.add(at), key_dim - at);
                    let k = s.load_up_to(key.add(at), key_dim - at);
                    squares[0] = s.mul_add(q, q, squares[0]);
                    squares[1] = s.mul_add(k, k, squares[1]);
                }
                let factors = [
                    s.splat(scale / (s.sum(squares[0]) + L2_EPS).sqrt()),
                    s.splat(1.0 / (s.sum(squares[1]) + L2_EPS).sqrt()),
                ];
                let to = token.as_mut_ptr();
                for at in (0..key_dim).step_by(S::LANES) {
                    let rest = key_dim - at;
                    let q = s.mul(s.load_up_to(query.add(at), rest), factors[0]);
                    let k = s.mul(s.load_up_to(key.add(at), rest), factors[1]);
                    s.store_up_to(to.add(at), q, rest);
                    s.store_up_to(to.add(key_dim + at), k, rest);
                }
                for at in (0..value_dim).step_by(S::LANES) {
                    let rest = value_dim - at;
                    let v = s.load_up_to(channels.add(self.value + at), rest);
                    s.store_up_to(to.add(2 * key_dim + at), v, rest);
                }
            }
        }
    }
}

/// Runs some tokens of one head:
///
/// ```text
/// S <- alpha S;  d = beta (v - S^T k);  S <- S + k d^T;  o = S^T q
/// ```
pub(super) struct Steps<'a> {
    pub(super) key_dim: usize,
    pub(super) value_dim: usize,
    /// See [`token_len`].
    pub(super) tokens: &'a [f32],
    /// The state before, `[key_dim, value_dim]`.
    pub(super) from: *const f32,
    /// Where the state goes, which may be the same place; `None` if nobody needs it.
    pub(super) to: Option<*mut f32>,
    /// o of each token, `[value_dim]`.
    pub(super) outputs: &'a mut [f32],
    /// See [`scratch_len`]; anything.
    pub(super) scratch: &'a mut [f32],
}

/// One prepared token.
#[derive(Clone, Copy)]
struct Token {
    q: *const f32,
    k: *const f32,
    v: *const f32,
    alpha: f32,
    beta: f32,
}

/// Some columns of a state, or a copy of them.
#[derive(Clone, Copy)]
struct Columns {
    first: *mut f32,
    /// From a row to the next.
    stride: usize,
}

impl Kernel for Steps<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (reads, block) = std::mem::take(&mut self.scratch).split_at_mut(self.value_dim);
        let places = (block.as_mut_ptr(), self.outputs.as_mut_ptr());
        self.read(s, reads);
        // Two vectors hide the latency of the sums, and 128 rows of them leave room in the
        // first-level cache. They are copied together between the first and the last token, since
        // rows of a state lie so that only few of the cache's sets would hold them.
        let mut column = 0;
        while column + 2 * S::LANES <= self.value_dim {
            self.run_columns::<S, 2>(s, column, reads, places);
            column += 2 * S::LANES;
        }
        while column < self.value_dim {
            self.run_columns::<S, 1>(s, column, reads, places);
            column += S::LANES;
        }
    }
}

impl Steps<'_> {
    fn token(&self, index: usize) -> Token {
        let len = token_len(self.key_dim, self.value_dim);
        let token = &self.tokens[index * len..][..len];
        Token {
            q: token.as_ptr(),
            k: token[self.key_dim..].as_ptr(),
            v: token[2 * self.key_dim..].as_ptr(),
            alpha: token[len - 2],
            beta: token[len - 1],
        }
    }

    /// `(alpha S)^T k` of the first token: brings the state from memory, so in whole rows.
    #[inline(always)]
    fn read<S: Simd>(&self, s: S, reads: &mut [f32]) {
        let mut column = 0;
        while column + 8 * S::LANES <= self.value_dim {
            self.read_columns::<S, 8>(s, column, reads);
            column += 8 * S::LANES;
        }
        while column + 2 * S::LANES <= self.value_dim {
            self.read_columns::<S, 2>(s, column, reads);
            column += 2 * S::LANES;
        }
        while column < self.value_dim {
            self.read_columns::<S, 1>(s, column, reads);
            column += S::LANES;
        }
    }

    #[inline(always)]
    fn read_columns<S: Simd, const V: usize>(&self, s: S, column: usize, reads: &mut [f32]) {
        let rest = self.value_dim - column;
        let Token { k, alpha, .. } = self.token(0);
        let alpha = s.splat(alpha);
        let mut read = [s.splat(0.0); V];
        for i in 0..self.key_dim {
            for v in 0..V {
                let at = v * S::LANES;
                // SAFETY: row i of the state has `rest` values from `column` on, and k a value.
                unsafe {
                    let place = self.from.add(i * self.value_dim + column + at);
                    let cell = s.mul(load::<S, V>(s, place, rest - at), alpha);
                    read[v] = s.mul_add(cell, s.splat(*k.add(i)), read[v]);
                }
            }
        }
        let reads = &mut reads[column..];
        for v in 0..V {
            let at = v * S::LANES;
            // SAFETY: `rest` values remain.
            unsafe { store::<S, V>(s, reads.as_mut_ptr().add(at), read[v], rest - at) };
        }
    }

    /// All tokens for `V` vectors of columns from `column` on, the last of which may be partial.
    /// `reads` are the first token's; the places are room for a copy of the columns and outputs.
    #[inline(always)]
    fn run_columns<S: Simd, const V: usize>(
        &self,
        s: S,
        column: usize,
        reads: &[f32],
        (block, outputs): (*mut f32, *mut f32),
    ) {
        let rest = self.value_dim - column;
        let mut read = [s.splat(0.0); V];
        for v in 0..V {
            let at = v * S::LANES;
            // SAFETY: `rest` values remain.
            read[v] = unsafe { load::<S, V>(s, reads[column..].as_ptr().add(at), rest - at) };
        }
        let columns = |first: *mut f32| Columns {
            // SAFETY: the state's first row has values from `column` on.
            first: unsafe { first.add(column) },
            stride: self.value_dim,
        };
        let block = Columns {
            first: block,
            stride: V * S::LANES,
        };
        let (from, to) = (columns(self.from.cast_mut()), self.to.map(columns));
        let last = self.tokens.len() / token_len(self.key_dim, self.value_dim) - 1;
        if last == 0 {
            self.run_token::<S, V, true, true>(s, column, 0, read, (from, to, outputs));
            return;
        }
        read =
            self.run_token::<S, V, true, false>(s, column, 0, read, (from, Some(block), outputs));
        for token in 1..last {
            let places = (block, Some(block), outputs);
            read = self.run_token::<S, V, false, false>(s, column, token, read, places);
        }
        self.run_token::<S, V, false, true>(s, column, last, read, (block, to, outputs));
    }

    /// One token, given `(alpha S)^T k`; returns the same for the next one. Between tokens the
    /// state is kept with the next one's alpha applied.
    #[inline(always)]
    fn run_token<S: Simd, const V: usize, const FIRST: bool, const LAST: bool>(
        &self,
        s: S,
        column: usize,
        token: usize,
        read: [S::F; V],
        (from, to, outputs): (Columns, Option<Columns>, *mut f32),
    ) -> [S::F; V] {
        let rest = self.value_dim - column;
        let Token {
            q,
            k,
            v: value,
            alpha,
            beta,
        } = self.token(token);
        let next = self.token(if LAST { token } else { token + 1 });
        let (alpha, next_alpha) = (s.splat(alpha), s.splat(next.alpha));
        let mut write = [s.splat(0.0); V];
        for v in 0..V {
            let at = v * S::LANES;
            // SAFETY: in this function every access is to `rest` values or fewer that follow
            // `column` in a row of the state, of v or of o, or to one of `key_dim` values of q or k.
            let value = unsafe { load::<S, V>(s, value.add(column + at), rest - at) };
            write[v] = s.mul(s.splat(beta), s.sub(value, read[v]));
        }
        let mut output = [s.splat(0.0); V];
        let mut next_read = [s.splat(0.0); V];
        for i in 0..self.key_dim {
            // SAFETY: as above.
            let (query, key, next_key) = unsafe {
                (
                    s.splat(*q.add(i)),
                    s.splat(*k.add(i)),
                    s.splat(*next.k.add(i)),
                )
            };
            for v in 0..V {
                let at = v * S::LANES;
                // SAFETY: as above.
                unsafe {
                    let place = from.first.add(i * from.stride + at);
                    let mut cell = load::<S, V>(s, place, rest - at);
                    if FIRST {
                        cell = s.mul(cell, alpha);
                    }
                    cell = s.mul_add(key, write[v], cell);
                    output[v] = s.mul_add(cell, query, output[v]);
                    if !LAST {
                        cell = s.mul(cell, next_alpha);
                        next_read[v] = s.mul_add(cell, next_key, next_read[v]);
                    }
                    if let Some(to) = to {
                        store::<S, V>(s, to.first.add(i * to.stride + at), cell, rest - at);
                    }
                }
            }
        }
        for v in 0..V {
            let at = v * S::LANES;
            // SAFETY: as above.
            unsafe {
                let to = outputs.add(token * self.value_dim + column + at);
                store::<S, V>(s, to, output[v], rest - at);
            }
        }
        next_read
    }
}

/// A vector, which may be partial only where one column of vectors is worked on.
///
/// # Safety
/// `from` must point to `remaining` values, or to a whole vector if `V` is above 1.
#[inline(always)]
unsafe fn load<S: Simd, const V: usize>(s: S, from: *const f32, remaining: usize) -> S::F {
    // SAFETY: as the caller promises.
    unsafe {
        if V > 1 {
            s.load(from)
        } else {
            s.load_up_to(from, remaining)
        }
    }
}

/// Writes a vector; as [`load`].
///
/// # Safety
/// As [`load`].
#[inline(always)]
unsafe fn store<S: Simd, const V: usize>(s: S, to: *mut f32, vector: S::F, remaining: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        if V > 1 {
            s.store(to, vector);
        } else {
            s.store_up_to(to, vector, remaining);
        }
    }
}
