//! What the dependencies are allowed to be, judged by cargo-deny from `deny.toml`.
//!
//! Installs cargo-deny below `target` when the machine has none. Known vulnerabilities are only
//! looked up where their database can be fetched; where it cannot, the report says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::{Outcome, cargo, say};

const VERSION: &str = "0.20.2";
const TOOLS: &str = "target/tools";

/// The check.
pub(crate) fn run() -> Result<Outcome> {
    let program = find_or_install()?;
    let deny = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("deny").args(args).stdin(Stdio::null());
        command
    };
    cargo::passes(&mut deny(&[
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))?;
    let fetched = deny(&["fetch", "db"])
        .stderr(Stdio::null())
        .status()
        .context("start cargo-deny")?
        .success();
    if fetched {
        cargo::passes(&mut deny(&[
            "check",
            "--disable-fetch",
            "--hide-inclusion-graph",
            "advisories",
        ]))?;
        return Ok(Outcome::Passed(
            "licences, bans, sources, advisories".to_owned(),
        ));
    }
    let note = "licences, bans, sources; advisories NOT checked: their database is out of reach";
    say(note);
    Ok(Outcome::Passed(note.to_owned()))
}

fn find_or_install() -> Result<PathBuf> {
    let installed = Path::new(TOOLS).join("bin/cargo-deny");
    for candidate in [PathBuf::from("cargo-deny"), installed.clone()] {
        let version = Command::new(&candidate).arg("--version").output();
        if version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(VERSION)) {
            return Ok(candidate);
        }
    }
    let package = format!("cargo-deny@{VERSION}");
    let args = ["install", "--locked", "--debug", "--root", TOOLS, &package];
    // It runs for two seconds, so a quick build beats a fast program.
    cargo::passes(cargo::command(&args).env("CARGO_PROFILE_DEV_DEBUG", "0"))
        .context("install cargo-deny")?;
    Ok(installed)
}
