//! Real clients from the Python package index. Slow and in need of a network, so it is only run when
//! asked for: `cargo test -p tidemill-server --test clients -- --ignored`.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a command to its good end.
fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?} ended with {status}");
}

/// The program, beside this test's own folder: `cargo build` made it there.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap();
    let program = folder.join(format!("tidemill{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "build it first: cargo build -p tidemill");
    program
}

#[test]
#[ignore = "installs clients from the network"]
fn real_clients_are_served() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    let python = folder.join("bin/python");
    if !python.is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    }
    let requirements = here.join("requirements.txt");
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(&requirements));
    run(Command::new(&python)
        .arg(here.join("check.py"))
        .arg(program()));
}
