//! `tidemill serve`: a model over HTTP.

mod http_args;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use engine::{EngineSettings, OpenedModel, SchedulerSettings, TokenRules};
use server::{Bound, Defaults, ModelFacts, ServedModel};
use text::output::ReasoningFormat;
use text::{ChatTemplate, Tokenizer};

use crate::args::Global;
use crate::model_args::{CacheArgs, ModelArgs, context_of, template_variables};
use crate::sampling_args::SamplingArgs;
use crate::scheduling::SchedulingArgs;
use crate::{embedded, output};
use http_args::HttpArgs;

/// Serve a model over HTTP to the programs that speak OpenAI's API.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    http: HttpArgs,
    /// What clients call the model (default: its file's name); further names after commas are
    /// listed too. Requests may use any name.
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',')]
    alias: Vec<String>,
    /// The most tokens of an answer, where a request does not say (default: as many as fit).
    #[arg(short = 'n', long, value_name = "N", visible_alias = "predict")]
    n_predict: Option<usize>,
    /// The most tokens of a prompt and its answer together, and of all together that are in memory
    /// (default: what the model was trained for, at most 32768; 0 for all of it).
    #[arg(short, long, value_name = "N")]
    ctx_size: Option<usize>,
    #[command(flatten)]
    scheduling: SchedulingArgs,
    /// The most requests that wait for their turn; further ones are refused with status 429.
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Where reasoning goes: `deepseek` and `auto` tell it apart, `none` leaves it in the content.
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    reasoning_format: ReasoningFormat,
    /// The most tokens of thinking, where a request does not say; -1 for no bound, 0 for no thinking.
    #[arg(long, value_name = "N", default_value_t = -1, allow_hyphen_values = true)]
    reasoning_budget: i64,
    /// A chat template instead of the model's own.
    #[arg(long, value_name = "FILE")]
    chat_template_file: Option<PathBuf>,
    /// Variables for the template where a request does not say, as a JSON object.
    #[arg(long, value_name = "JSON")]
    chat_template_kwargs: Option<String>,
}

/// How many answers are computed at once.
const PARALLEL: usize = 4;

pub(crate) fn run(args: &ServeArgs, global: &Global) -> anyhow::Result<()> {
    let config = args.http.config()?;
    let mut opened = args.model.open()?;
    let draft = args.scheduling.check(&opened)?;
    let context = context_of(args.ctx_size, &opened);
    let parallel = args.scheduling.sequences(PARALLEL);
    let tokenizer = Arc::new(opened.tokenizer()?);
    let facts = args.facts(&opened, context, parallel);
    let name = facts.name.clone();
    let template = args.template(&opened)?;
    let defaults = args.defaults(&opened, &tokenizer)?;
    let model = ServedModel::new(facts, Arc::clone(&tokenizer), template, defaults)?;

    let settings = EngineSettings {
        sequences: parallel,
        kv: args.cache.types(),
        ..EngineSettings::single(context)
    };
    let loaded = args.model.load(&mut opened, global, &settings)?;
    let rules = Arc::new(TokenRules::of(&tokenizer));
    let scheduling = SchedulerSettings {
        queue: args.queue,
        ..args.scheduling.settings()
    };
    let settings = (scheduling, &settings);
    let scheduler = args
        .scheduling
        .start(loaded, (&opened, draft), settings, rules)?;
    let scheduler = scheduler.with_tokenizer(tokenizer);
    let bound = Bound::new(scheduler, model, config)?;
    bound.stop_on_signals()?;
    output::note(&format!(
        "{name}: context {context} tokens, {parallel} answers at once; listening on http://{}",
        bound.address()
    ));
    Ok(bound.run()?)
}

impl ServeArgs {
    fn facts(&self, opened: &OpenedModel, context: usize, parallel: usize) -> ModelFacts {
        let stem = opened.path.file_stem().unwrap_or(opened.path.as_os_str());
        let stem = stem.to_string_lossy();
        // The model inside the program is named as a path that there is not.
        let stem = stem.rsplit(':').next().unwrap_or_default().to_owned();
        let mut names = self.alias.iter().filter(|name| !name.is_empty()).cloned();
        ModelFacts {
            name: names.next().unwrap_or(stem),
            aliases: names.collect(),
            path: opened.path.display().to_string(),
            context,
            trained_context: opened.config.context_length,
            file_bytes: opened.file_bytes(),
            hidden: opened.config.hidden_size,
            parallel,
        }
    }

    /// A model without a template can still continue text.
    fn template(&self, opened: &OpenedModel) -> anyhow::Result<Option<ChatTemplate>> {
        if let Some(path) = &self.chat_template_file {
            return Ok(Some(ChatTemplate::from_file(path)?));
        }
        match opened.template() {
            Ok(template) => Ok(Some(template)),
            Err(error) => {
                let error = anyhow::Error::from(error);
                output::note(&format!("warning: {error:#}; chats will be refused"));
                Ok(None)
            }
        }
    }

    fn defaults(&self, opened: &OpenedModel, tokenizer: &Tokenizer) -> anyhow::Result<Defaults> {
        let is_embedded = embedded::is_embedded(opened);
        let settings = |is_thinking| {
            let settings = self.sampling.settings(is_thinking, is_embedded, tokenizer);
            settings.context("the flags of the sampler")
        };
        let mut variables = template_variables(self.chat_template_kwargs.as_deref())?;
        if self.reasoning_budget == 0 {
            variables
                .entry("enable_thinking")
                .or_insert(serde_json::Value::Bool(false));
        }
        Ok(Defaults {
            thinking: settings(true)?,
            instruct: settings(false)?,
            seed: self.sampling.seed(),
            reasoning: self.reasoning_format,
            thinking_budget: usize::try_from(self.reasoning_budget).ok(),
            max_tokens: self.n_predict,
            variables,
        })
    }
}
