//! The kernels of `y[t, r] = dot(W[r, :], x[t, :])`.
//!
//! `blocks` multiplies quantised weights with 8-bit activations in integers; `float` multiplies
//! plain floats. Both walk a stripe of weight rows for a few inputs at a time. Each pair (t, r)
//! has one accumulator that sees the same operations in the same order in every tile, so its value
//! does not depend on the tile.

pub(crate) mod blocks;
pub(crate) mod float;
#[cfg(target_arch = "x86_64")]
mod unpack_avx2;
#[cfg(target_arch = "x86_64")]
mod unpack_avx512;
mod unpack_scalar;
