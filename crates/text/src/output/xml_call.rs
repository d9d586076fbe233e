//! Reads a call in the family's own form, from behind `<function=NAME>`.
//!
//! ```text
//! <parameter=KEY>
//! VALUE
//! </parameter>
//! </function>
//! ```
//!
//! Values are text, and may speak of the very tags that end them. So a closing tag counts only if
//! the call goes on properly behind it, and calls quoted as a whole inside a value are counted
//! and passed over. What may be an end waits, with the white space behind it, for the next tag.

use std::collections::HashSet;

use super::call::{Flow, Found, MAX_GAP};
use super::event::{CallOutcome, Ending};
use super::json_text::write_escaped;
use super::lexer::Tag;
use super::schema::ToolSchemas;
use super::value::ValueWriter;

/// A call of which a part was read.
#[derive(Debug, Clone, Default)]
pub(super) struct XmlCall {
    /// White space behind the function's tag, as long as nothing else was read.
    gap: usize,
    /// The parameters so far, with the one that is being read.
    keys: HashSet<String>,
    /// The value that is being read.
    value: Option<Value>,
}

/// A parameter's value of which a part was read.
#[derive(Debug, Clone)]
struct Value {
    writer: ValueWriter,
    /// Text that may belong to the end: a line end, a closing tag, white space behind it.
    tail: String,
    /// The closing tag in the tail, and how much of it is white space behind that.
    end: Option<(End, usize)>,
    /// Whether nothing was read.
    is_empty: bool,
    /// Whether the last character was a line end, or there was none.
    is_at_line_start: bool,
    /// Calls that the value quotes and has not closed.
    quoted: usize,
    /// Whether `<function=...>` was read and nothing but white space since.
    may_quote: bool,
    /// `<tool_call>`s that the value has not closed.
    quoted_wrappers: usize,
}

/// The closing tag that a value may have ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Parameter,
    /// `</parameter>` was forgotten.
    Function,
    /// Both were.
    Call,
}

impl XmlCall {
    pub(super) fn character(
        &mut self,
        character: char,
        found: &mut Found,
        _tools: &ToolSchemas,
    ) -> Flow {
        if let Some(value) = &mut self.value {
            value.character(character, &mut found.json);
            return Flow::More;
        }
        self.gap += character.len_utf8();
        if character.is_whitespace() && self.gap <= MAX_GAP {
            Flow::More
        } else {
            Flow::Failed
        }
    }

    pub(super) fn tag(
        &mut self,
        tag: &Tag,
        raw: &str,
        found: &mut Found,
        tools: &ToolSchemas,
    ) -> Flow {
        let Some(value) = &mut self.value else {
            return match tag {
                Tag::Parameter(key) => self.begin_value(key, found, tools),
                Tag::FunctionClose => self.end(Flow::Ended, found),
                Tag::CallClose => self.end(Flow::EndedBefore, found),
                _ => Flow::Failed,
            };
        };
        match (value.end, tag) {
            (Some((End::Parameter, _)), Tag::Parameter(key)) => {
                return self.begin_value(key, found, tools);
            }
            (Some((End::Parameter, _)), Tag::FunctionClose) => {
                return self.end(Flow::Ended, found);
            }
            (Some((End::Parameter | End::Function, _)), Tag::CallClose)
            | (Some(_), Tag::CallOpen | Tag::Function(_)) => {
                return self.end(Flow::EndedBefore, found);
            }
            _ => value.flush(&mut found.json),
        }
        // A parameter that the function has and the call did not give yet begins a line: the one
        // before it was not closed.
        if let Tag::Parameter(key) = tag
            && value.is_at_line_start
            && value.quoted == 0
            && !value.may_quote
            && !self.keys.contains(key)
            && tools.declares(&found.name, key) != Some(false)
        {
            return self.begin_value(key, found, tools);
        }
        value.tag(tag, raw, &mut found.json);
        Flow::More
    }

    /// Ends the text.
    pub(super) fn finish(
        mut self,
        held: &str,
        ending: Ending,
        found: &mut Found,
    ) -> Option<CallOutcome> {
        let value = self.value.as_mut()?;
        let outcome = match value.end {
            Some((End::Parameter, _)) if ending == Ending::Cut => CallOutcome::Truncated,
            Some(_) => CallOutcome::Complete,
            None => CallOutcome::Truncated,
        };
        let closes = |tag: &str| tag.starts_with(held);
        if value.end.is_none() && !["</parameter>", "</function>"].into_iter().any(closes) {
            for character in held.chars() {
                value.character(character, &mut found.json);
            }
        }
        self.end(Flow::Ended, found);
        Some(outcome)
    }

    fn begin_value(&mut self, key: &str, found: &mut Found, tools: &ToolSchemas) -> Flow {
        self.end_value(found);
        found.is_certain = true;
        found
            .json
            .push_str(if self.keys.is_empty() { "{\"" } else { ",\"" });
        for character in key.chars() {
            write_escaped(character, &mut found.json);
        }
        found.json.push_str("\":");
        let types = tools.types(&found.name, key);
        self.value = Some(Value {
            writer: ValueWriter::new(types, &mut found.json),
            tail: String::new(),
            end: None,
            is_empty: true,
            is_at_line_start: true,
            quoted: 0,
            may_quote: false,
            quoted_wrappers: 0,
        });
        self.keys.insert(key.to_owned());
        Flow::More
    }

    fn end_value(&mut self, found: &mut Found) {
        if let Some(value) = self.value.take() {
            value.writer.close(&mut found.json);
        }
    }

    fn end(&mut self, flow: Flow, found: &mut Found) -> Flow {
        self.end_value(found);
        found.is_certain = true;
        found
            .json
            .push_str(if self.keys.is_empty() { "{}" } else { "}" });
        flow
    }
}

impl Value {
    fn character(&mut self, character: char, json: &mut String) {
        match &mut self.end {
            Some((_, gap)) if character.is_whitespace() && *gap < MAX_GAP => {
                *gap += character.len_utf8();
                self.tail.push(character);
            }
            Some(_) => {
                self.flush(json);
                self.push(character, json);
            }
            None => self.push(character, json),
        }
    }

    /// A tag that does not end the value for certain.
    fn tag(&mut self, tag: &Tag, raw: &str, json: &mut String) {
        let is_call = matches!(tag, Tag::Parameter(_) | Tag::FunctionClose);
        if std::mem::take(&mut self.may_quote) && is_call {
            self.quoted += 1;
        }
        let end = match tag {
            Tag::FunctionClose if self.quoted > 0 => {
                self.quoted -= 1;
                None
            }
            Tag::CallClose if self.quoted_wrappers > 0 => {
                self.quoted_wrappers -= 1;
                None
            }
            Tag::CallOpen => {
                self.quoted_wrappers += 1;
                None
            }
            _ if self.quoted > 0 => None,
            Tag::ParameterClose => Some(End::Parameter),
            Tag::FunctionClose => Some(End::Function),
            Tag::CallClose => Some(End::Call),
            _ => None,
        };
        match end {
            Some(end) => {
                self.tail.push_str(raw);
                self.end = Some((end, 0));
            }
            None => raw.chars().for_each(|character| self.push(character, json)),
        }
        self.may_quote = matches!(tag, Tag::Function(_));
    }

    /// What looked like the end was part of the value.
    fn flush(&mut self, json: &mut String) {
        if self.end.take().is_some() {
            for character in std::mem::take(&mut self.tail).chars() {
                self.push(character, json);
            }
        }
    }

    /// A character of the value, or the line end on either side of it, which the form has.
    fn push(&mut self, character: char, json: &mut String) {
        self.may_quote &= character.is_whitespace();
        self.is_at_line_start = character == '\n';
        if std::mem::take(&mut self.is_empty) && character == '\n' {
            return;
        }
        for held in std::mem::take(&mut self.tail).chars() {
            self.writer.push(held, json);
        }
        if character == '\n' {
            self.tail.push('\n');
        } else {
            self.writer.push(character, json);
        }
    }
}
