//! How each weight type is unpacked, written once for all instruction sets.

mod k;
mod simple;
mod tables;

pub(crate) use k::{Q4K, Q5K, Q6K};
pub(crate) use simple::{Q4_0, Q8_0};
pub(crate) use tables::{Iq4Nl, Mxfp4};
