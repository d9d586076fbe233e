//! The template engine, set up to behave as the reference's sandboxed Jinja2 does.

use std::borrow::Cow;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use super::clock::strftime_now;
use super::error::TemplateError;
use super::json::tojson;
use super::methods::unknown_method;
use super::python;
use super::source;

/// The name under which an environment holds its one template.
const NAME: &str = "chat template";

/// Instructions that one rendering may take. A conversation of a thousand messages takes less
/// than a million.
const MAX_STEPS: u64 = 20_000_000;

/// Nested macro calls and loops. The engine's default can overflow the stack of a small thread.
const MAX_RECURSION: usize = 100;

/// Bytes that one rendering may write: sixteen times the longest context's text.
const MAX_BYTES: usize = 64 << 20;

/// The template's own complaint, told apart from errors of the engine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// Compiles `source`.
pub(super) fn compile(source: &str) -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(syntax_error)?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(unknown_method);
    environment.set_formatter(|output, _, value| {
        let text = match value.as_str() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(python::to_text(value)?),
        };
        Ok(output.write_str(&text)?)
    });
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", python_string);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_iterable);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
        .add_template_owned(NAME, source::prepare(source)?.into_owned())
        .map_err(syntax_error)?;
    Ok(environment)
}

/// Renders the environment's template.
pub(super) fn render(
    environment: &Environment<'_>,
    context: Value,
) -> Result<String, TemplateError> {
    let mut output = Capped::default();
    let rendered = environment
        .get_template(NAME)
        .and_then(|template| template.render_captured_to(context, &mut output).map(drop));
    match rendered {
        Ok(()) => Ok(String::from_utf8_lossy(&output.bytes).into_owned()),
        Err(_) if output.is_full => Err(TemplateError::TooLong { limit: MAX_BYTES }),
        Err(error) => Err(render_error(&error)),
    }
}

/// Whether the template reads `variable` anywhere.
pub(super) fn reads(environment: &Environment<'_>, variable: &str) -> bool {
    environment
        .get_template(NAME)
        .is_ok_and(|template| template.undeclared_variables(false).contains(variable))
}

fn python_string(value: &Value) -> Result<Value, Error> {
    if value.as_str().is_some() {
        return Ok(value.clone());
    }
    python::to_text(value).map(Value::from)
}

/// What the reference calls iterable, and a sequence: text, mappings and undefined values too,
/// but not `none`, which the engine counts as an empty list.
fn is_iterable(value: &Value) -> bool {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    matches!(value.kind(), Seq | Iterable | Map | String | Undefined)
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(
        Error::new(ErrorKind::InvalidOperation, "raised by the template")
            .with_source(Raised(message.to_owned())),
    )
}

/// A buffer that refuses to grow over the limit.
#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
    is_full: bool,
}

impl std::io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_BYTES {
            self.is_full = true;
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn syntax_error(error: Error) -> TemplateError {
    TemplateError::Syntax {
        line: error.line().unwrap_or(0),
        message: message_of(&error),
    }
}

fn render_error(error: &Error) -> TemplateError {
    // Errors from included parts are wrapped: the innermost one knows best what happened.
    let mut innermost = error;
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        if let Some(Raised(message)) = source.downcast_ref() {
            return TemplateError::Raised {
                message: message.clone(),
                line: innermost.line().unwrap_or(0),
            };
        }
        innermost = source.downcast_ref().unwrap_or(innermost);
        cause = source;
    }
    let line = innermost.line().unwrap_or(0);
    match innermost.kind() {
        ErrorKind::OutOfFuel => TemplateError::TooManySteps {
            steps: MAX_STEPS,
            line,
        },
        _ => TemplateError::Failed {
            message: message_of(innermost),
            line,
        },
    }
}

fn message_of(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
