//! Reads one JSON value as it arrives and writes it out again, mended where models err.
//!
//! What is written is valid JSON up to the last character read, but for what [`JsonText::close`]
//! puts behind it. Mended are: line ends and other control characters in strings, backslashes
//! that escape nothing, halves of surrogate pairs, Python's words and quotes, commas before a
//! closing bracket. Anything else that is no JSON ends the value. White space between the parts
//! is left out.

use serde_json::Number;

/// Values nested deeper than this are refused: most readers of JSON are recursive.
const MAX_DEPTH: usize = 100;
/// The longest number or word.
const MAX_SCALAR: usize = 256;

/// What became of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// It was taken, and more must follow.
    More,
    /// It was taken, and the value is complete.
    Done,
    /// It was not taken: the value, a number or a word, ended before it.
    Before,
    /// It cannot stand here.
    Bad,
}

/// A value of which a part was read.
#[derive(Debug, Clone)]
pub(super) struct JsonText {
    /// The open brackets: whether each is an object's.
    stack: Vec<bool>,
    state: State,
    /// Whether a comma was read and the item behind it has not begun.
    has_comma: bool,
}

#[derive(Debug, Clone)]
enum State {
    /// A value must come, or the end of the list.
    Value,
    /// A key must come, or the end of the object.
    Key,
    Colon,
    /// A comma must come, or a closing bracket.
    After,
    Text {
        is_key: bool,
        quote: char,
        escape: Escape,
    },
    /// A number or a word so far.
    Scalar(String),
}

/// Where in an escape a string is.
#[derive(Debug, Clone)]
enum Escape {
    None,
    Backslash,
    /// `\u` and these digits; before it, perhaps, the first half of a pair.
    Unicode {
        digits: String,
        high: Option<u32>,
    },
    /// The first half of a pair was read, and a backslash if so.
    Half {
        high: u32,
        has_backslash: bool,
    },
}

impl JsonText {
    pub(super) fn new() -> Self {
        Self {
            stack: Vec::new(),
            state: State::Value,
            has_comma: false,
        }
    }

    /// Whether the next character belongs to a string.
    pub(super) fn is_in_text(&self) -> bool {
        matches!(self.state, State::Text { .. })
    }

    /// Takes a character and writes what is now certain.
    pub(super) fn push(&mut self, character: char, out: &mut String) -> Read {
        if let State::Text { .. } = self.state {
            return self.text(character, out);
        }
        if let State::Scalar(scalar) = &mut self.state {
            if is_scalar(character) && scalar.len() < MAX_SCALAR {
                scalar.push(character);
                return Read::More;
            }
            if !self.end_scalar(out) {
                return Read::Bad;
            }
            if self.stack.is_empty() {
                return Read::Before;
            }
        }
        match (&self.state, character) {
            (_, ' ' | '\t' | '\n' | '\r') => Read::More,
            (State::Value, '{' | '[') => self.open(character, out),
            (State::Value, '"' | '\'') => self.begin_text(character, false, out),
            (State::Value, first) if is_scalar(first) => {
                self.write_comma(out);
                self.state = State::Scalar(first.into());
                Read::More
            }
            (State::Key, '"' | '\'') => self.begin_text(character, true, out),
            (State::Colon, ':') => {
                self.state = State::Value;
                Read::More
            }
            (State::After, ',') => {
                self.has_comma = true;
                self.state = if self.is_in_object() {
                    State::Key
                } else {
                    State::Value
                };
                Read::More
            }
            (State::After | State::Key, '}') if self.is_in_object() => self.shut(out),
            (State::After | State::Value, ']') if self.stack.last() == Some(&false) => {
                self.shut(out)
            }
            _ => Read::Bad,
        }
    }

    /// Ends the value where it is, so that what was written becomes valid JSON.
    pub(super) fn close(mut self, out: &mut String) {
        match &self.state {
            State::Text { is_key, .. } => out.push_str(if *is_key { "\":null" } else { "\"" }),
            State::Scalar(_) => drop(self.end_scalar(out)),
            State::Colon => out.push_str("null"),
            State::Value if self.stack.last() != Some(&false) => out.push_str("null"),
            State::Value | State::Key | State::After => {}
        }
        while let Some(is_object) = self.stack.pop() {
            out.push(if is_object { '}' } else { ']' });
        }
    }

    fn is_in_object(&self) -> bool {
        self.stack.last() == Some(&true)
    }

    fn open(&mut self, bracket: char, out: &mut String) -> Read {
        if self.stack.len() >= MAX_DEPTH {
            return Read::Bad;
        }
        self.write_comma(out);
        out.push(bracket);
        self.stack.push(bracket == '{');
        self.state = if bracket == '{' {
            State::Key
        } else {
            State::Value
        };
        Read::More
    }

    /// Closes the innermost bracket.
    fn shut(&mut self, out: &mut String) -> Read {
        let is_object = self.stack.pop() == Some(true);
        out.push(if is_object { '}' } else { ']' });
        self.has_comma = false;
        self.end_value()
    }

    fn begin_text(&mut self, quote: char, is_key: bool, out: &mut String) -> Read {
        self.write_comma(out);
        out.push('"');
        self.state = State::Text {
            is_key,
            quote,
            escape: Escape::None,
        };
        Read::More
    }

    fn write_comma(&mut self, out: &mut String) {
        if std::mem::take(&mut self.has_comma) {
            out.push(',');
        }
    }

    fn end_value(&mut self) -> Read {
        self.state = State::After;
        if self.stack.is_empty() {
            Read::Done
        } else {
            Read::More
        }
    }

    /// Writes a number or word; `null` and `false` if it is none.
    fn end_scalar(&mut self, out: &mut String) -> bool {
        let State::Scalar(scalar) = std::mem::replace(&mut self.state, State::After) else {
            return true;
        };
        let text = match scalar.as_str() {
            "null" | "None" => "null",
            "true" | "True" => "true",
            "false" | "False" => "false",
            number if number.parse::<Number>().is_ok() => number,
            _ => {
                out.push_str("null");
                return false;
            }
        };
        out.push_str(text);
        true
    }

    /// A character of a string.
    fn text(&mut self, character: char, out: &mut String) -> Read {
        let State::Text {
            is_key,
            quote,
            escape,
        } = &mut self.state
        else {
            return Read::Bad;
        };
        if escape.take(character, out) {
            return Read::More;
        }
        if character != *quote {
            write_escaped(character, out);
            return Read::More;
        }
        out.push('"');
        if *is_key {
            out.push(':');
            self.state = State::Colon;
            return Read::More;
        }
        self.end_value()
    }
}

impl Escape {
    /// Takes a character that belongs to an escape; `false` if it stands for itself.
    fn take(&mut self, character: char, out: &mut String) -> bool {
        let is_backslash = character == '\\';
        match std::mem::replace(self, Escape::None) {
            Escape::None if is_backslash => *self = Escape::Backslash,
            Escape::None => return false,
            Escape::Backslash => return self.escaped(character, out),
            Escape::Half {
                high,
                has_backslash: false,
            } if is_backslash => {
                *self = Escape::Half {
                    high,
                    has_backslash: true,
                };
            }
            Escape::Half {
                high,
                has_backslash: true,
            } if character == 'u' => {
                *self = Escape::Unicode {
                    digits: String::new(),
                    high: Some(high),
                };
            }
            Escape::Half { has_backslash, .. } => {
                out.push(char::REPLACEMENT_CHARACTER);
                if has_backslash {
                    return self.escaped(character, out);
                }
                return self.take(character, out);
            }
            Escape::Unicode { mut digits, high } if character.is_ascii_hexdigit() => {
                digits.push(character);
                match u32::from_str_radix(&digits, 16) {
                    Ok(code) if digits.len() == 4 => self.coded(code, high, out),
                    _ => *self = Escape::Unicode { digits, high },
                }
            }
            Escape::Unicode { digits, high } => {
                if high.is_some() {
                    out.push(char::REPLACEMENT_CHARACTER);
                }
                out.push_str("\\\\u");
                out.push_str(&digits);
                return self.take(character, out);
            }
        }
        true
    }

    /// The character behind a backslash.
    fn escaped(&mut self, character: char, out: &mut String) -> bool {
        match character {
            'u' => {
                *self = Escape::Unicode {
                    digits: String::new(),
                    high: None,
                };
            }
            '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => out.extend(['\\', character]),
            '\'' => out.push('\''),
            _ => {
                out.push_str("\\\\");
                return false;
            }
        }
        true
    }

    /// A code unit of UTF-16, behind the first half of a pair or not.
    fn coded(&mut self, unit: u32, high: Option<u32>, out: &mut String) {
        if let (Some(high), 0xDC00..=0xDFFF) = (high, unit) {
            let code = 0x1_0000 + ((high - 0xD800) << 10) + (unit - 0xDC00);
            out.extend(char::from_u32(code));
            return;
        }
        if high.is_some() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
        match (unit, char::from_u32(unit)) {
            (0xD800..=0xDBFF, _) => {
                *self = Escape::Half {
                    high: unit,
                    has_backslash: false,
                };
            }
            (_, Some(character)) => write_escaped(character, out),
            (_, None) => out.push(char::REPLACEMENT_CHARACTER),
        }
    }
}

fn is_scalar(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.')
}

/// Writes a character as it stands in a JSON string.
pub(super) fn write_escaped(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
        _ => out.push(character),
    }
}

/// All of `text` as one JSON value, mended; `None` if it is none.
pub(super) fn mended(text: &str) -> Option<String> {
    let mut json = JsonText::new();
    let mut out = String::with_capacity(text.len());
    let mut characters = text.trim().chars();
    while let Some(character) = characters.next() {
        match json.push(character, &mut out) {
            Read::More => {}
            Read::Done => return characters.next().is_none().then_some(out),
            Read::Before | Read::Bad => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn values_are_mended() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(mended(text).as_deref(), want, "{text:?}");
        };
        check(
            r#" {"a" : [1, -2.50, "x"] } "#,
            Some(r#"{"a":[1,-2.50,"x"]}"#),
        );
        check("[\"a\nb\tc\u{1}\"]", Some(r#"["a\nb\tc\u0001"]"#));
        check(r#"["\d+ \/ \" \x"]"#, Some(r#"["\\d+ \/ \" \\x"]"#));
        check(r#"["\u00e9\ud83d\ude00"]"#, Some(r#"["é😀"]"#));
        check(r#"["\ud83d"]"#, Some("[\"\u{fffd}\"]"));
        check(
            r#"["\ud83d\n\ude00\u12"]"#,
            Some("[\"\u{fffd}\\n\u{fffd}\\\\u12\"]"),
        );
        check(
            "{'a': True, 'b': 'it\\'s \"', }",
            Some(r#"{"a":true,"b":"it's \""}"#),
        );
        check("[1,2,]", Some("[1,2]"));
        check("[,1]", None);
        check("[1,,2]", None);
        check("{\"a\" 1}", None);
        check("{\"a\":}", None);
        check("[1}", None);
        check("[01]", None);
        check("[1e999]", None);
        check("[] []", None);
        check("[", None);
        check(&"[".repeat(MAX_DEPTH + 1), None);
    }

    proptest! {
        #[test]
        fn what_is_closed_anywhere_is_valid(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", "\"", "'", ",", ":", "a", "1", "-", ".5", "true", "None", " ",
                "\\", "\\u", "d83d", "de00", "\n", "é", "{\"k\":", "[1,",
            ]), 0..40),
        ) {
            let mut json = JsonText::new();
            let mut out = String::new();
            for character in pieces.concat().chars() {
                match json.push(character, &mut out) {
                    Read::More => {}
                    Read::Done | Read::Before | Read::Bad => break,
                }
                let mut closed = out.clone();
                json.clone().close(&mut closed);
                prop_assert!(serde_json::from_str::<Value>(&closed).is_ok(), "{closed}");
            }
            json.close(&mut out);
            prop_assert!(serde_json::from_str::<Value>(&out).is_ok(), "{out}");
        }

        #[test]
        fn valid_json_keeps_its_value(value in any_json(), is_spaced in any::<bool>()) {
            let value = Value::Array(vec![value]);
            let text = if is_spaced { format!("{value:#}") } else { value.to_string() };
            let out = mended(&text).expect("valid");
            prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), value);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((".*", inner), 0..6)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }
}
