//! `tidemill inspect`: what is in a model file, and what is wrong with it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use formats::TensorInfo;
use formats::gguf::{self, GgufFile, Value};
use formats::hf::{HfConfig, HfGenerationConfig};
use formats::safetensors::{self, Checkpoint};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::exit::Failure;
use crate::output;

/// How many elements of an array are shown.
const SHOWN_ELEMENTS: usize = 6;

/// How many characters of a string are shown.
const SHOWN_CHARS: usize = 72;

/// How many problems are shown; a truncated file has one for every tensor.
const SHOWN_PROBLEMS: usize = 40;

/// What `inspect` understands.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A GGUF file (any part of a split model), a safetensors file, or a checkpoint's folder.
    path: PathBuf,
    /// Print JSON, with all problems.
    #[arg(long)]
    json: bool,
}

/// What is found, for both ways of printing it.
#[derive(Debug, Serialize)]
struct Report {
    path: PathBuf,
    format: String,
    files: Vec<PathBuf>,
    file_bytes: u64,
    metadata: Vec<Entry>,
    tensors: Vec<Row>,
    totals: BTreeMap<String, Total>,
    tensor_bytes: u64,
    parameters: u64,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Entry {
    key: String,
    r#type: String,
    /// Long arrays and strings are cut; then `count` says how long they are.
    value: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    r#type: String,
    /// Outermost dimension first.
    shape: Vec<usize>,
    bytes: Option<u64>,
    offset: u64,
    /// Which of the files it lies in, counted from 1.
    file: usize,
}

#[derive(Debug, Default, Serialize)]
struct Total {
    tensors: usize,
    parameters: u64,
    bytes: u64,
}

/// Prints what is in a file. Its problems are printed too, and then are an error.
pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let report = examine(&args.path);
    if args.json {
        output::json(&report)?;
    } else if report.files.is_empty() {
        // Nothing was found of which tables could be made.
        return Err(Failure::BadFile(report.problems.join("\n")).into());
    } else {
        output::result(&text(&report)?)?;
    }
    match report.problems.len() {
        0 => Ok(()),
        1 => Err(bad_file(&args.path, "1 problem")),
        count => Err(bad_file(&args.path, &format!("{count} problems"))),
    }
}

fn bad_file(path: &Path, found: &str) -> anyhow::Error {
    Failure::BadFile(format!("{}: {found}, listed above", path.display())).into()
}

fn examine(path: &Path) -> Report {
    if is_checkpoint(path) {
        examine_checkpoint(path)
    } else {
        examine_gguf(path)
    }
}

/// Whether to read `path` as a safetensors checkpoint: what the content says, then the name.
fn is_checkpoint(path: &Path) -> bool {
    let mut start = [0; 9];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    if read.is_ok() && start.starts_with(&gguf::MAGIC) {
        return false;
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    path.is_dir() || matches!(extension, Some("safetensors" | "json"))
}

fn examine_gguf(path: &Path) -> Report {
    let gguf::Examination { model, problems } = GgufFile::examine(path);
    let metadata = model.metadata().iter();
    Report {
        metadata: metadata.map(|(key, value)| entry(key, value)).collect(),
        files: model.part_paths().map(Path::to_owned).collect(),
        file_bytes: model.file_bytes(),
        problems: problems.iter().map(ToString::to_string).collect(),
        ..report(path, gguf_format(model.version()), model.tensors())
    }
}

fn gguf_format(version: u32) -> String {
    match version {
        0 => "not a GGUF file".to_owned(),
        version => format!("GGUF version {version}"),
    }
}

fn examine_checkpoint(path: &Path) -> Report {
    let safetensors::Examination {
        checkpoint,
        problems,
    } = Checkpoint::examine(path);
    let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let mut metadata: Vec<Entry> = Vec::new();
    for (key, value) in checkpoint.metadata() {
        metadata.push(entry(key, &value.as_str().into()));
    }
    if path.is_dir() {
        match HfConfig::read(path) {
            Ok(config) => metadata.extend(config_entries(&config)),
            Err(error) => problems.push(error.to_string()),
        }
        if let Err(error) = HfGenerationConfig::read(path) {
            problems.push(error.to_string());
        }
    }
    Report {
        metadata,
        files: checkpoint.file_paths().map(Path::to_owned).collect(),
        file_bytes: checkpoint.file_bytes(),
        problems,
        ..report(path, "safetensors".to_owned(), checkpoint.tensors())
    }
}

/// The parts of a report that follow from the tensors.
fn report(path: &Path, format: String, tensors: &[TensorInfo]) -> Report {
    let mut totals = BTreeMap::<String, Total>::new();
    for tensor in tensors {
        let total = totals.entry(tensor.dtype.to_string()).or_default();
        total.tensors += 1;
        total.parameters = total.parameters.saturating_add(tensor.value_count());
        total.bytes = total.bytes.saturating_add(tensor.byte_len.unwrap_or(0));
    }
    let rows = tensors.iter().map(|tensor| Row {
        name: tensor.name.clone(),
        r#type: tensor.dtype.to_string(),
        shape: tensor.shape.clone(),
        bytes: tensor.byte_len,
        offset: tensor.offset,
        file: tensor.part + 1,
    });
    let sum = |part: fn(&Total) -> u64| totals.values().map(part).fold(0, u64::saturating_add);
    Report {
        path: path.to_owned(),
        format,
        files: Vec::new(),
        file_bytes: 0,
        metadata: Vec::new(),
        tensors: rows.collect(),
        tensor_bytes: sum(|total| total.bytes),
        parameters: sum(|total| total.parameters),
        totals,
        problems: Vec::new(),
    }
}

/// What of `config.json` tells one model from another.
fn config_entries(config: &HfConfig) -> Vec<Entry> {
    let text = &config.text;
    let size = |value: usize| Value::U64(value as u64);
    let mut pairs = vec![
        ("model_type", config.model_type.name().into()),
        ("num_hidden_layers", size(text.num_hidden_layers)),
        ("mtp_num_hidden_layers", size(text.mtp_num_hidden_layers)),
        ("hidden_size", size(text.hidden_size)),
        ("vocab_size", size(text.vocab_size)),
        (
            "max_position_embeddings",
            size(text.max_position_embeddings),
        ),
    ];
    if let Some(moe) = &text.moe {
        pairs.push(("num_experts", size(moe.num_experts)));
        pairs.push(("num_experts_per_tok", size(moe.num_experts_per_tok)));
    }
    if let Some(vision) = &config.vision {
        pairs.push(("vision_config.depth", size(vision.depth)));
    }
    if let Some(quantization) = &config.quantization {
        pairs.push(("quantization_config", quantization.to_string().into()));
    }
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| entry(&format!("config.{key}"), value))
        .collect()
}

fn entry(key: &str, value: &Value) -> Entry {
    let (shown, count) = shorten(value);
    Entry {
        key: key.to_owned(),
        r#type: value.type_name(),
        value: shown,
        count,
    }
}

/// The value as JSON, and how long it is if that is not all of it.
fn shorten(value: &Value) -> (Json, Option<usize>) {
    let whole = match value {
        Value::U8(v) => json!(v),
        Value::I8(v) => json!(v),
        Value::U16(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        // By way of text, because 0.1 as f32 is not 0.1 as f64.
        Value::F32(v) => number(&v.to_string()),
        Value::F64(v) => number(&v.to_string()),
        Value::Bool(v) => json!(v),
        Value::String(text) => {
            let count = text.chars().count();
            let shown: String = text.chars().take(SHOWN_CHARS).collect();
            return (json!(shown), (count > SHOWN_CHARS).then_some(count));
        }
        Value::Array(array) => {
            let shown = (0..SHOWN_ELEMENTS).map_while(|index| array.get(index));
            let shown: Vec<Json> = shown.map(|value| shorten(&value).0).collect();
            let count = array.len();
            return (json!(shown), (count > SHOWN_ELEMENTS).then_some(count));
        }
    };
    (whole, None)
}

/// The number that `text` says, or the text where JSON has no such number.
fn number(text: &str) -> Json {
    let number = text.parse().ok().and_then(serde_json::Number::from_f64);
    number.map_or_else(|| json!(text), Json::Number)
}

/// The report as tables.
fn text(report: &Report) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let files = match report.files.len() {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    let size = output::bytes(report.file_bytes);
    let path = report.path.display();
    writeln!(out, "{path}: {}, {files}, {size}", report.format)?;

    writeln!(out, "\nMETADATA ({})", report.metadata.len())?;
    let key_width = width(report.metadata.iter().map(|entry| &entry.key));
    let type_width = width(report.metadata.iter().map(|entry| &entry.r#type));
    for Entry {
        key,
        r#type,
        value,
        count,
    } in &report.metadata
    {
        let key = printable(key);
        write!(out, "  {key:key_width$}  {type:type_width$}  {value}")?;
        match count {
            Some(count) => writeln!(out, " ... {count} in all")?,
            None => writeln!(out)?,
        }
    }

    writeln!(out, "\nTENSORS ({})", report.tensors.len())?;
    let name_width = width(report.tensors.iter().map(|row| &row.name));
    let type_width = width(report.tensors.iter().map(|row| &row.r#type));
    for row in &report.tensors {
        let name = printable(&row.name);
        let shape = format!("{:?}", row.shape);
        let bytes = row.bytes.map_or("?".to_owned(), output::bytes);
        let kind = &row.r#type;
        write!(
            out,
            "  {name:name_width$}  {kind:type_width$}  {shape:<22} {bytes:>12}"
        )?;
        match report.files.len() {
            0 | 1 => writeln!(out)?,
            _ => writeln!(out, "  file {}", row.file)?,
        }
    }

    writeln!(out, "\nTOTALS")?;
    for (kind, total) in &report.totals {
        total_line(&mut out, kind, total)?;
    }
    let all = Total {
        tensors: report.tensors.len(),
        parameters: report.parameters,
        bytes: report.tensor_bytes,
    };
    total_line(&mut out, "all", &all)?;

    writeln!(out, "\nPROBLEMS ({})", report.problems.len())?;
    for problem in report.problems.iter().take(SHOWN_PROBLEMS) {
        writeln!(out, "  {problem}")?;
    }
    if let Some(more) = report.problems.len().checked_sub(SHOWN_PROBLEMS + 1) {
        writeln!(out, "  ... and {} more, --json lists all", more + 1)?;
    }
    Ok(out.trim_end().to_owned())
}

fn total_line(out: &mut String, kind: &str, total: &Total) -> std::fmt::Result {
    let Total {
        tensors,
        parameters,
        bytes,
    } = total;
    let bytes = output::bytes(*bytes);
    writeln!(
        out,
        "  {kind:<8} {tensors:>6} tensors {parameters:>16} values {bytes:>12}"
    )
}

fn width<'a>(texts: impl Iterator<Item = &'a String>) -> usize {
    let longest = texts.map(|text| text.chars().count()).max();
    // One hostile name must not push everything else off the screen.
    longest.unwrap_or(0).min(64)
}

/// Text from a file, with nothing in it that could steer a terminal.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::DType;
    use formats::gguf::{Builder, Split};

    fn example(folder: &Path) -> PathBuf {
        let mut builder = Builder::new();
        builder
            .set("general.architecture", "qwen35moe")
            .set("tokenizer.ggml.token_type", vec![1i32; 100]);
        builder.tensor("a.weight", DType::F32, &[2, 3]).unwrap();
        builder.tensor("b.weight", DType::Q8_0, &[4, 32]).unwrap();
        let path = folder.join("example.gguf");
        builder
            .write(&path, Split::Never, |tensor, out| {
                Ok(out.write_all(&vec![0; tensor.byte_len as usize])?)
            })
            .unwrap();
        path
    }

    #[test]
    fn a_sound_file_is_told_in_tables() {
        let folder = tempfile::tempdir().unwrap();
        let report = examine(&example(folder.path()));
        assert_eq!((report.parameters, report.tensor_bytes), (134, 160));
        let text = text(&report).unwrap();
        for part in [
            "GGUF version 3, 1 file",
            "array of i32  [1,1,1,1,1,1] ... 100 in all",
            "b.weight  Q8_0  [4, 32]                       136 B",
            "PROBLEMS (0)",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn a_cut_file_is_a_bad_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = example(folder.path());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 64]).unwrap();
        let error = run(&InspectArgs { path, json: true }).unwrap_err();
        assert!(
            matches!(error.downcast_ref(), Some(Failure::BadFile(_))),
            "{error}"
        );
    }

    #[test]
    fn a_folder_is_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let problems = examine(folder.path()).problems;
        assert!(problems[0].contains("model.safetensors"), "{problems:?}");
        assert!(problems[1].contains("config.json"), "{problems:?}");
    }
}
