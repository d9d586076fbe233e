//! The kernels of `y[t, r] = dot(W[r, :], x[t, :])`.
//!
//! Quantised weights are multiplied with 8-bit activations in integers: `formats` has a file per
//! family of types and brings them to the common form of `panel`, `tile` multiplies that, and
//! `product` walks over rows and inputs. `words` is what this needs of an instruction set. Plain
//! floats are multiplied by `float`. Where an instruction multiplies pieces of two rows with pieces of two
//! inputs, `pairs` is what it offers, and `pair_kernels` takes inputs two by two. Each pair (t, r) has one accumulator that sees the same
//! operations in the same order in every tile, so its value does not depend on the tile.

mod direct;
pub(crate) mod float;
pub(crate) mod formats;
pub(crate) mod interleave;
mod pair_kernels;
mod pair_panel;
pub(crate) mod pairs;
#[cfg(target_arch = "aarch64")]
pub(crate) mod pairs_neon;
#[cfg(test)]
pub(crate) mod pairs_plain;
mod panel;
pub(crate) mod product;
mod source;
mod tile;
pub(crate) mod words;
#[cfg(target_arch = "x86_64")]
mod words_avx2;
#[cfg(target_arch = "x86_64")]
mod words_avx512;
#[cfg(target_arch = "aarch64")]
mod words_neon;
mod words_scalar;
