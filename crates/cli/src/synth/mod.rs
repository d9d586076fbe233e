//! `tidemill synth`: a model of random weights with the true shapes of a family member.
//!
//! For measuring speed and memory without a download: the file has the tensors, types, metadata
//! and a working tokenizer of a published one, so that every engine loads it. What it says is
//! noise.

pub(crate) mod presets;
mod values;
mod vocabulary;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use formats::DType;
use model::Architecture;
use text::tokenizer::PreTokenizer;

use crate::args::Global;
use crate::export::{Extras, File, Mix, Part, Report, Slot, Stopped, write_rows};
use crate::{interrupt, output};
use presets::{PRESETS, Preset};
use values::{Pools, Random};

/// The family's chat protocol, as the model that comes with the program has it.
const CHAT_TEMPLATE: &str = include_str!("../../../../models/tiny/chat_template.jinja");

/// What `tidemill synth` takes.
#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// Which member of the family, such as qwen3.5-35b-a3b.
    #[arg(long, value_name = "NAME", value_parser = parse_arch)]
    arch: &'static Preset,
    /// Only so many layers; every fourth is attention.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    layers: Option<u32>,
    /// How to store the weights.
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "Q4_K_M",
        ignore_case = true
    )]
    quant: Mix,
    /// Leave the multi-token-prediction head out.
    #[arg(long)]
    no_mtp: bool,
    /// Other weights for another number.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// The file to write.
    #[arg(short, long, value_name = "FILE.gguf")]
    output: PathBuf,
}

fn parse_arch(name: &str) -> Result<&'static Preset, String> {
    presets::find(name).ok_or_else(|| {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        format!("there are {}", names.join(", "))
    })
}

/// Writes the file.
pub(crate) fn run(args: &SynthArgs, global: &Global) -> anyhow::Result<()> {
    interrupt::listen()?;
    global.start_threads()?;
    let preset = args.arch;
    let layers = args.layers.map_or(preset.layers, |layers| layers as usize);
    let config = preset.config(layers, !args.no_mtp);
    let name = match args.layers {
        Some(layers) => format!("{} of random weights, {layers} layers", preset.name),
        None => format!("{} of random weights", preset.name),
    };
    let extras = Extras {
        head: !preset.tied,
        ..Extras::default()
    };
    let mut file = File::plan(&config, args.quant, extras, &name)?;
    let pre_tokenizer = match config.architecture {
        Architecture::Qwen3Next => PreTokenizer::Qwen2,
        Architecture::Qwen35Moe | Architecture::Qwen35 => PreTokenizer::Qwen35,
    };
    let vocabulary = vocabulary::generate(config.vocab_size, pre_tokenizer);
    file.set_vocabulary(&vocabulary, Some(CHAT_TEMPLATE));
    let mut maker = Maker::new(args.seed);
    file.write(&args.output, |slot, dtype, out, report| {
        maker.write(slot, dtype, out, report)
    })?;
    Ok(output::result(&args.output.display().to_string())?)
}

/// Makes up tensors, each from its own stream of random numbers.
struct Maker {
    seed: u64,
    pools: Pools,
    made: u64,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            pools: Pools::new(seed),
            made: 0,
        }
    }

    fn write(
        &mut self,
        slot: &Slot,
        dtype: DType,
        out: &mut dyn Write,
        report: &Report,
    ) -> Result<(), Stopped> {
        self.made += 1;
        let (seed, tensor) = (self.seed, self.made);
        if slot.shape.len() == 1 {
            let mut random = Random::new(&[seed, tensor]);
            let values = parameters(slot, &mut random);
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            out.write_all(&bytes)?;
            return Ok(report.wrote(bytes.len())?);
        }
        let cols = slot.shape.last().copied().unwrap_or(1);
        let rows: usize = slot.shape.iter().rev().skip(1).product();
        let row_bytes = dtype
            .row_bytes(cols)
            .ok_or("the type does not fit the rows")?;
        // Keeps the outputs of a matrix as large as its inputs, through any number of layers.
        let pool = self.pools.get(dtype, cols, (cols as f32).sqrt().recip())?;
        write_rows(rows, row_bytes, out, report, |row, out| {
            pool.fill(out, Random::new(&[seed, tensor, row as u64]));
            Ok::<_, Stopped>(())
        })
    }
}

/// Parameters that are no matrix, in the range that trained models have.
fn parameters(slot: &Slot, random: &mut Random) -> Vec<f32> {
    let len = slot.shape.iter().product();
    let mut value = || match slot.part {
        // Half-lives from one token to some hundreds, as such layers are initialised.
        Part::Decay => -(1.0 + 15.0 * random.uniform()),
        Part::DtBias => {
            let step = (random.uniform() * (0.1f32 / 0.001).ln()).exp() * 0.001;
            // The inverse of softplus.
            step + (-(-step).exp_m1()).ln()
        }
        Part::SharedSwitch => random.normal() / (len as f32).sqrt(),
        _ => 1.0 + 0.05 * random.normal(),
    };
    (0..len).map(|_| value()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::gguf::GgufFile;
    use model::bind::{config_from_gguf, weights_from_gguf};
    use model::{FeedForwardKind, LayerKind};

    #[test]
    fn parameters_are_in_range() {
        let of = |part| {
            let slot = Slot {
                part,
                block: Some(0),
                shape: vec![1000],
            };
            parameters(&slot, &mut Random::new(&[3]))
        };
        assert!(of(Part::Decay).iter().all(|a| (-16.0..-1.0).contains(a)));
        // softplus of it is a step between 0.001 and 0.1
        assert!(of(Part::DtBias).iter().all(|b| (-7.0..-2.2).contains(b)));
        assert!(of(Part::NormIn).iter().all(|w| (0.7..1.3).contains(w)));
    }

    #[test]
    fn our_own_reader_takes_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mix) in [
            ("tiny", Mix::Q4_K_M),
            ("tiny", Mix::MXFP4_MOE),
            ("tiny", Mix::BF16),
        ] {
            let path = folder.path().join("model.gguf");
            let config = presets::find(name).unwrap().config(4, true);
            let extras = Extras {
                head: true,
                ..Extras::default()
            };
            let file = File::plan(&config, mix, extras, "test").unwrap();
            let mut maker = Maker::new(1);
            file.write(&path, |slot, dtype, out, report| {
                maker.write(slot, dtype, out, report)
            })
            .unwrap();

            let read = GgufFile::open(&path).unwrap();
            assert_eq!(config_from_gguf(&read).unwrap(), config);
            let weights = weights_from_gguf(&read, &config).unwrap();
            assert_eq!(weights.layers.len(), 4);
            assert!(weights.mtp.is_some() && weights.head.is_some());
            assert_eq!(config.count(LayerKind::Attention), 1);
            assert!(matches!(
                config.feed_forward,
                FeedForwardKind::Experts { count: 16, .. }
            ));
        }
    }
}
