//! `tidemill logits`: every position's logits, for debugging and for comparing engines.

use std::path::PathBuf;

use clap::Args;
use engine::{EngineSettings, Work};
use formats::{DType, SharedBytes, StoredTensor};

use crate::args::Global;
use crate::exit::Failure;
use crate::fit::Steps;
use crate::model_args::{CacheType, ModelArgs, read_tokens};
use crate::{interrupt, output};

/// Write the logits after every token of a prompt.
#[derive(Debug, Args)]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The prompt as a JSON list of token ids.
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// The safetensors file to write: `logits` `[tokens, vocabulary]` in f32.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// How many tokens go through the model at once.
    #[arg(long, value_name = "N", default_value_t = 512,
          value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,
    /// Also continue greedily by this many tokens: `greedy_tokens` `[N]` in i32 and
    /// `greedy_logits` `[N, vocabulary]`, the logits after each of them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    greedy: usize,
    /// How keys and values are kept.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    cache_type: CacheType,
}

pub(crate) fn run(args: &LogitsArgs, global: &Global) -> anyhow::Result<()> {
    interrupt::listen()?;
    let tokens = read_tokens(&args.tokens)?;
    if tokens.is_empty() {
        let path = args.tokens.display();
        return Err(
            Failure::BadInput(format!("{path} holds no tokens; expected at least one")).into(),
        );
    }
    let mut opened = args.model.open()?;
    let mut settings = EngineSettings::single(tokens.len() + args.greedy);
    settings.kv = engine::KvTypes::both(args.cache_type.into());
    let mut engine = args
        .model
        .load(&mut opened, global, (&settings, Steps::default()))?
        .engine;

    let sequence = engine.start()?;
    let vocabulary = opened.config.vocab_size;
    let mut logits = Vec::with_capacity(tokens.len() * vocabulary);
    let bar = output::step_progress("tokens");
    bar.set_length(tokens.len() as u64);
    for chunk in tokens.chunks(args.chunk as usize) {
        interrupt::check()?;
        let rows = (0..chunk.len()).collect();
        let outputs = engine.step(&[Work {
            sequence,
            tokens: chunk.to_vec(),
            logits: rows,
        }])?;
        outputs
            .iter()
            .for_each(|output| logits.extend_from_slice(output.data()));
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();

    let mut tensors = vec![StoredTensor::from_f32(
        "logits",
        &[tokens.len(), vocabulary],
        &logits,
    )];
    if args.greedy > 0 {
        let mut last = logits[logits.len() - vocabulary..].to_vec();
        let (mut chosen, mut after) = (Vec::new(), Vec::new());
        for _ in 0..args.greedy {
            interrupt::check()?;
            let token = engine::argmax(&last);
            let outputs = engine.step(&[Work {
                sequence,
                tokens: vec![token],
                logits: vec![0],
            }])?;
            last = outputs[0].data().to_vec();
            chosen.push(token);
            after.extend_from_slice(&last);
        }
        tensors.push(ids("greedy_tokens", &chosen));
        tensors.push(StoredTensor::from_f32(
            "greedy_logits",
            &[args.greedy, vocabulary],
            &after,
        ));
    }
    formats::safetensors::write(&args.out, &tensors)?;
    output::note(&format!(
        "{} x {vocabulary} logits of {} in {}",
        tokens.len(),
        opened.path.display(),
        args.out.display()
    ));
    Ok(())
}

/// Token ids as a tensor; safetensors readers know signed integers everywhere.
fn ids(name: &str, tokens: &[u32]) -> StoredTensor {
    let bytes = tokens
        .iter()
        .flat_map(|&token| (token as i32).to_le_bytes())
        .collect();
    StoredTensor {
        name: name.to_owned(),
        dtype: DType::I32,
        shape: vec![tokens.len()],
        bytes: SharedBytes::from_vec(bytes),
    }
}
