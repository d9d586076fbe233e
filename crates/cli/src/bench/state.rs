//! How long a sequence's recurrent state takes to be copied out and put back.
//!
//! It does not depend on weights, so that the whole family is measured without any: each member's
//! sizes are enough to make its memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::EngineSettings;
use tensor::{Ops, StateId};

use super::machine::Machine;
use super::record::Record;
use crate::interrupt;
use crate::synth::presets::PRESETS;

/// Results for every member of the family, on the CPU.
///
/// # Errors
/// If memory cannot be made, or Ctrl-C was pressed.
pub(super) fn of_family(
    machine: &Machine,
    threads: usize,
    repetitions: u32,
) -> anyhow::Result<Vec<Record>> {
    let cpu = cpu::Cpu::new(Arc::new(cpu::Pool::new(threads)))?;
    let mut records = Vec::new();
    for preset in PRESETS {
        let config = preset.config(preset.layers, true);
        let layout = EngineSettings::single(64).layout(&config);
        let mut memory = cpu.new_memory(&layout)?;
        let (state, mut saves, mut restores) = (StateId(0), Vec::new(), Vec::new());
        // The first one touches the memory, which is then the process's own.
        cpu.clear_state(&mut memory, state)?;
        for _ in 0..repetitions {
            interrupt::check()?;
            let start = Instant::now();
            let snapshot = cpu.snapshot(&memory, state)?;
            saves.push(start.elapsed());
            let start = Instant::now();
            cpu.restore(&mut memory, state, &snapshot)?;
            restores.push(start.elapsed());
        }
        let bytes = layout.state_bytes() as f64;
        let mut add = |test: &str, times: &[Duration]| {
            let mut record = Record::new("state", test.to_owned(), machine, threads);
            record.model_type = Some(preset.name.to_owned());
            record.backend = Some("cpu".to_owned());
            record.isa = Some(cpu.isa().to_string());
            record.set_times(times, 0);
            describe(&mut record, bytes);
            records.push(record);
        };
        add("state save", &saves);
        add("state restore", &restores);
    }
    Ok(records)
}

/// Puts a state's size and speed into a result.
pub(super) fn describe(record: &mut Record, bytes: f64) {
    record.state_bytes = Some(bytes);
    record.bytes_per_second = record.median_ns.map(|time| bytes / (time / 1e9).max(1e-9));
    record.note = Some(format!("{:.1} MB", bytes / 1e6));
}
