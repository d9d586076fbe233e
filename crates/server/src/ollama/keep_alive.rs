//! For how long a model stays loaded, as Ollama's clients write it.

use std::time::Duration;

use serde_json::Value;

use crate::error::ApiError;
use crate::models::KeptLoaded;

/// Seconds, or text such as `5m` or `1h30m`; below 0 for ever, `None` if nothing is said.
///
/// # Errors
/// When it is neither.
pub(super) fn read(value: &Value) -> Result<Option<KeptLoaded>, ApiError> {
    let seconds = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => seconds_of(text),
        _ => None,
    };
    let seconds = seconds
        .filter(|seconds| seconds.is_finite())
        .ok_or_else(|| {
            let why = format!("{value} is no time; expected seconds, or text such as \"5m\"");
            ApiError::bad("keep_alive", why)
        })?;
    Ok(Some(match Duration::try_from_secs_f64(seconds) {
        Ok(time) => KeptLoaded::For(time),
        Err(_) => KeptLoaded::Always,
    }))
}

fn seconds_of(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    if let Ok(seconds) = rest.parse::<f64>() {
        return Some(sign * seconds);
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let seconds = match rest.get(..unit)? {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number * seconds;
        rest = rest.get(unit..)?;
    }
    Some(sign * sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_have_many_forms() {
        let check = |value: Value, want: Option<f64>| {
            let want = want.map(|seconds| match seconds {
                s if s < 0.0 => KeptLoaded::Always,
                s => KeptLoaded::For(Duration::from_secs_f64(s)),
            });
            assert_eq!(read(&value).unwrap(), want, "{value}");
        };
        check(json!(null), None);
        check(json!(0), Some(0.0));
        check(json!("0"), Some(0.0));
        check(json!(300), Some(300.0));
        check(json!(-1), Some(-1.0));
        check(json!("-1m"), Some(-1.0));
        check(json!("5m"), Some(300.0));
        check(json!("1h30m"), Some(5400.0));
        check(json!("250ms"), Some(0.25));
        for bad in [json!("soon"), json!("5x"), json!(true), json!("1h3")] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}
