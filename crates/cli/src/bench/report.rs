//! The forms of results: a table for people, JSON and CSV for programs. Each result is written as
//! soon as it is there.

use clap::ValueEnum;
use serde_json::Value;

use super::record::Record;
use crate::output;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A Markdown table.
    Md,
    /// One JSON list.
    Json,
    /// A JSON object per line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
}

/// Writes results in one form.
pub(super) struct Report {
    form: Form,
    written: usize,
    /// What is written below a table, each line once.
    foot: Vec<String>,
    /// The last result's; the peak of a process only grows.
    memory: Option<String>,
}

impl Report {
    pub(super) fn new(form: Form) -> Self {
        Self {
            form,
            written: 0,
            foot: Vec::new(),
            memory: None,
        }
    }

    /// Writes a result.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(super) fn add(&mut self, record: &Record) -> anyhow::Result<()> {
        let is_first = self.written == 0;
        self.written += 1;
        match self.form {
            Form::Md => {
                if is_first {
                    output::result(&table_head())?;
                }
                output::result(&table_row(&cells(record)))?;
                self.memory = record.memory_line();
                let lines = [Some(record.machine_line()), record.model_line()];
                for line in lines.into_iter().flatten() {
                    if !self.foot.contains(&line) {
                        self.foot.push(line);
                    }
                }
            }
            Form::Json => {
                let before = if is_first { "[\n" } else { "" };
                let after = serde_json::to_string_pretty(record)?;
                // The comma goes before the next one, so that the list ends without.
                let comma = if is_first { "" } else { ",\n" };
                output::part(&format!("{before}{comma}{after}"))?;
            }
            Form::Jsonl => output::result(&serde_json::to_string(record)?)?,
            Form::Csv => {
                let Value::Object(fields) = serde_json::to_value(record)? else {
                    unreachable!("records are objects")
                };
                if is_first {
                    let names: Vec<_> = fields.keys().map(String::as_str).collect();
                    output::result(&names.join(","))?;
                }
                let values: Vec<_> = fields.values().map(csv_field).collect();
                output::result(&values.join(","))?;
            }
        }
        Ok(())
    }

    /// Writes what belongs behind the last result, also after an interruption.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        match self.form {
            Form::Json if self.written == 0 => output::result("[]")?,
            Form::Json => output::result("\n]")?,
            Form::Md if !self.foot.is_empty() => {
                self.foot.extend(self.memory.take());
                output::result(&format!("\n{}", self.foot.join("\n\n")))?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Columns of the table and how wide they are at least.
const COLUMNS: [(&str, usize); 8] = [
    ("model", 28),
    ("params", 8),
    ("threads", 7),
    ("settings", 8),
    ("test", 20),
    ("tokens/s", 16),
    ("ms", 10),
    ("of the limit", 42),
];

fn table_head() -> String {
    let names = COLUMNS.map(|(name, _)| name.to_owned());
    let rule: Vec<String> = COLUMNS
        .iter()
        .enumerate()
        .map(|(index, (_, width))| match index {
            0 | 3 | 4 | 7 => "-".repeat(width + 2),
            _ => format!("{}:", "-".repeat(width + 1)),
        })
        .collect();
    format!("{}\n|{}|", table_row(&names), rule.join("|"))
}

fn table_row(cells: &[String; 8]) -> String {
    let mut row = String::from("|");
    for (index, (cell, (_, width))) in cells.iter().zip(COLUMNS).enumerate() {
        row.push_str(&match index {
            0 | 3 | 4 | 7 => format!(" {cell:<width$} |"),
            _ => format!(" {cell:>width$} |"),
        });
    }
    row
}

fn cells(record: &Record) -> [String; 8] {
    [
        record.model_type.clone().unwrap_or_default(),
        record
            .model_n_params
            .map(|count| match count {
                0..1_000_000_000 => format!("{:.2} M", count as f64 / 1e6),
                _ => format!("{:.2} B", count as f64 / 1e9),
            })
            .unwrap_or_default(),
        record.n_threads.to_string(),
        settings(record),
        record.test.clone(),
        match (record.avg_ts, record.stddev_ts) {
            (Some(mean), Some(deviation)) => format!("{mean:.2} ± {deviation:.2}"),
            _ => String::new(),
        },
        milliseconds(record)
            .map(|ms| format!("{ms:.2}"))
            .unwrap_or_default(),
        limit(record),
    ]
}

/// The time that matters: until the first token where there is one, of a token in decoding, of
/// all otherwise.
fn milliseconds(record: &Record) -> Option<f64> {
    let steps = if record.kind == "decode" {
        record.n_gen
    } else {
        1
    };
    let whole = record
        .median_ns
        .map(|time| time / 1e6 / steps.max(1) as f64);
    record.first_token_ms.or(whole)
}

/// What differs from the defaults.
fn settings(record: &Record) -> String {
    let mut parts = Vec::new();
    for (name, value, usual) in [("b", record.n_batch, 2048), ("ub", record.n_ubatch, 512)] {
        if let Some(value) = value.filter(|&value| value != usual) {
            parts.push(format!("{name} {value}"));
        }
    }
    for (name, value) in [("k", &record.type_k), ("v", &record.type_v)] {
        if let Some(value) = value.as_ref().filter(|value| *value != "f16") {
            parts.push(format!("{name} {value}"));
        }
    }
    parts.extend((record.use_mmap == Some(false)).then(|| "no mmap".to_owned()));
    parts.extend((record.use_mlock == Some(true)).then(|| "mlock".to_owned()));
    parts.join(", ")
}

fn limit(record: &Record) -> String {
    let giga = |value: f64| value / 1e9;
    let mut parts = Vec::new();
    if let Some(bytes) = record.bytes_per_token {
        parts.push(format!("{:.1} MB/token", bytes / 1e6));
    }
    if let Some(rate) = record.bytes_per_second {
        parts.push(format!("{:.1} GB/s", giga(rate)));
    }
    if let Some(fraction) = record.bandwidth_fraction {
        parts.push(format!("{:.0} % of reads", 100.0 * fraction));
    }
    if let Some(macs) = record.macs_per_token {
        parts.push(format!("{:.3} GMAC/token", giga(macs)));
    }
    if let Some(rate) = record.macs_per_second {
        parts.push(format!("{:.1} GMAC/s", giga(rate)));
    }
    parts.extend(record.note.clone());
    parts.join(", ")
}

/// A value as a field: lists and texts in quotes where they must be.
fn csv_field(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(csv_field(&Value::Null), "");
        assert_eq!(csv_field(&"a b".into()), "a b");
        assert_eq!(csv_field(&"a, \"b\"".into()), "\"a, \"\"b\"\"\"");
        assert_eq!(csv_field(&serde_json::json!([1, 2])), "\"[1,2]\"");
    }

    #[test]
    fn tables_are_straight() {
        let width = table_head().lines().next().unwrap().chars().count();
        assert!(
            table_head()
                .lines()
                .all(|line| line.chars().count() == width)
        );
    }
}
