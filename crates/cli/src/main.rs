//! The `tidemill` program: one thin file per command.

use std::process::ExitCode;

mod args;
mod convert;
mod exit;
mod export;
mod inspect;
mod interrupt;
mod output;
mod synth;

fn main() -> ExitCode {
    args::main()
}
