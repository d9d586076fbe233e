//! Turns a parameter's text, as it arrives, into JSON of the type that its schema asks for.

use serde_json::Number;

use super::json_text::{mended, write_escaped};
use super::schema::Types;

/// The longest text that is looked at as a number or word. What is longer is text.
const MAX_SCALAR: usize = 256;

/// Writes one value. Text is written as it arrives, as soon as it can be nothing else; the rest
/// waits until it is complete.
#[derive(Debug, Clone)]
pub(super) struct ValueWriter {
    types: Types,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// A string, whose quote was written.
    Text,
    /// What may be a number, a word, or yet anything.
    Scalar(String),
    /// What begins as a list or an object.
    Nested(String),
}

impl ValueWriter {
    pub(super) fn new(types: Types, out: &mut String) -> Self {
        let mut writer = Self {
            types,
            state: State::Scalar(String::new()),
        };
        if types == Types::TEXT {
            writer.become_text("", out);
        }
        writer
    }

    /// Takes the next character of the text.
    pub(super) fn push(&mut self, character: char, out: &mut String) {
        match &mut self.state {
            State::Text => write_escaped(character, out),
            State::Nested(text) => text.push(character),
            State::Scalar(text) => {
                text.push(character);
                let text = std::mem::take(text);
                let trimmed = text.trim_start();
                let is_nested = (trimmed.starts_with('{') && self.types.has(Types::OBJECT))
                    || (trimmed.starts_with('[') && self.types.has(Types::ARRAY));
                if is_nested {
                    self.state = State::Nested(text);
                } else if may_be_scalar(trimmed.trim_end(), self.types) && text.len() <= MAX_SCALAR
                {
                    self.state = State::Scalar(text);
                } else {
                    self.become_text(&text, out);
                }
            }
        }
    }

    /// Ends the value.
    pub(super) fn close(self, out: &mut String) {
        match self.state {
            State::Text => out.push('"'),
            State::Scalar(text) | State::Nested(text) => write_typed(&text, self.types, out),
        }
    }

    fn become_text(&mut self, text: &str, out: &mut String) {
        out.push('"');
        text.chars()
            .for_each(|character| write_escaped(character, out));
        self.state = State::Text;
    }
}

/// Whether more text could make this a value of one of the types that are no text.
fn may_be_scalar(text: &str, types: Types) -> bool {
    let begins = |words: [&str; 2]| words.iter().any(|word| word.starts_with(text));
    let is_numeric = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    (types.has(Types::NULL) && begins(NULL))
        || (types.has(Types::BOOLEAN) && (begins(TRUE) || begins(FALSE)))
        || (types.has(Types::INTEGER.or(Types::NUMBER)) && text.chars().all(is_numeric))
        || (types.has(Types::OBJECT.or(Types::ARRAY)) && text.is_empty())
}

// Models write JSON's words or Python's, as templates print the latter.
const NULL: [&str; 2] = ["null", "None"];
const TRUE: [&str; 2] = ["true", "True"];
const FALSE: [&str; 2] = ["false", "False"];

/// Writes a complete value. What fits none of the types is text: the tool may know what to do
/// with it, and the client can check.
fn write_typed(text: &str, types: Types, out: &mut String) {
    let trimmed = text.trim();
    let is_number = || trimmed.parse::<Number>().is_ok();
    if types.has(Types::NULL) && NULL.contains(&trimmed) {
        out.push_str("null");
    } else if types.has(Types::BOOLEAN) && TRUE.contains(&trimmed) {
        out.push_str("true");
    } else if types.has(Types::BOOLEAN) && FALSE.contains(&trimmed) {
        out.push_str("false");
    } else if types.has(Types::INTEGER)
        && let Some(number) = integer(trimmed)
    {
        out.push_str(&number);
    } else if types.has(Types::NUMBER) && is_number() {
        // As it is written: reading and writing it could cost digits.
        out.push_str(trimmed);
    } else if types.has(Types::OBJECT.or(Types::ARRAY))
        && let Some(json) = mended(trimmed)
        && types.has(if json.starts_with('{') {
            Types::OBJECT
        } else {
            Types::ARRAY
        })
    {
        out.push_str(&json);
    } else {
        out.push('"');
        text.chars()
            .for_each(|character| write_escaped(character, out));
        out.push('"');
    }
}

/// A whole number, also when it is written as `3.0`.
fn integer(text: &str) -> Option<String> {
    /// Beyond this, a float does not stand for one whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number: Number = text.parse().ok()?;
    if !text.contains(['.', 'e', 'E']) {
        return Some(text.to_owned());
    }
    let value = number.as_f64()?;
    let is_whole = value.fract() == 0.0 && value.abs() <= EXACT;
    is_whole.then(|| (value as i64).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(types: &[Types], text: &str, want: &str) {
        let types = types.iter().fold(Types::NONE, |all, &one| all.or(one));
        let mut out = String::new();
        let mut writer = ValueWriter::new(types, &mut out);
        text.chars()
            .for_each(|character| writer.push(character, &mut out));
        writer.close(&mut out);
        assert_eq!(out, want, "{text:?}");
    }

    #[test]
    fn types_follow_the_schema() {
        check(&[Types::TEXT], " 12 ", r#"" 12 ""#);
        check(&[Types::TEXT], "null", r#""null""#);
        check(&[Types::TEXT], "a\"\\\n\u{1}é", r#""a\"\\\n\u0001é""#);
        check(&[Types::INTEGER], " 12\n", "12");
        check(
            &[Types::INTEGER],
            "12345678901234567890123",
            "12345678901234567890123",
        );
        check(&[Types::INTEGER], "3.0", "3");
        check(&[Types::INTEGER], "3.5", r#""3.5""#);
        check(&[Types::INTEGER], "twelve", r#""twelve""#);
        check(&[Types::INTEGER], "", r#""""#);
        check(&[Types::NUMBER], "2.50", "2.50");
        check(&[Types::NUMBER], "1e999", r#""1e999""#);
        check(&[Types::BOOLEAN], "True", "true");
        check(&[Types::BOOLEAN], "yes", r#""yes""#);
        check(&[Types::OBJECT], "{'a': None}", r#"{"a":null}"#);
        check(&[Types::OBJECT], "[1]", r#""[1]""#);
        check(&[Types::ARRAY], " [1, 2] ", "[1,2]");
        check(&[Types::ARRAY], "[1, 2", r#""[1, 2""#);
    }

    #[test]
    fn the_narrowest_type_wins() {
        let maybe = [Types::TEXT, Types::NULL];
        check(&maybe, "None", "null");
        check(&maybe, "Nonesuch", r#""Nonesuch""#);
        check(&maybe, "nul", r#""nul""#);
        check(&[Types::TEXT, Types::INTEGER], "5", "5");
        check(&[Types::TEXT, Types::INTEGER], "5 apples", r#""5 apples""#);
        check(&[Types::TEXT, Types::OBJECT], "{a", r#""{a""#);
        let long = "1".repeat(MAX_SCALAR + 1);
        check(&[Types::INTEGER], &long, &format!("\"{long}\""));
        let space = " ".repeat(MAX_SCALAR + 1);
        check(&[Types::OBJECT], &space, &format!("\"{space}\""));
    }

    #[test]
    fn text_does_not_wait() {
        let mut out = String::new();
        let mut writer = ValueWriter::new(Types::INTEGER.or(Types::TEXT), &mut out);
        writer.push('1', &mut out);
        assert_eq!(out, "");
        writer.push('x', &mut out);
        assert_eq!(out, "\"1x");
    }
}
