//! What a check needs: cargo's helpers, found or installed below `target`, where they bother nobody,
//! and packages of the system.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

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

/// The first of these programs that is on the path.
pub(crate) fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|candidate| candidate.is_file())
}

/// Installs packages of a Debian system.
///
/// # Errors
/// Elsewhere, and where this user may not.
pub(crate) fn install_packages(names: &[&str]) -> Result<()> {
    let apt = |args: &[&str]| -> Result<()> {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        let status = status.context("start apt-get")?;
        if !status.success() {
            bail!("apt-get {} ended with {status}", args.join(" "));
        }
        Ok(())
    };
    let install = [&["install", "--yes", "--no-install-recommends"], names].concat();
    // The lists of packages may be missing or old.
    apt(&install).or_else(|_| {
        apt(&["update"])?;
        apt(&install)
    })
}
