//! Cargo's helpers that a check needs: found, or installed below `target`, where they bother nobody.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo;

const FOLDER: &str = "target/tools";

/// The program of this exact version, from the path or from our own folder, else freshly built.
pub(crate) fn find_or_install(name: &str, version: &str) -> Result<PathBuf> {
    let installed = Path::new(FOLDER).join("bin").join(name);
    for candidate in [PathBuf::from(name), installed.clone()] {
        let mut command = Command::new(&candidate);
        // Some answer only to the name that cargo calls them by.
        let found = command
            .args([name.trim_start_matches("cargo-"), "--version"])
            .output();
        if found.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(version)) {
            return Ok(candidate);
        }
    }
    let package = format!("{name}@{version}");
    let args = ["install", "--locked", "--debug", "--root", FOLDER, &package];
    // These run for seconds, so a quick build beats a fast program.
    cargo::passes(cargo::command(&args).env("CARGO_PROFILE_DEV_DEBUG", "0"))
        .with_context(|| format!("install {name}"))?;
    std::path::absolute(installed).context("name the installed program")
}
