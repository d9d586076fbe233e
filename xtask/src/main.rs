//! The project's own tasks: `cargo xtask ci` is what continuous integration runs.
//!
//! Each check is a file here and also runs alone, such as `cargo xtask layers`. There are no shell
//! scripts beside this; `.ci/run` only calls it.

mod arm;
mod cargo;
mod ci;
mod deny;
mod fuzz;
mod gpu;
mod layers;
mod page;
mod size;
mod test;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// How a check ended when it did not fail.
enum Outcome {
    /// It passed, with what it wants to say about it.
    Passed(String),
    /// It could not run here, and why.
    Skipped(String),
}

/// One of the checks of `cargo xtask ci`.
struct Check {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<Outcome>,
}

/// Cheapest first, so that a slip is known before the long ones start.
const CHECKS: [Check; 11] = [
    Check {
        name: "fmt",
        about: "rustfmt would change nothing",
        run: cargo::fmt,
    },
    Check {
        name: "layers",
        about: "no crate imports what it must not know, unsafe stays where it is allowed",
        run: layers::run,
    },
    Check {
        name: "size",
        about: "files stay small; lines per crate",
        run: size::run,
    },
    Check {
        name: "clippy",
        about: "lints of all crates and targets, warnings refused",
        run: cargo::clippy,
    },
    Check {
        name: "docs",
        about: "the documentation builds without warnings",
        run: cargo::docs,
    },
    Check {
        name: "test",
        about: "every test, documentation examples included",
        run: test::run,
    },
    Check {
        name: "arm",
        about: "the kernels for 64-bit ARM, emulated",
        run: arm::run,
    },
    Check {
        name: "gpu",
        about: "the kernels for NVIDIA GPUs, compiled, and run on the CPU",
        run: gpu::run,
    },
    Check {
        name: "page",
        about: "the web page, in node and in a headless Chromium",
        run: page::run,
    },
    Check {
        name: "deny",
        about: "licences, duplicates, sources and advisories of the dependencies",
        run: deny::run,
    },
    Check {
        name: "fuzz",
        about: "each fuzz target for FUZZ_SECONDS (default 20)",
        run: fuzz::run,
    },
];

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    std::env::set_current_dir(root()?).context("enter the repository")?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["help" | "-h" | "--help", ..] | [_, "-h" | "--help"] => {
            say(&usage());
            Ok(ExitCode::SUCCESS)
        }
        ["ci", options @ ..] => ci::run(options),
        [name] if CHECKS.iter().any(|check| check.name == *name) => ci::run(&["--only", name]),
        _ => bail!("no task is called `{}`\n\n{}", words.join(" "), usage()),
    }
}

fn usage() -> String {
    let mut text = String::from(
        "Usage: cargo xtask ci [--skip CHECK]... [--only CHECK]...\n       cargo xtask CHECK\n\nChecks, in the order of `ci`:\n",
    );
    for check in &CHECKS {
        text.push_str(&format!("  {:<8} {}\n", check.name, check.about));
    }
    text
}

/// The repository's root, where every check runs.
fn root() -> Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    Ok(here
        .parent()
        .context("xtask lies in the repository")?
        .to_owned())
}

/// The one place that prints: a task's report is its result.
#[expect(clippy::print_stdout, reason = "a task's report is its result")]
fn say(text: &str) {
    println!("{text}");
}
