//! A conversation with a loaded model, and what came of each question.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::cache::{Boundary, boundaries_of_chat, start_of_tool_call};
use engine::{
    Event, ExpertCounts, FinishReason, Miss, OpenedModel, Request, RequestId, Reuse, ReusedFrom,
    Scheduler, Usage,
};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use text::output::{Ending, Output, OutputEvent, OutputOptions, OutputParser};
use text::template::{FunctionCall, MessageToolCall};
use text::tokenizer::Decode;
use text::{
    ChatRequest, ChatTemplate, Message, Prompt, SpecialTokens, StreamDecoder, ThinkingState,
    Tokenizer,
};

use super::printer::Printer;
use super::structure::Structure;
use crate::sampling_args::SamplingArgs;
use crate::{interrupt, output};

/// A loaded model and what was said so far.
pub(super) struct Conversation {
    scheduler: Scheduler,
    pub(super) tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    /// Messages, tools and the template's variables.
    pub(super) request: ChatRequest,
    /// What steers the answers.
    pub(super) structure: Structure,
    /// The most tokens of an answer.
    pub(super) max_tokens: Option<usize>,
    /// Whether the model is the one inside the program.
    pub(super) is_embedded: bool,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Finished(FinishReason),
    Interrupted,
}

/// One answer with its figures.
pub(super) struct Answer {
    output: Output,
    tokens: Vec<u32>,
    prompt_tokens: usize,
    /// How much of the prompt was cached, and why not more.
    reuse: Reuse,
    /// What the scheduler counted, once it is complete.
    usage: Option<Usage>,
    prefill: Duration,
    decode: Duration,
    first_token: Duration,
    end: End,
}

impl Conversation {
    pub(super) fn new(
        scheduler: Scheduler,
        tokenizer: Arc<Tokenizer>,
        template: Option<ChatTemplate>,
    ) -> Self {
        Self {
            scheduler,
            tokenizer,
            template,
            request: ChatRequest::new(Vec::new()),
            structure: Structure::default(),
            max_tokens: None,
            is_embedded: false,
        }
    }

    /// What became of choices of experts that are in RAM, if GPUs keep copies of such.
    pub(super) fn expert_counts(&self) -> Option<ExpertCounts> {
        self.scheduler.engine().expert_counts()
    }

    /// Asks a question; the answer becomes part of the conversation.
    pub(super) fn ask(
        &mut self,
        question: &str,
        sampling: &SamplingArgs,
        printer: &mut Printer,
    ) -> anyhow::Result<Answer> {
        self.ask_again(Message::new("user", question), sampling, printer)
    }

    /// Puts a message behind the conversation and answers it.
    pub(super) fn ask_again(
        &mut self,
        message: Message,
        sampling: &SamplingArgs,
        printer: &mut Printer,
    ) -> anyhow::Result<Answer> {
        self.request.messages.push(message);
        let answer = self.answer(sampling, printer);
        match &answer {
            Ok(answer) => self.request.messages.push(answer.message()),
            // What could not be answered was not said.
            Err(_) => drop(self.request.messages.pop()),
        }
        answer
    }

    fn answer(&mut self, sampling: &SamplingArgs, printer: &mut Printer) -> anyhow::Result<Answer> {
        let Some(template) = &self.template else {
            anyhow::bail!("without a template only --raw prompts can be continued");
        };
        let prompt = Prompt::new(
            template,
            &self.tokenizer,
            &self.request,
            SpecialTokens::AsText,
        )?;
        let boundaries = boundaries_of_chat(&prompt.tokens, &self.tokenizer, &self.request);
        self.generate(
            prompt.tokens,
            boundaries,
            prompt.thinking,
            sampling,
            printer,
        )
    }

    /// Continues plain text.
    pub(super) fn complete(
        &mut self,
        text: &str,
        sampling: &SamplingArgs,
        printer: &mut Printer,
    ) -> anyhow::Result<Answer> {
        let tokens = self.tokenizer.encode(text, SpecialTokens::Parse)?;
        let state = ThinkingState::Closed;
        self.generate(tokens, Vec::new(), state, sampling, printer)
    }

    /// Forgets the conversation, but for the system message.
    pub(super) fn clear(&mut self) {
        self.request
            .messages
            .retain(|message| message.role == "system");
    }

    fn generate(
        &mut self,
        prompt: Vec<u32>,
        boundaries: Vec<Boundary>,
        thinking: ThinkingState,
        sampling: &SamplingArgs,
        printer: &mut Printer,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::new(prompt);
        request.boundaries = boundaries;
        let is_thinking = thinking == ThinkingState::Inside;
        request.sampling = sampling.settings(is_thinking, self.is_embedded, &self.tokenizer)?;
        request.limits.max_tokens = self.max_tokens;
        request.keep_before = start_of_tool_call(&self.tokenizer).into_iter().collect();
        let mut answer = Answer {
            output: Output::default(),
            tokens: Vec::new(),
            prompt_tokens: request.prompt.len(),
            reuse: Reuse {
                cached: 0,
                from: ReusedFrom::Nowhere,
                rest: Miss::New,
            },
            usage: None,
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
            first_token: Duration::ZERO,
            end: End::Interrupted,
        };
        interrupt::forget();
        let guide = self.structure.guide(thinking)?;
        let id = self.scheduler.submit_guided(request, guide)?;
        let outcome = self.stream(id, thinking, &mut answer, printer);
        if outcome.is_err() {
            self.scheduler.cancel(id);
        }
        outcome.map(|()| answer)
    }

    fn stream(
        &mut self,
        id: RequestId,
        thinking: ThinkingState,
        answer: &mut Answer,
        printer: &mut Printer,
    ) -> anyhow::Result<()> {
        let mut decoder = StreamDecoder::new(Decode::SkipControl);
        let options = OutputOptions::new(thinking, &self.request.tools);
        let mut parser = OutputParser::new(options);
        let start = Instant::now();
        let bar = output::step_progress("reading");
        bar.set_length(answer.prompt_tokens as u64);
        'answer: loop {
            if interrupt::check().is_err() {
                self.scheduler.cancel(id);
                bar.finish_and_clear();
                break;
            }
            for event in self.scheduler.step() {
                if let Some(token) = answer.note(event, &start, &bar)? {
                    let piece = decoder.push(&self.tokenizer, token)?;
                    answer.take(&parser.push(&piece), printer)?;
                }
                if answer.end != End::Interrupted {
                    break 'answer;
                }
            }
        }
        answer.take(&parser.push(&decoder.finish()), printer)?;
        let ending = match answer.end {
            End::Finished(FinishReason::Stop) => Ending::Stopped,
            End::Finished(FinishReason::Length | FinishReason::ContextFull) | End::Interrupted => {
                Ending::Cut
            }
        };
        answer.take(&parser.finish(ending), printer)?;
        answer.decode = start.elapsed().saturating_sub(answer.prefill);
        Ok(())
    }
}

impl Answer {
    /// Takes what happened in a step; returns the token, if it was one.
    fn note(
        &mut self,
        event: Event,
        start: &Instant,
        bar: &ProgressBar,
    ) -> anyhow::Result<Option<u32>> {
        match event {
            Event::Started { reuse, .. } => self.reuse = reuse,
            Event::PrefillProgress { done, .. } => {
                bar.set_position(done as u64);
                self.prefill = start.elapsed();
            }
            Event::Token { token, .. } => {
                if self.tokens.is_empty() {
                    bar.finish_and_clear();
                    self.first_token = start.elapsed();
                    self.prefill = self.first_token;
                }
                self.tokens.push(token);
                return Ok(Some(token));
            }
            Event::Finished { reason, usage, .. } => {
                bar.finish_and_clear();
                self.end = End::Finished(reason);
                self.usage = Some(usage);
            }
            Event::Failed { error, .. } => {
                bar.finish_and_clear();
                anyhow::bail!("{error}");
            }
            _ => {}
        }
        Ok(None)
    }

    fn take(&mut self, events: &[OutputEvent], printer: &mut Printer) -> std::io::Result<()> {
        for event in events {
            self.output.add(event);
            printer.print(event)?;
        }
        Ok(())
    }

    pub(super) fn was_interrupted(&self) -> bool {
        self.end == End::Interrupted
    }

    /// As the conversation's next message.
    fn message(&self) -> Message {
        let output = &self.output;
        let mut message = Message::new("assistant", &output.content);
        if !output.reasoning.is_empty() {
            message.reasoning_content = Some(output.reasoning.clone());
        }
        for call in &output.calls {
            message.tool_calls.push(MessageToolCall {
                id: None,
                kind: Some("function".to_owned()),
                function: FunctionCall {
                    name: call.name.clone(),
                    arguments: call.arguments.clone().into(),
                },
            });
        }
        message
    }

    fn per_second(count: usize, time: Duration) -> f64 {
        if time.is_zero() {
            0.0
        } else {
            count as f64 / time.as_secs_f64()
        }
    }

    fn prefill_rate(&self) -> f64 {
        Self::per_second(self.prompt_tokens - self.reuse.cached, self.prefill)
    }

    /// The first token comes out of the prefill, so it does not count here.
    fn decode_rate(&self) -> f64 {
        Self::per_second(self.tokens.len().saturating_sub(1), self.decode)
    }

    fn end_name(&self) -> &'static str {
        match self.end {
            End::Finished(FinishReason::Stop) => "stop",
            End::Finished(FinishReason::Length) => "length",
            End::Finished(FinishReason::ContextFull) => "context_full",
            End::Interrupted => "interrupted",
        }
    }

    /// The line of figures under an answer.
    pub(super) fn summary(&self) -> String {
        let mut line = format!(
            "[prompt {} tokens, {} cached{} ({}), {:.1} tokens/s; first token {:.2} s; answer {} \
             tokens, {:.1} tokens/s",
            self.prompt_tokens,
            self.reuse.cached,
            match self.reuse.from {
                ReusedFrom::Nowhere | ReusedFrom::Memory => "",
                ReusedFrom::Tier => " on disk",
            },
            self.reuse.rest,
            self.prefill_rate(),
            self.first_token.as_secs_f64(),
            self.tokens.len(),
            self.decode_rate(),
        );
        if let Some(usage) = self.usage.filter(|usage| usage.drafted > 0) {
            let (accepted, drafted) = (usage.accepted, usage.drafted);
            line.push_str(&format!(", {accepted} of {drafted} drafts right"));
        }
        match self.end {
            End::Finished(FinishReason::Stop) => {}
            End::Finished(FinishReason::Length) => line.push_str("; cut at -n"),
            End::Finished(FinishReason::ContextFull) => {
                line.push_str("; the context is full, raise it with -c");
            }
            End::Interrupted => line.push_str("; interrupted"),
        }
        line.push(']');
        line
    }

    /// Everything, for programs.
    pub(super) fn to_json(&self, opened: &OpenedModel) -> Value {
        let calls: Vec<Value> = self
            .output
            .calls
            .iter()
            .map(|call| {
                let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
                json!({"name": call.name, "arguments": arguments})
            })
            .collect();
        json!({
            "model": opened.path.display().to_string(),
            "reasoning": self.output.reasoning,
            "content": self.output.content,
            "tool_calls": calls,
            "tokens": self.tokens,
            "finish_reason": self.end_name(),
            "usage": {
                "prompt_tokens": self.prompt_tokens,
                "cached_tokens": self.reuse.cached,
                "cached_in": match self.reuse.from {
                    ReusedFrom::Nowhere => None,
                    ReusedFrom::Memory => Some("memory"),
                    ReusedFrom::Tier => Some("disk"),
                },
                "why_not_more": self.reuse.rest.to_string(),
                "completion_tokens": self.tokens.len(),
                "drafted_tokens": self.usage.map(|usage| usage.drafted),
                "accepted_tokens": self.usage.map(|usage| usage.accepted),
            },
            "timings": {
                "first_token_ms": self.first_token.as_secs_f64() * 1e3,
                "prefill_ms": self.prefill.as_secs_f64() * 1e3,
                "prefill_tokens_per_second": self.prefill_rate(),
                "decode_ms": self.decode.as_secs_f64() * 1e3,
                "decode_tokens_per_second": self.decode_rate(),
            },
        })
    }
}
