//! Reads a call in the form of the family's predecessors, from behind its first brace.
//!
//! ```text
//! {"name": "NAME", "arguments": {...}}
//! ```
//!
//! Keys may come in any order, and others are passed over. Arguments may be the text of an
//! object, too.

use super::call::{Flow, Found};
use super::event::CallOutcome;
use super::json_text::{JsonText, Read, mended};
use super::lexer::Tag;

/// A call of which a part was read.
#[derive(Debug, Clone, Default)]
pub(super) struct JsonCall {
    state: State,
    arguments: Arguments,
}

#[derive(Debug, Clone, Default)]
enum State {
    /// A key must come, or, before the first one or behind a comma, the end.
    #[default]
    Key,
    InKey(JsonText, String),
    Colon(Key),
    /// A value must come.
    Value(Key),
    InValue(Key, JsonText, String),
    /// A comma must come, or the end.
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Name,
    Arguments,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Arguments {
    #[default]
    None,
    /// The object itself, as it arrives.
    Begun,
    Done,
}

impl JsonCall {
    pub(super) fn character(&mut self, character: char, found: &mut Found) -> Flow {
        match std::mem::take(&mut self.state) {
            State::InKey(text, key) => self.in_key(text, key, character),
            State::InValue(key, json, text) => self.in_value(key, json, text, character, found),
            state if matches!(character, ' ' | '\t' | '\n' | '\r') => {
                self.state = state;
                Flow::More
            }
            State::Key if character == '"' => {
                let mut key = String::new();
                let mut text = JsonText::new();
                text.push(character, &mut key);
                self.state = State::InKey(text, key);
                Flow::More
            }
            State::Colon(key) if character == ':' => {
                self.state = State::Value(key);
                Flow::More
            }
            State::Value(key) => self.begin_value(key, character, found),
            State::After if character == ',' => Flow::More,
            State::Key | State::After if character == '}' => {
                self.state = State::After;
                self.end(found)
            }
            state => {
                self.state = state;
                Flow::Failed
            }
        }
    }

    /// Whether the next character belongs to a string, be it a tag's.
    pub(super) fn is_in_text(&self) -> bool {
        match &self.state {
            State::InKey(..) => true,
            State::InValue(_, json, _) => json.is_in_text(),
            _ => false,
        }
    }

    /// Takes a tag that does not stand in a string.
    pub(super) fn tag(&mut self, tag: &Tag, found: &mut Found) -> Flow {
        // Closing braces are easily forgotten.
        let is_whole = !found.name.is_empty() && self.arguments != Arguments::None;
        if *tag == Tag::CallClose && is_whole {
            self.close_arguments(found);
            found.is_certain = true;
            return Flow::EndedBefore;
        }
        Flow::Failed
    }

    /// Ends the call where it is: `outcome` says what became of it if arguments are missing.
    /// `None`: it is no call.
    pub(super) fn close(mut self, outcome: CallOutcome, found: &mut Found) -> Option<CallOutcome> {
        if found.name.is_empty() || self.arguments == Arguments::None {
            return None;
        }
        found.is_certain = true;
        if self.arguments == Arguments::Done {
            return Some(CallOutcome::Complete);
        }
        self.close_arguments(found);
        Some(outcome)
    }

    fn in_key(&mut self, mut text: JsonText, mut key: String, character: char) -> Flow {
        self.state = match text.push(character, &mut key) {
            Read::More => State::InKey(text, key),
            Read::Done => State::Colon(match key.as_str() {
                "\"name\"" => Key::Name,
                "\"arguments\"" | "\"parameters\"" => Key::Arguments,
                _ => Key::Other,
            }),
            Read::Before | Read::Bad => return Flow::Failed,
        };
        Flow::More
    }

    fn begin_value(&mut self, key: Key, character: char, found: &mut Found) -> Flow {
        let may_stand = match key {
            Key::Name => found.name.is_empty() && character == '"',
            Key::Arguments => {
                self.arguments == Arguments::None && matches!(character, '{' | '"' | 'n' | 'N')
            }
            Key::Other => true,
        };
        if !may_stand {
            return Flow::Failed;
        }
        if key == Key::Arguments && character == '{' {
            self.arguments = Arguments::Begun;
            found.is_certain = !found.name.is_empty();
        }
        self.in_value(key, JsonText::new(), String::new(), character, found)
    }

    fn in_value(
        &mut self,
        key: Key,
        mut json: JsonText,
        mut text: String,
        character: char,
        found: &mut Found,
    ) -> Flow {
        let is_streamed = key == Key::Arguments && self.arguments == Arguments::Begun;
        let out = if is_streamed {
            &mut found.json
        } else {
            &mut text
        };
        let read = json.push(character, out);
        match read {
            Read::More => {
                if key == Key::Other {
                    text.clear();
                }
                self.state = State::InValue(key, json, text);
                return Flow::More;
            }
            Read::Bad => {
                self.state = State::InValue(key, json, text);
                return Flow::Failed;
            }
            Read::Done | Read::Before => self.state = State::After,
        }
        let is_fine = match key {
            Key::Name => self.read_name(&text, found),
            Key::Arguments if is_streamed => {
                self.arguments = Arguments::Done;
                true
            }
            Key::Arguments => self.read_arguments(&text, found),
            Key::Other => true,
        };
        if !is_fine {
            return Flow::Failed;
        }
        if read == Read::Before {
            return self.character(character, found);
        }
        Flow::More
    }

    fn read_name(&mut self, text: &str, found: &mut Found) -> bool {
        let name: Result<String, _> = serde_json::from_str(text);
        found.name = name.unwrap_or_default();
        found.is_certain = self.arguments != Arguments::None;
        !found.name.is_empty()
    }

    /// Arguments that are no object, but `null` or the text of one.
    fn read_arguments(&mut self, text: &str, found: &mut Found) -> bool {
        let object = match serde_json::from_str::<Option<String>>(text) {
            Ok(None) => Some("{}".to_owned()),
            Ok(Some(text)) if text.trim().is_empty() => Some("{}".to_owned()),
            Ok(Some(text)) => mended(&text).filter(|json| json.starts_with('{')),
            Err(_) => None,
        };
        let Some(object) = object else {
            return false;
        };
        found.json.push_str(&object);
        self.arguments = Arguments::Done;
        found.is_certain = !found.name.is_empty();
        true
    }

    /// The object's last brace.
    fn end(&mut self, found: &mut Found) -> Flow {
        if found.name.is_empty() {
            return Flow::Failed;
        }
        if self.arguments == Arguments::None {
            found.json.push_str("{}");
            self.arguments = Arguments::Done;
        }
        found.is_certain = true;
        Flow::Ended
    }

    fn close_arguments(&mut self, found: &mut Found) {
        if self.arguments == Arguments::Begun {
            if let State::InValue(Key::Arguments, json, _) = std::mem::take(&mut self.state) {
                json.close(&mut found.json);
            }
            self.arguments = Arguments::Done;
        }
    }
}
