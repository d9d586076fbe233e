//! Compiles every kernel for the architectures that are named, and holds them to their budgets: no
//! spills, and no more registers than `PROGRAMS` gives each. `cargo xtask gpu` runs it.
//!
//! A program that passed is noted under its hash in the folder that `--passed FOLDER` names, and is not
//! compiled again.

use std::path::PathBuf;
use std::process::ExitCode;

use tidemill_gpu::{Nvrtc, PROGRAMS, Program};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut archs, mut passed) = (Vec::new(), None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--passed" => passed = args.next().map(PathBuf::from),
            _ => archs.push(arg),
        }
    }
    let nvrtc = match Nvrtc::open(None) {
        Ok(nvrtc) => nvrtc,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::from(2);
        }
    };
    let mut faults = 0;
    for program in PROGRAMS {
        for arch in &archs {
            faults += check(&nvrtc, program, arch, passed.as_ref());
        }
    }
    let (major, minor) = nvrtc.version();
    let kernels: usize = PROGRAMS.iter().map(|program| program.kernels.len()).sum();
    say(&format!(
        "{kernels} kernels, {} architectures, NVRTC {major}.{minor}: {faults} faults",
        archs.len()
    ));
    ExitCode::from(u8::from(faults > 0))
}

/// Compiles a program and counts its faults.
fn check(nvrtc: &Nvrtc, program: &Program, arch: &str, passed: Option<&PathBuf>) -> usize {
    let options = ["--ptxas-options=-v".to_owned()];
    let budgets = program
        .kernels
        .iter()
        .map(|k| format!("{}:{}", k.kernel, k.registers));
    let all: Vec<String> = options.iter().cloned().chain(budgets).collect();
    let (major, minor) = nvrtc.version();
    let name = format!(
        "{}-{arch}-{major}.{minor}-{:016x}",
        program.name,
        program.hash(arch, &all)
    );
    let note = passed.map(|folder| folder.join(name));
    if note.as_ref().is_some_and(|note| note.is_file()) {
        return 0;
    }
    let log = match program.compile(nvrtc, arch, &options) {
        Ok(compiled) => compiled.log,
        Err(error) => {
            say(&error.to_string());
            return 1;
        }
    };
    let used = usage(&log);
    let mut faults = 0;
    for budget in program.kernels {
        let Some(found) = used.iter().find(|used| used.kernel == budget.kernel) else {
            say(&format!(
                "{arch} {}: the compiler says nothing about it",
                budget.kernel
            ));
            faults += 1;
            continue;
        };
        say(&format!(
            "{arch:<7} {:<18} {:>3} of {:>3} registers, {} bytes spilled",
            budget.kernel, found.registers, budget.registers, found.spilled
        ));
        if found.spilled > 0 || found.registers > budget.registers {
            say(&format!(
                "FAULT: {arch} {} is over its budget",
                budget.kernel
            ));
            faults += 1;
        }
    }
    if faults == 0
        && let Some(note) = note
    {
        // Without the note it is compiled again, no more.
        let _ = std::fs::write(note, "");
    }
    faults
}

/// What a kernel uses.
struct Usage {
    kernel: String,
    registers: u32,
    /// Bytes stored to and loaded from where registers did not suffice.
    spilled: u32,
}

/// Reads the assembler's report.
fn usage(log: &str) -> Vec<Usage> {
    let mut found: Vec<Usage> = Vec::new();
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            found.push(Usage {
                kernel: rest.split('\'').next().unwrap_or_default().to_owned(),
                registers: u32::MAX,
                spilled: u32::MAX,
            });
        } else if let Some(last) = found.last_mut() {
            if line.contains("bytes stack frame") {
                last.spilled = number_before(line, " bytes spill stores")
                    + number_before(line, " bytes spill loads");
            } else if line.contains(" registers") {
                last.registers = number_before(line, " registers");
            }
        }
    }
    found
}

/// The number in front of some words.
fn number_before(line: &str, words: &str) -> u32 {
    let before = line.split(words).next().unwrap_or_default();
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(u32::MAX / 4)
}

#[expect(clippy::print_stdout, reason = "the report is the result")]
fn say(text: &str) {
    println!("{text}");
}
