//! `tidemill run`: an answer to one prompt, or a conversation.

mod answer;
mod chat;
mod printer;
mod structure;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use engine::TokenRules;
use serde_json::Value;
use text::Message;

use crate::args::Global;
use crate::exit::Failure;
use crate::loading::{LoadingArgs, MannerArgs};
use crate::model_args::{context_of, template_variables};
use crate::{embedded, interrupt, output};
use answer::Conversation;
use printer::Printer;
use structure::StructureArgs;

/// Talk to a model: answers `-p` or standard input, or holds a conversation on a terminal.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    loading: LoadingArgs,
    #[command(flatten)]
    manner: MannerArgs,
    /// What to ask; without it standard input is read, or a conversation begins on a terminal.
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file")]
    prompt: Option<String>,
    /// A file with what to ask.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The system message.
    #[arg(long, value_name = "TEXT", visible_alias = "sys")]
    system: Option<String>,
    /// Tools that the model may call: a JSON list in the OpenAI form.
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    #[command(flatten)]
    structure: StructureArgs,
    /// Whether the model thinks before it answers (default: as its template says).
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    thinking: Thinking,
    /// Continue the prompt as plain text, without a template.
    #[arg(long, conflicts_with_all = ["system", "tools", "thinking", "chat_template_file"])]
    raw: bool,
    /// Print one JSON object with text, tokens and times instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Thinking {
    Auto,
    On,
    Off,
}

impl Thinking {
    fn choice(self) -> Option<bool> {
        match self {
            Thinking::Auto => None,
            Thinking::On => Some(true),
            Thinking::Off => Some(false),
        }
    }
}

pub(crate) fn run(args: &RunArgs, global: &Global) -> anyhow::Result<()> {
    interrupt::listen()?;
    let prompt = args.read_prompt()?;
    let kwargs = template_variables(args.manner.chat_template_kwargs.as_deref())?;
    let tools = args.read_tools()?;
    if prompt.is_none() && args.json {
        let why = "--json answers one prompt; give it with -p, --file or standard input";
        return Err(Failure::Usage(why.to_owned()).into());
    }

    let loading = &args.loading;
    let mut opened = loading.model.open()?;
    let draft = loading.scheduling.check(&opened)?;
    let template = if args.raw {
        None
    } else {
        Some(loading.template(&opened)?)
    };
    let context = context_of(loading.ctx_size, &opened);
    let settings = loading.memory(context, loading.scheduling.sequences(1));
    let tokenizer = Arc::new(opened.tokenizer()?);
    let loaded =
        loading
            .model
            .load(&mut opened, global, (&settings, loading.scheduling.steps()))?;
    let rules = Arc::new(TokenRules::of(&tokenizer));
    let settings = (loading.scheduling.settings(), &settings);
    let scheduler = loading
        .scheduling
        .start(loaded, (&opened, draft), settings, rules)?;
    let mut conversation = Conversation::new(scheduler, tokenizer, template);
    conversation.request.enable_thinking = args.thinking.choice();
    conversation.request.variables = kwargs;
    conversation.request.tools = tools;
    conversation.max_tokens = args.manner.n_predict;
    conversation.structure = args.structure.read(&conversation.tokenizer)?;
    conversation.is_embedded = embedded::is_embedded(&opened);
    if let Some(system) = &args.system {
        conversation
            .request
            .messages
            .push(Message::new("system", system));
    }

    let Some(prompt) = prompt else {
        return chat::hold(conversation, &args.manner.sampling);
    };
    let mut printer = if args.json {
        Printer::silent()
    } else {
        Printer::new()
    };
    let answer = if args.raw {
        conversation.complete(&prompt, &args.manner.sampling, &mut printer)?
    } else {
        conversation.ask(&prompt, &args.manner.sampling, &mut printer)?
    };
    printer.end()?;
    if args.json {
        output::json(&answer.to_json(&opened))?;
    } else {
        output::note(&answer.summary());
    }
    if let Some(experts) = conversation.expert_counts() {
        tracing::info!("{experts}");
    }
    if answer.was_interrupted() {
        Err(Failure::Interrupted.into())
    } else {
        Ok(())
    }
}

impl RunArgs {
    /// What to ask; `None` for a conversation.
    fn read_prompt(&self) -> anyhow::Result<Option<String>> {
        let text = match (&self.prompt, &self.file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)
                .with_context(|| format!("read the prompt in {}", path.display()))?,
            (None, None) if std::io::stdin().is_terminal() => return Ok(None),
            (None, None) => {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .context("read the prompt from standard input; it must be UTF-8")?;
                text
            }
        };
        if text.trim().is_empty() {
            let why = "the prompt is empty; give some text with -p, --file or standard input";
            return Err(Failure::BadInput(why.to_owned()).into());
        }
        Ok(Some(text))
    }

    fn read_tools(&self) -> anyhow::Result<Vec<Value>> {
        let Some(path) = &self.tools else {
            return Ok(Vec::new());
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read the tools in {}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| {
            let why = format!("{}: {error}; expected a JSON list of tools", path.display());
            Failure::BadInput(why).into()
        })
    }
}
