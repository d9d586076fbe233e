//! Compiles every kernel for the architectures that are named, and holds them to their budgets: no
//! spills, and no more registers than `PROGRAMS` gives each. `cargo xtask gpu` runs it.
//!
//! With `--dependent`, kernels are those that wait by themselves for those before them, and it is seen to
//! that all of them do so before anything else.
//!
//! A program that passed is noted under its hash in the folder that `--passed FOLDER` names, and is not
//! compiled again. The compiler does one thing at a time, whichever thread asks: so each program is compiled
//! in a process of its own (`--alone PROGRAM ARCHITECTURE`), one for each processor at once.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tidemill_gpu::{DEPENDENT, Nvrtc, PROGRAMS, Program};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut archs, mut alone) = (Vec::new(), None);
    let mut how = How::default();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--passed" => how.passed = args.next().map(PathBuf::from),
            "--dependent" => how.is_dependent = true,
            "--alone" => alone = args.next().zip(args.next()),
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
    if let Some((name, arch)) = alone {
        let program = PROGRAMS.iter().find(|program| program.name == name);
        let faults = program.map(|program| check(&nvrtc, program, &arch, &how));
        return ExitCode::from(u8::from(faults != Some(0)));
    }
    let of_archs = |program| archs.iter().map(move |arch| (program, arch));
    let jobs: Vec<(&Program, &String)> = PROGRAMS.iter().flat_map(of_archs).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some((program, arch)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !passes(program, arch, &how) {
                say(&format!("FAULT: {} for {arch}", program.name));
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (major, minor) = nvrtc.version();
    let kernels: usize = PROGRAMS.iter().map(|program| program.kernels.len()).sum();
    let failed = failed.into_inner();
    say(&format!(
        "{kernels} kernels, {} architectures, NVRTC {major}.{minor}: {failed} programs with faults",
        archs.len()
    ));
    ExitCode::from(u8::from(failed > 0))
}

/// How programs are compiled.
#[derive(Default)]
struct How {
    /// Where those that passed are noted.
    passed: Option<PathBuf>,
    is_dependent: bool,
}

/// Whether a program has no faults, by a process that says what it found.
fn passes(program: &Program, arch: &str, how: &How) -> bool {
    let Ok(this) = std::env::current_exe() else {
        return false;
    };
    let mut command = Command::new(this);
    command.args(["--alone", program.name, arch]);
    if let Some(passed) = &how.passed {
        command.arg("--passed").arg(passed);
    }
    if how.is_dependent {
        command.arg("--dependent");
    }
    let Ok(out) = command.output() else {
        return false;
    };
    say(String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).trim_end());
    out.status.success()
}

/// Compiles a program and counts its faults.
fn check(nvrtc: &Nvrtc, program: &Program, arch: &str, how: &How) -> usize {
    let mut options = vec!["--ptxas-options=-v".to_owned()];
    options.extend(how.is_dependent.then(|| DEPENDENT.to_owned()));
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
    let note = how.passed.as_ref().map(|folder| folder.join(name));
    if note.as_ref().is_some_and(|note| note.is_file()) {
        return 0;
    }
    let (log, ptx) = match program.compile(nvrtc, arch, &options) {
        Ok(compiled) => (compiled.log, compiled.ptx),
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
        if how.is_dependent != waits_first(&ptx, budget.kernel) {
            say(&format!(
                "FAULT: {arch} {} waits for earlier kernels: {}",
                budget.kernel, !how.is_dependent
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

/// Whether all threads of a kernel wait for earlier kernels, before any of them looks at memory or goes elsewhere.
fn waits_first(ptx: &str, kernel: &str) -> bool {
    let entry = format!(".entry {kernel}(");
    let Some(body) = ptx.split(&entry).nth(1) else {
        return false;
    };
    let body = body.split(".entry ").next().unwrap_or_default();
    let mut waits = body.split("griddepcontrol.wait;");
    let before = waits.next().unwrap_or_default();
    // Arguments are there from the start.
    let is_early = |line: &str| {
        let line = line.trim_start();
        let others = [
            "st.", "atom", "red.", "cp.", "ldmatrix", "bar.", "@", "bra", "ret", "call",
        ];
        (line.starts_with("ld.") && !line.starts_with("ld.param"))
            || others.iter().any(|word| line.starts_with(word))
    };
    waits.next().is_some() && waits.next().is_none() && !before.lines().any(is_early)
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
    if !text.is_empty() {
        println!("{text}");
    }
}
