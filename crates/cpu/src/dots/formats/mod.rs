//! How each weight type is unpacked, written once for all instruction sets.
//!
//! `simple` and `tables` have types of 32 values with a scale, `k` and `k_low` those of 256 with
//! scales of scales, `by_row` those whose codes point into books of several values. Their layouts
//! are described in `tensor::quant`.

mod by_row;
mod k;
mod k_low;
mod simple;
mod tables;

pub(crate) use by_row::{Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs};
pub(crate) use k::{Q4K, Q5K, Q6K};
pub(crate) use k_low::{Q2K, Q3K};
pub(crate) use simple::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(crate) use tables::{Iq4Nl, Iq4Xs, Mxfp4};
