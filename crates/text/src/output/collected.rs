//! An output as a whole.

use std::ops::Range;

use super::event::{CallOutcome, Ending, OutputEvent};
use super::options::OutputOptions;
use super::parser::OutputParser;

/// All that was told about an output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// What the model thought.
    pub reasoning: String,
    /// What it answered.
    pub content: String,
    /// The tools it calls, in order.
    pub calls: Vec<ToolCall>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The function's name, as the model wrote it.
    pub name: String,
    /// The arguments: the text of a JSON object.
    pub arguments: String,
    /// How it ended; `None` as long as it has not.
    pub outcome: Option<CallOutcome>,
    /// Where it stands in the output, in bytes; empty as long as it has not ended.
    pub source: Range<usize>,
}

impl Output {
    /// Reads a whole output.
    ///
    /// ```
    /// use serde_json::json;
    /// use tidemill_text::ThinkingState;
    /// use tidemill_text::output::{Ending, Output, OutputOptions};
    ///
    /// let tools = [json!({"name": "tide", "parameters": {"properties": {"day": {"type": "integer"}}}})];
    /// let options = OutputOptions::new(ThinkingState::Closed, &tools);
    /// let text = "Let me see.\n\n<tool_call>\n<function=tide>\n<parameter=day>\n3\n</parameter>\n\
    ///     </function>\n</tool_call>";
    /// let output = Output::read(text, options, Ending::Stopped);
    /// assert_eq!(output.content, "Let me see.");
    /// assert_eq!(output.calls[0].arguments, r#"{"day":3}"#);
    /// ```
    pub fn read(text: &str, options: OutputOptions, ending: Ending) -> Self {
        let mut output = Self::default();
        let mut parser = OutputParser::new(options);
        for event in parser.push(text) {
            output.add(&event);
        }
        for event in parser.finish(ending) {
            output.add(&event);
        }
        output
    }

    /// Adds the next event.
    pub fn add(&mut self, event: &OutputEvent) {
        match event {
            OutputEvent::Reasoning(text) => self.reasoning.push_str(text),
            OutputEvent::Content(text) => self.content.push_str(text),
            OutputEvent::Markup(_) => {}
            OutputEvent::CallStart { name, .. } => self.calls.push(ToolCall {
                name: name.clone(),
                arguments: String::new(),
                outcome: None,
                source: 0..0,
            }),
            OutputEvent::CallArguments { index, json } => {
                if let Some(call) = self.calls.get_mut(*index) {
                    call.arguments.push_str(json);
                }
            }
            OutputEvent::CallEnd {
                index,
                outcome,
                source,
            } => {
                if let Some(call) = self.calls.get_mut(*index) {
                    call.outcome = Some(*outcome);
                    call.source = source.clone();
                }
            }
        }
    }
}
