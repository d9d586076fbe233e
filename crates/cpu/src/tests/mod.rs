//! Every operation against the scalar reference, and against itself on other roads.

mod attention;
mod copies;
mod delta;
mod held_rows;
mod linear;
mod moe;
mod norm;

use std::sync::Arc;

use proptest::test_runner::{Config, RngSeed};
pub(crate) use tensor::testing::{Random, assert_close, assert_same, batch};

use crate::{Activations, Cpu, Isa, Pool};

/// The same cases on every run; no more than `PROPTEST_CASES`, for machines that are slow.
pub(crate) fn cases(cases: u32) -> Config {
    let most = std::env::var("PROPTEST_CASES").ok();
    let most = most.and_then(|most| most.parse().ok());
    Config {
        cases: most.map_or(cases, |most: u32| cases.min(most)),
        rng_seed: RngSeed::Fixed(20),
        failure_persistence: None,
        ..Config::default()
    }
}

/// A backend for each instruction set of this machine, with these threads.
pub(crate) fn backends(threads: usize) -> Vec<Cpu> {
    let pool = Arc::new(Pool::new(threads));
    Isa::ALL
        .into_iter()
        .filter_map(|isa| Cpu::with_isa(Arc::clone(&pool), isa).ok())
        .collect()
}

/// The same, one for those sets that differ only in integer products.
pub(crate) fn distinct_backends(threads: usize) -> Vec<Cpu> {
    let mut all = backends(threads);
    all.retain(|cpu| cpu.isa() != Isa::NeonI8mm);
    all
}

/// The same without rounding of activations, which are the integer products' inputs, to compare with the
/// reference.
pub(crate) fn exact_backends(threads: usize) -> Vec<Cpu> {
    let exact = |cpu: Cpu| cpu.with_activations(Activations::Exact);
    distinct_backends(threads).into_iter().map(exact).collect()
}
