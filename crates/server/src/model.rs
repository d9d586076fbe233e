//! The model that is served, as far as requests need to know it.

use std::sync::{Arc, OnceLock};

use engine::SamplerSettings;
use engine::constraint::{ConstraintError, GrammarLimits, Grammars, ThinkingTokens};
use serde_json::{Map, Value};
use text::output::{ReasoningFormat, ToolForm};
use text::{ChatRequest, ChatTemplate, Tokenizer, TokenizerError};

use crate::error::{ApiError, ErrorKind};
use crate::random;

/// The threads that find grammars' masks beside the forward pass.
const MASK_THREADS: usize = 2;

/// What is known of the model that is served.
#[derive(Debug)]
pub struct ModelFacts {
    /// What clients call it.
    pub name: String,
    /// Further names it is listed under.
    pub aliases: Vec<String>,
    /// Its file or folder.
    pub path: String,
    /// Tokens that a prompt and its answer may have together.
    pub context: usize,
    /// Tokens that it was trained for.
    pub trained_context: usize,
    /// The bytes of its files.
    pub file_bytes: u64,
    /// Values of a hidden row.
    pub hidden: usize,
    /// How many requests are answered at once.
    pub parallel: usize,
}

/// What counts where a request says nothing.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Sampler values for answers that begin with thinking.
    pub thinking: SamplerSettings,
    /// Sampler values for the others.
    pub instruct: SamplerSettings,
    /// Of the random numbers; `None` for others each time.
    pub seed: Option<u64>,
    /// Where reasoning goes.
    pub reasoning: ReasoningFormat,
    /// The most tokens of thinking.
    pub thinking_budget: Option<usize>,
    /// The most tokens of an answer.
    pub max_tokens: Option<usize>,
    /// Variables of the template, such as `enable_thinking`.
    pub variables: Map<String, Value>,
}

/// The model that is served.
pub struct ServedModel {
    facts: ModelFacts,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    tool_form: ToolForm,
    defaults: Defaults,
    thinking: Option<Arc<ThinkingTokens>>,
    grammars: OnceLock<Result<Grammars, ConstraintError>>,
}

impl ServedModel {
    /// A model with its tokenizer and, for chats, its template.
    ///
    /// # Errors
    /// When the vocabulary cannot spell the words that end thinking.
    pub fn new(
        facts: ModelFacts,
        tokenizer: Arc<Tokenizer>,
        template: Option<ChatTemplate>,
        defaults: Defaults,
    ) -> Result<Self, TokenizerError> {
        Ok(Self {
            thinking: ThinkingTokens::of(&tokenizer)?.map(Arc::new),
            tool_form: ToolForm::of_template(template.as_ref().map_or("", ChatTemplate::source)),
            facts,
            tokenizer,
            template,
            defaults,
            grammars: OnceLock::new(),
        })
    }

    pub(crate) fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    pub(crate) fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    pub(crate) fn tool_form(&self) -> ToolForm {
        self.tool_form
    }

    pub(crate) fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// Fills in what a conversation leaves to the server.
    pub(crate) fn complete(&self, chat: &mut ChatRequest) {
        for (name, value) in &self.defaults.variables {
            match (name.as_str(), value) {
                ("enable_thinking", Value::Bool(on)) => {
                    chat.enable_thinking.get_or_insert(*on);
                }
                _ if chat.variables.contains_key(name) => {}
                _ => {
                    chat.variables.insert(name.clone(), value.clone());
                }
            }
        }
    }

    pub(crate) fn thinking_tokens(&self) -> Option<Arc<ThinkingTokens>> {
        self.thinking.clone()
    }

    /// The chat template.
    ///
    /// # Errors
    /// When the model has none.
    pub(crate) fn template(&self) -> Result<&ChatTemplate, ApiError> {
        self.template.as_ref().ok_or_else(|| {
            let why = "the model has no chat template; start the server with --chat-template-file, \
                       or use /v1/completions";
            ApiError::new(ErrorKind::BadRequest, why)
        })
    }

    /// The server's sampler values for an answer of a mode.
    pub(crate) fn sampling(&self, is_thinking: bool) -> SamplerSettings {
        let settings = if is_thinking {
            &self.defaults.thinking
        } else {
            &self.defaults.instruct
        };
        SamplerSettings {
            seed: self.defaults.seed.unwrap_or_else(random::number),
            ..settings.clone()
        }
    }

    /// What compiles grammars. The first call takes about a second with a large vocabulary.
    ///
    /// # Errors
    /// When the vocabulary cannot be used with grammars.
    pub(crate) fn grammars(&self) -> Result<&Grammars, ApiError> {
        let made = self.grammars.get_or_init(|| {
            let tokenizer = Arc::clone(&self.tokenizer);
            Grammars::new(tokenizer, GrammarLimits::default(), MASK_THREADS)
        });
        made.as_ref().map_err(|error| ApiError::from(error.clone()))
    }
}
