//! Reads the engine's events as reasoning, content and calls.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use engine::sampling::TokenLogprobs;
use engine::{Event, FinishReason, Usage};
use text::Tokenizer;
use text::output::{Ending, OutputEvent, OutputParser};

use super::{AnswerEvent, Figures, Finish, Reason, TokenLogprob};
use crate::ask::Reading;
use crate::error::{ApiError, ErrorKind};
use crate::random;
use crate::worker::{Stamped, Taken};

/// The answers to a request as they come. Dropping it cancels the request.
pub(crate) struct Answer {
    taken: Taken,
    tokenizer: Arc<Tokenizer>,
    choices: Vec<Choice>,
    unfinished: usize,
    /// The number of the first of these answers, where several prompts are answered together.
    first_choice: usize,
    cached: usize,
    started: Option<Instant>,
    ready: VecDeque<AnswerEvent>,
}

/// The state of one answer.
struct Choice {
    parser: Option<OutputParser>,
    has_calls: bool,
    reasoning_tokens: usize,
    first_token: Option<Instant>,
}

impl Answer {
    /// The answers to a request that was taken.
    pub(crate) fn new(
        taken: Taken,
        reading: &Reading,
        choices: usize,
        tokenizer: Arc<Tokenizer>,
    ) -> Self {
        let choice = |_| Choice {
            parser: match reading {
                Reading::Plain => None,
                Reading::Chat(options) => Some(OutputParser::new(options.clone())),
            },
            has_calls: false,
            reasoning_tokens: 0,
            first_token: None,
        };
        Self {
            taken,
            tokenizer,
            choices: (0..choices).map(choice).collect(),
            unfinished: choices,
            first_choice: 0,
            cached: 0,
            started: None,
            ready: VecDeque::new(),
        }
        .with_first_choice(0)
    }

    /// With its answers counted from this number on.
    pub(crate) fn with_first_choice(mut self, first_choice: usize) -> Self {
        self.first_choice = first_choice;
        self.ready = VecDeque::from([AnswerEvent::Prompt {
            first_choice,
            tokens: self.taken.prompt.clone(),
        }]);
        self
    }

    /// What happens next; `None` after the end of all answers, or after a failure.
    pub(crate) async fn next(&mut self) -> Option<AnswerEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if matches!(event, AnswerEvent::Failed(_)) {
                    self.unfinished = 0;
                }
                return Some(event);
            }
            if self.unfinished == 0 {
                return None;
            }
            match self.taken.events.recv().await {
                Some(stamped) => self.take(stamped),
                None => self
                    .ready
                    .push_back(AnswerEvent::Failed(ApiError::engine_is_gone())),
            }
        }
    }

    fn take(&mut self, Stamped { at, event }: Stamped) {
        match event {
            Event::Started { reuse, .. } => {
                self.cached = reuse.cached;
                self.started = Some(at);
                self.ready.push_back(AnswerEvent::Started {
                    prompt: self.taken.prompt.len(),
                    cached: reuse.cached,
                });
            }
            Event::PrefillProgress { done, total, .. } => {
                self.ready.push_back(AnswerEvent::Progress {
                    done,
                    cached: self.cached,
                    total,
                });
            }
            Event::PromptLogprobs { first, tokens, .. } => {
                let places = self.taken.prompt.iter().skip(first);
                let tokens = places
                    .zip(&tokens)
                    .map(|(&id, told)| self.named(id, told))
                    .collect();
                let first_choice = self.first_choice;
                let event = AnswerEvent::PromptLogprobs {
                    first_choice,
                    tokens,
                };
                self.ready.push_back(event);
            }
            Event::Token {
                choice,
                token,
                text,
                logprobs,
                ..
            } => self.token(choice, token, &text, logprobs, at),
            Event::Finished {
                choice,
                reason,
                text,
                stop_string,
                usage,
                ..
            } => {
                self.text(choice, &text);
                self.finish(choice, reason, stop_string, &usage, at);
            }
            Event::Failed { error, .. } => {
                let error = ApiError::new(ErrorKind::Internal, error);
                self.ready.push_back(AnswerEvent::Failed(error));
            }
            _ => {}
        }
    }

    fn token(
        &mut self,
        choice: usize,
        token: u32,
        text: &str,
        logprobs: Option<TokenLogprobs>,
        at: Instant,
    ) {
        let Some(state) = self.choices.get_mut(choice) else {
            return;
        };
        state.first_token.get_or_insert(at);
        let is_reasoning = state
            .parser
            .as_ref()
            .is_some_and(OutputParser::is_reasoning);
        if is_reasoning {
            state.reasoning_tokens += 1;
        } else if let Some(logprobs) = logprobs {
            let logprob = self.named(token, &logprobs);
            let choice = self.first_choice + choice;
            self.ready.push_back(AnswerEvent::Token { choice, logprob });
        }
        self.text(choice, text);
    }

    fn named(&self, token: u32, logprobs: &TokenLogprobs) -> TokenLogprob {
        let bytes = |token| {
            self.tokenizer
                .token_bytes(token)
                .unwrap_or_default()
                .to_vec()
        };
        TokenLogprob {
            token,
            bytes: bytes(token),
            logprob: logprobs.logprob,
            top: logprobs
                .top
                .iter()
                .map(|&(token, logprob)| (token, bytes(token), logprob))
                .collect(),
        }
    }

    fn text(&mut self, choice: usize, text: &str) {
        let Some(state) = self.choices.get_mut(choice).filter(|_| !text.is_empty()) else {
            return;
        };
        match &mut state.parser {
            Some(parser) => {
                let events = parser.push(text);
                self.told(choice, events);
            }
            None => self.ready.push_back(AnswerEvent::Content {
                choice: self.first_choice + choice,
                text: text.to_owned(),
            }),
        }
    }

    fn told(&mut self, own_choice: usize, events: Vec<OutputEvent>) {
        let choice = self.first_choice + own_choice;
        for event in events {
            let event = match event {
                OutputEvent::Markup(_) => continue,
                OutputEvent::Reasoning(text) => AnswerEvent::Reasoning { choice, text },
                OutputEvent::Content(text) => AnswerEvent::Content { choice, text },
                OutputEvent::CallStart { index, name } => {
                    if let Some(state) = self.choices.get_mut(own_choice) {
                        state.has_calls = true;
                    }
                    let id = random::id("call_");
                    AnswerEvent::CallStart {
                        choice,
                        index,
                        id,
                        name,
                    }
                }
                OutputEvent::CallArguments { index, json } => AnswerEvent::CallArguments {
                    choice,
                    index,
                    json,
                },
                OutputEvent::CallEnd { index, outcome, .. } => AnswerEvent::CallEnd {
                    choice,
                    index,
                    outcome,
                },
            };
            self.ready.push_back(event);
        }
    }

    fn finish(
        &mut self,
        choice: usize,
        reason: FinishReason,
        stop_string: Option<String>,
        usage: &Usage,
        at: Instant,
    ) {
        let was_stopped = reason == FinishReason::Stop && stop_string.is_none();
        let ending = if was_stopped {
            Ending::Stopped
        } else {
            Ending::Cut
        };
        let parser = self
            .choices
            .get_mut(choice)
            .and_then(|state| state.parser.take());
        if let Some(parser) = parser {
            self.told(choice, parser.finish(ending));
        }
        let Some(state) = self.choices.get(choice) else {
            return;
        };
        let started = self.started.unwrap_or(self.taken.at);
        let first = state.first_token.unwrap_or(at);
        let figures = Figures {
            prompt: usage.prompt,
            cached: usage.cached,
            generated: usage.generated,
            reasoning: state.reasoning_tokens,
            drafted: usage.drafted,
            accepted: usage.accepted,
            prefill: first.duration_since(started),
            decode: at.duration_since(first),
        };
        let reason = match reason {
            FinishReason::Length | FinishReason::ContextFull => Reason::Length,
            FinishReason::Stop if state.has_calls => Reason::Calls,
            FinishReason::Stop => Reason::Stop,
        };
        let finish = Finish {
            reason,
            stop_string,
            figures,
        };
        let choice = self.first_choice + choice;
        self.ready
            .push_back(AnswerEvent::Finished { choice, finish });
        self.unfinished = self.unfinished.saturating_sub(1);
    }
}
