//! The same tests once more, fewer cases, with the address sanitizer watching the stand-in: it sees what
//! kernels read and write beyond their memory, and says in which line.

use std::process::Command;

use super::SANITIZED;
use crate::standin;

#[test]
#[ignore = "runs all tests again in a process of their own; `cargo xtask gpu` runs it"]
fn nothing_is_read_or_written_beyond_its_memory() {
    let Some(library) = standin::sanitizer_library() else {
        eprintln!("SKIPPED: no g++ with an address sanitizer");
        return;
    };
    let program = std::env::current_exe().expect("a test is a file");
    let out = Command::new(program)
        .args(["--test-threads=1", "tests::"])
        .env("LD_PRELOAD", library)
        .env(
            "ASAN_OPTIONS",
            "detect_leaks=0:detect_stack_use_after_return=0",
        )
        .env("PROPTEST_CASES", "2")
        .env(SANITIZED, "1")
        .output()
        .expect("the tests start");
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}");
    assert!(text.contains("test result: ok"), "{text}");
}
