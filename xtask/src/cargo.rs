//! Running cargo, and the checks that are one cargo command.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{Outcome, say};

/// A cargo command; the one that runs this task, so that the toolchain is the same.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a command that talks to the user itself.
pub(crate) fn passes(command: &mut Command) -> Result<()> {
    say(&format!("$ {}", shown(command)));
    let status = command
        .status()
        .with_context(|| format!("start {}", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec!["cargo".to_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into()));
    words.join(" ")
}

/// What a command prints on stdout; `None` if it cannot be run or fails.
pub(crate) fn stdout_of(args: &[&str]) -> Option<String> {
    let output = command(args).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether there is a standard library for a target; if there is none, rustup is asked for it.
pub(crate) fn has_target(target: &str) -> bool {
    if has_libraries(target) {
        return true;
    }
    crate::say(&format!("installing the standard library for {target}"));
    let added = Command::new("rustup")
        .args(["target", "add", target])
        .status();
    added.is_ok_and(|status| status.success()) && has_libraries(target)
}

fn has_libraries(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    let output = command
        .args(["--print", "target-libdir", "--target", target])
        .output();
    output.is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success() && std::path::Path::new(folder.trim()).is_dir()
    })
}

/// `cargo fmt --check`
pub(crate) fn fmt() -> Result<Outcome> {
    passes(&mut command(&["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed(String::new()))
}

/// `cargo clippy` over everything.
pub(crate) fn clippy() -> Result<Outcome> {
    passes(&mut command(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(Outcome::Passed(String::new()))
}

/// `cargo doc` without the dependencies; private items too, as these pages are for developers.
pub(crate) fn docs() -> Result<Outcome> {
    passes(
        command(&["doc", "--workspace", "--no-deps", "--locked"])
            .arg("--document-private-items")
            .env(
                "RUSTDOCFLAGS",
                "-D warnings -A rustdoc::private-intra-doc-links",
            ),
    )?;
    Ok(Outcome::Passed(String::new()))
}
