//! The K types: super-blocks of 256 values, cut into groups of 16 or 32 with scales (and minima)
//! that are themselves quantised against one f16 scale.
//!
//! Types with a minimum decode to `d * scale * q - dmin * min`, the others to `d * scale * q`.
//! Decoding is fixed by the format. Encoding is ours: a search for the scales with the least squared
//! error, in one file for each of the two kinds.

mod affine;
mod decode;
mod encode;
mod least_squares;
mod symmetric;

pub(super) use decode::*;
pub(super) use encode::*;
