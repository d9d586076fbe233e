//! Measures what is asked for on standard input, one repetition per line.
//!
//! Two engines can only be compared on a machine with neighbours by measuring them in turn, again
//! and again. A program that does so keeps both loaded, and asks each for the next repetition.

use std::collections::BTreeSet;

use anyhow::Context;

use super::limits::Limits;
use super::plan::{Case, Setup};
use super::runner::Runner;
use super::suite::{BANDWIDTH, Subject, Suite};
use crate::exit::Failure;
use crate::interrupt;

/// Answers lines until there are no more.
pub(super) fn answer(
    suite: &mut Suite<'_>,
    subject: &Subject,
    setup: &Setup,
    limits: &Limits,
    runner: &mut Runner,
    cases: &[Case],
) -> anyhow::Result<()> {
    let mut warm = BTreeSet::new();
    for line in std::io::stdin().lines() {
        let line = line.context("read what to measure")?;
        interrupt::check()?;
        let name = line.trim();
        if name == BANDWIDTH {
            let record = suite.bandwidth_of(setup.threads)?;
            suite.report.add(&record)?;
            continue;
        }
        let Some(case) = cases.iter().find(|case| case.name() == name) else {
            let planned: Vec<_> = cases.iter().map(Case::name).collect();
            let why = format!("{name:?} is not planned; there are: {}", planned.join(", "));
            return Err(Failure::BadInput(why).into());
        };
        runner.reach(case, |_, _| {})?;
        if warm.insert(case.name()) {
            runner.warm_up(case)?;
            runner.reach(case, |_, _| {})?;
        }
        for sample in runner.run(case)? {
            let record = suite.result(subject, setup, limits, case, &[sample]);
            suite.report.add(&record)?;
        }
    }
    Ok(())
}
