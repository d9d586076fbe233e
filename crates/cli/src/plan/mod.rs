//! `tidemill plan`: where a model would go on a machine, and how fast it would be there.
//!
//! Only headers are read. How the numbers come about is written in `docs/plan.md`.

pub(crate) mod gpus;
pub(crate) mod machine;
mod mixes;
mod report;
mod source;
mod table;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::plan::{Advice, Alternative, Anatomy, Machine, Plan, PlanError, Wish, advise, plan};

use crate::args::Global;
use crate::hub::HubArgs;
use crate::model_args::CacheArgs;
use crate::{output, size};
use machine::MachineArgs;
use mixes::Stored;
use report::Report;
use source::Subject;

/// Say where a model would go on a machine, and how fast it would be, before it is loaded or fetched.
///
/// Only headers are read, of files elsewhere too. The machine is this one, or one in flags:
/// `tidemill plan -m 35b-a3b:Q4_K_M --gpu 5080 --ram 64G --ram-bw 80` asks before buying.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// A GGUF file, the folder of a checkpoint, the address of a GGUF file, or a member of the family
    /// such as 35b-a3b:Q8_0 (default: the model inside the program).
    #[arg(short, long, value_name = "MODEL", env = "TIDEMILL_MODEL")]
    model: Option<String>,
    #[command(flatten)]
    hub: HubArgs,
    /// The file that reads images, if there is to be room for it.
    #[arg(long, value_name = "FILE")]
    mmproj: Option<PathBuf>,
    /// Tokens of all conversations together (default: what the model was trained for, at most 32768; 0
    /// for all of it).
    #[arg(short, long, value_name = "N")]
    ctx_size: Option<usize>,
    #[command(flatten)]
    cache: CacheArgs,
    /// How many answers are computed at once [short: -np].
    #[arg(long, value_name = "N", alias = "np", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    parallel: u32,
    /// Tokens that go through the model in one step, of all requests together.
    #[arg(short, long, value_name = "N", default_value_t = 512,
          value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Tokens of one prompt in a step [short: -ub].
    #[arg(long, value_name = "N", default_value_t = 512, alias = "ub",
          value_parser = clap::value_parser!(u32).range(1..))]
    ubatch_size: u32,
    /// Leave the multi-token-prediction head where it is.
    #[arg(long)]
    no_mtp: bool,
    /// RAM for the states of prompts that were read, as far as there is room, in MiB or with a unit.
    #[arg(long, value_name = "SIZE", default_value = "2048", value_parser = size::bytes)]
    cache_ram: u64,
    #[command(flatten)]
    machine: MachineArgs,
    /// What is left free of each GPU's memory, in MiB or with a unit.
    #[arg(long, value_name = "SIZE", default_value = "1024", value_parser = size::bytes)]
    fit_target: u64,
    /// Compare what the model would be in other types of storage.
    #[arg(long)]
    all: bool,
    /// The form of the answer.
    #[arg(short, long, value_name = "FORM", default_value = "md")]
    output: Form,
}

/// Forms of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Tables.
    Md,
    Json,
}

/// Contexts above this are only planned for when asked for.
const DEFAULT_CONTEXT: usize = 32_768;

/// Plans, and prints what was found. What does not fit is a failure that says what would.
pub(crate) fn run(args: &PlanArgs, global: &Global) -> anyhow::Result<()> {
    let subject = Subject::of(args)?;
    let wish = args.wish(&subject);
    let (machine, notes) = args.machine.machine(global)?;
    if args.all {
        let rows = compare(&subject, &machine, &wish)?;
        return match args.output {
            Form::Md => Ok(output::result(&table::comparison(
                &subject, &machine, &wish, &rows, &notes,
            ))?),
            Form::Json => output::json(&report::comparison(&rows)),
        };
    }
    let found = planned(&subject, &machine, &wish)?;
    let report = Report::new(&subject, &machine, &wish, &found, notes);
    match args.output {
        Form::Md => Ok(output::result(&table::text(&report))?),
        Form::Json => output::json(&report),
    }
}

/// Why there is no plan, and what there could be instead.
#[derive(Debug, thiserror::Error)]
#[error("{name} does not fit{tried}: {why}; {advice}")]
pub(crate) struct NoPlan {
    pub(crate) name: String,
    /// Where it was tried, with a space before it.
    pub(crate) tried: &'static str,
    pub(crate) why: PlanError,
    pub(crate) advice: Advice,
}

/// Where plans for machines with GPUs try.
pub(crate) const OVER_ALL: &str = " over the GPUs and RAM, nor into RAM alone";

/// The plan, or what would fit.
fn planned(subject: &Subject, machine: &Machine, wish: &Wish) -> anyhow::Result<Plan> {
    plan(&subject.anatomy, machine, wish).map_err(|error| {
        let PlanError::DoesNotFit { .. } = error else {
            return error.into();
        };
        let mixes = subject.mixes().unwrap_or_default();
        let named: Vec<(String, Anatomy)> = mixes
            .into_iter()
            .map(|(mix, anatomy)| (mix.to_string(), anatomy))
            .collect();
        let others: Vec<Alternative<'_>> = named
            .iter()
            .map(|(name, anatomy)| Alternative { name, anatomy })
            .collect();
        let advice = advise(&subject.anatomy, wish, &others, |anatomy, wish| {
            plan(anatomy, machine, wish).is_ok()
        });
        let name = subject.name.clone();
        NoPlan {
            name,
            tried: match machine.gpus.is_empty() {
                true => "",
                false => OVER_ALL,
            },
            why: error,
            advice,
        }
        .into()
    })
}

/// A mix, and the plan for it if it fits.
struct Compared {
    mix: Stored,
    anatomy: Anatomy,
    found: Option<(Plan, report::Speeds)>,
}

fn compare(subject: &Subject, machine: &Machine, wish: &Wish) -> anyhow::Result<Vec<Compared>> {
    let mixes = subject.mixes()?.into_iter();
    let rows = mixes.map(|(mix, anatomy)| {
        let found = match plan(&anatomy, machine, wish) {
            Ok(found) => {
                let speeds = report::Speeds::of(&anatomy, machine, wish, &found, 0);
                Some((found, speeds))
            }
            Err(PlanError::DoesNotFit { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Compared {
            mix,
            anatomy,
            found,
        })
    });
    rows.collect()
}

impl PlanArgs {
    fn wish(&self, subject: &Subject) -> Wish {
        let trained = subject.anatomy.config.context_length;
        let context = match self.ctx_size {
            None => trained.min(DEFAULT_CONTEXT),
            Some(0) => trained,
            Some(context) => context,
        };
        Wish {
            context,
            kv: self.cache.types(),
            sequences: self.parallel as usize,
            step_tokens: self.batch_size as usize,
            chunk_tokens: self.ubatch_size as usize,
            mtp: !self.no_mtp && subject.anatomy.config.mtp_layers > 0,
            vision: self.mmproj.is_some(),
            vram_reserve: self.fit_target,
            prompt_cache: self.cache_ram,
            ..Wish::default()
        }
    }
}
