//! The `tidemill` program: one thin file per command.

use std::process::ExitCode;

mod args;
mod bench;
mod convert;
mod dashes;
mod doctor;
mod embedded;
mod exit;
mod export;
mod fit;
mod foreign;
mod hub;
mod inspect;
mod interrupt;
mod loading;
mod logits;
mod model_args;
mod nvidia;
mod output;
mod placement;
mod plan;
mod pull;
mod rope;
mod run;
mod sampling_args;
mod scheduling;
mod serve;
mod size;
mod speculation;
mod synth;
mod tokenize;

fn main() -> ExitCode {
    args::main()
}
