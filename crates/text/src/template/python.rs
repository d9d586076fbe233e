//! Prints values as Python does, because chat templates are written and tested against it.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Lists and mappings nested deeper than this are refused: printing is recursive.
pub(super) const MAX_DEPTH: usize = 128;

/// Python's `str(value)`.
pub(super) fn to_text(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    match value.kind() {
        ValueKind::String | ValueKind::Undefined => write_plain(value, &mut text),
        _ => write_repr(value, &mut text, 0)?,
    }
    Ok(text)
}

/// Python's `repr(value)`.
fn write_repr(value: &Value, text: &mut String, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    match value.kind() {
        ValueKind::Number if !value.is_integer() => {
            text.push_str(&float(f64::try_from(value.clone())?, NotFinite::Text));
        }
        ValueKind::String => write_quoted(value.as_str().unwrap_or_default(), text),
        ValueKind::Undefined => text.push_str("Undefined"),
        ValueKind::Seq | ValueKind::Iterable if value.len().is_some() => {
            let (open, close) = if value.is_tuple() {
                ('(', ')')
            } else {
                ('[', ']')
            };
            text.push(open);
            for (index, item) in value.try_iter()?.checked().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                write_repr(&item?, text, depth + 1)?;
            }
            text.push(close);
        }
        ValueKind::Map if !value.is_kwargs() => {
            text.push('{');
            for (index, key) in value.try_iter()?.checked().enumerate() {
                let key = key?;
                text.push_str(if index > 0 { ", " } else { "" });
                write_repr(&key, text, depth + 1)?;
                text.push_str(": ");
                write_repr(&value.get_item(&key)?, text, depth + 1)?;
            }
            text.push('}');
        }
        _ => write_plain(value, text),
    }
    Ok(())
}

/// What the template engine itself prints, which is right for text, whole numbers, `True`,
/// `False` and `None`.
fn write_plain(value: &Value, text: &mut String) {
    let written = write!(text, "{value}");
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

fn write_quoted(content: &str, text: &mut String) {
    let quote = if content.contains('\'') && !content.contains('"') {
        '"'
    } else {
        '\''
    };
    text.push(quote);
    for character in content.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            _ if character == quote => text.extend(['\\', quote]),
            _ if !is_printable(character) => text.push_str(&match u32::from(character) {
                code @ ..=0xFF => format!("\\x{code:02x}"),
                code @ ..=0xFFFF => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
            _ => text.push(character),
        }
    }
    text.push(quote);
}

/// Python's `str.isprintable`, up to unassigned characters and rare format characters.
fn is_printable(character: char) -> bool {
    let is_format = matches!(
        character,
        '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
    );
    let is_private = matches!(character, '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..);
    let is_space = character.is_whitespace() && character != ' ';
    !(character.is_control() || is_space || is_format || is_private)
}

/// How a float that is not a number is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotFinite {
    /// `nan`, `inf`: as Python prints it.
    Text,
    /// `NaN`, `Infinity`: as Python's `json.dumps` writes it.
    Json,
}

/// Python's `repr(float)`: the fewest digits that give the value back, with an exponent from
/// 1e16 and below 1e-4.
pub(super) fn float(value: f64, not_finite: NotFinite) -> String {
    if !value.is_finite() {
        let is_text = not_finite == NotFinite::Text;
        let name = match (value.is_nan(), is_text) {
            (true, true) => return "nan".to_owned(),
            (true, false) => return "NaN".to_owned(),
            (false, true) => "inf",
            (false, false) => "Infinity",
        };
        return [if value < 0.0 { "-" } else { "" }, name].concat();
    }
    // `{:e}` gives the same fewest digits, as `d.ddde-7`.
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        // `{:?}` would switch to exponents at other places than Python; `{}` never does.
        _ => {
            let plain = value.to_string();
            let point_zero = if plain.contains('.') { "" } else { ".0" };
            [&plain, point_zero].concat()
        }
    }
}

pub(super) fn too_deep() -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("a list or mapping is nested more than {MAX_DEPTH} levels deep"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        let check = |value: f64, want: &str| assert_eq!(float(value, NotFinite::Text), want);
        check(1.0, "1.0");
        check(-0.0, "-0.0");
        check(0.1, "0.1");
        check(2.5e-4, "0.00025");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(1.5e-7, "1.5e-07");
        check(1e15, "1000000000000000.0");
        check(1e16, "1e+16");
        check(1e20, "1e+20");
        check(1.2345e123, "1.2345e+123");
        check(123_456_789.125, "123456789.125");
        check(f64::MIN_POSITIVE, "2.2250738585072014e-308");
        check(f64::NAN, "nan");
        check(f64::NEG_INFINITY, "-inf");
        assert_eq!(float(f64::INFINITY, NotFinite::Json), "Infinity");
    }

    #[test]
    fn containers_print_as_in_python() {
        let check = |json: &str, want: &str| {
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            let value = Value::from(minijinja::value::Serde(json));
            assert_eq!(to_text(&value).unwrap(), want);
        };
        check(r#""it's""#, "it's");
        check(
            r#"["it's", "a\"b'", "\n\u0001"]"#,
            r#"["it's", 'a"b\'', '\n\x01']"#,
        );
        check(
            r#"{"b": [1, 2.0, null], "a": {"x": true}}"#,
            "{'b': [1, 2.0, None], 'a': {'x': True}}",
        );
        check("[]", "[]");
        check("null", "None");
        check("1e300", "1e+300");
    }
}
