//! Every test, and one closing line that counts them all.
//!
//! Uses cargo-nextest where it is installed, and `cargo test` otherwise and for the examples in
//! the documentation. The last line says how many passed and failed, over all test programs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::{Outcome, cargo, say};

/// The check.
pub(crate) fn run() -> Result<Outcome> {
    let mut total = Counts::default();
    let mut fine = true;
    let has_nextest = cargo::stdout_of(&["nextest", "--version"]).is_some();
    let runs: &[&[&str]] = if has_nextest {
        &[
            &[
                "nextest",
                "run",
                "--workspace",
                "--locked",
                "--no-fail-fast",
            ],
            &["test", "--workspace", "--locked", "--no-fail-fast", "--doc"],
        ]
    } else {
        &[&["test", "--workspace", "--locked", "--no-fail-fast"]]
    };
    for args in runs {
        let (counts, passed) = count(cargo::command(args))?;
        total.add(counts);
        fine &= passed;
    }
    let line = total.line();
    say(&line);
    if !fine || total.failed > 0 {
        bail!("{line}");
    }
    if total.passed == 0 {
        bail!("no tests were found");
    }
    Ok(Outcome::Passed(line))
}

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} ignored",
            self.passed, self.failed, self.ignored
        )
    }
}

/// Runs a command, passes its output on, and sums up the result lines in it.
fn count(mut command: Command) -> Result<(Counts, bool)> {
    say(&format!("$ {}", cargo::shown(&command)));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", cargo::shown(&command)))?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let total = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        scope.spawn(|| pass_on(stdout, &total));
        pass_on(stderr, &total);
    });
    let status = child.wait().context("wait for the tests")?;
    let total = total.into_inner().context("a reader panicked")?;
    Ok((total, status.success()))
}

fn pass_on(stream: impl Read, total: &Mutex<Counts>) {
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        say(&line);
        if let (Some(counts), Ok(mut total)) = (result_line(&line), total.lock()) {
            total.add(counts);
        }
    }
}

/// Reads the closing line of a test program: libtest's `test result: ok. 3 passed; 0 failed; ...`
/// or nextest's `Summary [ 1.2s] 4 tests run: 3 passed, 1 failed, 2 skipped`.
fn result_line(line: &str) -> Option<Counts> {
    let line = line.trim();
    let is_libtest = line.starts_with("test result: ");
    let is_nextest = line.starts_with("Summary [") && line.contains("run:");
    if !is_libtest && !is_nextest {
        return None;
    }
    let mut counts = Counts::default();
    let words: Vec<&str> = line
        .split([' ', ';', ',', '('])
        .filter(|word| !word.is_empty())
        .collect();
    for pair in words.windows(2) {
        let Ok(number) = pair[0].parse::<u64>() else {
            continue;
        };
        match pair[1] {
            "passed" => counts.passed += number,
            "failed" => counts.failed += number,
            "timed" if is_nextest => counts.failed += number,
            "ignored" | "skipped" => counts.ignored += number,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let check = |line: &str, expected: Option<(u64, u64, u64)>| {
            let expected = expected.map(|(passed, failed, ignored)| Counts {
                passed,
                failed,
                ignored,
            });
            assert_eq!(result_line(line), expected, "{line}");
        };
        check(
            "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            Some((3, 1, 2)),
        );
        check(
            "     Summary [   1.234s] 13 tests run: 12 passed (1 slow), 1 timed out, 2 skipped",
            Some((12, 1, 2)),
        );
        check(
            "     Summary [   0.3s] 4/9 tests run: 3 passed, 1 failed, 0 skipped",
            Some((3, 1, 0)),
        );
        check("test result_line ... ok", None);
        check("running 12 tests", None);
    }
}
