//! `tidemill serve`: models over HTTP.

mod catalog;
mod folder;
mod http_args;
mod loader;
mod profiles;
mod several_args;

use clap::{Args, ValueEnum};
use server::{Bound, ClientSampling};
use text::output::ReasoningFormat;

use crate::args::Global;
use crate::loading::{LoadingArgs, MannerArgs};
use crate::model_args::Threads;
use crate::output;
use catalog::Catalog;
use http_args::HttpArgs;
use loader::ModelLoader;
use several_args::SeveralArgs;

/// Serve models over HTTP to the programs that speak OpenAI's, Anthropic's or Ollama's API.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    model: ServedArgs,
    #[command(flatten)]
    several: SeveralArgs,
    #[command(flatten)]
    http: HttpArgs,
    /// The most requests to a model that wait for their turn; further ones are refused with status
    /// 429.
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: usize,
}

/// What may differ from model to model: what a profile can say.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServedArgs {
    #[command(flatten)]
    loading: LoadingArgs,
    #[command(flatten)]
    manner: MannerArgs,
    /// What clients call the model (default: its file's name); further names after commas are
    /// listed too. Where there is but one model, requests may use any name.
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',')]
    alias: Vec<String>,
    /// Where reasoning goes: `deepseek` and `auto` tell it apart, `none` leaves it in the content.
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    reasoning_format: ReasoningFormat,
    /// The most tokens of thinking, where a request does not say; -1 for no bound, 0 for no thinking.
    #[arg(long, value_name = "N", default_value_t = -1, allow_hyphen_values = true)]
    reasoning_budget: i64,
    /// Whether the sampler's values in requests count.
    #[arg(long, value_name = "WHICH", default_value = "keep")]
    client_sampling: WhichSampling,
}

/// Which of the sampler's values in requests count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WhichSampling {
    /// All.
    Keep,
    /// All but a temperature of 0, which agents send by habit.
    NotGreedy,
    /// None: the preset and the flags decide.
    Ignore,
}

impl From<WhichSampling> for ClientSampling {
    fn from(which: WhichSampling) -> Self {
        match which {
            WhichSampling::Keep => Self::Kept,
            WhichSampling::NotGreedy => Self::NotGreedy,
            WhichSampling::Ignore => Self::Ignored,
        }
    }
}

/// How many answers are computed at once.
const PARALLEL: usize = 4;

pub(crate) fn run(args: &ServeArgs, global: &Global) -> anyhow::Result<()> {
    let config = args.http.config(&args.several)?;
    let catalog = Catalog::of(args)?;
    let (offers, units) = catalog.offers();
    let loads_first = catalog.loads_first();
    let loader = ModelLoader::new(units, args.queue, Threads::new(global));
    if loads_first {
        loader.check_first()?;
    }
    let count = offers.iter().map(|offer| offer.profiles.len()).sum();
    let bound = Bound::new(offers, Box::new(loader), config)?;
    bound.stop_on_signals()?;
    let what = match count {
        1 => String::new(),
        count => format!("{count} models, loaded when they are asked for; "),
    };
    output::note(&format!(
        "{what}listening on {}://{}",
        args.http.scheme(),
        bound.address()
    ));
    Ok(bound.run(loads_first)?)
}
