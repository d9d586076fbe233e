//! Python's methods on text that the engine's compatibility layer lacks.

use minijinja::value::{Value, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

/// Called for methods that the value itself does not have.
pub(super) fn unknown_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match method {
            "removeprefix" => {
                let (prefix,): (&str,) = from_args(arguments)?;
                return Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)));
            }
            "removesuffix" => {
                let (suffix,): (&str,) = from_args(arguments)?;
                return Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)));
            }
            "partition" => {
                let (separator,): (&str,) = from_args(arguments)?;
                check_separator(separator)?;
                return Ok(three_parts(
                    text.split_once(separator),
                    separator,
                    [text, "", ""],
                ));
            }
            "rpartition" => {
                let (separator,): (&str,) = from_args(arguments)?;
                check_separator(separator)?;
                return Ok(three_parts(
                    text.rsplit_once(separator),
                    separator,
                    ["", "", text],
                ));
            }
            _ => {}
        }
    }
    pycompat::unknown_method_callback(state, value, method, arguments)
}

fn three_parts(found: Option<(&str, &str)>, separator: &str, not_found: [&str; 3]) -> Value {
    let parts = found.map_or(not_found, |(before, after)| [before, separator, after]);
    Value::from(parts.map(Value::from).to_vec())
}

fn check_separator(separator: &str) -> Result<(), Error> {
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    Ok(())
}
