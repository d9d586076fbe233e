//! Real clients, installed from where their users get them. Slow and in need of a network, so they
//! are only run when asked for:
//!
//! ```sh
//! cargo build -p tidemill
//! cargo test -p tidemill-server --test clients -- --ignored --nocapture
//! ```
//!
//! Each has an environment of its own below `target/tmp/clients`. What is asked and what has to come
//! back is in the folder `clients`.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One after the other: what they print stays together, and none waits for a machine that another
/// keeps busy.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

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

/// A file or folder of the checks.
fn here(name: &str) -> PathBuf {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    clients.join(name)
}

/// Where a client is installed.
fn there(name: &str) -> PathBuf {
    let clients = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    std::fs::create_dir_all(&clients).unwrap();
    clients.join(name)
}

/// A check in Python, ready to be given more arguments.
fn check(python: impl AsRef<std::ffi::OsStr>, script: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg(here(script))
        .arg(program())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Installs `packages` (a file of requirements) into an environment and runs a check there.
fn python(packages: &str, script: &str) {
    let _turn = turn();
    let folder = there(packages.trim_end_matches(".txt"));
    let python = folder.join("bin/python");
    if !python.is_file() {
        // What the system has of the large ones need not be fetched again.
        let create = ["-m", "venv", "--system-site-packages"];
        run(Command::new("python3").args(create).arg(&folder));
    }
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    run(Command::new(&python)
        .args(install)
        .arg("--requirement")
        .arg(here(packages)));
    run(&mut check(&python, script));
}

#[test]
#[ignore = "installs clients from the network"]
fn python_clients_of_openai_anthropic_and_ollama() {
    python("python.txt", "python_clients.py");
}

#[test]
#[ignore = "installs clients from the network"]
fn litellm_as_a_proxy() {
    python("litellm.txt", "litellm_proxy.py");
}

#[test]
#[ignore = "installs clients from the network"]
fn lm_eval_on_tasks_of_our_own() {
    python("lm_eval.txt", "lm_eval_check.py");
}

#[test]
#[ignore = "installs clients from the network"]
fn evalplus_on_problems_of_our_own() {
    python("evalplus.txt", "evalplus_check.py");
}

#[test]
#[ignore = "installs clients from the network"]
fn openai_in_javascript() {
    let _turn = turn();
    let folder = there("js");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(here("js/package.json"), folder.join("package.json")).unwrap();
    let install = ["install", "--no-audit", "--no-fund", "--loglevel", "error"];
    run(Command::new("npm").args(install).current_dir(&folder));
    run(check("python3", "js_client.py").arg(&folder));
}

#[test]
#[ignore = "installs clients from the network"]
fn async_openai_in_rust() {
    let _turn = turn();
    run(check("python3", "rust_client.py").arg(there("rust")));
}
