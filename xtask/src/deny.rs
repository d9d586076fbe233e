//! What the dependencies are allowed to be, judged by cargo-deny from `deny.toml`.
//!
//! Installs cargo-deny below `target` when the machine has none. Known vulnerabilities are only
//! looked up where their database can be fetched; where it cannot, the report says so.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::{Outcome, cargo, say, tools};

const VERSION: &str = "0.20.2";

/// The check.
pub(crate) fn run() -> Result<Outcome> {
    let program = tools::find_or_install("cargo-deny", VERSION)?;
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
