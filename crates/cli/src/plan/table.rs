//! Plans as tables that people read, in Markdown.

use std::fmt::Write;

use engine::plan::{Machine, Wish};

use super::Compared;
use super::report::{PROMPT, Rate, Report};
use super::source::Subject;

/// Writes into text, which cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = writeln!($out, $($arg)*);
    }};
}

/// A report as tables.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    let model = &report.model;
    line!(
        out,
        "{}: {} layers, {:.2} x 10^9 parameters in {}, by {}",
        model.name,
        model.layers,
        model.parameters as f64 / 1e9,
        gib(model.stored_bytes),
        model.from
    );
    line!(
        out,
        "a token reads {} of weights and {} of state (and writes that), has {:.1} KiB of keys and values",
        megabytes(model.read_bytes),
        megabytes(model.state_bytes),
        model.token_bytes as f64 / 1024.0
    );
    for (index, gpu) in report.gpus.iter().enumerate() {
        line!(
            out,
            "GPU {index}: {}, {} of {} free, {:.0} GB/s, {:.0} int8 TMAC/s ({:.0} on matrix units), link {:.1} GB/s",
            gpu.name,
            gib(gpu.free_bytes),
            gib(gpu.total_bytes),
            gpu.bytes_per_second / 1e9,
            gpu.int8_macs_per_second / 1e12,
            gpu.matrix_int8_macs_per_second / 1e12,
            gpu.pcie_bytes_per_second / 1e9
        );
    }
    let cpu = &report.cpu;
    line!(
        out,
        "RAM: {} of {} free, {:.1} GB/s; {}, {} threads, {:.0} int8 GMAC/s",
        gib(cpu.free_bytes),
        gib(cpu.ram_bytes),
        cpu.bytes_per_second / 1e9,
        cpu.name,
        cpu.threads,
        cpu.int8_macs_per_second / 1e9
    );
    line!(
        out,
        "context {} tokens, keys {}, values {}, {} at once, {} tokens of a prompt a step",
        report.context,
        report.cache_type_k,
        report.cache_type_v,
        match report.parallel {
            1 => "1 answer".to_owned(),
            several => format!("{several} answers"),
        },
        report.chunk_tokens
    );
    placement(&mut out, report);
    memory(&mut out, report);
    speeds(&mut out, report);
    for note in &report.notes {
        line!(out, "\nnote: {note}");
    }
    out.trim_end().to_owned()
}

fn placement(out: &mut String, report: &Report) {
    let what = match (report.layers_on_gpus, report.n_cpu_moe) {
        (0, _) => "all in RAM, computed by the CPU".to_owned(),
        (on, 0) if on == report.model.layers => "all layers in VRAM".to_owned(),
        (on, 0) => format!("{on} of {} layers in VRAM", report.model.layers),
        (on, split) if on == report.model.layers => {
            format!("all layers in VRAM but the experts of {split}")
        }
        (on, split) => format!(
            "{on} of {} layers in VRAM, but the experts of {split} of them",
            report.model.layers
        ),
    };
    line!(out, "\n**{what}**\n");
    line!(
        out,
        "| part | layers | where | stored | types | a token reads | MMAC |"
    );
    line!(out, "|---|---|---|---:|---|---:|---:|");
    for part in &report.parts {
        let copies = part
            .cached
            .map(|share| format!(", {:.0} % copied", share * 100.0));
        line!(
            out,
            "| {} | {} | {}{} | {} | {} | {} | {:.1} |",
            part.piece,
            part.layers.as_deref().unwrap_or(""),
            part.device,
            copies.unwrap_or_default(),
            gib(part.bytes),
            part.types.join(" "),
            megabytes(part.read_bytes),
            part.macs as f64 / 1e6
        );
    }
}

fn memory(out: &mut String, report: &Report) {
    line!(
        out,
        "\n| memory | free | left to others | driver | weights | copies of experts | experts on their way | keys, values | states | \
         buffers | prompts | left |"
    );
    line!(
        out,
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
    for row in &report.memory {
        let parts = [
            row.free,
            row.reserve,
            row.driver,
            row.weights,
            row.expert_cache,
            row.streaming,
            row.keys_values,
            row.states,
            row.buffers,
            row.prompt_cache,
            row.left,
        ];
        let cells = parts.map(|bytes| match bytes {
            0 => "-".to_owned(),
            bytes => gib(bytes),
        });
        line!(out, "| {} | {} |", row.device, cells.join(" | "));
    }
}

fn speeds(out: &mut String, report: &Report) {
    let all = match report.parallel {
        1 => String::new(),
        several => format!(" | {several} answers, tokens/s | bound by"),
    };
    let line_all = if report.parallel > 1 { "---:|---|" } else { "" };
    line!(
        out,
        "\n| depth | prompt of {PROMPT}, tokens/s | bound by | decoding, tokens/s | bound by{all} |"
    );
    line!(out, "|---:|---:|---|---:|---|{line_all}");
    for row in &report.speeds {
        let all = row
            .decode_all
            .as_ref()
            .map(|rate| format!(" {} |", cell(rate)));
        line!(
            out,
            "| {} | {} | {} |{}",
            row.depth,
            cell(&row.prefill),
            cell(&row.decode),
            all.unwrap_or_default()
        );
    }
}

/// The speed, and what its time goes to: what takes a tenth of it or more.
fn cell(rate: &Rate) -> String {
    let all: f64 = rate.milliseconds.values().sum();
    let mut terms: Vec<(&String, f64)> = rate
        .milliseconds
        .iter()
        .map(|(name, &time)| (name, time / all))
        .filter(|(_, share)| *share >= 0.1)
        .collect();
    terms.sort_by(|a, b| b.1.total_cmp(&a.1));
    let terms: Vec<String> = terms
        .iter()
        .map(|(name, share)| format!("{name} {:.0} %", share * 100.0))
        .collect();
    format!("{} | {}", speed(rate.tokens_per_second), terms.join(", "))
}

fn speed(rate: f64) -> String {
    match rate {
        rate if rate < 99.5 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

/// Types of storage beside each other.
pub(super) fn comparison(
    subject: &Subject,
    machine: &Machine,
    wish: &Wish,
    rows: &[Compared],
    notes: &[String],
) -> String {
    let mut out = String::new();
    let gpus: Vec<String> = machine
        .gpus
        .iter()
        .map(|gpu| format!("{} ({})", gpu.name, gib(gpu.free)))
        .collect();
    let gpus = match gpus.as_slice() {
        [] => "no GPU".to_owned(),
        gpus => gpus.join(", "),
    };
    line!(
        out,
        "{} in other types of storage on {gpus} and {} of RAM, context {} tokens\n",
        subject.name,
        gib(machine.host.free),
        wish.context
    );
    line!(
        out,
        "| type | stored | a token reads | layers in VRAM | experts in RAM | prompt of {PROMPT}, tokens/s | \
         decoding, tokens/s | bound by |"
    );
    line!(out, "|---|---:|---:|---:|---:|---:|---:|---|");
    for row in rows {
        let (stored, reads) = (
            gib(row.anatomy.stored_bytes()),
            megabytes(row.anatomy.read_bytes() as u64),
        );
        match &row.found {
            None => line!(
                out,
                "| {} | {stored} | {reads} | does not fit | | | | |",
                row.mix
            ),
            Some((plan, speeds)) => line!(
                out,
                "| {} | {stored} | {reads} | {} | {} | {} | {} | {} |",
                row.mix,
                plan.placement.layers_on_gpus(),
                plan.placement.layers_with_experts_in_ram(),
                speed(speeds.prefill.tokens_per_second),
                speed(speeds.decode.tokens_per_second),
                speeds.decode.limit
            ),
        }
    }
    for note in notes {
        line!(out, "\nnote: {note}");
    }
    out.trim_end().to_owned()
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0 => "-".to_owned(),
        bytes => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
