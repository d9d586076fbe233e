//! Reads one tool call, whichever of the two forms it has.

use super::event::{CallOutcome, Ending};
use super::json_call::JsonCall;
use super::lexer::Tag;
use super::schema::ToolSchemas;
use super::xml_call::XmlCall;

/// The most white space between two tags of a call, in bytes. Text with more is no call's.
pub(super) const MAX_GAP: usize = 256;

/// What is known of a call.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// The function's name, once it is known.
    pub(super) name: String,
    /// The arguments' text that was not handed out yet.
    pub(super) json: String,
    /// Whether it is a call for certain.
    pub(super) is_certain: bool,
}

/// What a tag or character did to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It was taken, and the call goes on.
    More,
    /// It was taken and ends the call.
    Ended,
    /// The call ended before it.
    EndedBefore,
    /// It cannot stand here, and was not taken.
    Failed,
}

/// A reader of one call.
#[derive(Debug, Clone)]
pub(super) enum CallReader {
    /// Behind `<tool_call>`: the form is not known yet. So much white space was read.
    Opening { gap: usize },
    /// `<function=...>`
    Xml(Box<XmlCall>),
    /// `{"name": ...}`
    Json(Box<JsonCall>),
}

impl CallReader {
    /// Takes a character of text. A call begins with it if it changes what the reader is.
    pub(super) fn character(
        &mut self,
        character: char,
        found: &mut Found,
        tools: &ToolSchemas,
    ) -> Flow {
        match self {
            CallReader::Opening { gap } if character.is_whitespace() => {
                *gap += character.len_utf8();
                if *gap <= MAX_GAP {
                    Flow::More
                } else {
                    Flow::Failed
                }
            }
            CallReader::Opening { .. } if character == '{' => {
                *self = CallReader::Json(Box::default());
                Flow::More
            }
            CallReader::Opening { .. } => Flow::Failed,
            CallReader::Xml(call) => call.character(character, found, tools),
            CallReader::Json(call) => call.character(character, found),
        }
    }

    /// Whether even a tag would be text here.
    pub(super) fn is_in_text(&self) -> bool {
        matches!(self, CallReader::Json(call) if call.is_in_text())
    }

    /// Takes a tag.
    pub(super) fn tag(
        &mut self,
        tag: &Tag,
        raw: &str,
        found: &mut Found,
        tools: &ToolSchemas,
    ) -> Flow {
        match self {
            CallReader::Opening { .. } => {
                let Tag::Function(name) = tag else {
                    return Flow::Failed;
                };
                found.name.clone_from(name);
                *self = CallReader::Xml(Box::default());
                Flow::More
            }
            CallReader::Xml(call) => call.tag(tag, raw, found, tools),
            CallReader::Json(call) => call.tag(tag, found),
        }
    }

    /// Ends the text. `held` is what may have been the beginning of a tag. `None`: it is no call.
    pub(super) fn finish(
        self,
        held: &str,
        ending: Ending,
        found: &mut Found,
    ) -> Option<CallOutcome> {
        match self {
            CallReader::Opening { .. } => None,
            CallReader::Xml(call) => call.finish(held, ending, found),
            CallReader::Json(mut call) => {
                for character in held.chars() {
                    match call.character(character, found) {
                        Flow::More => {}
                        Flow::Ended => return Some(CallOutcome::Complete),
                        Flow::EndedBefore | Flow::Failed => break,
                    }
                }
                call.close(CallOutcome::Truncated, found)
            }
        }
    }

    /// Ends a call at a place where it went wrong.
    pub(super) fn fail(self, found: &mut Found) -> Option<CallOutcome> {
        match self {
            CallReader::Opening { .. } => None,
            CallReader::Xml(call) => call.finish("", Ending::Cut, found),
            CallReader::Json(call) => call.close(CallOutcome::Malformed, found),
        }
    }
}
