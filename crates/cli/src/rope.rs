//! Contexts longer than a model was trained for.

use clap::{Args, ValueEnum};
use model::{Config, Yarn};

use crate::exit::Failure;

/// How positions are stretched.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
pub(crate) struct RopeArgs {
    /// Stretch positions to longer contexts than the model was trained for.
    #[arg(long, value_name = "HOW")]
    rope_scaling: Option<RopeScaling>,
    /// How many times the trained context; answers to short prompts get a little worse.
    #[arg(long, value_name = "FACTOR")]
    rope_scale: Option<f64>,
    /// The context that the model was trained for, if its file says something else.
    #[arg(long, value_name = "N")]
    yarn_orig_ctx: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RopeScaling {
    /// As the model was trained, even if its file says something else.
    None,
    /// YaRN: slow frequencies are stretched, fast ones stay.
    Yarn,
}

/// The family's recommended limits, in rotations over the trained context.
const BETA_FAST: f64 = 32.0;
const BETA_SLOW: f64 = 1.0;

impl RopeArgs {
    /// Changes a model's positions and its longest context.
    pub(crate) fn apply(self, config: &mut Config) -> Result<(), Failure> {
        let usage = |why: &str| Err(Failure::Usage(why.to_owned()));
        let trained = self.yarn_orig_ctx.map(|context| context as usize);
        match (self.rope_scaling, self.rope_scale) {
            (None, None) if trained.is_none() => Ok(()),
            (Some(RopeScaling::None), None) => {
                if let Some(yarn) = config.rotary.yarn.take() {
                    config.context_length = yarn.original_context as usize;
                }
                Ok(())
            }
            (Some(RopeScaling::Yarn), Some(factor)) => {
                if !(1.0..=64.0).contains(&factor) {
                    return usage(&format!("--rope-scale is {factor}, expected 1 to 64"));
                }
                let of_file = config
                    .rotary
                    .yarn
                    .as_ref()
                    .map(|yarn| yarn.original_context as usize);
                let trained = trained.or(of_file).unwrap_or(config.context_length);
                config.rotary.yarn = Some(Yarn {
                    factor,
                    original_context: trained as f64,
                    beta_fast: BETA_FAST,
                    beta_slow: BETA_SLOW,
                    truncate: true,
                    attention_factor: None,
                });
                config.context_length = (trained as f64 * factor) as usize;
                Ok(())
            }
            _ => usage("stretching takes both --rope-scaling yarn and --rope-scale FACTOR"),
        }
    }
}
