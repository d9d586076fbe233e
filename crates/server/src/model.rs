//! A model that is served, as far as requests need to know it.

use std::sync::{Arc, OnceLock};

use engine::SamplerSettings;
use engine::constraint::{ConstraintError, GrammarLimits, Grammars, ThinkingTokens};
use serde_json::{Map, Value};
use text::output::{ReasoningFormat, ToolForm};
use text::{ChatRequest, ChatTemplate, Tokenizer, TokenizerError};

use crate::error::{ApiError, ErrorKind};
use crate::models::ModelFacts;
use crate::random;

/// The threads that find grammars' masks beside the forward pass.
const MASK_THREADS: usize = 2;

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
    /// Whether the sampler's values that a request names count.
    pub client_sampling: ClientSampling,
}

/// Whether the sampler's values that a request names count. A preset that it names always does, and
/// so do a seed, biases, and when an answer may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientSampling {
    /// They do.
    #[default]
    Kept,
    /// They do, but for a temperature of 0: agents send it by habit, and thinking models that always
    /// take the likeliest token run in circles.
    NotGreedy,
    /// They do not.
    Ignored,
}

/// A model that is served, in the manner of one of its profiles.
pub struct ServedModel {
    name: String,
    defaults: Defaults,
    shared: Arc<Shared>,
}

/// What all profiles of a model have.
struct Shared {
    facts: ModelFacts,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    tool_form: ToolForm,
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
        (name, defaults): (String, Defaults),
    ) -> Result<Self, TokenizerError> {
        let shared = Shared {
            thinking: ThinkingTokens::of(&tokenizer)?.map(Arc::new),
            tool_form: ToolForm::of_template(template.as_ref().map_or("", ChatTemplate::source)),
            facts,
            tokenizer,
            template,
            grammars: OnceLock::new(),
        };
        Ok(Self {
            name,
            defaults,
            shared: Arc::new(shared),
        })
    }

    /// The same model in another manner.
    #[must_use]
    pub fn in_manner_of(&self, name: String, defaults: Defaults) -> Self {
        Self {
            name,
            defaults,
            shared: Arc::clone(&self.shared),
        }
    }

    /// What clients call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn facts(&self) -> &ModelFacts {
        &self.shared.facts
    }

    pub(crate) fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.shared.tokenizer
    }

    pub(crate) fn tool_form(&self) -> ToolForm {
        self.shared.tool_form
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
        self.shared.thinking.clone()
    }

    /// The chat template.
    ///
    /// # Errors
    /// When the model has none.
    pub(crate) fn template(&self) -> Result<&ChatTemplate, ApiError> {
        self.shared.template.as_ref().ok_or_else(|| {
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
        let made = self.shared.grammars.get_or_init(|| {
            let tokenizer = Arc::clone(&self.shared.tokenizer);
            Grammars::new(tokenizer, GrammarLimits::default(), MASK_THREADS)
        });
        made.as_ref().map_err(|error| ApiError::from(error.clone()))
    }
}
