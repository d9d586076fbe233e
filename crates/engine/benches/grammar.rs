//! What structured output costs, beside the model.
//!
//! ```text
//! cargo bench -p tidemill-engine --bench grammar -- VOCABULARY.gguf
//! ```
//!
//! Prints the time and memory for a vocabulary, then for some grammars the time to compile and the
//! best, mean and worst time of a mask along answers of a model that says anything.
#![expect(clippy::print_stdout, reason = "a benchmark's result")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where it is surprised")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use formats::SharedBytes;
use formats::gguf::GgufFile;
use serde_json::json;
use text::output::ToolForm;
use text::{Tokenizer, Vocabulary};
use tidemill_engine::constraint::{Grammar, GrammarLimits, Grammars};
use tidemill_engine::sampling::{Sampler, SamplerSettings, TokenRules};

fn main() {
    let path = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let Some(path) = path else {
        println!("skipped: give a GGUF file with a vocabulary");
        return;
    };
    let bytes = SharedBytes::from_vec(std::fs::read(&path).unwrap());
    let gguf = GgufFile::from_bytes(Path::new(&path).to_str().unwrap(), bytes).unwrap();
    let vocabulary = Vocabulary::from_gguf(gguf.metadata()).unwrap();
    let tokenizer = Arc::new(Tokenizer::new(&vocabulary).unwrap());
    drop((vocabulary, gguf));
    let before = resident_bytes();
    let start = Instant::now();
    let limits = GrammarLimits::default();
    let grammars = Grammars::new(Arc::clone(&tokenizer), limits, 1).unwrap();
    println!(
        "{} tokens: {:.2} s, {:.1} MiB",
        tokenizer.vocabulary_size(),
        start.elapsed().as_secs_f64(),
        (resident_bytes() - before) as f64 / f64::from(1 << 20),
    );
    println!(
        "{:24} {:>10} {:>8} {:>10} {:>10} {:>10}",
        "", "compile us", "masks", "best us", "mean us", "worst us"
    );
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 60},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "kind": {"enum": ["friend", "colleague", "stranger"]},
            "notes": {"type": "array", "items": {"type": "string"}, "maxItems": 4}
        },
        "required": ["name", "age", "kind", "notes"],
        "additionalProperties": false
    });
    let tools: Vec<_> = (0..12)
        .map(|index| {
            json!({"name": format!("tool_{index}"), "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string"}, "count": {"type": "integer"},
                    "options": {"type": "object", "properties": {"deep": {"type": "boolean"}}}
                },
                "required": ["path"]
            }})
        })
        .collect();
    let calls = |form| Grammar::ToolCalls {
        tools: tools.clone(),
        form,
        is_parallel: true,
        is_opened: false,
    };
    let date = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}: .{0,80}";
    for (name, grammar) in [
        ("any JSON object", Grammar::JsonObject),
        ("JSON schema", Grammar::JsonSchema(person)),
        ("regular expression", Grammar::Regex(date.to_owned())),
        ("tool calls, XML", calls(ToolForm::Xml)),
        ("tool calls, JSON", calls(ToolForm::Json)),
    ] {
        if matches!(grammar, Grammar::ToolCalls { .. }) && !can_call(&tokenizer) {
            println!("{name:24} skipped: the vocabulary has no token <tool_call>");
            continue;
        }
        measure(name, &grammar, &grammars, &tokenizer);
    }
}

/// Whether a vocabulary can make tool calls at all: their tags are tokens of their own.
fn can_call(tokenizer: &Tokenizer) -> bool {
    ["<tool_call>", "</tool_call>"]
        .iter()
        .all(|tag| tokenizer.id_of(tag).is_some())
}

fn measure(name: &str, grammar: &Grammar, grammars: &Grammars, tokenizer: &Tokenizer) {
    let rules = Arc::new(TokenRules::of(tokenizer));
    let start = Instant::now();
    drop(grammars.compile(grammar).unwrap());
    let compile = start.elapsed();
    let mut times = Vec::new();
    let mut state = 88_172_645_463_325_252_u64;
    let mut row = vec![0.0f32; rules.rows()];
    for seed in 0..8 {
        let mut constraint = grammars.compile(grammar).unwrap();
        let settings = SamplerSettings {
            temperature: 1.0,
            seed,
            ..SamplerSettings::default()
        };
        let mut sampler = Sampler::new(settings, Arc::clone(&rules)).unwrap();
        for _ in 0..120 {
            let start = Instant::now();
            let mask = constraint.mask().unwrap().clone();
            times.push(start.elapsed().as_secs_f64() * 1e6);
            row.fill_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 24) as f32
            });
            let token = sampler.choose(&mut row, Some(&mask)).token;
            constraint.accept(token).unwrap();
            if rules.is_end(token) {
                break;
            }
            sampler.accept(token);
        }
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{name:24} {:10.0} {:8} {:10.0} {:10.0} {:10.0}",
        compile.as_secs_f64() * 1e6,
        times.len(),
        times[0],
        times.iter().sum::<f64>() / times.len() as f64,
        times[times.len() - 1],
    );
}

/// What the process holds of the machine's memory; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    pages.unwrap_or(0u64) * 4096
}
