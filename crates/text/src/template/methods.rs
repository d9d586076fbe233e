//! Python's methods on text that the engine's compatibility layer lacks.

use minijinja::value::{Tuple, Value, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

/// Called for methods that the value itself does not have.
pub(super) fn unknown_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let own = match value.as_str() {
        Some(text) => text_method(text, method, arguments)?,
        None => None,
    };
    match own {
        Some(result) => Ok(result),
        None => pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

fn text_method(text: &str, method: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" => {
            let separator = separator(arguments)?;
            three_parts(text.split_once(separator), separator, [text, "", ""])
        }
        "rpartition" => {
            let separator = separator(arguments)?;
            three_parts(text.rsplit_once(separator), separator, ["", "", text])
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
            if separator == Some("") {
                return Err(invalid("empty separator"));
            }
            // Negative means: as often as possible.
            let most = most.and_then(|most| usize::try_from(most).ok());
            rsplit(text, separator, most.unwrap_or(usize::MAX))
        }
        "index" => {
            let (wanted,): (&str,) = from_args(arguments)?;
            let at = text
                .find(wanted)
                .ok_or_else(|| invalid("substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        _ => return Ok(None),
    }))
}

fn separator(arguments: &[Value]) -> Result<&str, Error> {
    match from_args(arguments)? {
        ("",) => Err(invalid("empty separator")),
        (separator,) => Ok(separator),
    }
}

fn three_parts(found: Option<(&str, &str)>, separator: &str, not_found: [&str; 3]) -> Value {
    let parts = found.map_or(not_found, |(before, after)| [before, separator, after]);
    Value::from(Tuple::from(parts.map(Value::from).to_vec()))
}

/// Splits from the right, at white space if there is no separator, `most` times at most.
fn rsplit(text: &str, separator: Option<&str>, most: usize) -> Value {
    let mut parts = Vec::new();
    let mut rest = match separator {
        Some(_) => text,
        None => text.trim_end(),
    };
    while parts.len() < most {
        let cut = match separator {
            Some(separator) => rest.rsplit_once(separator),
            None => rest.rsplit_once(char::is_whitespace),
        };
        let Some((before, after)) = cut else {
            break;
        };
        parts.push(Value::from(after));
        rest = if separator.is_none() {
            before.trim_end()
        } else {
            before
        };
    }
    if separator.is_some() || !rest.is_empty() {
        parts.push(Value::from(rest));
    }
    parts.reverse();
    Value::from(parts)
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
