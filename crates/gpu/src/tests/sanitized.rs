//! The same tests once more, fewer cases, with the address sanitizer watching the stand-in: it sees what
//! kernels read and write beyond their memory, and says in which line.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{SANITIZED, build_folder, on_all_processors};
use crate::standin::{self, Build};

/// Set for a process whose kernels write beyond a tensor: the change that makes one do so.
pub(super) const OVERRUN: &str = "TIDEMILL_STANDIN_OVERRUN";
pub(super) const OVERRUNS: (&str, &str, &str) = (
    "rows.cu",
    "i < args.cols; i += ROW",
    "i <= args.cols + 63; i += ROW",
);

/// Runs this program in a process that the sanitizer watches: whether tests passed, and what they said.
fn run(library: &Path, args: &[&str], variables: &[&str]) -> (bool, String) {
    let out = program()
        .arg("--test-threads=1")
        .args(args)
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
    (out.status.success(), text.into_owned())
}

fn program() -> Command {
    Command::new(std::env::current_exe().expect("a test is a file"))
}

/// The sanitizer's library, and a stand-in that was built with it.
fn prepare(mutations: Vec<(&'static str, &'static str, &'static str)>) -> Option<PathBuf> {
    let build = Build {
        sanitized: true,
        mutations,
    };
    let library = standin::sanitizer_library();
    if library.is_none() {
        eprintln!("SKIPPED: no g++ with an address sanitizer");
    }
    standin::options(&build_folder(), &build).expect("the stand-in compiles")?;
    library
}

/// The names of all tests that are not run by name alone.
fn tests() -> Vec<String> {
    let list = |option: &[&str]| -> Vec<String> {
        let mut listing = program();
        listing.args(["--list", "--format=terse"]).args(option);
        let out = listing.output().expect("the program lists its tests");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        names.map(str::to_owned).collect()
    };
    let ignored = list(&["--ignored"]);
    let mut all = list(&[]);
    all.retain(|name| name.starts_with("tests::") && !ignored.contains(name));
    all
}

#[test]
#[ignore = "runs all tests again in processes of their own; `cargo xtask gpu` runs it"]
fn nothing_is_read_or_written_beyond_its_memory() {
    let Some(library) = prepare(Vec::new()) else {
        return;
    };
    let (tests, next) = (tests(), AtomicUsize::new(0));
    assert!(tests.len() > 40, "{tests:?}");
    on_all_processors(|| {
        while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (passed, text) = run(&library, &["--exact", test], &[SANITIZED]);
            let is_fine = passed && text.contains("test result: ok. 1 passed");
            assert!(is_fine, "{test}: {text}");
        }
    });
}

#[test]
#[ignore = "builds kernels again; `cargo xtask gpu` runs it"]
fn what_is_written_beyond_its_memory_is_seen() {
    let Some(library) = prepare(vec![OVERRUNS]) else {
        return;
    };
    let (passed, text) = run(&library, &["rows_are_chosen"], &[SANITIZED, OVERRUN]);
    assert!(!passed, "{text}");
    assert!(
        text.contains("heap-buffer-overflow") && text.contains("rows.cu:"),
        "{text}"
    );
}
