//! The same tests once more, fewer cases, with the address sanitizer watching the stand-in: it sees what
//! kernels read and write beyond their memory, and says in which line.

use std::process::Command;

use super::SANITIZED;
use crate::standin;

/// Set for a process whose kernels write beyond a tensor: the change that makes one do so.
pub(super) const OVERRUN: &str = "TIDEMILL_STANDIN_OVERRUN";
pub(super) const OVERRUNS: (&str, &str, &str) = (
    "rows.cu",
    "i < args.cols; i += ROW",
    "i <= args.cols + 63; i += ROW",
);

/// Runs tests in a process that the sanitizer watches: whether they passed, and what they said.
fn run(filter: &str, variables: &[&str]) -> Option<(bool, String)> {
    let Some(library) = standin::sanitizer_library() else {
        eprintln!("SKIPPED: no g++ with an address sanitizer");
        return None;
    };
    let program = std::env::current_exe().expect("a test is a file");
    let out = Command::new(program)
        .args(["--test-threads=1", filter])
        .env("LD_PRELOAD", library)
        .env(
            "ASAN_OPTIONS",
            "detect_leaks=0:detect_stack_use_after_return=0",
        )
        .env("PROPTEST_CASES", "2")
        .envs(variables.iter().map(|name| (name, "1")))
        .output()
        .expect("the tests start");
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    Some((out.status.success(), text.into_owned()))
}

#[test]
#[ignore = "runs all tests again in a process of their own; `cargo xtask gpu` runs it"]
fn nothing_is_read_or_written_beyond_its_memory() {
    let Some((passed, text)) = run("tests::", &[SANITIZED]) else {
        return;
    };
    assert!(passed && text.contains("test result: ok"), "{text}");
}

#[test]
#[ignore = "builds all kernels again; `cargo xtask gpu` runs it"]
fn what_is_written_beyond_its_memory_is_seen() {
    let Some((passed, text)) = run("rows_are_chosen", &[SANITIZED, OVERRUN]) else {
        return;
    };
    assert!(!passed, "{text}");
    assert!(
        text.contains("heap-buffer-overflow") && text.contains("rows.cu:"),
        "{text}"
    );
}
