//! Quantised blocks, the op contract and its scalar reference.

pub mod quant;
