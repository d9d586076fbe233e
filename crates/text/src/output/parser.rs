//! The parser: text in, events out.

use super::event::{Ending, OutputEvent};
use super::lexer::Lexer;
use super::options::OutputOptions;
use super::reader::Reader;

/// Reads the model's output while it arrives, cut anywhere.
///
/// ```
/// use serde_json::json;
/// use tidemill_text::ThinkingState;
/// use tidemill_text::output::{Ending, OutputEvent, OutputOptions, OutputParser};
///
/// let tools = [json!({"type": "function", "function": {"name": "tide"}})];
/// let options = OutputOptions::new(ThinkingState::Inside, &tools);
/// let mut parser = OutputParser::new(options);
/// let mut events = parser.push("Ask for it.\n</thi");
/// events.extend(parser.push("nk>\n\n<tool_call>\n<function=tide>\n</function>\n</tool_call>"));
/// events.extend(parser.finish(Ending::Stopped));
/// assert_eq!(events[0], OutputEvent::Reasoning("Ask for it.".to_owned()));
/// let start = OutputEvent::CallStart { index: 0, name: "tide".to_owned() };
/// assert!(events.contains(&start));
/// ```
#[derive(Debug, Clone)]
pub struct OutputParser {
    lexer: Lexer,
    reader: Reader,
}

impl OutputParser {
    /// A parser for one output.
    pub fn new(options: OutputOptions) -> Self {
        Self {
            lexer: Lexer::default(),
            reader: Reader::new(options),
        }
    }

    /// Takes a piece of text and tells what is now certain.
    pub fn push(&mut self, mut piece: &str) -> Vec<OutputEvent> {
        while let Some(token) = self.lexer.next(&mut piece) {
            self.reader.take(token);
        }
        self.reader.take_events()
    }

    /// Ends the text and tells the rest.
    pub fn finish(mut self, ending: Ending) -> Vec<OutputEvent> {
        let held = self.lexer.finish();
        self.reader.finish(&held, ending);
        self.reader.take_events()
    }

    /// Whether what comes next counts as reasoning, as far as is known.
    pub fn is_reasoning(&self) -> bool {
        self.reader.is_reasoning()
    }
}
