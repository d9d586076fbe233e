//! Processor, memory, system and container.

use std::fs;
use std::path::{Path, PathBuf};

use cpu::Isa;
use formats::Ram;

use super::Finding;
use crate::args::Global;
use crate::output;
use crate::plan::machine;

/// Less RAM than this holds no model that is of use.
const LITTLE: u64 = 4 << 30;

pub(super) fn findings(global: &Global) -> Vec<Finding> {
    let threads = global.threads().get();
    let mut findings = vec![processor(), cores(threads)];
    findings.extend(memory());
    findings.push(bandwidth(threads));
    findings.extend(huge_pages());
    findings.extend(locking());
    findings.extend(nodes());
    findings.extend(container());
    findings
}

/// What computes, in words.
pub(super) fn will_use(global: &Global) -> String {
    let threads = global.threads().get();
    let instructions = match cpu::Cpu::new(std::sync::Arc::new(cpu::Pool::new(1))) {
        Ok(cpu) => cpu.isa().to_string(),
        Err(_) => "none".to_owned(),
    };
    format!("the CPU with {threads} threads and the kernels for {instructions}")
}

fn processor() -> Finding {
    let name = machine::cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let all = Isa::ALL.into_iter().filter(|isa| isa.is_supported());
    let all: Vec<String> = all.map(|isa| isa.to_string()).collect();
    let found = format!("{name}; kernels that run: {}", all.join(", "));
    // The environment may force a set of instructions.
    if let Err(error) = cpu::Cpu::new(std::sync::Arc::new(cpu::Pool::new(1))) {
        let why = format!("{found}; {error}");
        return Finding::fatal(
            "processor",
            why,
            "unset the variable that names the instruction set",
        );
    }
    match Isa::detect() {
        Isa::Scalar => {
            let mend = "there are no fast kernels for this processor; x86-64 with AVX2 and ARM with dot \
                        products have them";
            Finding::warning("processor", found, mend)
        }
        _ => Finding::good("processor", found),
    }
}

fn cores(threads: usize) -> Finding {
    let logical = fs::read_to_string("/proc/cpuinfo").map_or(0, |info| {
        info.lines()
            .filter(|line| line.starts_with("processor"))
            .count()
    });
    let lent = cpu::default_threads();
    let found = format!("{threads} threads; the machine has {logical} logical processors");
    if threads > lent {
        let mend = format!(
            "only {lent} cores may be used by this process: more threads wait for each other"
        );
        return Finding::warning("threads", found, mend);
    }
    Finding::good("threads", found)
}

fn memory() -> Vec<Finding> {
    let Some(memory) = Ram::look() else {
        return vec![Finding::note("RAM", "the system does not tell")];
    };
    let free = output::bytes(memory.free);
    let mut found = format!("{free} of {} can be had", output::bytes(memory.machine));
    if let Some(group) = memory.group {
        found.push_str(&format!(
            "; this container may have {}",
            output::bytes(group)
        ));
    }
    vec![match memory.free < LITTLE {
        true => Finding::warning(
            "RAM",
            found,
            "end other programs, or give the container more: `tidemill plan --all` tells what would fit",
        ),
        false => Finding::good("RAM", found),
    }]
}

fn bandwidth(threads: usize) -> Finding {
    match machine::read_bandwidth(threads) {
        Ok(rate) => {
            let found = format!(
                "{:.1} x 10^9 bytes a second with {threads} threads",
                rate / 1e9
            );
            Finding::good("RAM is read at", found)
        }
        Err(error) => Finding::warning("RAM is read at", error.to_string(), "free some memory"),
    }
}

fn huge_pages() -> Option<Finding> {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    let chosen = text.split_whitespace().find(|word| word.starts_with('['))?;
    let chosen = chosen.trim_matches(['[', ']']);
    Some(match chosen {
        "never" => Finding::warning(
            "huge pages",
            chosen,
            "weights are read faster in huge pages: echo madvise | sudo tee \
             /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        _ => Finding::good("huge pages", chosen),
    })
}

fn locking() -> Option<Finding> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    let soft = line.split_whitespace().next()?;
    Some(match soft.parse::<u64>() {
        Err(_) => Finding::good("locked memory", soft),
        Ok(bytes) => Finding::note(
            "locked memory",
            format!(
                "{}; --mlock needs as much as the model: ulimit -l unlimited",
                output::bytes(bytes)
            ),
        ),
    })
}

fn nodes() -> Option<Finding> {
    let text = fs::read_to_string("/sys/devices/system/node/has_memory").ok()?;
    let list = text.trim();
    Some(match list.contains([',', '-']) {
        true => Finding::note(
            "memory nodes",
            format!("{list}; copies of weights are spread over all of them"),
        ),
        false => Finding::good("memory nodes", "1"),
    })
}

fn container() -> Option<Finding> {
    let marks = [("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman")];
    let kind = marks.into_iter().find(|(path, _)| Path::new(path).exists());
    let quota = quota();
    if kind.is_none() && quota.is_none() {
        return None;
    }
    let kind = kind.map_or("a control group", |(_, name)| name);
    let found = match quota {
        Some(quota) => format!("{kind}, {quota:.1} processors"),
        None => kind.to_owned(),
    };
    Some(Finding::note("container", found))
}

/// Processors that the control group may use.
fn quota() -> Option<f64> {
    let path: PathBuf = "/sys/fs/cgroup/cpu.max".into();
    let text = fs::read_to_string(path).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}
