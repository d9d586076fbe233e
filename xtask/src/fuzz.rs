//! Each fuzz target for a short while: enough to notice that one has rotted or fails at once.
//!
//! Long runs are described in `fuzz/README.md`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{Outcome, cargo, tools};

const VERSION: &str = "0.13.2";

/// The check.
pub(crate) fn run() -> Result<Outcome> {
    let skip = |why: &str| Ok(Outcome::Skipped(why.to_owned()));
    if !Path::new("fuzz/Cargo.toml").is_file() {
        return skip("there is no folder fuzz");
    }
    let program = tools::find_or_install("cargo-fuzz", VERSION)?;
    let fuzz = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("fuzz").args(args).stdin(Stdio::null());
        command
    };
    let seconds: u32 = match std::env::var("FUZZ_SECONDS") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("FUZZ_SECONDS is `{text}`, not a number of seconds"))?,
        Err(_) => 20,
    };
    let list = fuzz(&["list"])
        .output()
        .context("run `cargo fuzz list`")?
        .stdout;
    let list = String::from_utf8_lossy(&list);
    let targets: Vec<&str> = list.split_whitespace().collect();
    if targets.is_empty() {
        bail!("`cargo fuzz list` names no target");
    }
    let limit = format!("-max_total_time={seconds}");
    for target in &targets {
        let corpus = format!("fuzz/corpus/{target}");
        let seeds = format!("fuzz/seeds/{target}");
        std::fs::create_dir_all(&corpus).with_context(|| format!("make {corpus}"))?;
        let mut args = vec!["run", target, &corpus];
        if Path::new(&seeds).is_dir() {
            args.push(&seeds);
        }
        args.extend(["--", &limit]);
        args.extend(["-max_len=8192", "-timeout=10", "-malloc_limit_mb=256"]);
        // The sanitizer needs flags that only a nightly compiler takes; this lets the pinned one
        // take them too.
        cargo::passes(fuzz(&args).env("RUSTC_BOOTSTRAP", "1"))?;
    }
    Ok(Outcome::Passed(format!(
        "{} targets, {seconds} s each",
        targets.len()
    )))
}
