//! `tidemill convert`: a Hugging Face checkpoint becomes a GGUF file.
//!
//! The checkpoint is bound as for running it, whatever its layout, and each tensor is then written
//! from its stored rows: nothing is held in memory but a few megabytes of the tensor being written.

mod source;
mod stream;
mod template;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use formats::hf::HfConfig;
use formats::safetensors::Checkpoint;
use model::bind::{config_from_hf, weights_from_checkpoint};
use model::{BindError, Config, FeedForwardKind};
use text::Vocabulary;

use crate::args::Global;
use crate::exit::Failure;
use crate::export::{Extras, File, Mix};
use crate::{interrupt, output};

/// What `tidemill convert` takes.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// The checkpoint: a folder with config.json, tokenizer.json and safetensors files.
    #[arg(value_name = "HF_DIR")]
    folder: PathBuf,
    /// The file to write.
    #[arg(short, long, value_name = "FILE.gguf")]
    output: PathBuf,
    /// How to store the weights.
    #[arg(
        short = 'T',
        long = "type",
        value_name = "TYPE",
        default_value = "BF16",
        ignore_case = true
    )]
    mix: Mix,
    /// The model's name in the file (default: the folder's).
    #[arg(long)]
    name: Option<String>,
    /// Leave the multi-token-prediction head out.
    #[arg(long)]
    no_mtp: bool,
}

/// Converts.
pub(crate) fn run(args: &ConvertArgs, global: &Global) -> anyhow::Result<()> {
    interrupt::listen()?;
    global.start_threads()?;
    let hf = HfConfig::read(&args.folder)?;
    let checkpoint = Checkpoint::open(&args.folder)?;
    let mut config = config_from_hf(&hf, &checkpoint)?;
    check_expressible(&config)?;
    if args.no_mtp {
        config.mtp_layers = 0;
    }
    let weights = weights_from_checkpoint(&checkpoint, &hf, &config)?;
    if hf.vision.is_some() {
        output::note("note: the vision tower is left out; it would be a file of its own");
    }

    let mtp = weights.mtp.as_ref();
    let extras = Extras {
        head: weights.head.is_some(),
        mtp_embedding: mtp.is_some_and(|mtp| mtp.embedding.is_some()),
        mtp_head: mtp.is_some_and(|mtp| mtp.head.is_some()),
    };
    let mut file = File::plan(&config, args.mix, extras, &name(args))?;
    if let Some(vocabulary) = vocabulary(&args.folder, &config)? {
        let template = template::read(&args.folder)?;
        if template.is_none() {
            output::note("note: the checkpoint has no chat template");
        }
        file.set_vocabulary(&vocabulary, template.as_deref());
    }
    file.write(&args.output, |slot, dtype, out, report| {
        let source = source::of(slot, &weights, &config)?;
        stream::write(&source, dtype, out, report)
    })?;
    Ok(output::result(&args.output.display().to_string())?)
}

fn name(args: &ConvertArgs) -> String {
    let folder = || {
        let path = args.folder.canonicalize().unwrap_or(args.folder.clone());
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    args.name
        .clone()
        .or_else(folder)
        .unwrap_or_else(|| "model".to_owned())
}

/// Refuses what the format has no word for; readers would compute something else without a word.
fn check_expressible(config: &Config) -> Result<(), BindError> {
    let renormalises = !matches!(
        config.feed_forward,
        FeedForwardKind::Experts {
            renormalise: false,
            ..
        }
    );
    let truncates = config.rotary.yarn.as_ref().is_none_or(|yarn| yarn.truncate);
    let what = match (renormalises, truncates) {
        (true, true) => return Ok(()),
        (false, _) => "norm_topk_prob = false",
        (_, false) => "YaRN with truncate = false",
    };
    Err(BindError::Unsupported(format!(
        "GGUF files of this family cannot say {what}; run the checkpoint as it is"
    )))
}

/// The checkpoint's vocabulary. Checkpoints of tests have none: a model computes without.
fn vocabulary(folder: &Path, config: &Config) -> anyhow::Result<Option<Vocabulary>> {
    if !folder.join("tokenizer.json").is_file() {
        output::note("note: there is no tokenizer.json; the file will have no vocabulary");
        return Ok(None);
    }
    let mut vocabulary = Vocabulary::from_hugging_face(folder)?;
    let (tokens, rows) = (vocabulary.tokens.len(), config.vocab_size);
    if tokens > rows {
        let message =
            format!("tokenizer.json has {tokens} tokens, but the embedding only {rows} rows");
        bail!(Failure::BadFile(message));
    }
    let special = &mut vocabulary.special;
    if special.stop.is_empty() {
        let end = vocabulary
            .tokens
            .iter()
            .position(|token| token == "<|im_end|>");
        special.stop.extend(end.map(|index| index as u32));
    }
    Ok(Some(vocabulary))
}
