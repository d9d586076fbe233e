//! Loads the models that requests ask for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use engine::{OpenedModel, SchedulerSettings, TokenRules};
use server::{Defaults, LoadError, LoadedModel, Loader, Loading, ServedModel};
use text::{ChatTemplate, Tokenizer};

use super::ServedArgs;
use super::catalog::Unit;
use crate::model_args::{Threads, template_variables};
use crate::{embedded, output};

/// Loads units, all of which compute on the same threads.
pub(super) struct ModelLoader {
    units: Vec<Unit>,
    queue: usize,
    threads: Threads,
    /// The first one, where that was checked before anybody was told to come.
    first: Mutex<Option<Checked>>,
}

/// A model of which everything was read but its weights.
struct Checked {
    opened: OpenedModel,
    /// What drafts for it.
    draft: Option<OpenedModel>,
    tokenizer: Arc<Tokenizer>,
    served: Vec<ServedModel>,
}

impl Checked {
    /// Finds what can be found wrong before memory is needed.
    fn new(unit: &Unit) -> anyhow::Result<Self> {
        let opened = unit.open()?;
        let draft = unit.loading.scheduling.check(&opened)?;
        let tokenizer = Arc::new(opened.tokenizer()?);
        let served = serve(unit, &opened, &tokenizer)?;
        // All that the headers promise is there; what is missing now is memory.
        opened.weights()?;
        Ok(Self {
            opened,
            draft,
            tokenizer,
            served,
        })
    }
}

impl ModelLoader {
    pub(super) fn new(units: Vec<Unit>, queue: usize, threads: Threads) -> Self {
        Self {
            units,
            queue,
            threads,
            first: Mutex::new(None),
        }
    }

    /// Checks the first model.
    ///
    /// # Errors
    /// When something is wrong with it.
    pub(super) fn check_first(&self) -> anyhow::Result<()> {
        if let Some(unit) = self.units.first() {
            *self.held() = Some(Checked::new(unit)?);
        }
        Ok(())
    }

    /// Nobody panics while they hold it.
    fn held(&self) -> MutexGuard<'_, Option<Checked>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load_unit(
        &self,
        unit: &Unit,
        checked: Option<Checked>,
        mut loading: Loading<'_>,
    ) -> Result<LoadedModel, LoadError> {
        let start = Instant::now();
        let Checked {
            mut opened,
            draft,
            tokenizer,
            served,
        } = match checked {
            Some(checked) => checked,
            None => Checked::new(unit)?,
        };
        loading.make_room()?;
        let facts = unit.facts(&opened);
        let memory = unit.loading.memory(facts.context, facts.parallel);
        let model = &unit.loading.model;
        let wanted = (&memory, unit.loading.scheduling.steps());
        let loaded = model.load_on(&self.threads, &mut opened, wanted, loading.progress())?;
        let rules = Arc::new(TokenRules::of(&tokenizer));
        let scheduling = &unit.loading.scheduling;
        let settings = SchedulerSettings {
            queue: self.queue,
            ..scheduling.settings()
        };
        let scheduler = scheduling.start(loaded, (&opened, draft), (settings, &memory), rules)?;
        for (profile, _) in &unit.manners {
            output::note(&format!(
                "{}: context {} tokens, {} answers at once; loaded in {:.1} s",
                profile.name,
                facts.context,
                facts.parallel,
                start.elapsed().as_secs_f64(),
            ));
        }
        Ok(LoadedModel {
            scheduler: scheduler.with_tokenizer(tokenizer),
            served,
        })
    }
}

impl Loader for ModelLoader {
    fn load(&self, model: usize, loading: Loading<'_>) -> Result<LoadedModel, LoadError> {
        match self.units.get(model) {
            Some(unit) => {
                let checked = self.held().take_if(|_| model == 0);
                self.load_unit(unit, checked, loading)
            }
            None => Err(format!("there is no model {model}").into()),
        }
    }
}

/// The model in each of its manners.
fn serve(
    unit: &Unit,
    opened: &OpenedModel,
    tokenizer: &Arc<Tokenizer>,
) -> anyhow::Result<Vec<ServedModel>> {
    let mut served: Vec<ServedModel> = Vec::new();
    let mut template = Some(template(unit, opened)?);
    for (profile, args) in &unit.manners {
        let name = profile.name.clone();
        let defaults = defaults(args, opened, tokenizer)?;
        let model = match (served.first(), template.take()) {
            (Some(first), _) => first.in_manner_of(name, defaults),
            (None, template) => {
                let facts = unit.facts(opened);
                let tokenizer = Arc::clone(tokenizer);
                ServedModel::new(facts, tokenizer, template.flatten(), (name, defaults))?
            }
        };
        served.push(model);
    }
    Ok(served)
}

/// A model without a template can still continue text.
fn template(unit: &Unit, opened: &OpenedModel) -> anyhow::Result<Option<ChatTemplate>> {
    match unit.loading.template(opened) {
        Ok(template) => Ok(Some(template)),
        Err(error) if unit.loading.chat_template_file.is_some() => Err(error),
        Err(error) => {
            output::note(&format!("warning: {error:#}; chats will be refused"));
            Ok(None)
        }
    }
}

fn defaults(
    args: &ServedArgs,
    opened: &OpenedModel,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Defaults> {
    let is_embedded = embedded::is_embedded(opened);
    let sampling = &args.manner.sampling;
    let settings = |is_thinking| {
        let settings = sampling.settings(is_thinking, is_embedded, tokenizer);
        settings.context("the flags of the sampler")
    };
    let mut variables = template_variables(args.manner.chat_template_kwargs.as_deref())?;
    if args.reasoning_budget == 0 {
        variables
            .entry("enable_thinking")
            .or_insert(serde_json::Value::Bool(false));
    }
    Ok(Defaults {
        thinking: settings(true)?,
        instruct: settings(false)?,
        seed: sampling.seed(),
        reasoning: args.reasoning_format,
        thinking_budget: usize::try_from(args.reasoning_budget).ok(),
        max_tokens: args.manner.n_predict,
        variables,
        client_sampling: args.client_sampling.into(),
    })
}
