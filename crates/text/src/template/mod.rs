//! Chat templates: a conversation in, the prompt's text out, as the reference renders it.
//!
//! A template comes with the model file and is a program from outside. It has no access to files
//! or the network, and its size, steps, recursion and output are limited. Two things the engine
//! cannot limit: the memory of values that a template builds up (`x ~ x` again and again), and
//! how deep it nests them. So templates are as trusted as model files: not taken from requests.
//!
//! Does not make tokens; [`crate::prompt`] does that with the rendered text.

mod clock;
mod conversation;
mod environment;
mod error;
mod json;
mod methods;
mod python;
mod request;
mod source;
mod sources;
mod thinking;

use minijinja::Environment;
use serde_json::{Map, Value};

pub use error::TemplateError;
pub use request::{ChatRequest, Content, FunctionCall, Message, MessageToolCall};
pub use thinking::{THINK_CLOSE, THINK_OPEN, ThinkingState};

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Variables that come from the model, such as `bos_token`. A request's own come first.
    variables: Map<String, Value>,
    source: String,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// ```
    /// use tidemill_text::{ChatRequest, ChatTemplate, Message};
    ///
    /// let source = "{% for m in messages %}{{ m.role }}: {{ m.content|trim }}\n{% endfor %}";
    /// let template = ChatTemplate::new(source)?;
    /// let request = ChatRequest::new(vec![Message::new("user", " hello ")]);
    /// assert_eq!(template.render(&request)?, "user: hello\n");
    /// # Ok::<(), tidemill_text::TemplateError>(())
    /// ```
    ///
    /// # Errors
    /// When the template has a mistake; the error names the line.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        Ok(Self {
            environment: environment::compile(source)?,
            variables: Map::new(),
            source: source.to_owned(),
        })
    }

    /// The text that was compiled.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Sets a variable for all renderings, such as `bos_token`.
    pub fn set_variable(&mut self, name: &str, value: impl Into<Value>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    /// Whether the template reads this variable, such as `enable_thinking`.
    pub fn reads(&self, variable: &str) -> bool {
        environment::reads(&self.environment, variable)
    }

    /// The prompt's text.
    ///
    /// # Errors
    /// When the template refuses the conversation or does not work with it.
    pub fn render(&self, request: &ChatRequest) -> Result<String, TemplateError> {
        self.render_context(request.context()?)
    }

    /// Renders variables that are already in the reference's form.
    pub(crate) fn render_context(&self, context: Value) -> Result<String, TemplateError> {
        let mut variables = self.variables.clone();
        if let Value::Object(context) = context {
            variables.extend(context);
        }
        conversation::render(&self.environment, variables)
    }
}
