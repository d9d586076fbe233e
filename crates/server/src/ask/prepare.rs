//! From what a client asks to what the engine is given.

use engine::cache::{boundaries_of_chat, start_of_tool_call};
use engine::constraint::Guide;
use engine::stop::StopStrings;
use engine::{Limits, Request};
use text::output::{CallMode, OutputOptions, ReasoningFormat};
use text::{Prompt, SpecialTokens, ThinkingState};

use super::{Ask, PromptAsk, ToolChoice, structure};
use crate::error::ApiError;
use crate::model::ServedModel;

/// What goes to the engine, and how its answer is to be read.
pub(crate) struct Prepared {
    pub(crate) request: Request,
    pub(crate) guide: Guide,
    pub(crate) reading: Reading,
}

/// How an answer is to be read.
#[derive(Debug, Clone)]
pub(crate) enum Reading {
    /// All of it is content.
    Plain,
    /// Reasoning, content and calls are told apart.
    Chat(OutputOptions),
}

impl Ask {
    /// Renders, encodes and compiles. Takes milliseconds for long prompts: not for a thread that
    /// others wait for.
    ///
    /// # Errors
    /// When the template, the tokenizer, a grammar or a bound refuses.
    pub(crate) fn prepare(mut self, model: &ServedModel) -> Result<Prepared, ApiError> {
        if let PromptAsk::Chat(chat) = &mut self.prompt {
            model.complete(chat);
        }
        let (mut request, state) = self.render(model)?;
        let defaults = model.defaults();
        let is_thinking = state == ThinkingState::Inside;
        let base = model.sampling(is_thinking);
        let sampling = std::mem::take(&mut self.sampling).counting(defaults.client_sampling);
        request.sampling = sampling.over(&base, self.logprobs, model.tokenizer())?;
        request.limits = Limits {
            max_tokens: self.max_tokens.or(defaults.max_tokens),
            stop_tokens: Vec::new(),
            stop: StopStrings::new(&self.stop)
                .map_err(|error| ApiError::bad("stop", error.to_string()))?,
        };
        request.choices = self.choices;
        request.cache = self.cache;
        request.prompt_logprobs = self.prompt_logprobs;
        let opening = start_of_tool_call(model.tokenizer());
        request.keep_before = opening.into_iter().collect();
        let constraint = match structure::grammar(&self, model.tool_form(), opening)? {
            Some((begin, grammar)) => Some((begin, model.grammars()?.compile(&grammar)?)),
            None => None,
        };
        let guide = Guide::new(
            model.thinking_tokens(),
            state,
            self.thinking_budget.or(defaults.thinking_budget),
            constraint,
            model.tokenizer().vocabulary_size(),
        );
        let reading = self.reading(state, defaults.reasoning);
        Ok(Prepared {
            request,
            guide,
            reading,
        })
    }

    fn render(&self, model: &ServedModel) -> Result<(Request, ThinkingState), ApiError> {
        let tokenizer = model.tokenizer();
        match &self.prompt {
            PromptAsk::Chat(chat) => {
                let prompt =
                    Prompt::new(model.template()?, tokenizer, chat, SpecialTokens::AsText)?;
                let boundaries = boundaries_of_chat(&prompt.tokens, tokenizer, chat);
                let mut request = Request::new(prompt.tokens);
                request.boundaries = boundaries;
                Ok((request, prompt.thinking))
            }
            PromptAsk::Text(text) => {
                let tokens = tokenizer
                    .encode(text, SpecialTokens::Parse)
                    .map_err(|error| ApiError::bad("prompt", error.to_string()))?;
                // Text may be a rendered chat; one that is not leaves the model outside thinking.
                let state = match ThinkingState::of_prompt(text) {
                    ThinkingState::Inside => ThinkingState::Inside,
                    ThinkingState::Closed | ThinkingState::Unmarked => ThinkingState::Closed,
                };
                Ok((Request::new(tokens), state))
            }
            PromptAsk::Tokens(tokens) => Ok((Request::new(tokens.clone()), ThinkingState::Closed)),
        }
    }

    fn reading(&self, state: ThinkingState, reasoning: ReasoningFormat) -> Reading {
        if !matches!(self.prompt, PromptAsk::Chat(_)) {
            return Reading::Plain;
        }
        let mut options = OutputOptions::new(state, self.tool_list());
        options.reasoning = self.reasoning.unwrap_or(reasoning);
        options.only_known_tools = self.tools.is_strict;
        if self.tools.choice == ToolChoice::None {
            options.calls = CallMode::Off;
        }
        Reading::Chat(options)
    }
}
